//! The pages of a repository: its address, and the page that each address stands for.
//!
//! What is no other route comes to [`dispatch`]. An address is `/{repo}`, or `/{repo}/-/` and the name of a page, mostly followed by a
//! revision and a path. Pages ask `quire_git::read`; nothing here starts a process. A page of a revision that does not exist is 404.

mod address;
mod archive;
mod badge;
mod blame;
mod byte_range;
mod change;
mod commit;
mod commit_row;
mod compare;
mod context;
mod cost;
mod diff_colours;
mod diff_lines;
mod diff_sections;
mod feeds;
mod file;
mod gone;
mod head;
mod hex;
mod kept_page;
mod log;
mod markdown;
mod overview;
mod page_identity;
mod patch;
mod raw;
mod refs;
mod search;
mod search_json;
mod search_query;
mod search_read;
mod search_results;
mod several;
mod source_text;
mod stranger_access;
mod tree;
mod vanished;

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::access::RepoAccess;
use super::error::WebError;
use super::git_http::{self, GitRequest};
use super::html::{repo_path, run_path};
use super::request_config::RequestConfig;
use super::response_format::ResponseFormat;
use super::runs;
use super::state::{App, SharedApp};
use super::transfer::accepts_gzip;
use super::viewer::Viewer;
use super::visit;
use address::{Feed, Page, RepoAddress, View};
use context::RepoContext;
pub(super) use cost::cost;
use head::{RepoHead, Tab};
use quire_git::Git;
use quire_git::read::ReadError;
use quire_types::names::RepoName;
use quire_types::run::RunSelector;

/// `GET` of whatever is no other route.
pub(super) async fn dispatch(
    State(app): SharedApp,
    Extension(viewer): Extension<Viewer>,
    config: RequestConfig,
    format: ResponseFormat,
    request: Request,
) -> Result<Response, WebError> {
    if GitRequest::is_one(request.method(), request.uri()) {
        return git_http::serve(app, &viewer, config, request).await;
    }
    let RequestConfig(config) = config;
    let uri = request.uri();
    let nothing = || match viewer.is_stranger {
        // What does not exist cannot be told from what is not shown.
        true => WebError::SignIn,
        false => WebError::NotFound,
    };
    let wanted = RepoAddress::parse(uri.path()).ok_or_else(nothing)?;
    if let Some(number) = wanted.run_number()
        && !viewer.is_stranger
    {
        return redirect_number(&app, wanted.name, number).await;
    }
    let (address, asked, repo) = find(&app, wanted).await?.ok_or_else(nothing)?;
    let access = RepoAccess::of(&app, &viewer, &repo).await?;
    if let Some(number) = wanted.run_number() {
        return match access.sees_runs() {
            true => redirect_number(&app, wanted.name, number).await,
            false => Err(WebError::NotFound),
        };
    }
    let page = address.page().ok_or(WebError::NotFound)?;
    let base = repo_path(&repo);
    let canonical = address.on(&base);
    if uri.path() != canonical {
        let query = uri.query().map_or_else(String::new, |q| format!("?{q}"));
        let target = format!("{canonical}{query}");
        // A new repository may take a former name, or that of a badge, so no browser may cache the redirect.
        let redirect = if repo == asked && address == wanted {
            Redirect::permanent(&target)
        } else {
            Redirect::temporary(&target)
        };
        return Ok(redirect.into_response());
    }
    let has_pass = viewer.is_stranger && visit::has_pass(&app, &viewer, request.headers());
    let context = RepoContext {
        accepts_gzip: accepts_gzip(request.headers()),
        app,
        viewer,
        access,
        cost: cost(&request),
        has_pass,
        config,
        format,
        base,
        repo,
        query: uri.query().unwrap_or_default().to_owned(),
        range: range(request.headers()),
        known: request
            .headers()
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .map(str::to_owned)
            .collect(),
    };
    if let Some(response) = stranger_access::page_before(&context, &page, uri).await? {
        return Ok(response);
    }
    let mut response = serve(&context, page.clone()).await?;
    stranger_access::mark_indexing(&context, &page, &mut response);
    Ok(response)
}

