//! Histories: the commits that a commit can reach, in the order of `git log`, of everything or of one path.
//!
//! Commits wait in a queue by the time of their commit, equal ones in the order in which they were found. What waits in the queue
//! at the end of a portion is the cursor: the next portion begins with the same queue, so no commit is counted twice.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::fmt;

use gix::ObjectId as Id;
use quire_types::names::ObjectId;

use super::budget::{Budget, Portion};
use super::commit::CommitSummary;
use super::commit_graph::PathFilter;
use super::commit_links::LinkReader;
use super::error::ReadError;
use super::reader::{Reader, gix_id, public_id};
use super::search::CommitFilter;
use super::tree::EntryMode;
use super::tree_path::TreePath;

/// The most commits that a cursor names.
const MAX_CURSOR: usize = 100;
/// How many root trees' entries are remembered.
const MAX_REMEMBERED: usize = 50_000;

/// Where a history begins or goes on: the commits of the queue, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryCursor(Vec<ObjectId>);

impl HistoryCursor {
    /// The whole history of a commit.
    #[must_use]
    pub fn start(commit: ObjectId) -> Self {
        Self(vec![commit])
    }

    /// Parses what [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let ids: Option<Vec<ObjectId>> = text
            .split('.')
            .take(MAX_CURSOR + 1)
            .map(|id| id.parse().ok())
            .collect();
        ids.filter(|ids| ids.len() <= MAX_CURSOR).map(Self)
    }
}

impl fmt::Display for HistoryCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, id) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(".")?;
            }
            f.write_str(id.as_str())?;
        }
        Ok(())
    }
}

/// Which commits are wanted.
#[derive(Debug, Clone)]
pub struct HistoryQuery {
    /// Where to begin.
    pub from: HistoryCursor,
    /// Only commits that changed this path, simplified as `git log` does it: of a merge that took the path from one parent
    /// unchanged, only that parent is followed. The root stands for all commits.
    pub path: TreePath,
    /// Only commits that match.
    pub filter: CommitFilter,
}

/// A commit that waits, ordered by time, then by when it was found.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Waiting {
    seconds: i64,
    found: Reverse<u64>,
    pub(super) id: Id,
    pub(super) tree: Id,
    pub(super) parents: Vec<Id>,
}

/// A walk from commits to their parents.
pub(super) struct Walk<'a> {
    reader: &'a Reader,
    links: LinkReader<'a>,
    queue: BinaryHeap<Waiting>,
    seen: HashSet<Id>,
    found: u64,
    path: &'a TreePath,
    /// Says of most commits that they did not change the path.
    filter: Option<PathFilter>,
    /// What is at the path in a root tree.
    entries: HashMap<Id, Option<(EntryMode, Id)>>,
}

impl Reader {
    /// Commits of a history; `budget.lines` of them at most.
    pub fn history(
        &self,
        query: &HistoryQuery,
        budget: &Budget,
    ) -> Result<Portion<CommitSummary, HistoryCursor>, ReadError> {
        let mut walk = Walk::new(self, &query.path)?;
        for id in &query.from.0 {
            let id = gix_id(id)?;
            if self.peel_to_commit(id)? != Some(id) {
                return Err(ReadError::NoRevision);
            }
            walk.add(id)?;
        }
        let mut page = Portion::empty();
        while let Some(commit) = walk.pop() {
            page.out_of_time = budget.is_over();
            if page.out_of_time {
                walk.queue.push(commit);
                break;
            }
            let is_wanted = walk.is_wanted(&commit)?;
            if is_wanted.shown && page.items.len() == budget.lines {
                walk.queue.push(commit);
                break;
            }
            let summary = match self.filtered(&commit, &is_wanted, &query.filter, budget) {
                Err(ReadError::OutOfTime) => {
                    page.out_of_time = true;
                    walk.queue.push(commit);
                    break;
                }
                summary => summary?,
            };
            for parent in is_wanted.followed {
                walk.add(parent)?;
            }
            page.items.extend(summary);
        }
        let has_more = !walk.queue.is_empty();
        page.next = walk.cursor()?;
        page.is_cut = has_more && page.next.is_none();
        Ok(page)
    }

