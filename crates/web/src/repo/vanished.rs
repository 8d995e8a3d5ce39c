//! The page of a commit that a repository does not have any more: 404, with what took its place where that is known.
//!
//! What is known comes from the records of pushes and runs: the ref that pointed to the commit and when, and the change that it was a
//! version of. What the ref points to now, and the commit that the change has now, are what took its place.

use std::time::Duration;

use askama::Template;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::super::error::WebError;
use super::super::html as pieces;
use super::super::layout::{Layout, html};
use super::address::change_link;
use super::change::MAX_VERSIONS;
use super::commit_row::{commit_json, page_and_subject};
use super::context::RepoContext;
use super::source_text::name_html;
use quire_git::read::{CommitSummary, ReadError, RevPath};
use quire_store::ChangeCommit;
use quire_types::clock::Millis;
use quire_types::names::{ObjectId, RefName};
use quire_types::run::Run;

/// How long they are looked for.
const SEARCH_TIME: Duration = Duration::from_millis(500);

/// What the records say of a commit.
struct Record {
    ref_name: RefName,
    /// When the ref was moved away from it, or when its run was made.
    at: Millis,
    was_overwritten: bool,
    run: Option<Run>,
}

/// The change that a commit was a version of.
struct OfChange {
    id: String,
    /// The commit of it that is there now.
    now: Option<CommitSummary>,
}

#[derive(Template)]
#[template(path = "repo_vanished.html")]
struct VanishedTemplate {
    layout: Layout,
    id: ObjectId,
    moved: Option<MovedRef>,
    change: Option<ChangeNow>,
}

/// The change that it was a version of, as the page shows it.
struct ChangeNow {
    href: String,
    id: String,
    /// Page and subject of the commit that the change has now.
    now: Option<(String, String)>,
}

/// The ref that pointed to it, as the page shows it.
struct MovedRef {
    name: String,
    at: Millis,
    was_overwritten: bool,
    /// Number and path of its newest run.
    run: Option<(u32, String)>,
    /// Page and subject of what the ref points to now.
    now: Option<(String, String)>,
}

/// The page, or [`WebError::NotFound`] if nothing is known of such a commit.
pub(super) async fn page(context: &RepoContext, wanted: &RevPath) -> Result<Response, WebError> {
    let id = wanted.as_id().ok_or(WebError::NotFound)?;
    let mut record = record(context, id.clone()).await?;
    if let Some(record) = record.as_mut().filter(|_| !context.access.sees_runs()) {
        record.run = None;
    }
    let ref_name = record.as_ref().map(|record| record.ref_name.clone());
    let now = ref_name.and_then(|name| RevPath::parse(name.as_str().as_bytes()));
    let versions = versions(context, id.clone()).await?;
    let ids: Vec<ObjectId> = versions.iter().map(|version| version.sha.clone()).collect();
    let (successor, present) = context
        .read(1, move |reader, budget| {
            let successor = match now.map(|now| reader.resolve(&now)) {
                Some(Ok((rev, _))) => Some(reader.commit(&rev.commit)?.summary),
                None | Some(Err(ReadError::NoRevision)) => None,
                Some(Err(error)) => return Err(error),
            };
            let present = reader.reached(&ids, &budget.within(SEARCH_TIME))?;
            Ok((successor, present.commits.into_iter().next()))
        })
        .await?;
    let mut change = versions.into_iter().next().map(|version| OfChange {
        id: version.change_id,
        now: present,
    });
    // Which refs and commits there were is not shown to strangers, only which there are.
    if context.access.is_stranger {
        record = record.filter(|_| successor.is_some());
        change = change.filter(|change| change.now.is_some());
    }
    if record.is_none() && change.is_none() {
        return Err(WebError::NotFound);
    }
    let response = match context.wants_json() {
        true => as_json(
            context,
            &id,
            record.as_ref(),
            successor.as_ref(),
            change.as_ref(),
        ),
        false => html(&template(context, id, record, successor, change))?,
    };
    Ok((StatusCode::NOT_FOUND, response).into_response())
}

/// The versions of the change that a commit was one of, the newest first.
async fn versions(context: &RepoContext, id: ObjectId) -> Result<Vec<ChangeCommit>, WebError> {
    let repo = context.repo.clone();
    let find = move |store: &quire_store::Store| {
        let changes = store.change_commits();
        match changes.of_commit(&repo, &id)? {
            Some(found) => changes.of_change(&repo, &found.change_id, MAX_VERSIONS),
            None => Ok(None),
        }
    };
    Ok(context.app.web.store.call(find).await?.unwrap_or_default())
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
    record: Option<Record>,
    successor: Option<CommitSummary>,
    change: Option<OfChange>,
) -> VanishedTemplate {
    let commit = |commit: CommitSummary| page_and_subject(context, &commit);
    VanishedTemplate {
        layout: context.layout(format!("Not there any more · {}", context.repo)),
        id,
        moved: record.map(|record| MovedRef {
            name: name_html(pieces::ref_label(&record.ref_name).as_bytes()),
            at: record.at,
            was_overwritten: record.was_overwritten,
            run: record
                .run
                .map(|run| (run.number, pieces::run_path(&run.id))),
            now: successor.map(commit),
        }),
        change: change.map(|change| ChangeNow {
            href: change_link(&context.base, &change.id),
            id: change.id,
            now: change.now.map(commit),
        }),
    }
}

fn as_json(
    context: &RepoContext,
    id: &ObjectId,
    record: Option<&Record>,
    successor: Option<&CommitSummary>,
    change: Option<&OfChange>,
) -> Response {
    let now = change.and_then(|change| change.now.as_ref());
    Json(json!({
        "error": "this commit is not in the repository any more",
        "commit": id,
        "ref": record.map(|record| &record.ref_name),
        "at_ms": record.map(|record| record.at.0),
        "was_overwritten": record.map(|record| record.was_overwritten),
        "run": record.and_then(|record| Some(record.run.as_ref()?.id)),
        "successor": successor.map(|commit| commit_json(context, commit)),
        "change_id": change.map(|change| &change.id),
        "of_change": now.map(|commit| commit_json(context, commit)),
    }))
    .into_response()
}
