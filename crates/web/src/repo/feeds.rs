//! `GET /{repo}/-/commits.atom` and `runs.atom`: what is new, for feed readers.
//!
//! They sign in with an access token as the password. Addresses in a feed are absolute, since they also are its ids.

use askama::Template;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::super::error::WebError;
use super::super::html::{ref_label, run_path};
use super::address::{Feed, View};
use super::commit_row::signed_at;
use super::context::RepoContext;
use super::page_identity::{entity_tag, unchanged};
use super::source_text::name_text;
use quire_git::read::{CommitFilter, HistoryCursor, HistoryQuery, ReadError, RevPath, TreePath};
use quire_store::RunFilter;
use quire_types::clock::Millis;
use quire_types::run::Run;
use quire_types::text::sanitize;

/// Entries of a feed.
const MAX_ENTRIES: u32 = 50;

struct FeedEntry {
    href: String,
    title: String,
    at: Millis,
    author: String,
    content: String,
}

#[derive(Template)]
#[template(path = "feed.xml")]
struct FeedTemplate {
    id: String,
    title: String,
    /// What the repository is.
    subtitle: Option<String>,
    page: String,
    updated: Millis,
    entries: Vec<FeedEntry>,
}

pub(super) async fn page(context: &RepoContext, feed: Feed) -> Result<Response, WebError> {
    let entries = match feed {
        Feed::Commits => commits(context).await?,
        Feed::Runs => runs(context).await?,
    };
    let (name, about, page) = match feed {
        Feed::Commits => ("commits", "Commits", "log/HEAD"),
        Feed::Runs => ("runs", "Runs", "runs"),
    };
    let base = absolute(context, &context.base);
    let query = match context.query.as_str() {
        "" => String::new(),
        query => format!("?{query}"),
    };
    let description = context.access.description(&context.app, &context.repo);
    let subtitle = description.await?.map(|text| xml_text(&text));
    let text = FeedTemplate {
        subtitle,
        id: format!("{base}/-/{name}.atom{query}"),
        title: format!("{about} of {}", context.repo),
        page: format!("{base}/-/{page}"),
        updated: entries
            .iter()
            .map(|entry| entry.at)
            .max()
            .unwrap_or(Millis(0)),
        entries,
    }
    .render()?;
    let tag = entity_tag(&text);
    if let Some(response) = unchanged(&context.known, &tag) {
        return Ok(response);
    }
    let headers = [
        (
            header::CONTENT_TYPE,
            "application/atom+xml; charset=utf-8".to_owned(),
        ),
        (header::ETAG, tag),
    ];
    Ok((headers, text).into_response())
}

fn absolute(context: &RepoContext, path: &str) -> String {
    format!("{}{path}", context.config.url.trim_end_matches('/'))
}

/// Text that XML can hold.
fn xml_text(text: &str) -> String {
    sanitize(text).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}

/// The newest commits of HEAD, or of the revision `ref`.
async fn commits(context: &RepoContext) -> Result<Vec<FeedEntry>, WebError> {
    let wanted = context
        .query_bytes("ref")
        .map(|name| RevPath::parse(&name).ok_or(WebError::NotFound))
        .transpose()?;
    let found = context
        .read(MAX_ENTRIES as usize, move |reader, budget| {
            let rev = match &wanted {
                Some(wanted) => Some(reader.resolve(wanted)?),
                None => reader.head()?.map(|rev| (rev, TreePath::default())),
            };
            let Some((rev, path)) = rev else {
                return Ok(Vec::new());
            };
            if !path.is_root() {
                return Err(ReadError::NoRevision);
            }
            let query = HistoryQuery {
                from: HistoryCursor::start(rev.commit),
                path,
                filter: CommitFilter::default(),
            };
            let commits = reader.history(&query, budget)?.items.into_iter();
            commits
                .map(|commit| Ok((reader.commit(&commit.id)?.body, commit)))
                .collect::<Result<Vec<_>, ReadError>>()
        })
        .await?;
    let entries = found.into_iter().map(|(body, commit)| {
        let id = commit.id.as_str().as_bytes();
        let subject = xml_text(&commit.subject);
        FeedEntry {
            href: absolute(
                context,
                &context.link(View::Commit, id, &TreePath::default()),
            ),
            title: if subject.is_empty() {
                commit.id.short().to_owned()
            } else {
                subject
            },
            at: signed_at(&commit.committer),
            author: name_text(commit.author.name.as_bytes()),
            content: body.lines().map(xml_text).collect::<Vec<_>>().join("\n"),
        }
    });
    Ok(entries.collect())
}

/// The newest runs, as they are now.
async fn runs(context: &RepoContext) -> Result<Vec<FeedEntry>, WebError> {
    let filter = RunFilter {
        repo: Some(context.repo.clone()),
        limit: MAX_ENTRIES,
        ..RunFilter::default()
    };
    let list = move |store: &quire_store::Store| store.runs().list(&filter);
    let runs = context.app.web.store.call(list).await?;
    let runs = context.access.shown_runs(runs);
    let entry = |run: &Run| {
        let subject = run.subject.as_deref().map(xml_text).unwrap_or_default();
        let place = ref_label(&run.ref_name);
        FeedEntry {
            href: absolute(context, &run_path(&run.id)),
            title: format!("#{} {} on {place}: {subject}", run.number, run.state)
                .trim_end_matches([' ', ':'])
                .to_owned(),
            at: run
                .finished_at_ms
                .or(run.started_at_ms)
                .unwrap_or(run.queued_at_ms),
            author: xml_text(run.pusher.as_deref().unwrap_or("quire")),
            content: run.message.as_deref().map(xml_text).unwrap_or_default(),
        }
    };
    Ok(runs.iter().map(entry).collect())
}