/// The part of a file that is asked for, with the tag of the copy that the client has the rest of.
fn range(headers: &HeaderMap) -> Option<(String, Option<String>)> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::to_owned);
    Some((text(header::RANGE)?, text(header::IF_RANGE)))
}

async fn serve(context: &RepoContext, page: Page) -> Result<Response, WebError> {
    let is_of_runs = matches!(page, Page::Runs | Page::Feed(Feed::Runs) | Page::Badge);
    if is_of_runs && !context.access.sees_runs() {
        return Err(WebError::NotFound);
    }
    let (view, wanted) = match page {
        Page::Overview => return overview::page(context).await,
        Page::Runs => {
            let head = RepoHead::new(context, Tab::Runs, None, None).render()?;
            let place = runs::RunsPlace {
                repo: context.repo.clone(),
                head,
                layout: context.live_layout(format!("Runs of {}", context.repo)),
            };
            let (app, query) = (&context.app, &context.query);
            return runs::of_repository(app, context.format, place, query).await;
        }
        Page::Refs(wanted) => return refs::page(context, wanted).await,
        Page::Feed(feed) => return feeds::page(context, feed).await,
        Page::Badge => return badge::page(context).await,
        Page::Archive(format, wanted) => return archive::page(context, format, wanted).await,
        Page::Search => return search::page(context).await,
        Page::Change(id) => return change::page(context, &id).await,
        Page::CompareForm => return compare::form(context),
        Page::Compare(first, second, range) => {
            let asked = (first.clone(), second.clone());
            return match compare::page(context, first, second, range).await {
                Err(WebError::NotFound) => {
                    patch::of_comparison(context, asked.0, &asked.1, range).await
                }
                answer => answer,
            };
        }
        Page::OfRevision(view, wanted) => (view, wanted),
    };
    let asked = wanted.clone();
    let answer = match view {
        View::Tree => tree::page(context, wanted).await,
        View::File => file::page(context, wanted).await,
        View::Raw => raw::page(context, wanted).await,
        View::Blame => blame::page(context, wanted).await,
        View::Log => log::page(context, wanted).await,
        View::Commit => commit::page(context, wanted).await,
    };
    match answer {
        Err(WebError::Read(ReadError::Ambiguous { prefix, candidates })) => {
            several::page(context, view, &prefix, candidates)
        }
        Err(WebError::NotFound)
            if matches!(view, View::Tree | View::File | View::Raw | View::Blame) =>
        {
            gone::page(context, asked).await
        }
        Err(WebError::NotFound) if view == View::Commit => {
            match patch::of_commit(context, &asked).await {
                Err(WebError::NotFound) => vanished::page(context, &asked).await,
                answer => answer,
            }
        }
        answer => answer,
    }
}

/// `GET /<repo>/-/runs/<number>`: the page of a run by its number.
async fn redirect_number(app: &App, repo: &str, number: &str) -> Result<Response, WebError> {
    let selector: RunSelector = format!("{repo}#{number}")
        .parse()
        .map_err(|_| WebError::NotFound)?;
    let find = move |store: &quire_store::Store| store.runs().resolve(&selector);
    let id = app.web.store.call(find).await?;
    Ok(Redirect::temporary(&run_path(&id)).into_response())
}

/// The repository of an address: the name that is asked for, and the one that it has now; `None` if there is no such repository. Where
/// no repository has the name, the address may be that of a badge.
async fn find<'a>(
    app: &Arc<App>,
    address: RepoAddress<'a>,
) -> Result<Option<(RepoAddress<'a>, RepoName, RepoName)>, WebError> {
    for address in [Some(address), address.of_badge()].into_iter().flatten() {
        let Ok(asked) = address.name.parse::<RepoName>() else {
            continue;
        };
        if let Some(repo) = existing(app, &asked).await? {
            return Ok(Some((address, asked, repo)));
        }
    }
    Ok(None)
}

/// The name that a repository bears now, by any name that it is asked for; `None` if there is none.
async fn existing(app: &Arc<App>, asked: &RepoName) -> Result<Option<RepoName>, WebError> {
    let (git, asked) = (Git::new(&app.web.paths), asked.clone());
    let find = move || {
        let repo = git.resolve(&asked);
        git.paths().repo(&repo).is_dir().then_some(repo)
    };
    Ok(tokio::task::spawn_blocking(find).await?)
}
