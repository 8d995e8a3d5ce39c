//! Two commits compared: the commits that only the second has, and the best common ancestor.
//!
//! Marks go from both commits to their ancestors, newest first. A commit that both marks reach is common, and so are its ancestors; the walk
//! ends when only such commits wait.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use gix::ObjectId as Id;
use quire_types::names::ObjectId;

use super::budget::Budget;
use super::commit::CommitSummary;
use super::commit_diff::{CommitDiff, DiffOptions};
use super::commit_links::LinkReader;
use super::error::ReadError;
use super::reader::{Reader, gix_id, public_id};

/// The commits that a mark has reached.
const OF_FIRST: u8 = 1;
const OF_SECOND: u8 = 2;
/// An ancestor of a common commit.
const BELOW_COMMON: u8 = 4;

/// What the second of two commits has that the first has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The best common ancestor; `None` if there is none, or no time to find it.
    pub base: Option<ObjectId>,
    /// The newest commits that only the second one has, `budget.lines` at most.
    pub commits: Vec<CommitSummary>,
    /// How many there are; at least so many if `out_of_time`.
    pub total: usize,
    /// Whether the time ended before all commits were seen.
    pub out_of_time: bool,
}

struct MarkedHistory {
    marks: HashMap<Id, u8>,
    seconds: HashMap<Id, i64>,
    is_whole: bool,
}

impl Reader {
    /// Compares two commits.
    pub fn compare(
        &self,
        first: &ObjectId,
        second: &ObjectId,
        budget: &Budget,
    ) -> Result<Comparison, ReadError> {
        let history = self.mark(gix_id(first)?, gix_id(second)?, budget)?;
        let with = |wanted: u8| {
            let marks = history.marks.iter();
            let found = marks
                .filter(|(_, marks)| **marks == wanted)
                .map(|(id, _)| *id);
            let mut found: Vec<Id> = found.collect();
            found.sort_by_key(|id| (Reverse(history.seconds.get(id).copied()), *id));
            found
        };
        let only_second = with(OF_SECOND);
        let base = with(OF_FIRST | OF_SECOND).first().copied();
        let newest = only_second.iter().take(budget.lines);
        let commits: Result<_, ReadError> = newest
            .map(|id| Ok(self.commit_details(*id)?.summary))
            .collect();
        Ok(Comparison {
            base: base
                .filter(|_| history.is_whole)
                .map(public_id)
                .transpose()?,
            commits: commits?,
            total: only_second.len(),
            out_of_time: !history.is_whole,
        })
    }

    /// Whether a commit is the other one or an ancestor of it; `None` if there was no time to find out. Fails if one of the
    /// ids is not that of a commit.
    pub fn is_ancestor(
        &self,
        older: &ObjectId,
        newer: &ObjectId,
        budget: &Budget,
    ) -> Result<Option<bool>, ReadError> {
        let history = self.mark(gix_id(older)?, gix_id(newer)?, budget)?;
        let is_ancestor = history.marks.values().all(|marks| *marks != OF_FIRST);
        Ok(history.is_whole.then_some(is_ancestor))
    }

    /// What changed from one commit to another.
    pub fn diff_between(
        &self,
        old: &ObjectId,
        new: &ObjectId,
        options: &DiffOptions,
        budget: &Budget,
    ) -> Result<CommitDiff, ReadError> {
        let (old, new) = (self.root_tree(gix_id(old)?)?, self.root_tree(gix_id(new)?)?);
        self.diff_of_trees(Some(old), new, options, budget)
    }

    /// The commits that only the second one has, each after its parents, without merges. Fails if there are more than `max`.
    pub(super) fn series(
        &self,
        first: &ObjectId,
        second: &ObjectId,
        max: usize,
        budget: &Budget,
    ) -> Result<Vec<Id>, ReadError> {
        let history = self.mark(gix_id(first)?, gix_id(second)?, budget)?;
        if !history.is_whole {
            return Err(ReadError::OutOfTime);
        }
        let mut links = LinkReader::new(self)?;
        // Of each commit of the series its parents, and how many children wait.
        let mut parents: HashMap<Id, Vec<Id>> = HashMap::new();
        let mut children: HashMap<Id, usize> = HashMap::new();
        for (id, _) in history
            .marks
            .iter()
            .filter(|(_, marks)| **marks == OF_SECOND)
        {
            let of_commit = links.of(*id)?.parents;
            for parent in &of_commit {
                *children.entry(*parent).or_default() += 1;
            }
            parents.insert(*id, of_commit);
        }
        let age = |id: &Id| history.seconds.get(id).copied();
        let mut ready: BinaryHeap<(Option<i64>, Id)> = parents
            .keys()
            .filter(|id| !children.contains_key(*id))
            .map(|id| (age(id), *id))
            .collect();
        let mut newest_first = Vec::new();
        while let Some((_, id)) = ready.pop() {
            let of_commit = parents.get(&id).map_or(&[][..], Vec::as_slice);
            for parent in of_commit.iter().filter(|id| parents.contains_key(*id)) {
                let waiting = children.entry(*parent).or_default();
                *waiting = waiting.saturating_sub(1);
                if *waiting == 0 {
                    ready.push((age(parent), *parent));
                }
            }
            if of_commit.len() < 2 {
                newest_first.push(id);
            }
        }
        if newest_first.len() > max {
            return Err(ReadError::TooLarge {
                bytes: u64::try_from(newest_first.len()).unwrap_or(u64::MAX),
            });
        }
        newest_first.reverse();
        Ok(newest_first)
    }

    fn mark(&self, first: Id, second: Id, budget: &Budget) -> Result<MarkedHistory, ReadError> {
        let mut links = LinkReader::new(self)?;
        let mut history = MarkedHistory {
            marks: HashMap::new(),
            seconds: HashMap::new(),
            is_whole: true,
        };
        let mut queue = BinaryHeap::new();
        // How many commits wait that are not below a common one.
        let mut open = 0_usize;
        let mut arrivals = vec![(first, OF_FIRST), (second, OF_SECOND)];
        loop {
            for (id, mark) in arrivals.drain(..) {
                let known = history.marks.entry(id).or_default();
                if *known & mark == mark {
                    continue;
                }
                *known |= mark;
                let marks = *known;
                let seconds = links.of(id)?.seconds;
                history.seconds.insert(id, seconds);
                let is_open = marks & BELOW_COMMON == 0;
                open += usize::from(is_open);
                queue.push((seconds, id, is_open));
            }
            if open == 0 {
                return Ok(history);
            }
            let Some((_, id, was_open)) = queue.pop() else {
                return Ok(history);
            };
            open -= usize::from(was_open);
            if budget.is_over() {
                history.is_whole = false;
                return Ok(history);
            }
            let mut mark = history.marks.get(&id).copied().unwrap_or_default();
            if mark & (OF_FIRST | OF_SECOND) == OF_FIRST | OF_SECOND {
                mark |= BELOW_COMMON;
            }
            let parents = links.of(id)?.parents;
            arrivals.extend(parents.into_iter().map(|parent| (parent, mark)));
        }
    }
}
