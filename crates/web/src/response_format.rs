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
        if accepts(headers, "application/json") && !Self::is_page_named(headers) {
            Self::Json
        } else {
            Self::Html
        }
    }

    /// Whether the client names pages as what it accepts, as browsers do.
    pub(super) fn is_page_named(headers: &HeaderMap) -> bool {
        accepts(headers, "text/html")
    }
}

fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let values = headers.get_all(header::ACCEPT).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains(media_type))
}

impl<S: Sync> FromRequestParts<S> for ResponseFormat {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(&parts.headers))
    }
}
