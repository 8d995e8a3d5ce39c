//! Who is asking: the one-time link, the session cookie, and the guard in front of the pages.
//!
//! A link is shown first and used by a button (`POST`), so that a program that only looks at
//! links does not burn it. Tokens are never logged, and only their hashes are stored. A link and
//! a session last no longer than the key that they are of.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::error::WebError;
use super::page::{Form, Frame, html};
use super::{App, Auth, Shared, WebConfig, host};
use crate::store::{SignIn, Store};
use crate::token::{hash_token, new_token};

const SESSION_COOKIE: &str = "quire_session";
/// Where to go after signing in; sent only to `/login`.
const NEXT_COOKIE: &str = "quire_next";
const SESSION_DAYS: i64 = 30;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Somebody who may see the pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Viewer {
    /// The name of the key that signed in; none where everybody is.
    pub(super) key_name: Option<String>,
    /// The key itself; none where no key was needed.
    key_fingerprint: Option<String>,
}

impl Viewer {
    /// Whether the key is still there.
    pub(super) fn is_welcome(&self, app: &App) -> Result<bool, WebError> {
        is_welcome(app, self.key_fingerprint.as_deref())
    }
}

fn is_welcome(app: &App, fingerprint: Option<&str>) -> Result<bool, WebError> {
    let Some(fingerprint) = fingerprint else {
        return Ok(true);
    };
    app.keys.has(fingerprint).map_err(|source| WebError::Io {
        attempt: "read the public keys".to_owned(),
        source,
    })
}

/// Lets through whoever is signed in. To others nothing exists but the door.
pub(super) async fn guard(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    if app.web.config.auth == Auth::Open && !host::is_own(&app.web.config, &request) {
        return WebError::OtherName.into_response();
    }
    match viewer(&app, request.headers()).await {
        Ok(Some(viewer)) => {
            request.extensions_mut().insert(viewer.clone());
            let mut response = next.run(request).await;
            response.extensions_mut().insert(viewer);
            response
        }
        Ok(None) if matches!(request.uri().path(), "/" | "/runs" | "/events") => {
            WebError::SignIn.into_response()
        }
        Ok(None) => WebError::NotFound.into_response(),
        Err(error) => error.into_response(),
    }
}

async fn viewer(app: &App, headers: &HeaderMap) -> Result<Option<Viewer>, WebError> {
    if app.web.config.auth == Auth::Open {
        return Ok(Some(Viewer {
            key_name: None,
            key_fingerprint: None,
        }));
    }
    let Some(hash) = cookie(headers, SESSION_COOKIE).map(hash_token) else {
        return Ok(None);
    };
    let now = app.web.clock.now();
    let Some(SignIn {
        key_name,
        key_fingerprint,
    }) = app.web.store.call(move |s| s.session(&hash, now)).await?
    else {
        return Ok(None);
    };
    let viewer = Viewer {
        key_name: Some(key_name),
        key_fingerprint,
    };
    Ok(viewer.is_welcome(app)?.then_some(viewer))
}

