//! What search engines may list: the pages of public repositories that branches and tags point to.
//!
//! `robots.txt` names addresses by their form alone, and so no repository. Each response says the same in a header.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::state::{SharedApp, SignInMethod};

const ROBOTS_TAG: &str = "x-robots-tag";

/// The addresses of pages that change with each push, that take some work, or that are no pages.
const RULES: &str = "User-agent: *
Disallow: /runs$
Disallow: /runs/
Disallow: /login
Disallow: /metrics
Disallow: /-/visit
Disallow: /*/-/archive/
Disallow: /*/-/badge.svg
Disallow: /*/-/blame/
Disallow: /*/-/change/
Disallow: /*/-/commit/
Disallow: /*/-/commits.atom
Disallow: /*/-/compare
Disallow: /*/-/raw/
Disallow: /*/-/runs
Disallow: /*/-/search
Disallow: /*?
";

/// Nothing is public where everyone is signed in.
const NOTHING: &str = "User-agent: *
Disallow: /
";

/// What a search engine may do with a response. Without a mark it may do nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Indexing {
    /// It may list the page and follow its links.
    Page,
    /// It may follow the links.
    Links,
}

/// `GET /robots.txt`.
pub(super) async fn text(State(app): SharedApp) -> Response {
    let text = match app.web.config.auth {
        SignInMethod::Ssh => RULES,
        SignInMethod::Open => NOTHING,
    };
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (headers, text).into_response()
}

/// Adds the header that says the same.
pub(super) fn add_header(headers: &mut HeaderMap, indexing: Option<Indexing>) {
    let value = match indexing {
        Some(Indexing::Page) => return,
        Some(Indexing::Links) => "noindex",
        None => "noindex, nofollow",
    };
    headers.insert(ROBOTS_TAG, HeaderValue::from_static(value));
}
