//! The form in which a client asks for a page: HTML, or the same facts as JSON.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

/// The form in which a page is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseFormat {
    /// A page.
    Html,
    /// The same facts as data.
    Json,
}

impl ResponseFormat {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let wants = |what: &str| {
            headers
                .get_all(header::ACCEPT)
                .iter()
                .any(|v| v.to_str().is_ok_and(|v| v.contains(what)))
        };
        if wants("application/json") && !wants("text/html") {
            Self::Json
        } else {
            Self::Html
        }
    }
}

impl<S: Sync> FromRequestParts<S> for ResponseFormat {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(&parts.headers))
    }
}
