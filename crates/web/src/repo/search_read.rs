//! The reading of what a search page shows.

use super::context::{MAX_LISTED_REFS, SEARCH_TIME, whole_rev};
use super::search_query::SearchRequest;
use quire_git::read::{
    Budget, CodeHits, CommitHit, HistoryCursor, NamedRefs, PathHits, Portion, ReadError, Reader,
    ResolvedRev, RevPath, TextPattern,
};

/// Lines of files of a page.
pub(super) const MAX_PAGE_LINES: usize = 200;
/// Paths of a page.
const MAX_PAGE_PATHS: usize = 100;
/// Commits of a page.
const MAX_PAGE_COMMITS: usize = 50;
/// The largest file that is searched.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 20;

/// What a search found.
pub(super) enum SearchFindings {
    Nothing,
    Code(CodeHits),
    Paths(PathHits),
    Commits(TextPattern, Portion<CommitHit, HistoryCursor>),
}

/// What a search page shows of a repository.
pub(super) struct SearchRead {
    /// `None` if there are no commits.
    pub(super) rev: Option<ResolvedRev>,
    /// Other revisions, for a page with a head.
    pub(super) choices: Option<NamedRefs>,
    pub(super) found: SearchFindings,
}

pub(super) fn read(
    reader: &Reader,
    wanted: &RevPath,
    search: SearchRequest,
    wants_head: bool,
    budget: &Budget,
) -> Result<SearchRead, ReadError> {
    let rev = match whole_rev(reader, wanted) {
        Ok(rev) => Some(rev),
        // Nothing was pushed yet.
        Err(ReadError::NoRevision) if reader.head()?.is_none() => None,
        Err(error) => return Err(error),
    };
    let choices = wants_head
        .then(|| reader.named_refs(MAX_LISTED_REFS, budget))
        .transpose()?;
    let budget = budget.within(SEARCH_TIME).with_bytes(MAX_FILE_BYTES);
    let found = match (&rev, search) {
        (None, _) | (_, SearchRequest::Nothing) => SearchFindings::Nothing,
        (Some(rev), SearchRequest::Code(query)) => {
            SearchFindings::Code(reader.search_code(&rev.commit, &query, &budget)?)
        }
        (Some(rev), SearchRequest::Paths(query)) => {
            let budget = budget.with_lines(MAX_PAGE_PATHS);
            SearchFindings::Paths(reader.search_paths(&rev.commit, &query, &budget)?)
        }
        (Some(rev), SearchRequest::Commits(pattern, after)) => {
            let from = after.unwrap_or_else(|| HistoryCursor::start(rev.commit.clone()));
            let budget = budget.with_lines(MAX_PAGE_COMMITS);
            let found = reader.search_commits(from, &pattern, &budget)?;
            SearchFindings::Commits(pattern, found)
        }
    };
    Ok(SearchRead {
        rev,
        choices,
        found,
    })
}
