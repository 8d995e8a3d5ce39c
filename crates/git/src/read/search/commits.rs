//! The commits of a history whose author or message matches, newest first.

use super::super::budget::{Budget, Portion};
use super::super::commit::CommitSummary;
use super::super::error::ReadError;
use super::super::history::{HistoryCursor, HistoryQuery};
use super::super::reader::{Reader, gix_id};
use super::super::tree_path::TreePath;
use super::commit_filter::{CommitFilter, first_line};
use super::line_matches::MatchedLine;
use super::text_pattern::TextPattern;

/// A commit that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitHit {
    /// The commit.
    pub commit: CommitSummary,
    /// The first line of the message below the subject that matches.
    pub line: Option<MatchedLine>,
}

impl Reader {
    /// Searches authors and messages of a history until `budget.lines` commits are found.
    pub fn search_commits(
        &self,
        from: HistoryCursor,
        pattern: &TextPattern,
        budget: &Budget,
    ) -> Result<Portion<CommitHit, HistoryCursor>, ReadError> {
        let query = HistoryQuery {
            from,
            path: TreePath::default(),
            filter: CommitFilter {
                anything: Some(pattern.clone()),
                ..CommitFilter::default()
            },
        };
        let found = self.history(&query, budget)?;
        let mut hits = Portion {
            items: Vec::with_capacity(found.items.len()),
            next: found.next,
            out_of_time: found.out_of_time,
            is_cut: found.is_cut,
        };
        for commit in found.items {
            let details = self.commit_details(gix_id(&commit.id)?)?;
            // The time was enough to find it; a few lines more are read in any case.
            let line = first_line(pattern, &details.body, budget).unwrap_or_default();
            hits.items.push(CommitHit { commit, line });
        }
        Ok(hits)
    }
}
