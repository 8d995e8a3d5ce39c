//! Changes: which commits are versions of the same change, and which of them are there.

use std::collections::{BinaryHeap, HashSet};
use std::ops::ControlFlow;

use gix::ObjectId as Id;
use quire_types::names::ObjectId;

use super::budget::Budget;
use super::commit::CommitSummary;
use super::commit_links::LinkReader;
use super::error::ReadError;
use super::file_diff::{ComputedDiff, FileDiff, Whitespace};
use super::history::{HistoryCursor, HistoryQuery};
use super::reader::{Reader, gix_id, public_id};
use super::refs::RefNames;
use super::search::CommitFilter;
use super::tree_path::TreePath;

/// The most refs that are followed.
const MAX_REFS: usize = 500;
/// How much younger than its child a commit may be, in seconds: clocks differ.
const CLOCK_SLACK: i64 = 24 * 60 * 60;
/// The most lines of a difference of messages.
const MAX_MESSAGE_LINES: usize = 1000;

/// Commits that branches or tags reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReachedCommits {
    /// Those that were found, the newest first.
    pub commits: Vec<CommitSummary>,
    /// Whether all refs were followed far enough.
    pub is_whole: bool,
}

impl Reader {
    /// The commits that only the second of two commits has, or that it has and the default branch has not, with their change
    /// ids; `budget.lines` at most.
    pub fn new_changes(
        &self,
        old: Option<&ObjectId>,
        new: &ObjectId,
        budget: &Budget,
    ) -> Result<Vec<(ObjectId, String)>, ReadError> {
        let new = self.peel_to_commit(gix_id(new)?)?;
        let Some(new) = new.map(public_id).transpose()? else {
            return Ok(Vec::new());
        };
        // Commits of a new branch that the default branch has were brought by an earlier push.
        let head = match old {
            Some(_) => None,
            None => self
                .head()?
                .map(|head| head.commit)
                .filter(|head| *head != new),
        };
        let old = match old.or(head.as_ref()) {
            Some(old) => self.peel_to_commit(gix_id(old)?).ok().flatten(),
            None => None,
        };
        let changed = |commit: CommitSummary| Some((commit.id, commit.change_id?));
        let commits = match old.map(public_id).transpose()? {
            Some(old) => self.compare(&old, &new, budget)?.commits,
            None => {
                let all = HistoryQuery {
                    from: HistoryCursor::start(new),
                    path: TreePath::default(),
                    filter: CommitFilter::default(),
                };
                self.history(&all, budget)?.items
            }
        };
        Ok(commits.into_iter().filter_map(changed).collect())
    }

    /// Which of these commits a branch or tag reaches, the newest first.
    pub fn reached(
        &self,
        wanted: &[ObjectId],
        budget: &Budget,
    ) -> Result<ReachedCommits, ReadError> {
        let mut open = HashSet::new();
        let mut oldest = i64::MAX;
        let mut links = LinkReader::new(self)?;
        for id in wanted {
            let id = gix_id(id)?;
            // What is not there any more cannot be reached.
            if self.repo.has_object(id)
                && let Ok(of_commit) = links.of(id)
            {
                oldest = oldest.min(of_commit.seconds);
                open.insert(id);
            }
        }
        if open.is_empty() {
            return self.summaries(Vec::new(), true);
        }
        let mut found = Vec::new();
        let is_whole = self.walk_from_refs(budget, |id, seconds| {
            if open.remove(&id) {
                found.push(id);
            }
            open.is_empty() || seconds.saturating_add(CLOCK_SLACK) < oldest
        })?;
        self.summaries(found, is_whole || open.is_empty())
    }

    /// The commits of a change that branches or tags reach, the newest first: all commits are read until the time is over.
    pub fn commits_of_change(
        &self,
        change: &str,
        budget: &Budget,
    ) -> Result<ReachedCommits, ReadError> {
        let mut found = Vec::new();
        let is_whole = self.walk_from_refs(budget, |id, _| {
            let has_id = |summary: &CommitSummary| {
                let id = summary.change_id.as_deref();
                id.is_some_and(|id| id.starts_with(change))
            };
            if self
                .commit_details(id)
                .is_ok_and(|details| has_id(&details.summary))
            {
                found.push(id);
            }
            found.len() >= budget.lines
        })?;
        self.summaries(found, is_whole)
    }

    fn summaries(&self, found: Vec<Id>, is_whole: bool) -> Result<ReachedCommits, ReadError> {
        let commits: Result<_, ReadError> = found
            .into_iter()
            .map(|id| Ok(self.commit_details(id)?.summary))
            .collect();
        Ok(ReachedCommits {
            commits: commits?,
            is_whole,
        })
    }

    /// Visits the commits that branches and tags reach, newest first, until the visitor returns true. Returns false if the time
    /// was over before, or there are too many refs.
    fn walk_from_refs(
        &self,
        budget: &Budget,
        mut visit: impl FnMut(Id, i64) -> bool,
    ) -> Result<bool, ReadError> {
        let mut links = LinkReader::new(self)?;
        let (mut queue, mut seen) = (BinaryHeap::new(), HashSet::new());
        let mut is_whole = true;
        let mut tips = Vec::new();
        for kind in [RefNames::Branches, RefNames::Tags] {
            self.visit_refs(kind, |found| {
                if tips.len() == MAX_REFS {
                    is_whole = false;
                    return ControlFlow::Break(());
                }
                tips.extend(found.try_id().map(gix::Id::detach));
                ControlFlow::Continue(())
            })?;
        }
        for tip in tips {
            if let Ok(Some(id)) = self.peel_to_commit(tip)
                && seen.insert(id)
            {
                queue.push((links.of(id)?.seconds, id));
            }
        }
        while let Some((seconds, id)) = queue.pop() {
            if budget.is_over() {
                return Ok(false);
            }
            if visit(id, seconds) {
                return Ok(is_whole);
            }
            for parent in links.of(id)?.parents {
                if seen.insert(parent) {
                    queue.push((links.of(parent)?.seconds, parent));
                }
            }
        }
        Ok(is_whole)
    }

    /// How the messages of two commits differ; `None` if they are the same.
    pub fn message_diff(
        &self,
        old: &ObjectId,
        new: &ObjectId,
    ) -> Result<Option<FileDiff>, ReadError> {
        let message = |id: &ObjectId| {
            let details = self.commit(id)?;
            let (subject, body) = (details.summary.subject, details.body);
            Ok::<_, ReadError>(match body.as_str() {
                "" => format!("{subject}\n"),
                body => format!("{subject}\n\n{body}\n"),
            })
        };
        let (old, new) = (message(old)?, message(new)?);
        let differs = old != new;
        Ok(differs.then(|| {
            let computed = ComputedDiff::new(old.as_bytes(), new.as_bytes(), Whitespace::Compared);
            computed.lines(0, MAX_MESSAGE_LINES)
        }))
    }
}
