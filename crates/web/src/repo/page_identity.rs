//! Which page a request is for: by all that its body depends on, before anything of it is read.

use std::fmt::Debug;
use std::sync::Arc;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::super::kept_bodies::{BodyKey, KeptBodies, KeptBody};
use super::super::transfer::compressed_tag;
use quire_types::token::hex;

/// Which page it is.
#[derive(Debug, Clone)]
pub(super) struct PageIdentity {
    pub(super) key: BodyKey,
    pub(super) tag: String,
}

/// A page that needs no reading.
pub(super) enum KnownPage {
    /// The client has it, under this tag.
    Unchanged(String),
    /// Its body was kept.
    Kept(Arc<KeptBody>, PageIdentity),
}

/// Finds out which page a request is for, on the thread that reads the repository.
pub(super) struct Identifier {
    /// The address and its options.
    pub(super) options: String,
    /// What surrounds the body.
    pub(super) surroundings: String,
    /// The tags of the copies that the client has.
    pub(super) known: Vec<String>,
    /// `None` for responses that are not kept.
    pub(super) kept: Option<Arc<KeptBodies>>,
}

impl Identifier {
    /// A page by all that its body depends on; the response if that needs no reading.
    pub(super) fn identify(&self, facts: &impl Debug) -> Result<PageIdentity, KnownPage> {
        let identity = self.identity(facts);
        if let Some(tag) = known_tag(&self.known, &identity.tag) {
            return Err(KnownPage::Unchanged(tag));
        }
        match self.kept(&identity) {
            Some(body) => Err(KnownPage::Kept(body, identity)),
            None => Ok(identity),
        }
    }

    /// The same of a part of a page that changes with time; the body if it was kept.
    pub(super) fn identify_part(&self, facts: &impl Debug) -> Result<PageIdentity, Arc<KeptBody>> {
        let identity = self.identity(facts);
        self.kept(&identity).map_or(Ok(identity), Err)
    }

    fn identity(&self, facts: &impl Debug) -> PageIdentity {
        let key = BodyKey::of(&format!("{} {facts:?}", self.options));
        let tag = entity_tag(&format!("{key:?} {}", self.surroundings));
        PageIdentity { key, tag }
    }

    fn kept(&self, identity: &PageIdentity) -> Option<Arc<KeptBody>> {
        self.kept.as_ref()?.get(&identity.key)
    }
}

/// The entity tag of what a text says.
pub(super) fn entity_tag(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    format!("\"{}\"", hex(&digest[..16]))
}

/// The response for a client that has what has this tag.
pub(super) fn unchanged(known: &[String], tag: &str) -> Option<Response> {
    known_tag(known, tag).map(not_modified)
}

/// The response for a client that has this.
pub(super) fn not_modified(tag: String) -> Response {
    (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response()
}

/// The tag by which a client has what has this tag: its own, or the one of the compressed response.
fn known_tag(known: &[String], tag: &str) -> Option<String> {
    let compressed = compressed_tag(tag);
    let same = known
        .iter()
        .flat_map(|list| list.split(','))
        .map(|one| one.trim().trim_start_matches("W/"))
        .find(|one| *one == tag || *one == compressed)?;
    Some(same.to_owned())
}
