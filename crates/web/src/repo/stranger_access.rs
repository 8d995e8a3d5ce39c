//! Which pages of a repository a stranger sees, which after pressing a button, and which a search engine may list.

use axum::http::Uri;
use axum::response::Response;
use quire_config::StrangerAccess;
use quire_git::read::{PatchFormat, ReadError, RevPath};

use super::super::error::WebError;
use super::super::robots::Indexing;
use super::super::visit;
use super::address::{Page, View};
use super::context::RepoContext;
use super::cost::searches_commits;

/// What stands in the way of a stranger: the page with the button, or [`WebError::SignIn`]. `None` if the page that is asked for follows.
pub(super) async fn page_before(
    context: &RepoContext,
    page: &Page,
    asked: &Uri,
) -> Result<Option<Response>, WebError> {
    let access = context.app.web.config.strangers.access;
    let is_open = !context.access.is_stranger
        || match access {
            StrangerAccess::All => true,
            StrangerAccess::Tip => context.has_pass,
            StrangerAccess::SignedIn => false,
        };
    if is_open || !is_deep(context, page).await? {
        return Ok(None);
    }
    match access {
        StrangerAccess::SignedIn => Err(WebError::SignIn),
        _ => visit::page(&context.app, &context.viewer, context.format, asked).map(Some),
    }
}

/// Whether a page shows more than what a branch or tag points to, or takes some work.
async fn is_deep(context: &RepoContext, page: &Page) -> Result<bool, WebError> {
    match page {
        Page::Archive(..) | Page::Search | Page::Change(_) | Page::Compare(..) => Ok(true),
        Page::OfRevision(View::Blame, _) => Ok(true),
        Page::OfRevision(View::Log, _) if searches_commits(&context.query) => Ok(true),
        Page::OfRevision(view, wanted) if wanted.may_be_id() => {
            Ok(!is_at_tip(context, *view, wanted).await?)
        }
        Page::OfRevision(..)
        | Page::Overview
        | Page::Runs
        | Page::Refs(_)
        | Page::Feed(_)
        | Page::Badge
        | Page::CompareForm => Ok(false),
    }
}

/// Whether a revision that may be named by an id is one that a branch or tag points to.
async fn is_at_tip(context: &RepoContext, view: View, wanted: &RevPath) -> Result<bool, WebError> {
    let mut readings = vec![wanted.clone()];
    if view == View::Commit {
        // The address of a patch.
        let extensions = PatchFormat::ALL.map(PatchFormat::extension);
        readings.extend(
            extensions
                .iter()
                .filter_map(|extension| wanted.strip_suffix(extension.as_bytes())),
        );
    }
    context
        .read(1, move |reader, budget| {
            for wanted in &readings {
                match reader.is_at_tip(wanted, budget) {
                    Ok(true) => return Ok(true),
                    // What does not exist takes more work than what does.
                    Ok(false) | Err(ReadError::NoRevision | ReadError::Ambiguous { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(false)
        })
        .await
}

/// Marks the response of a page that search engines may list.
pub(super) fn mark_indexing(context: &RepoContext, page: &Page, response: &mut Response) {
    let is_listed = match page {
        Page::Overview | Page::Refs(_) => true,
        Page::OfRevision(View::Tree | View::File | View::Log, wanted) => !wanted.may_be_id(),
        Page::OfRevision(View::Raw | View::Blame | View::Commit, _)
        | Page::Runs
        | Page::Feed(_)
        | Page::Badge
        | Page::Archive(..)
        | Page::Search
        | Page::Change(_)
        | Page::CompareForm
        | Page::Compare(..) => false,
    };
    if is_listed
        && context.access.is_stranger
        && !context.wants_json()
        && context.query.is_empty()
        && response.status().is_success()
    {
        response.extensions_mut().insert(Indexing::Page);
    }
}
