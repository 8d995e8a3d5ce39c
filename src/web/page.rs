//! What every answer has in common: the frame of a page, the form it is wanted in, headers,
//! the time limit, and errors dressed for whoever asked.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Json;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use serde_json::json;

use super::error::{Outside, WebError};
use super::session::{Viewer, next_cookie};
use super::{App, Auth, assets};

/// How long a handler may take until it has an answer to begin with.
const REQUEST_TIME: Duration = Duration::from_secs(20);

/// The form in which a page is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A page.
    Html,
    /// The same facts as data.
    Json,
}

impl Form {
    fn of(headers: &HeaderMap) -> Self {
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

impl<S: Sync> FromRequestParts<S> for Form {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(&parts.headers))
    }
}

/// What the frame around every page shows.
pub(super) struct Frame {
    pub(super) title: String,
    pub(super) css: &'static str,
    pub(super) js: &'static str,
    pub(super) icon: &'static str,
    /// Who is signed in by a key.
    pub(super) key_name: Option<String>,
    /// Everybody is signed in.
    pub(super) open: bool,
    pub(super) now: i64,
    pub(super) version: &'static str,
    /// What it was built from, where that is known.
    pub(super) commit: Option<&'static str>,
}

impl Frame {
    pub(super) fn new(app: &App, viewer: Option<&Viewer>, title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            css: assets::css(),
            js: assets::js(),
            icon: assets::icon(),
            key_name: viewer.and_then(|v| v.key_name.clone()),
            open: app.web.config.auth == Auth::Open,
            now: app.web.clock.now().0,
            version: env!("CARGO_PKG_VERSION"),
            commit: commit(),
        }
    }
}

/// The commit that this is built from, short.
fn commit() -> Option<&'static str> {
    let commit = env!("QUIRE_COMMIT");
    (commit != "unknown").then(|| commit.get(..12).unwrap_or(commit))
}

/// A template as an answer.
pub(super) fn html(template: &impl Template) -> Result<Response, WebError> {
    Ok(Html(template.render()?).into_response())
}

#[derive(Template)]
#[template(path = "message.html")]
struct MessagePage<'a> {
    frame: Frame,
    title: &'a str,
    sentence: &'a str,
    /// The command that prints a sign-in link, for those who are not signed in.
    login_command: Option<String>,
}

/// The outermost layer: time limit, errors as pages, headers.
pub(super) async fn finish(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let form = Form::of(request.headers());
    let wanted = (request.method() == Method::GET).then(|| request.uri().clone());
    let mut response = match tokio::time::timeout(REQUEST_TIME, next.run(request)).await {
        Ok(response) => response,
        Err(_) => WebError::Slow.into_response(),
    };
    if response.extensions().get::<Outside>().is_none()
        && let Some(outside) = outside_of_framework(response.status())
    {
        response.extensions_mut().insert(outside);
    }
    if response.extensions().get::<Outside>().is_some() {
        let stranger = response.extensions().get::<Viewer>().is_none();
        response = dress(&app, form, response);
        let may_sign_in = stranger && form == Form::Html && app.web.config.auth == Auth::Ssh;
        let cookie = wanted
            .filter(|_| may_sign_in)
            .and_then(|uri| next_cookie(&uri));
        cookie.map(|cookie| response.headers_mut().append(header::SET_COOKIE, cookie));
    }
    add_headers(response.headers_mut());
    response
}

/// The words for what axum itself refuses: an address that is no UTF-8, a method that is not there.
fn outside_of_framework(status: StatusCode) -> Option<Outside> {
    let (title, sentence) = match status {
        StatusCode::BAD_REQUEST => (
            "Cannot read that",
            "The address or its query cannot be read.",
        ),
        StatusCode::METHOD_NOT_ALLOWED => {
            ("Not that way", "This address does not take that method.")
        }
        StatusCode::PAYLOAD_TOO_LARGE => (
            "Too large",
            "The request is larger than anything this appliance takes here.",
        ),
        _ => return None,
    };
    Some(Outside {
        title,
        sentence: sentence.to_owned(),
    })
}

/// Gives a bare error response its body.
fn dress(app: &App, form: Form, response: Response) -> Response {
    let status = response.status();
    let Some(outside) = response.extensions().get::<Outside>() else {
        return response;
    };
    let viewer = response.extensions().get::<Viewer>();
    let mut dressed = match form {
        Form::Json => (status, Json(json!({ "error": outside.sentence }))).into_response(),
        Form::Html => {
            let login_command = (viewer.is_none() && app.web.config.auth == Auth::Ssh)
                .then(|| app.web.config.login_command());
            let frame = Frame::new(app, viewer, outside.title);
            let page = MessagePage {
                frame,
                title: outside.title,
                sentence: &outside.sentence,
                login_command,
            };
            match page.render() {
                Ok(text) => (status, Html(text)).into_response(),
                Err(_) => (status, outside.sentence.clone()).into_response(),
            }
        }
    };
    if let Some(allow) = response.headers().get(header::ALLOW) {
        dressed.headers_mut().insert(header::ALLOW, allow.clone());
    }
    match status {
        StatusCode::UNAUTHORIZED => {
            let challenge = HeaderValue::from_static("SSH-Link realm=\"quire\"");
            dressed
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            dressed
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        _ => {}
    }
    dressed
}

/// The headers that make a page harmless wherever it ends up.
fn add_headers(headers: &mut HeaderMap) {
    const FIXED: [(&str, &str); 8] = [
        (
            "content-security-policy",
            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
             form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        (
            "permissions-policy",
            "camera=(), geolocation=(), microphone=()",
        ),
        ("vary", "accept, cookie"),
    ];
    for (name, value) in FIXED {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("private, no-cache"));
}
