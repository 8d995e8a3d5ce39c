//! What all responses have in common: the time limit, the headers, and errors as pages or JSON.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use serde_json::json;

use super::error::{ClientMessage, WebError};
use super::git_http::GitRequest;
use super::layout::Layout;
use super::request_config::RequestConfig;
use super::response_format::ResponseFormat;
use super::robots::{self, Indexing};
use super::session::next_cookie;
use super::state::{App, SignInMethod};
use super::transfer::{accepts_gzip, compressed};
use super::viewer::Viewer;

/// How long a handler may take until it returns a response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// What the content of a response may do in a browser, if it is no page of quire's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentPolicy {
    /// A foreign file: it runs nothing, loads nothing and has no origin.
    Sandbox,
}

/// Marks a response whose body says already what is wrong with the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct WholePage;

#[derive(Template)]
#[template(path = "message.html")]
struct MessagePage<'a> {
    layout: Layout,
    title: &'a str,
    sentence: &'a str,
    /// The command that prints a sign-in link, for those who are not signed in.
    login_command: Option<String>,
}

/// The outermost layer: time limit, errors as pages, headers.
pub(super) async fn response_middleware(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    let format = ResponseFormat::of(request.headers());
    let reads_pages = ResponseFormat::is_page_named(request.headers());
    let config = RequestConfig::new(&app.web.config, request.uri(), request.headers());
    let is_git = GitRequest::is_one(request.method(), request.uri());
    // The size of what a HEAD request asks for is that of the text.
    let accepts_gzip = request.method() != Method::HEAD && accepts_gzip(request.headers());
    let wanted = (request.method() == Method::GET).then(|| request.uri().clone());
    let mut response = match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => WebError::Slow.into_response(),
    };
    let has_page = response.extensions().get::<WholePage>().is_some();
    if response.extensions().get::<ClientMessage>().is_none()
        && !has_page
        && let Some(message) = framework_message(response.status())
    {
        response.extensions_mut().insert(message);
    }
    if response.extensions().get::<ClientMessage>().is_some() {
        let stranger = response.extensions().get::<Viewer>().is_none();
        let may_return = response.headers().contains_key(header::RETRY_AFTER);
        response = if is_git || may_return && !reads_pages && format == ResponseFormat::Html {
            error_as_text(response)
        } else {
            render_error(&app, &config, format, response)
        };
        let may_sign_in = stranger
            && !is_git
            && format == ResponseFormat::Html
            && app.web.config.auth == SignInMethod::Ssh;
        let cookie = wanted
            .filter(|_| may_sign_in)
            .and_then(|uri| next_cookie(&uri));
        cookie.map(|cookie| response.headers_mut().append(header::SET_COOKIE, cookie));
    }
    if accepts_gzip {
        response = compressed(response).await;
    }
    let policy = response.extensions().get::<ContentPolicy>().copied();
    let indexing = response.extensions().get::<Indexing>().copied();
    add_headers(response.headers_mut(), policy);
    robots::add_header(response.headers_mut(), indexing);
    response
}

/// The message for a request that axum itself rejects: an address that is not UTF-8, an unknown method.
fn framework_message(status: StatusCode) -> Option<ClientMessage> {
    let (title, sentence) = match status {
        StatusCode::BAD_REQUEST => ("Bad request", "The address or its query cannot be read."),
        StatusCode::METHOD_NOT_ALLOWED => (
            "Method not allowed",
            "This address does not support the method of the request.",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => (
            "Request too large",
            "The body of the request is larger than 16 KiB.",
        ),
        _ => return None,
    };
    Some(ClientMessage {
        title,
        sentence: sentence.to_owned(),
    })
}

/// The message as plain text, which git shows to its user, and which programs log.
fn error_as_text(response: Response) -> Response {
    let sentence = response
        .extensions()
        .get::<ClientMessage>()
        .map(|message| format!("{}\n", message.sentence));
    let mut answer = (response.status(), sentence.unwrap_or_default()).into_response();
    for name in [header::ALLOW, header::RETRY_AFTER, header::WWW_AUTHENTICATE] {
        if let Some(value) = response.headers().get(&name) {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    answer
}

/// Adds the body to a response that carries only a [`ClientMessage`].
fn render_error(
    app: &App,
    RequestConfig(config): &RequestConfig,
    format: ResponseFormat,
    response: Response,
) -> Response {
    let status = response.status();
    let Some(message) = response.extensions().get::<ClientMessage>() else {
        return response;
    };
    let viewer = response.extensions().get::<Viewer>();
    let mut dressed = match format {
        ResponseFormat::Json => {
            (status, Json(json!({ "error": message.sentence }))).into_response()
        }
        ResponseFormat::Html => {
            let login_command = (viewer.is_none() && config.auth == SignInMethod::Ssh)
                .then(|| config.login_command());
            let layout = Layout::new(app, viewer, message.title);
            let page = MessagePage {
                layout,
                title: message.title,
                sentence: &message.sentence,
                login_command,
            };
            match page.render() {
                Ok(text) => (status, Html(text)).into_response(),
                Err(_) => (status, message.sentence.clone()).into_response(),
            }
        }
    };
    for name in [header::ALLOW, header::RETRY_AFTER] {
        if let Some(value) = response.headers().get(&name) {
            dressed.headers_mut().insert(name, value.clone());
        }
    }
    if status == StatusCode::UNAUTHORIZED {
        let own = response.headers().get(header::WWW_AUTHENTICATE).cloned();
        let challenge = own.unwrap_or_else(|| HeaderValue::from_static("SSH-Link realm=\"quire\""));
        dressed
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
    }
    dressed
}

/// The headers that make a page harmless wherever it ends up.
fn add_headers(headers: &mut HeaderMap, policy: Option<ContentPolicy>) {
    const SANDBOX: &str = "sandbox; default-src 'none'; frame-ancestors 'none'";
    const SECURITY_HEADERS: [(&str, &str); 8] = [
        (
            "content-security-policy",
            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
             form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        // With `no-referrer` a browser sends `Origin: null` with a form (Fetch, "append a request Origin header"), and without TLS
        // nothing else shows that the form is of a page of this appliance.
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        (
            "permissions-policy",
            "camera=(), geolocation=(), microphone=()",
        ),
        ("vary", "accept, accept-encoding, authorization, cookie"),
    ];
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if policy == Some(ContentPolicy::Sandbox) {
        let value = HeaderValue::from_static(SANDBOX);
        headers.insert(header::CONTENT_SECURITY_POLICY, value);
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("private, no-cache"));
}
