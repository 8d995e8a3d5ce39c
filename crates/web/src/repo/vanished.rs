//! The page of a commit that a repository does not have any more: 404, with what took its place where that is known.
//!
//! What is known comes from the records of pushes and runs: the ref that pointed to the commit, and when. What the ref points to now is
//! what took its place.

use askama::Template;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::super::error::WebError;
use super::super::html as pieces;
use super::super::layout::{Layout, html};
use super::address::View;
use super::commit_row::{commit_json, subject_html};
use super::context::RepoContext;
use super::source_text::name_html;
use quire_git::read::{CommitSummary, ReadError, RevPath, TreePath};
use quire_types::clock::Millis;
use quire_types::names::{ObjectId, RefName};
use quire_types::run::Run;

/// What the records say of a commit.
struct Record {
    ref_name: RefName,
    /// When the ref was moved away from it, or when its run was made.
    at: Millis,
    was_overwritten: bool,
    run: Option<Run>,
}

#[derive(Template)]
#[template(path = "repo_vanished.html")]
struct VanishedTemplate {
    layout: Layout,
    id: ObjectId,
    ref_name: String,
    at: Millis,
    was_overwritten: bool,
    /// Number and path of its newest run.
    run: Option<(u32, String)>,
    /// Subject and path of what the ref points to now.
    successor: Option<(String, String)>,
}

/// The page, or [`WebError::NotFound`] if nothing is known of such a commit.
pub(super) async fn page(context: &RepoContext, wanted: &RevPath) -> Result<Response, WebError> {
    let id = wanted.as_id().ok_or(WebError::NotFound)?;
    let mut record = record(context, id.clone())
        .await?
        .ok_or(WebError::NotFound)?;
    if !context.access.sees_runs() {
        record.run = None;
    }
    let now = RevPath::parse(record.ref_name.as_str().as_bytes()).ok_or(WebError::NotFound)?;
    let successor = context
        .read(1, move |reader, _| match reader.resolve(&now) {
            Ok((rev, _)) => Ok(Some(reader.commit(&rev.commit)?.summary)),
            Err(ReadError::NoRevision) => Ok(None),
            Err(error) => Err(error),
        })
        .await?;
    // Which refs there were is not shown to strangers, only which there are.
    if context.access.is_stranger && successor.is_none() {
        return Err(WebError::NotFound);
    }
    let response = match context.wants_json() {
        true => as_json(context, &id, &record, successor.as_ref()),
        false => html(&template(context, id, record, successor))?,
    };
    Ok((StatusCode::NOT_FOUND, response).into_response())
}

async fn record(context: &RepoContext, id: ObjectId) -> Result<Option<Record>, WebError> {
    let repo = context.repo.clone();
    let find = move |store: &quire_store::Store| {
        let run = store.runs().newest_of_commit(&repo, &id)?;
        let overwritten = store.overwritten_refs().newest_of_object(&repo, &id)?;
        Ok((run, overwritten))
    };
    let (run, overwritten) = context.app.web.store.call(find).await?;
    Ok(match (overwritten, run) {
        (Some(overwritten), run) => Some(Record {
            ref_name: overwritten.ref_name,
            at: overwritten.pushed_at_ms,
            was_overwritten: true,
            run,
        }),
        (None, Some(run)) => Some(Record {
            ref_name: run.ref_name.clone(),
            at: run.queued_at_ms,
            was_overwritten: false,
            run: Some(run),
        }),
        (None, None) => None,
    })
}

fn template(
    context: &RepoContext,
    id: ObjectId,
    record: Record,
    successor: Option<CommitSummary>,
) -> VanishedTemplate {
    VanishedTemplate {
        layout: context.layout(format!("Not there any more · {}", context.repo)),
        id,
        ref_name: name_html(pieces::ref_label(&record.ref_name).as_bytes()),
        at: record.at,
        was_overwritten: record.was_overwritten,
        run: record
            .run
            .map(|run| (run.number, pieces::run_path(&run.id))),
        successor: successor.map(|commit| {
            let id = commit.id.as_str().as_bytes();
            let href = context.link(View::Commit, id, &TreePath::default());
            (subject_html(&commit.subject), href)
        }),
    }
}

fn as_json(
    context: &RepoContext,
    id: &ObjectId,
    record: &Record,
    successor: Option<&CommitSummary>,
) -> Response {
    Json(json!({
        "error": "this commit is not in the repository any more",
        "commit": id,
        "ref": record.ref_name,
        "at_ms": record.at.0,
        "was_overwritten": record.was_overwritten,
        "run": record.run.as_ref().map(|run| run.id),
        "successor": successor.map(|commit| commit_json(context, commit)),
    }))
    .into_response()
}