    /// The commit, if it is shown and the filter wants it.
    fn filtered(
        &self,
        commit: &Waiting,
        verdict: &Verdict,
        filter: &CommitFilter,
        budget: &Budget,
    ) -> Result<Option<CommitSummary>, ReadError> {
        if !verdict.shown {
            return Ok(None);
        }
        let details = self.commit_details(commit.id)?;
        Ok(filter.holds(&details, budget)?.then_some(details.summary))
    }
}

/// What becomes of a commit.
struct Verdict {
    shown: bool,
    followed: Vec<Id>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(reader: &'a Reader, path: &'a TreePath) -> Result<Self, ReadError> {
        let links = LinkReader::new(reader)?;
        Ok(Self {
            reader,
            filter: links.path_filter(path),
            links,
            queue: BinaryHeap::new(),
            seen: HashSet::new(),
            found: 0,
            path,
            entries: HashMap::new(),
        })
    }

    pub(super) fn add(&mut self, id: Id) -> Result<(), ReadError> {
        if !self.seen.insert(id) {
            return Ok(());
        }
        let links = self.links.of(id)?;
        self.queue.push(Waiting {
            seconds: links.seconds,
            found: Reverse(self.found),
            id,
            tree: links.tree,
            parents: links.parents,
        });
        self.found += 1;
        Ok(())
    }

    /// The next commit of the queue.
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        self.queue.pop()
    }

    fn is_wanted(&mut self, commit: &Waiting) -> Result<Verdict, ReadError> {
        if self.path.is_root() {
            return Ok(Verdict {
                shown: true,
                followed: commit.parents.clone(),
            });
        }
        if self.is_surely_unchanged(commit) {
            return Ok(Verdict {
                shown: false,
                followed: commit.parents.iter().take(1).copied().collect(),
            });
        }
        let here = self.entry_in(commit.tree)?;
        for parent in &commit.parents {
            let tree = self.tree_of(*parent)?;
            if tree == commit.tree || self.entry_in(tree)? == here {
                return Ok(Verdict {
                    shown: false,
                    followed: vec![*parent],
                });
            }
        }
        Ok(Verdict {
            shown: !commit.parents.is_empty() || here.is_some(),
            followed: commit.parents.clone(),
        })
    }

    /// Whether it is certain that the path is as in the first parent.
    pub(super) fn is_surely_unchanged(&self, commit: &Waiting) -> bool {
        let filter = self.filter.as_ref();
        filter.is_some_and(|filter| self.links.is_surely_unchanged(commit.id, filter))
    }

    pub(super) fn tree_of(&mut self, id: Id) -> Result<Id, ReadError> {
        self.links.tree_of(id)
    }

    pub(super) fn entry_in(&mut self, tree: Id) -> Result<Option<(EntryMode, Id)>, ReadError> {
        if let Some(known) = self.entries.get(&tree) {
            return Ok(*known);
        }
        let entry = self.reader.lookup(tree, self.path)?;
        if self.entries.len() >= MAX_REMEMBERED {
            self.entries.clear();
        }
        self.entries.insert(tree, entry);
        Ok(entry)
    }

    /// What still waits, in its order. `None` at the end, and for a history of more lines than an address can name.
    fn cursor(self) -> Result<Option<HistoryCursor>, ReadError> {
        let waiting = self.queue.into_sorted_vec();
        if waiting.is_empty() || waiting.len() > MAX_CURSOR {
            return Ok(None);
        }
        let ids: Result<_, ReadError> = waiting
            .iter()
            .rev()
            .map(|commit| public_id(commit.id))
            .collect();
        Ok(Some(HistoryCursor(ids?)))
    }
}
