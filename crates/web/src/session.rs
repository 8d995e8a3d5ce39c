//! Who is asking: the one-time link, the session cookie, access tokens, and the guard in front of the pages.
//!
//! A link is shown first and used by a button (`POST`), so that a program that only fetches
//! links does not use it up. Tokens are never logged, and only their hashes are stored. A link and
//! a session last no longer than the key that they are of, and hold only from where it may connect.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::allowed_hosts;
use super::client_address::ClientAddress;
use super::cookies::{cookie, set_cookie};
use super::credentials::RequestCredentials;
use super::error::WebError;
use super::git_http::GitRequest;
use super::layout::{Layout, html};
use super::request_config::RequestConfig;
use super::response_format::ResponseFormat;
use super::return_path::is_local;
use super::state::{App, SharedApp, SignInMethod, WebConfig};
use super::viewer::{Viewer, admit_key};
use quire_store::Store;
use quire_types::token::{hash_token, new_token};
use quire_types::url_host::WebOrigin;

const SESSION_COOKIE: &str = "quire_session";
/// Where to go after signing in; sent only to `/login`.
const NEXT_COOKIE: &str = "quire_next";
/// A longer path is not remembered.
const MAX_NEXT_PATH: usize = 500;
const SESSION_DAYS: i64 = 30;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Passes on the requests of signed-in users. Others are asked to sign in, whatever the address, so that what exists and
/// what does not cannot be told apart.
pub(super) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    pass(&app, request, next, false).await
}

/// Passes on the requests of strangers as well, if they only read. What these may see is decided by each page.
pub(super) async fn admit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    pass(&app, request, next, true).await
}

async fn pass(app: &App, mut request: Request, next: Next, with_strangers: bool) -> Response {
    if app.web.config.auth == SignInMethod::Open
        && !allowed_hosts::is_allowed(&app.web.config, &request)
    {
        return WebError::OtherName.into_response();
    }
    let address = client_address(request.extensions());
    let is_git = GitRequest::is_one(request.method(), request.uri());
    match viewer(app, request.headers(), address).await {
        Ok(Some(viewer)) if !viewer.may_write && !is_git && !only_reads(request.method()) => {
            WebError::ReadOnlyToken.into_response()
        }
        Ok(Some(viewer)) => {
            request.extensions_mut().insert(viewer.clone());
            let mut response = next.run(request).await;
            response.extensions_mut().insert(viewer);
            response
        }
        Ok(None) if RequestCredentials::of(request.headers()) != RequestCredentials::Absent => {
            WebError::TokenRequired.into_response()
        }
        Ok(None) if with_strangers && (is_git || only_reads(request.method())) => {
            request.extensions_mut().insert(Viewer::stranger(address));
            next.run(request).await
        }
        Ok(None) => WebError::SignIn.into_response(),
        Err(error) => error.into_response(),
    }
}

fn only_reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The address of the client; one that no list of addresses admits if the server did not note it.
pub(super) fn client_address(extensions: &Extensions) -> IpAddr {
    extensions
        .get::<ClientAddress>()
        .map_or(Ipv4Addr::UNSPECIFIED.into(), |client| client.0)
}

async fn viewer(
    app: &App,
    headers: &HeaderMap,
    address: IpAddr,
) -> Result<Option<Viewer>, WebError> {
    if app.web.config.auth == SignInMethod::Open {
        return Ok(Some(Viewer::anonymous(address)));
    }
    let credentials = RequestCredentials::of(headers);
    if credentials != RequestCredentials::Absent {
        // A bad token is not replaced by the session of a browser.
        return match credentials.token() {
            Some(token) => viewer_of_token(app, token, address).await,
            None => Ok(None),
        };
    }
    let Some(hash) = cookie(headers, SESSION_COOKIE).map(hash_token) else {
        return Ok(None);
    };
    let now = app.web.clock.now();
    let find = move |s: &Store| s.sessions().get(&hash, now);
    let Some(session) = app.web.store.call(find).await? else {
        return Ok(None);
    };
    let viewer = Viewer::of_session(session, address);
    Ok(viewer.key_is_current(app)?.then_some(viewer))
}

async fn viewer_of_token(
    app: &App,
    token: &str,
    address: IpAddr,
) -> Result<Option<Viewer>, WebError> {
    let (hash, now) = (hash_token(token), app.web.clock.now());
    let wanted = hash.clone();
    let find = move |s: &Store| s.access_tokens().find(&wanted);
    let Some(token) = app.web.store.call(find).await? else {
        return Ok(None);
    };
    let needs_record = token.needs_record(now);
    let viewer = Viewer::of_token(token, address);
    if !viewer.key_is_current(app)? {
        return Ok(None);
    }
    if needs_record {
        let record = move |s: &Store| s.access_tokens().record_use(&hash, now);
        // The disk may be full, and reading goes on.
        if let Err(error) = app.web.store.call(record).await {
            tracing::warn!("web: {}", quire_types::error_chain::chain(&error));
        }
    }
    Ok(Some(viewer))
}

