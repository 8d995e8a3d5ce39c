//! The page of a path that a revision does not have any more: 404, with the last commit that had it.

use std::time::Duration;

use askama::Template;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::super::error::WebError;
use super::super::html as pieces;
use super::super::layout::{Layout, html};
use super::address::View;
use super::commit_row::{commit_json, signed_at, subject_html};
use super::context::RepoContext;
use super::source_text::name_html;
use quire_git::read::{
    Budget, CommitFilter, CommitSummary, EntryMode, HistoryCursor, HistoryQuery, ReadError, Reader,
    RevPath, TreePath,
};
use quire_types::clock::Millis;
use quire_types::names::ObjectId;

/// How long the history is searched.
const SEARCH_TIME: Duration = Duration::from_millis(500);

struct GonePath {
    path: TreePath,
    /// The commit that removed it.
    removed_by: CommitSummary,
    /// The parent that had it, and whether it was a folder.
    last: ObjectId,
    was_folder: bool,
}

#[derive(Template)]
#[template(path = "repo_gone.html")]
struct GoneTemplate {
    layout: Layout,
    name: String,
    subject: String,
    commit: String,
    at: Millis,
    last: String,
}

/// The page, or [`WebError::NotFound`] if the revision never had the path.
pub(super) async fn page(context: &RepoContext, wanted: RevPath) -> Result<Response, WebError> {
    let gone = context
        .read(1, move |reader, budget| find(reader, &wanted, budget))
        .await?;
    let view = if gone.was_folder {
        View::Tree
    } else {
        View::File
    };
    let last = context.link(view, gone.last.as_str().as_bytes(), &gone.path);
    let response = if context.wants_json() {
        Json(json!({
            "error": "this path is not in the revision any more",
            "removed_by": commit_json(context, &gone.removed_by),
            "last": last,
        }))
        .into_response()
    } else {
        let id = gone.removed_by.id.as_str().as_bytes();
        html(&GoneTemplate {
            layout: context.layout(format!("Not there any more · {}", context.repo)),
            name: name_html(gone.path.as_bytes()),
            subject: subject_html(&gone.removed_by.subject),
            commit: context.link(View::Commit, id, &TreePath::default()),
            at: signed_at(&gone.removed_by.committer),
            last,
        })?
    };
    Ok((StatusCode::NOT_FOUND, response).into_response())
}

fn find(reader: &Reader, wanted: &RevPath, budget: &Budget) -> Result<GonePath, ReadError> {
    let (rev, path) = reader.resolve(wanted)?;
    if reader.entry(&rev.commit, &path).is_ok() {
        return Err(ReadError::NoPath);
    }
    let query = HistoryQuery {
        from: HistoryCursor::start(rev.commit),
        path: path.clone(),
        filter: CommitFilter::default(),
    };
    let newest = reader.history(&query, &budget.within(SEARCH_TIME))?;
    let removed_by = newest.items.into_iter().next().ok_or(ReadError::NoPath)?;
    let had = removed_by
        .parents
        .iter()
        .find_map(|parent| Some((parent.clone(), reader.entry(parent, &path).ok()?)));
    let (last, entry) = had.ok_or(ReadError::NoPath)?;
    Ok(GonePath {
        path,
        removed_by,
        last,
        was_folder: entry.mode == EntryMode::Folder,
    })
}