/// The value of a cookie.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok());
    values
        .flat_map(|v| v.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Refuses requests that change something unless the browser says that they come from here.
pub(super) async fn same_origin_only(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    let reads = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    if reads || is_same_origin(&app.web.config, request.headers()) {
        return next.run(request).await;
    }
    WebError::CrossSite.into_response()
}

/// `Sec-Fetch-Site` where the browser sends it (only over TLS or to localhost), else `Origin`.
fn is_same_origin(config: &WebConfig, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    let Some(origin) = text("origin") else {
        return false;
    };
    let by_host = text("host").is_some_and(|host| {
        origin
            .split_once("://")
            .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
    });
    by_host || origin_of(&config.url).eq_ignore_ascii_case(origin)
}

/// Scheme and authority of a URL.
fn origin_of(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    url[start..].find('/').map_or(url, |at| &url[..start + at])
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    frame: Frame,
    /// The link's token; without one the page says how to get a link.
    token: Option<String>,
    login_command: String,
}

/// `GET /login`: how to sign in.
pub(super) async fn explain(State(app): Shared) -> Result<Response, WebError> {
    html(&LoginPage {
        frame: Frame::new(&app, None, "Sign in"),
        token: None,
        login_command: app.web.config.login_command(),
    })
}

/// `GET /login/<token>`: a button. Looking at the link does not use it.
pub(super) async fn offer(
    State(app): Shared,
    Path(token): Path<String>,
) -> Result<Response, WebError> {
    let token = plausible(&token)?.to_owned();
    html(&LoginPage {
        frame: Frame::new(&app, None, "Sign in"),
        token: Some(token),
        login_command: app.web.config.login_command(),
    })
}

/// `POST /login/<token>`: uses the link and opens a session.
pub(super) async fn accept(
    State(app): Shared,
    Path(token): Path<String>,
    form: Form,
    headers: HeaderMap,
) -> Result<Response, WebError> {
    let link = hash_token(plausible(&token)?);
    let (session, hash) = new_token()?;
    let now = app.web.clock.now();
    let who = app
        .web
        .store
        .call(move |s| s.take_login_link(&link, now))
        .await?
        .ok_or(WebError::LinkSpent)?;
    if !is_welcome(&app, who.key_fingerprint.as_deref())? {
        return Err(WebError::LinkSpent);
    }
    let key_name = who.key_name.clone();
    let open = move |s: &Store| s.create_session(&hash, &who, now, now.plus(SESSION_DAYS * DAY_MS));
    app.web.store.call(open).await?;
    tracing::info!(key = %key_name, "web: signed in");
    let to = cookie(&headers, NEXT_COOKIE)
        .filter(|path| is_local(path))
        .unwrap_or("/");
    let mut response = match form {
        Form::Html => Redirect::to(to).into_response(),
        Form::Json => axum::Json(serde_json::json!({ "key_name": key_name })).into_response(),
    };
    set_cookie(
        &mut response,
        &format!(
            "{SESSION_COOKIE}={session}; Path=/; Max-Age={}",
            SESSION_DAYS * DAY_MS / 1000
        ),
        &app.web.config,
    );
    set_cookie(
        &mut response,
        &format!("{NEXT_COOKIE}=; Path=/login; Max-Age=0"),
        &app.web.config,
    );
    Ok(response)
}

/// `POST /logout`: the session ends here and in the database.
pub(super) async fn logout(State(app): Shared, headers: HeaderMap) -> Result<Response, WebError> {
    if let Some(hash) = cookie(&headers, SESSION_COOKIE).map(hash_token) {
        app.web.store.call(move |s| s.delete_session(&hash)).await?;
    }
    let mut response = Redirect::to("/").into_response();
    set_cookie(
        &mut response,
        &format!("{SESSION_COOKIE}=; Path=/; Max-Age=0"),
        &app.web.config,
    );
    Ok(response)
}

fn plausible(token: &str) -> Result<&str, WebError> {
    let hexadecimal = token.len() == 64 && token.bytes().all(|b| b.is_ascii_hexdigit());
    if hexadecimal {
        Ok(token)
    } else {
        Err(WebError::LinkSpent)
    }
}

fn set_cookie(response: &mut Response, cookie: &str, config: &WebConfig) {
    let secure = if config.is_https() { "; Secure" } else { "" };
    // Our own text and hexadecimal digits: always a valid header.
    if let Ok(value) = HeaderValue::from_str(&format!("{cookie}; HttpOnly; SameSite=Lax{secure}")) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

/// Remembers for a while what a stranger wanted to see, so that signing in leads there.
pub(super) fn next_cookie(uri: &Uri) -> Option<HeaderValue> {
    let path = uri.path_and_query()?.as_str();
    if !is_local(path)
        || path.starts_with("/login")
        || path.starts_with("/assets/")
        || path.ends_with("events")
        || path.ends_with(".ico")
    {
        return None;
    }
    HeaderValue::from_str(&format!(
        "{NEXT_COOKIE}={path}; Path=/login; Max-Age=900; HttpOnly; SameSite=Lax"
    ))
    .ok()
}

/// A path on this very host, of harmless characters.
fn is_local(path: &str) -> bool {
    path.len() < 500
        && path.starts_with('/')
        && !path.starts_with("//")
        && path
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/._-?=&%".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> WebConfig {
        WebConfig {
            url: url.to_owned(),
            auth: Auth::Ssh,
            ssh_user: "git".to_owned(),
            ssh_host: "h".to_owned(),
            ssh_port: 2222,
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    header::HeaderName::from_static(name),
                    value.parse().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn only_our_own_origin_may_change_things() {
        let config = config("https://git.example.org/");
        for yes in [
            headers(&[("sec-fetch-site", "same-origin")]),
            headers(&[
                ("origin", "https://git.example.org"),
                ("host", "10.0.0.1:3000"),
            ]),
            headers(&[("origin", "http://nas:3000"), ("host", "nas:3000")]),
        ] {
            assert!(is_same_origin(&config, &yes), "{yes:?}");
        }
        for no in [
            headers(&[]),
            headers(&[("host", "nas:3000")]),
            headers(&[("origin", "null"), ("host", "nas:3000")]),
            headers(&[("origin", "https://evil.example"), ("host", "nas:3000")]),
            headers(&[
                ("origin", "https://git.example.org.evil.example"),
                ("host", "nas"),
            ]),
            headers(&[
                ("sec-fetch-site", "same-site"),
                ("origin", "https://git.example.org"),
            ]),
            headers(&[("sec-fetch-site", "cross-site")]),
        ] {
            assert!(!is_same_origin(&config, &no), "{no:?}");
        }
    }

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let headers = headers(&[(
            "cookie",
            "xquire_session=1; quire_session_=2;quire_session=3; a=b",
        )]);
        assert_eq!(cookie(&headers, SESSION_COOKIE), Some("3"));
        assert_eq!(cookie(&headers, "quire"), None);
    }

    #[test]
    fn signing_in_leads_only_to_this_host() {
        for path in ["/", "/work/app", "/runs/0197?x=1"] {
            assert!(is_local(path));
        }
        for path in [
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "/a\r\nSet-Cookie: x",
            "/a;b",
            "",
        ] {
            assert!(!is_local(path), "{path:?}");
        }
    }
}