/// Rejects requests that change something unless the browser says that they come from this site.
pub(super) async fn same_origin_only(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    // A git client only reads here, and no page of another site can send a bearer token.
    let is_program = GitRequest::is_one(request.method(), request.uri())
        || matches!(
            RequestCredentials::of(request.headers()),
            RequestCredentials::Bearer(_)
        );
    if only_reads(request.method())
        || is_program
        || is_same_origin(&app.web.config, request.headers())
    {
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
    let Some(origin) = text("origin").and_then(WebOrigin::of_header) else {
        return false;
    };
    text("host").is_some_and(|host| origin.has_authority(host))
        || WebOrigin::of_url(&config.url).is_some_and(|own| own == origin)
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    layout: Layout,
    /// The link's token; without one the page says how to get a link.
    token: Option<String>,
    login_command: String,
}

/// `GET /login`: how to sign in.
pub(super) async fn login_help(
    State(app): SharedApp,
    RequestConfig(config): RequestConfig,
) -> Result<Response, WebError> {
    html(&LoginPage {
        layout: Layout::new(&app, None, "Sign in"),
        token: None,
        login_command: config.login_command(),
    })
}

/// `GET /login/<token>`: a button. Looking at the link does not use it.
pub(super) async fn confirm_page(
    State(app): SharedApp,
    RequestConfig(config): RequestConfig,
    Path(token): Path<String>,
) -> Result<Response, WebError> {
    let token = parse_token(&token)?.to_owned();
    html(&LoginPage {
        layout: Layout::new(&app, None, "Sign in"),
        token: Some(token),
        login_command: config.login_command(),
    })
}

/// `POST /login/<token>`: uses the link and opens a session.
pub(super) async fn sign_in(
    State(app): SharedApp,
    Path(token): Path<String>,
    format: ResponseFormat,
    extensions: Extensions,
    headers: HeaderMap,
) -> Result<Response, WebError> {
    let link = hash_token(parse_token(&token)?);
    let (session, hash) = new_token()?;
    let now = app.web.clock.now();
    let who = app
        .web
        .store
        .call(move |s| s.sessions().consume_login_link(&link, now))
        .await?
        .ok_or(WebError::LinkSpent)?;
    let address = client_address(&extensions);
    admit_key(&app, &who, address)?.map_err(|why| WebError::KeyDenied { why, address })?;
    let key_name = who.key_name.clone();
    let open = move |s: &Store| {
        s.sessions()
            .create(&hash, &who, now, now.plus(SESSION_DAYS * DAY_MS))
    };
    app.web.store.call(open).await?;
    tracing::info!(key = %key_name, "web: signed in");
    let to = cookie(&headers, NEXT_COOKIE)
        .filter(|path| is_local(path))
        .unwrap_or("/");
    let mut response = match format {
        ResponseFormat::Html => Redirect::to(to).into_response(),
        ResponseFormat::Json => {
            axum::Json(serde_json::json!({ "key_name": key_name })).into_response()
        }
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
pub(super) async fn logout(
    State(app): SharedApp,
    headers: HeaderMap,
) -> Result<Response, WebError> {
    if let Some(hash) = cookie(&headers, SESSION_COOKIE).map(hash_token) {
        app.web
            .store
            .call(move |s| s.sessions().delete(&hash))
            .await?;
    }
    let mut response = Redirect::to("/").into_response();
    set_cookie(
        &mut response,
        &format!("{SESSION_COOKIE}=; Path=/; Max-Age=0"),
        &app.web.config,
    );
    Ok(response)
}

fn parse_token(token: &str) -> Result<&str, WebError> {
    let hexadecimal = token.len() == 64 && token.bytes().all(|b| b.is_ascii_hexdigit());
    if hexadecimal {
        Ok(token)
    } else {
        Err(WebError::LinkSpent)
    }
}

/// Remembers for a while what was asked for before signing in, to redirect there afterwards.
pub(super) fn next_cookie(uri: &Uri) -> Option<HeaderValue> {
    let path = uri.path_and_query()?.as_str();
    if !is_local(path)
        || path.len() >= MAX_NEXT_PATH
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

#[cfg(test)]
mod tests {
    use axum::http::header;

    use super::super::strangers::StrangerSettings;
    use super::*;

    fn config(url: &str) -> WebConfig {
        WebConfig {
            url: url.to_owned(),
            auth: SignInMethod::Ssh,
            ssh_user: "git".to_owned(),
            ssh_host: "h".to_owned(),
            ssh_port: 2222,
            host_is_configured: true,
            strangers: StrangerSettings::default(),
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
    fn login_pages() {
        let page = |token: Option<&str>| LoginPage {
            layout: Layout::sample("Sign in"),
            token: token.map(str::to_owned),
            login_command: "ssh git@nas login".to_owned(),
        };
        insta::assert_snapshot!("login_help", page(None).render().unwrap());
        insta::assert_snapshot!("login_confirmation", page(Some("0123")).render().unwrap());
    }
}
