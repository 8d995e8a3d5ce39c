//! `GET /{repo}/-/change/{id}`: the commits of a change that are there now, and all that pushes brought, each to be compared with any other.

use std::collections::HashMap;
use std::time::Duration;

use askama::Template;
use axum::Json;
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::{Value, json};

use super::super::error::WebError;
use super::super::html as pieces;
use super::super::layout::{Layout, html};
use super::address::{Range, change_link, compare_form_link, compare_link};
use super::commit_row::{CommitRow, commit_json, page_and_subject};
use super::context::RepoContext;
use super::head::{RepoHead, Tab};
use quire_git::read::{CommitSummary, ReachedCommits};
use quire_store::ChangeCommit;
use quire_types::clock::Millis;
use quire_types::names::ObjectId;

/// Versions of a change that are looked for.
pub(super) const MAX_VERSIONS: u32 = 200;
/// Commits of a change without records.
const MAX_FOUND: usize = 20;
/// How long commits are looked for that no push has recorded.
const SEARCH_TIME: Duration = Duration::from_secs(1);

/// A version of a change as the page shows it.
struct VersionRow {
    id: String,
    /// Its place among all, the oldest is 1.
    number: usize,
    short: String,
    /// Page and subject; `None` if the commit is not in the repository any more.
    commit: Option<(String, String)>,
    is_present: bool,
    pushed_at: Millis,
    pusher: Option<String>,
    /// What changed since the version before.
    since: Option<String>,
}

#[derive(Template)]
#[template(path = "repo_change.html")]
struct ChangeTemplate {
    layout: Layout,
    head: RepoHead,
    id: String,
    present: Vec<CommitRow>,
    is_whole: bool,
    versions: Vec<VersionRow>,
    /// Where the form that compares two of them is sent.
    compare: String,
}

struct ChangeRead {
    present: ReachedCommits,
    /// The commits of the versions that can be read.
    versions: HashMap<ObjectId, CommitSummary>,
}

pub(super) async fn page(context: &RepoContext, asked: &str) -> Result<Response, WebError> {
    let versions = versions(context, asked).await?;
    let read = read(context, asked, &versions).await?;
    let known = versions.first().map(|version| version.change_id.clone());
    let first = || read.present.commits.first()?.change_id.clone();
    let id = known.or_else(first).ok_or(WebError::NotFound)?;
    // Which commits there were is not shown to strangers, only which there are.
    let versions = match context.access.is_stranger {
        true if read.present.commits.is_empty() => return Err(WebError::NotFound),
        true => Vec::new(),
        false => versions,
    };
    if id != asked {
        return Ok(Redirect::temporary(&change_link(&context.base, &id)).into_response());
    }
    match context.wants_json() {
        true => Ok(as_json(context, &id, &read, &versions)),
        false => html(&template(context, id, &read, &versions)),
    }
}

/// The versions that pushes brought, the newest first.
async fn versions(context: &RepoContext, asked: &str) -> Result<Vec<ChangeCommit>, WebError> {
    let (repo, change) = (context.repo.clone(), asked.to_owned());
    let find = move |store: &quire_store::Store| {
        store
            .change_commits()
            .of_change(&repo, &change, MAX_VERSIONS)
    };
    let found = context.app.web.store.call(find).await?;
    // Several changes begin so.
    found.ok_or(WebError::NotFound)
}

async fn read(
    context: &RepoContext,
    asked: &str,
    versions: &[ChangeCommit],
) -> Result<ChangeRead, WebError> {
    let ids: Vec<ObjectId> = versions.iter().map(|version| version.sha.clone()).collect();
    let asked = asked.to_owned();
    context
        .read(MAX_FOUND, move |reader, budget| {
            let present = match ids.is_empty() {
                true => reader.commits_of_change(&asked, &budget.within(SEARCH_TIME))?,
                false => reader.reached(&ids, &budget.within(SEARCH_TIME))?,
            };
            let summary = |id: ObjectId| Some((id.clone(), reader.commit(&id).ok()?.summary));
            Ok(ChangeRead {
                present,
                versions: ids.into_iter().filter_map(summary).collect(),
            })
        })
        .await
}

fn template(
    context: &RepoContext,
    id: String,
    read: &ChangeRead,
    versions: &[ChangeCommit],
) -> ChangeTemplate {
    let present = &read.present.commits;
    let rows = versions.iter().enumerate().map(|(at, version)| {
        let commit = read.versions.get(&version.sha);
        let id = version.sha.as_str();
        // The version before, as far as both can be read.
        let before = versions
            .get(at + 1)
            .filter(|before| commit.is_some() && read.versions.contains_key(&before.sha));
        VersionRow {
            number: versions.len() - at,
            short: version.sha.short().to_owned(),
            commit: commit.map(|commit| page_and_subject(context, commit)),
            is_present: present.iter().any(|commit| commit.id == version.sha),
            pushed_at: version.pushed_at,
            pusher: version.pusher.clone(),
            since: before.map(|before| {
                let before = before.sha.as_str().as_bytes();
                compare_link(&context.base, before, id.as_bytes(), Range::FromFirst)
            }),
            id: id.to_owned(),
        }
    });
    ChangeTemplate {
        layout: context.live_layout(format!("Change {id} · {}", context.repo)),
        head: RepoHead::new(context, Tab::Commits, None, None),
        present: present
            .iter()
            .map(|commit| CommitRow::new(context, commit))
            .collect(),
        is_whole: read.present.is_whole,
        versions: rows.collect(),
        compare: compare_form_link(&context.base),
        id,
    }
}

fn as_json(
    context: &RepoContext,
    id: &str,
    read: &ChangeRead,
    versions: &[ChangeCommit],
) -> Response {
    let version = |version: &ChangeCommit| -> Value {
        let commit = read.versions.get(&version.sha);
        json!({
            "id": version.sha,
            "pushed_at_ms": version.pushed_at.0,
            "pusher": version.pusher,
            "commit": commit.map(|commit| commit_json(context, commit)),
        })
    };
    let present = read.present.commits.iter();
    Json(json!({
        "repo": context.repo,
        "change_id": id,
        "commits": present.map(|commit| commit_json(context, commit)).collect::<Vec<_>>(),
        "is_whole": read.present.is_whole,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
    }))
    .into_response()
}
