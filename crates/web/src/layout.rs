//! What surrounds every page, and the rendering of a template into a response.

use askama::Template;
use axum::response::{Html, IntoResponse, Response};

use super::assets;
use super::error::WebError;
use super::state::{App, SignInMethod};
use super::viewer::Viewer;

/// What the frame around every page shows.
pub(super) struct Layout {
    pub(super) title: String,
    pub(super) css: &'static str,
    pub(super) js: &'static str,
    pub(super) icon: &'static str,
    /// Who is signed in by a key.
    pub(super) key_name: Option<String>,
    /// Everybody is signed in.
    pub(super) open: bool,
    /// The reader is a stranger, who may sign in.
    pub(super) may_sign_in: bool,
    /// The path of the repository whose feeds the page names.
    pub(super) feeds_of: Option<String>,
    /// Whether one of them is that of the runs.
    pub(super) has_runs_feed: bool,
    /// The time of the page; `None` for one that does not change with time.
    pub(super) now: Option<i64>,
    pub(super) version: &'static str,
    /// What it was built from, where that is known.
    pub(super) commit: Option<&'static str>,
}

impl Layout {
    pub(super) fn new(app: &App, viewer: Option<&Viewer>, title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            css: assets::css(),
            js: assets::js(),
            icon: assets::icon(),
            key_name: viewer.and_then(|v| v.key_name.clone()),
            open: app.web.config.auth == SignInMethod::Open,
            may_sign_in: viewer.is_some_and(|v| v.is_stranger),
            feeds_of: None,
            has_runs_feed: false,
            now: Some(app.web.clock.now().0),
            version: env!("CARGO_PKG_VERSION"),
            commit: short_commit(app.web.commit),
        }
    }
}

/// The abbreviated commit, or `None` if the build did not know it.
fn short_commit(commit: &'static str) -> Option<&'static str> {
    (commit != "unknown").then(|| commit.get(..12).unwrap_or(commit))
}

/// A template as an answer.
pub(super) fn html(template: &impl Template) -> Result<Response, WebError> {
    Ok(Html(template.render()?).into_response())
}

#[cfg(test)]
impl Layout {
    /// A layout that stays the same in snapshots.
    pub(super) fn sample(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            css: "quire.css",
            js: "quire.js",
            icon: "icon.svg",
            key_name: Some("laptop".to_owned()),
            open: false,
            may_sign_in: false,
            feeds_of: None,
            has_runs_feed: false,
            now: Some(0),
            version: "0.0.0",
            commit: None,
        }
    }
}
