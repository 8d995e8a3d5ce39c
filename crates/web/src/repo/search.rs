//! `GET /{repo}/-/search`: lines of files, paths of files, or commits.

use askama::Template;
use axum::Extension;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::super::error::WebError;
use super::super::html as pieces;
use super::super::layout::{Layout, html};
use super::super::page::WholePage;
use super::address::search_link;
use super::context::RepoContext;
use super::head::{RepoHead, Tab};
use super::search_json::as_json;
use super::search_query::{SearchKind, SearchProblem, SearchQuery, SearchRequest};
use super::search_read::{MAX_PAGE_LINES, SearchRead, read};
use super::search_results::SearchResults;
use super::source_text::name_text;

/// A choice of what is searched.
struct KindLink {
    word: &'static str,
    href: String,
    is_current: bool,
}

#[derive(Template)]
#[template(path = "repo_search.html")]
struct SearchTemplate {
    layout: Layout,
    head: RepoHead,
    action: String,
    text: String,
    kind: SearchKind,
    kinds: Vec<KindLink>,
    is_regex: bool,
    paths: String,
    /// The revision for the form; `None` for the default.
    rev: Option<String>,
    /// Why there are no results.
    problem: Option<String>,
    has_commits: bool,
    results: Option<SearchResults>,
}

pub(super) async fn page(context: &RepoContext) -> Result<Response, WebError> {
    let query = SearchQuery::parse(&context.query)?;
    let (search, problem) = match query.search() {
        Ok(search) => (search, None),
        Err(SearchProblem::Sentence(sentence)) => (SearchRequest::Nothing, Some(sentence)),
        Err(SearchProblem::BadAddress) => return Err(WebError::NotFound),
    };
    if let (true, Some(sentence)) = (context.wants_json(), &problem) {
        return Err(WebError::BadRequest(sentence.clone()));
    }
    let (wanted, wants_head) = (query.rev()?, !context.wants_json());
    let read = context
        .read(MAX_PAGE_LINES, move |reader, budget| {
            read(reader, &wanted, search, wants_head, budget)
        })
        .await?;
    if context.wants_json() {
        return Ok(as_json(context, &query, read.rev.as_ref(), &read.found));
    }
    let is_bad = problem.is_some();
    let page = html(&template(context, &query, read, problem))?;
    Ok(match is_bad {
        true => (StatusCode::BAD_REQUEST, Extension(WholePage), page).into_response(),
        false => page,
    })
}

fn template(
    context: &RepoContext,
    query: &SearchQuery,
    read: SearchRead,
    problem: Option<String>,
) -> SearchTemplate {
    let title = match query.text.as_str() {
        "" => format!("Search · {}", context.repo),
        text => format!("{} · Search · {}", name_text(text.as_bytes()), context.repo),
    };
    let kinds = SearchKind::ALL.map(|kind| KindLink {
        word: match kind {
            SearchKind::Code => "Code",
            SearchKind::Paths => "Paths",
            SearchKind::Commits => "Commits",
        },
        href: SearchQuery {
            kind,
            after: None,
            ..query.clone()
        }
        .link(&context.base),
        is_current: kind == query.kind,
    });
    let rev = read.rev.as_ref();
    SearchTemplate {
        layout: context.layout(title),
        results: rev.and_then(|rev| SearchResults::new(context, query, rev, &read.found)),
        has_commits: rev.is_some(),
        // A form sends text alone.
        rev: rev.filter(|rev| rev.spelled != b"HEAD").map(|rev| {
            match std::str::from_utf8(&rev.spelled) {
                Ok(spelled) => spelled.to_owned(),
                Err(_) => rev.commit.to_string(),
            }
        }),
        head: RepoHead::new(context, Tab::Search, rev, read.choices),
        action: search_link(&context.base),
        text: query.text.clone(),
        kind: query.kind,
        kinds: kinds.into(),
        is_regex: query.is_regex,
        paths: String::from_utf8_lossy(&query.paths).into_owned(),
        problem,
    }
}
