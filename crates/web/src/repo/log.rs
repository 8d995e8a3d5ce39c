//! `GET /{repo}/-/log/{rev}[/{path}]`: the commits of a revision, or those that changed a path.

use askama::Template;
use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::error::WebError;
use super::super::html as pieces;
use super::super::layout::{Layout, html};
use super::address::View;
use super::context::{RepoContext, RevRead};
use super::head::{RefChoices, RepoHead, Tab};
use super::source_text::{marked, name_text};
use super::tree::Crumbs;
use quire_git::read::{
    CommitSummary, HistoryCursor, HistoryQuery, Person, Portion, ResolvedRev, RevPath, TreePath,
};
use quire_types::clock::Millis;

/// Commits of a page.
const MAX_PAGE_COMMITS: usize = 50;

/// A commit as a list shows it.
struct CommitRow {
    href: String,
    subject: String,
    author: String,
    at: Millis,
    short: String,
    change: Option<String>,
    is_merge: bool,
}

#[derive(Template)]
#[template(path = "repo_log.html")]
struct LogTemplate {
    layout: Layout,
    head: RepoHead,
    crumbs: Option<Crumbs>,
    rows: Vec<CommitRow>,
    next: Option<String>,
    newest: Option<String>,
    out_of_time: bool,
}

/// The time of a person's signature.
pub(super) fn signed_at(person: &Person) -> Millis {
    Millis(person.seconds.saturating_mul(1000))
}

/// A subject as HTML; a commit may have none.
pub(super) fn subject_html(subject: &str) -> String {
    if subject.is_empty() {
        "(no subject)".to_owned()
    } else {
        marked(subject).html
    }
}

/// A commit as data.
pub(super) fn commit_json(context: &RepoContext, commit: &CommitSummary) -> Value {
    let person = |person: &Person| {
        json!({
            "name": person.name,
            "email": person.email,
            "at_ms": signed_at(person),
        })
    };
    json!({
        "id": commit.id,
        "parents": commit.parents,
        "subject": commit.subject,
        "author": person(&commit.author),
        "committer": person(&commit.committer),
        "change_id": commit.change_id,
        "href": context.link(View::Commit, commit.id.as_str().as_bytes(), &TreePath::default()),
    })
}

fn row(context: &RepoContext, commit: &CommitSummary) -> CommitRow {
    CommitRow {
        href: context.link(
            View::Commit,
            commit.id.as_str().as_bytes(),
            &TreePath::default(),
        ),
        subject: subject_html(&commit.subject),
        author: marked(&commit.author.name).html,
        at: signed_at(&commit.author),
        short: commit.id.short().to_owned(),
        change: commit
            .change_id
            .as_ref()
            .map(|id| id.chars().take(12).collect()),
        is_merge: commit.parents.len() > 1,
    }
}

pub(super) async fn page(context: &RepoContext, wanted: RevPath) -> Result<Response, WebError> {
    let from = context
        .query_text("from")
        .map(|text| HistoryCursor::parse(&text).ok_or(WebError::NotFound))
        .transpose()?;
    let is_continued = from.is_some();
    let wants_head = !context.wants_json();
    let found = context
        .read_rev(
            View::Log,
            wanted,
            MAX_PAGE_COMMITS,
            move |reader, rev, path, budget| {
                let query = HistoryQuery {
                    from: from.unwrap_or_else(|| HistoryCursor::start(rev.commit.clone())),
                    path: path.clone(),
                };
                let commits = reader.history(&query, budget)?;
                let choices = wants_head
                    .then(|| RefChoices::read(reader, budget))
                    .transpose()?;
                Ok(RevRead::Page(rev, path, (commits, choices)))
            },
        )
        .await?;
    let (rev, path, (commits, choices)) = match found {
        Ok(found) => found,
        Err(redirect) => return Ok(redirect),
    };
    if commits.items.is_empty() && !is_continued && !commits.out_of_time {
        // No commit of this revision ever had the path.
        return Err(WebError::NotFound);
    }
    let next = next_link(context, &rev, &path, &commits);
    if context.wants_json() {
        let list: Vec<Value> = commits
            .items
            .iter()
            .map(|commit| commit_json(context, commit))
            .collect();
        return Ok(Json(json!({
            "repo": context.repo,
            "commit": rev.commit,
            "path": name_text(path.as_bytes()),
            "commits": list,
            "next": next,
        }))
        .into_response());
    }
    let title = match name_text(path.as_bytes()) {
        path if path.is_empty() => format!("Commits · {}", context.repo),
        path => format!("History of {path} · {}", context.repo),
    };
    html(&LogTemplate {
        layout: context.layout(title),
        head: RepoHead::new(context, Tab::Commits, Some(&rev), choices),
        crumbs: (!path.is_root()).then(|| Crumbs::new(context, View::Log, &rev, &path)),
        rows: commits.items.iter().map(|c| row(context, c)).collect(),
        next,
        newest: is_continued.then(|| context.link(View::Log, &rev.spelled, &path)),
        out_of_time: commits.out_of_time,
    })
}

fn next_link(
    context: &RepoContext,
    rev: &ResolvedRev,
    path: &TreePath,
    commits: &Portion<CommitSummary, HistoryCursor>,
) -> Option<String> {
    let cursor = commits.next.as_ref()?;
    let here = context.link(View::Log, &rev.spelled, path);
    Some(format!("{here}?from={cursor}"))
}
