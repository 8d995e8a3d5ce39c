//! The button between a stranger and the pages that take some work.
//!
//! A program that follows links does not press it. Pressing it sets a cookie, a pass for a day.

use askama::Template;
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{Extensions, HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use percent_encoding::percent_decode_str;

use super::cookies::{cookie, set_cookie};
use super::error::WebError;
use super::html::encoded;
use super::layout::{Layout, html};
use super::response_format::ResponseFormat;
use super::return_path::{is_local, return_path};
use super::routes::NothingRead;
use super::session::client_address;
use super::state::{App, SharedApp};
use super::strangers::PASS_SECONDS;
use super::viewer::Viewer;

const PASS_COOKIE: &str = "quire_visit";

#[derive(Template)]
#[template(path = "visit.html")]
struct VisitPage {
    layout: Layout,
    /// Where the button is sent, with the page to go on to.
    action: String,
}

/// Whether a request has a pass of its client.
pub(super) fn has_pass(app: &App, viewer: &Viewer, headers: &HeaderMap) -> bool {
    cookie(headers, PASS_COOKIE).is_some_and(|pass| {
        let now = app.web.clock.now();
        app.strangers.passes.admits(pass, viewer.address(), now)
    })
}

/// The page with the button, in place of the one that was asked for.
pub(super) fn page(
    app: &App,
    viewer: &Viewer,
    format: ResponseFormat,
    asked: &Uri,
) -> Result<Response, WebError> {
    if format == ResponseFormat::Json {
        let refused = WebError::VisitRequired.into_response();
        return Ok((Extension(NothingRead), refused).into_response());
    }
    let to = return_path(asked).unwrap_or_else(|| "/".to_owned());
    let page = html(&VisitPage {
        layout: Layout::new(app, Some(viewer), "Continue"),
        action: format!("/-/visit?to={}", encoded(&to)),
    })?;
    Ok((StatusCode::FORBIDDEN, Extension(NothingRead), page).into_response())
}

/// `POST /-/visit?to=PATH`: sets the pass and redirects to the page that was asked for.
pub(super) async fn press(
    State(app): SharedApp,
    extensions: Extensions,
    RawQuery(query): RawQuery,
) -> Result<Response, WebError> {
    let query = query.unwrap_or_default();
    let to = query
        .strip_prefix("to=")
        .and_then(|to| percent_decode_str(to).decode_utf8().ok())
        .filter(|to| is_local(to));
    let mut response = Redirect::to(to.as_deref().unwrap_or("/")).into_response();
    let pass = app
        .strangers
        .passes
        .issue(client_address(&extensions), app.web.clock.now())?;
    let cookie = format!("{PASS_COOKIE}={pass}; Path=/; Max-Age={PASS_SECONDS}");
    set_cookie(&mut response, &cookie, &app.web.config);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_with_the_button() {
        let page = VisitPage {
            layout: Layout::sample("Continue"),
            action: "/-/visit?to=/app/-/search%3Fq%3Da".to_owned(),
        };
        insta::assert_snapshot!(page.render().unwrap());
    }
}
