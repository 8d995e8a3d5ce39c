//! `GET /{repo}/-/raw/{rev}/{path}`: the bytes of a file.
//!
//! Whatever they hold, a browser runs nothing of it: the type is one of a short list or plain text, is never guessed
//! (`nosniff`, set for every response), and the policy is a sandbox that loads nothing.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::super::error::WebError;
use super::super::page::ContentPolicy;
use super::address::View;
use super::byte_range::FilePart;
use super::context::{FIXED_MAX_AGE, RepoContext, RevContent, file_entry};
use quire_git::read::{EntryMode, RevPath, is_binary};

/// A type of content that browsers show and that can do no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MediaType {
    name: &'static str,
    is_picture: bool,
}

impl MediaType {
    /// By the end of a file's name; `None` for everything that is not on the list.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        let end = name.rsplit(|b| *b == b'.').next()?;
        let picture = |name| {
            Some(Self {
                name,
                is_picture: true,
            })
        };
        match end.to_ascii_lowercase().as_slice() {
            b"png" => picture("image/png"),
            b"jpg" | b"jpeg" => picture("image/jpeg"),
            b"gif" => picture("image/gif"),
            b"webp" => picture("image/webp"),
            b"avif" => picture("image/avif"),
            b"svg" => picture("image/svg+xml"),
            b"ico" => picture("image/x-icon"),
            b"pdf" => Some(Self {
                name: "application/pdf",
                is_picture: false,
            }),
            _ => None,
        }
    }

    pub(super) fn is_picture(self) -> bool {
        self.is_picture
    }
}

pub(super) async fn page(context: &RepoContext, wanted: RevPath) -> Result<Response, WebError> {
    let read = context
        .read_rev(View::Raw, wanted, 1, |reader, rev, path, budget| {
            let Some(entry) = file_entry(reader, &rev.commit, path)? else {
                return Ok(RevContent::At(View::Tree));
            };
            let content = reader.blob(&entry.id, budget.bytes)?;
            Ok(RevContent::Here((entry.mode, content)))
        })
        .await?;
    let mut page = match read {
        Ok(page) => page,
        Err(response) => return Ok(response),
    };
    let (mode, content) = (page.content.0, std::mem::take(&mut page.content.1.data));
    let known = MediaType::of(page.path.name()).filter(|_| mode != EntryMode::Symlink);
    let media_type = match known {
        Some(known) => known.name,
        None if is_binary(&content) => "application/octet-stream",
        None => "text/plain; charset=utf-8",
    };
    let total = content.len();
    let (status, content, content_range) = match FilePart::of(page.wanted_range(context), total) {
        FilePart::Whole => (StatusCode::OK, Bytes::from(content), None),
        FilePart::Part(part) => {
            let range = format!("bytes {}-{}/{total}", part.start, part.end - 1);
            let content = Bytes::from(content).slice(part);
            (StatusCode::PARTIAL_CONTENT, content, Some(range))
        }
        FilePart::OutOfRange => {
            let range = format!("bytes */{total}");
            (StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new(), Some(range))
        }
    };
    let mut response = page.tag((status, Body::from(content)).into_response());
    response.extensions_mut().insert(ContentPolicy::Sandbox);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(range) = content_range.and_then(|range| range.parse().ok()) {
        headers.insert(header::CONTENT_RANGE, range);
    }
    if page.rev.is_fixed() {
        let value = HeaderValue::from_static(FIXED_MAX_AGE);
        headers.insert(header::CACHE_CONTROL, value);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_types_are_named() {
        let name = |file: &[u8]| MediaType::of(file).map(|kind| kind.name);
        assert_eq!(name(b"a.PNG"), Some("image/png"));
        assert_eq!(name(b"a.b.jpeg"), Some("image/jpeg"));
        for plain in [
            &b"x.html"[..],
            b"x.js",
            b"x.xml",
            b"x.css",
            b"x.xhtml",
            b"",
            b"x.",
        ] {
            assert_eq!(name(plain), None, "{plain:?}");
        }
        assert!(!MediaType::of(b"x.pdf").unwrap().is_picture());
    }
}
