//! `GET /{repo}/-/log/{rev}[/{path}]`: the commits of a revision, or those that changed a path.

use askama::Template;
use axum::response::Response;
use serde_json::{Value, json};

use super::super::error::WebError;
use super::address::{View, encoded_bytes};
use super::commit_row::{CUT_HISTORY, CommitRow, commit_json};
use super::context::{RepoContext, RevContent, RevPage, SEARCH_TIME};
use super::head::{RepoHead, Tab};
use super::kept_page::PageBody;
use super::search_query::pattern_problem;
use super::source_text::{name_html, name_text};
use super::tree::Crumbs;
use quire_git::read::{
    CommitFilter, CommitSummary, HistoryCursor, HistoryQuery, NamedRefs, Portion, RevPath,
    TextPattern, TreePath,
};
use quire_types::names::ObjectId;

/// Commits of a page.
const MAX_PAGE_COMMITS: usize = 50;

#[derive(Template)]
#[template(path = "repo_log.html", block = "main")]
struct LogTemplate {
    head: RepoHead,
    crumbs: Option<Crumbs>,
    rows: Vec<CommitRow>,
    next: Option<String>,
    newest: Option<String>,
    out_of_time: bool,
    /// Why the list ends before the history does.
    cut: Option<&'static str>,
    /// The same list with the former name of the file.
    follow: Option<String>,
    former: Option<FormerName>,
    /// Where the form is sent that narrows the list.
    here: String,
    wanted: WantedCommits,
}

/// Which commits of the history are wanted, as an address says it.
#[derive(Default)]
struct WantedCommits {
    author: String,
    text: String,
    /// Whether the name of a file before it was renamed is looked for.
    follows: bool,
}

/// The commits of a page.
struct LogRead {
    history: Portion<CommitSummary, HistoryCursor>,
    /// What the file was called before the last of them, and the commit before it.
    renamed_from: Option<(ObjectId, TreePath)>,
}

/// A former name as the page shows it.
struct FormerName {
    name: String,
    /// Its history.
    href: String,
}

impl WantedCommits {
    fn of(context: &RepoContext) -> Self {
        Self {
            author: context.query_text("author").unwrap_or_default(),
            text: context.query_text("q").unwrap_or_default(),
            follows: context.query_text("follow").as_deref() == Some("1"),
        }
    }

    fn is_all(&self) -> bool {
        self.author.is_empty() && self.text.is_empty()
    }

    fn filter(&self) -> Result<CommitFilter, WebError> {
        let pattern = |text: &str| -> Result<Option<TextPattern>, WebError> {
            let text = Some(text).filter(|text| !text.is_empty());
            text.map(TextPattern::literal)
                .transpose()
                .map_err(|problem| WebError::BadRequest(pattern_problem(&problem)))
        };
        Ok(CommitFilter {
            author: pattern(&self.author)?,
            message: pattern(&self.text)?,
            anything: None,
        })
    }

    /// What an address of the same list has in its query, each part after an `&`.
    fn query(&self) -> String {
        let follow = if self.follows { "1" } else { "" };
        [
            ("author", &*self.author),
            ("q", &self.text),
            ("follow", follow),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("&{name}={}", encoded_bytes(value.as_bytes())))
        .collect()
    }
}

pub(super) async fn page(context: &RepoContext, wanted: RevPath) -> Result<Response, WebError> {
    let from = context
        .query_text("from")
        .map(|text| HistoryCursor::parse(&text).ok_or(WebError::NotFound))
        .transpose()?;
    let is_continued = from.is_some();
    let commits = WantedCommits::of(context);
    let (filter, is_all) = (commits.filter()?, commits.is_all());
    let follows = commits.follows && is_all;
    let read = context
        .read_rev(
            View::Log,
            wanted,
            MAX_PAGE_COMMITS,
            move |reader, rev, path, budget| {
                let query = HistoryQuery {
                    from: from.unwrap_or_else(|| HistoryCursor::start(rev.commit.clone())),
                    path: path.clone(),
                    filter,
                };
                // Of a few commits among many, all have to be read.
                let history = match is_all {
                    true => reader.history(&query, budget),
                    false => reader.history(&query, &budget.within(SEARCH_TIME)),
                }?;
                let first = history
                    .items
                    .last()
                    .filter(|_| history.is_last() && follows);
                let renamed_from = match first {
                    Some(first) if !path.is_root() => {
                        reader.renamed_from(&first.id, path, budget)?
                    }
                    _ => None,
                };
                Ok(RevContent::Here(LogRead {
                    history,
                    renamed_from,
                }))
            },
        )
        .await?;
    let mut page = match read {
        Ok(page) => page,
        Err(response) => return Ok(response),
    };
    let is_whole = !page.content.history.out_of_time;
    if page.content.history.items.is_empty() && !is_continued && is_whole && is_all {
        // No commit of this revision ever had the path.
        return Err(WebError::NotFound);
    }
    let choices = page.choices.take();
    let body = body(context, &page, choices, (commits, is_continued))?;
    context.send(&page.identity, is_whole, body).await
}

fn body(
    context: &RepoContext,
    page: &RevPage<LogRead>,
    choices: Option<NamedRefs>,
    (wanted, is_continued): (WantedCommits, bool),
) -> Result<PageBody, WebError> {
    let (rev, path, commits) = (&page.rev, &page.path, &page.content.history);
    let renamed_from = page.content.renamed_from.as_ref();
    let followed = |commit: &ObjectId, path: &TreePath| {
        let history = context.link(View::Log, commit.as_str().as_bytes(), path);
        format!("{history}?follow=1")
    };
    let here = context.link(View::Log, &rev.spelled, path);
    let cursor = commits.next.as_ref();
    let next = cursor.map(|next| format!("{here}?from={next}{}", wanted.query()));
    if context.wants_json() {
        let list: Vec<Value> = commits
            .items
            .iter()
            .map(|commit| commit_json(context, commit))
            .collect();
        return Ok(PageBody::json(&json!({
            "repo": context.repo,
            "commit": rev.commit,
            "path": name_text(path.as_bytes()),
            "commits": list,
            "out_of_time": commits.out_of_time,
            "is_cut": commits.is_cut,
            "renamed_from": renamed_from.map(|(commit, path)| json!({
                "path": name_text(path.as_bytes()),
                "href": followed(commit, path),
            })),
            "next": next,
        })));
    }
    let title = match name_text(path.as_bytes()) {
        path if path.is_empty() => format!("Commits · {}", context.repo),
        path => format!("History of {path} · {}", context.repo),
    };
    let main = LogTemplate {
        head: RepoHead::new(context, Tab::Commits, Some(rev), choices),
        crumbs: (!path.is_root()).then(|| Crumbs::new(context, View::Log, rev, path)),
        rows: commits
            .items
            .iter()
            .map(|c| CommitRow::new(context, c))
            .collect(),
        next,
        newest: is_continued.then(|| match wanted.query().strip_prefix('&') {
            Some(query) => format!("{here}?{query}"),
            None => here.clone(),
        }),
        out_of_time: commits.out_of_time,
        cut: commits.is_cut.then_some(CUT_HISTORY),
        follow: (!path.is_root() && !wanted.follows && wanted.is_all())
            .then(|| format!("{here}?follow=1")),
        former: renamed_from.map(|(commit, path)| FormerName {
            name: name_html(path.as_bytes()),
            href: followed(commit, path),
        }),
        here,
        wanted,
    };
    PageBody::html(title, &main)
}
