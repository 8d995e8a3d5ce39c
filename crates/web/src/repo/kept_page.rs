//! Pages whose bodies are kept: how one is sent.
//!
//! Who asks has been let in before any of this. The entity tag says which body, which frame and which build of quire, so a client whose
//! copy has the same tag has all of the response.

use std::sync::Arc;

use askama::Template;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::super::error::WebError;
use super::super::frame::Frame;
use super::super::kept_bodies::KeptBody;
use super::super::routes::NothingRead;
use super::super::transfer::{DeflatedPart, compressing, gzip_of, is_worth_it, mark_compressed};
use super::context::RepoContext;
use super::page_identity::{Identifier, KnownPage, PageIdentity, not_modified};

/// The body of a page, just rendered.
pub(super) struct PageBody {
    title: Option<String>,
    bytes: Vec<u8>,
}

impl PageBody {
    /// What stands inside of the frame of a page.
    pub(super) fn html(title: String, main: &impl Template) -> Result<Self, WebError> {
        Ok(Self {
            title: Some(title),
            bytes: main.render()?.into_bytes(),
        })
    }

    pub(super) fn json(data: &Value) -> Self {
        Self {
            title: None,
            bytes: data.to_string().into_bytes(),
        }
    }
}

impl RepoContext {
    /// Identifies pages at an address whose bodies are kept.
    pub(super) fn identifier(&self, address: &str) -> Identifier {
        let layout = self.layout("");
        Identifier {
            options: format!(
                "{:?} {:?} {address}?{}",
                self.format,
                self.access.class(),
                self.query
            ),
            surroundings: format!(
                "{} {:?} {} {} {} {} {:?}",
                layout.version,
                layout.commit,
                layout.css,
                layout.js,
                layout.icon,
                layout.open,
                layout.key_name,
            ),
            known: self.known.clone(),
            kept: Some(self.app.bodies.clone()),
        }
    }

    /// Identifies a part of the repository's page. Data needs what the part was made from.
    pub(super) fn part_identifier(&self, part: &str) -> Identifier {
        let kept = (!self.wants_json()).then(|| self.app.bodies.clone());
        Identifier {
            options: format!("{part} {}", self.base),
            surroundings: String::new(),
            known: Vec::new(),
            kept,
        }
    }

    /// Keeps a part of a page.
    pub(super) async fn keep_part(
        &self,
        identity: &PageIdentity,
        html: String,
    ) -> Result<(), WebError> {
        let body = compressing(html.len(), move || KeptBody::new(None, html.into_bytes())).await?;
        self.app.bodies.insert(identity.key, Arc::new(body));
        Ok(())
    }

    /// Identifies files at an address, which nothing surrounds and which are not kept.
    pub(super) fn file_identifier(&self, address: &str) -> Identifier {
        Identifier {
            options: address.to_owned(),
            surroundings: String::new(),
            known: self.known.clone(),
            kept: None,
        }
    }

    /// Sends a page that was read, and keeps its body if nothing was left out for want of time.
    pub(super) async fn send(
        &self,
        identity: &PageIdentity,
        is_whole: bool,
        body: PageBody,
    ) -> Result<Response, WebError> {
        let PageBody { title, bytes } = body;
        let body = compressing(bytes.len(), move || KeptBody::new(title, bytes)).await?;
        let body = Arc::new(body);
        if is_whole {
            self.app.bodies.insert(identity.key, body.clone());
        }
        self.surrounded(&body, is_whole.then_some(identity.tag.as_str()))
    }

    /// Sends a page that needed no reading.
    pub(super) fn send_known(&self, page: KnownPage) -> Result<Response, WebError> {
        match page {
            KnownPage::Unchanged(tag) => Ok(not_modified(tag)),
            KnownPage::Kept(body, identity) => {
                let mut response = self.surrounded(&body, Some(&identity.tag))?;
                response.extensions_mut().insert(NothingRead);
                Ok(response)
            }
        }
    }

    /// A body in the frame of this request. Of what was left out for want of time, the client must not keep a copy, so it has no tag.
    fn surrounded(&self, body: &KeptBody, tag: Option<&str>) -> Result<Response, WebError> {
        let (frame, media_type) = match &body.title {
            Some(title) => (
                Frame::of(&self.layout(title.as_str()))?,
                "text/html; charset=utf-8",
            ),
            None => (Frame::default(), "application/json"),
        };
        let is_compressed = self.accepts_gzip && is_worth_it(body.plain.len());
        let bytes = if is_compressed {
            let part = |text: &str| {
                DeflatedPart::new(text.as_bytes()).map_err(|source| WebError::Io {
                    attempt: "compress a page".to_owned(),
                    source,
                })
            };
            gzip_of(&[&part(&frame.head)?, &body.deflated, &part(&frame.foot)?])
        } else {
            let (head, foot) = (frame.head.as_bytes(), frame.foot.as_bytes());
            [head, &body.plain, foot].concat()
        };
        let mut response = Body::from(bytes).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        if let Some(tag) = tag.and_then(|tag| HeaderValue::from_str(tag).ok()) {
            headers.insert(header::ETAG, tag);
        }
        if is_compressed {
            mark_compressed(headers);
        }
        Ok(response)
    }
}
