//! The page of a short id that several commits begin with.

use askama::Template;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::super::error::WebError;
use super::super::layout::{Layout, html};
use super::address::View;
use super::context::RepoContext;
use quire_git::read::TreePath;
use quire_types::names::ObjectId;

#[derive(Template)]
#[template(path = "repo_several.html")]
struct SeveralTemplate<'a> {
    layout: Layout,
    prefix: &'a str,
    links: Vec<(ObjectId, String)>,
}

pub(super) fn page(
    context: &RepoContext,
    view: View,
    prefix: &str,
    candidates: Vec<ObjectId>,
) -> Result<Response, WebError> {
    let links: Vec<(ObjectId, String)> = candidates
        .into_iter()
        .map(|id| {
            let href = context.link(view, id.as_str().as_bytes(), &TreePath::default());
            (id, href)
        })
        .collect();
    let response = if context.wants_json() {
        let commits: Vec<&ObjectId> = links.iter().map(|(id, _)| id).collect();
        Json(json!({ "error": "several commits begin with these digits", "commits": commits }))
            .into_response()
    } else {
        html(&SeveralTemplate {
            layout: context.layout(format!("Several commits · {}", context.repo)),
            prefix,
            links,
        })?
    };
    Ok((StatusCode::MULTIPLE_CHOICES, response).into_response())
}
