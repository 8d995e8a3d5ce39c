//! `GET /{repo}/-/log/{rev}[/{path}]`: the commits of a revision, or those that changed a path.

use askama::Template;
use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::error::WebError;
use super::super::html as pieces;
use super::super::layout::{Layout, html};
use super::address::View;
use super::commit_row::{CommitRow, commit_json};
use super::context::{RepoContext, RevContent, RevPage};
use super::head::{RepoHead, Tab};
use super::source_text::name_text;
use super::tree::Crumbs;
use quire_git::read::{
    CommitSummary, HistoryCursor, HistoryQuery, NamedRefs, Portion, ResolvedRev, RevPath, TreePath,
};

/// Commits of a page.
const MAX_PAGE_COMMITS: usize = 50;

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

pub(super) async fn page(context: &RepoContext, wanted: RevPath) -> Result<Response, WebError> {
    let from = context
        .query_text("from")
        .map(|text| HistoryCursor::parse(&text).ok_or(WebError::NotFound))
        .transpose()?;
    let is_continued = from.is_some();
    let read = context
        .read_rev(
            View::Log,
            wanted,
            MAX_PAGE_COMMITS,
            move |reader, rev, path, budget| {
                let query = HistoryQuery {
                    from: from.unwrap_or_else(|| HistoryCursor::start(rev.commit.clone())),
                    path: path.clone(),
                };
                Ok(RevContent::Here(reader.history(&query, budget)?))
            },
        )
        .await?;
    let mut page = match read {
        Ok(page) => page,
        Err(response) => return Ok(response),
    };
    let is_whole = !page.content.out_of_time;
    if page.content.items.is_empty() && !is_continued && is_whole {
        // No commit of this revision ever had the path.
        return Err(WebError::NotFound);
    }
    let choices = page.choices.take();
    let response = respond(context, &page, choices, is_continued)?;
    Ok(page.tag_if(is_whole, response))
}

fn respond(
    context: &RepoContext,
    page: &RevPage<Portion<CommitSummary, HistoryCursor>>,
    choices: Option<NamedRefs>,
    is_continued: bool,
) -> Result<Response, WebError> {
    let (rev, path, commits) = (&page.rev, &page.path, &page.content);
    let next = next_link(context, rev, path, commits);
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
        head: RepoHead::new(context, Tab::Commits, Some(rev), choices),
        crumbs: (!path.is_root()).then(|| Crumbs::new(context, View::Log, rev, path)),
        rows: commits
            .items
            .iter()
            .map(|c| CommitRow::new(context, c))
            .collect(),
        next,
        newest: is_continued.then(|| context.link(View::Log, &rev.spelled, path)),
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
