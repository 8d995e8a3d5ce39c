//! Times, root trees and parents of commits, from the commit-graph where there is one.

use std::collections::HashSet;

use gix::ObjectId as Id;
use gix::traverse::commit::Either;

use super::commit_graph::{CommitGraph, PathFilter};
use super::error::ReadError;
use super::reader::Reader;
use super::tree_path::TreePath;

/// What a walk needs to know of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommitLinks {
    /// When it was committed.
    pub(super) seconds: i64,
    pub(super) tree: Id,
    pub(super) parents: Vec<Id>,
}

/// Reads the links of commits.
pub(super) struct LinkReader<'a> {
    reader: &'a Reader,
    graph: Option<CommitGraph>,
    shallow: HashSet<Id>,
    buffer: Vec<u8>,
}

impl<'a> LinkReader<'a> {
    pub(super) fn new(reader: &'a Reader) -> Result<Self, ReadError> {
        let shallow = reader
            .repo
            .shallow_commits()
            .map_err(ReadError::damaged("read the file `shallow`"))?;
        let shallow: HashSet<Id> =
            shallow.map_or_else(HashSet::new, |ids| ids.iter().copied().collect());
        // Without a graph commits are read as objects.
        let may_have_graph = shallow.is_empty();
        let graph = may_have_graph.then(|| CommitGraph::open(reader)).flatten();
        Ok(Self {
            reader,
            graph,
            shallow,
            buffer: Vec::new(),
        })
    }

    pub(super) fn of(&mut self, id: Id) -> Result<CommitLinks, ReadError> {
        let attempt = "read a commit";
        let graph = self.graph.as_ref().map(|found| &found.graph);
        let objects = &self.reader.repo.objects;
        let commit = gix::traverse::commit::find(graph, objects, &id, &mut self.buffer)
            .map_err(ReadError::damaged(attempt))?;
        let parents: Vec<Id> = match commit {
            _ if self.shallow.contains(&id) => Vec::new(),
            Either::CommitRefIter(commit) => commit.parent_ids().collect(),
            Either::CachedCommit(commit) => {
                let graph = graph.ok_or(ReadError::NoRevision)?;
                let mut parents = Vec::new();
                for position in commit.iter_parents() {
                    let position = position.map_err(|error| ReadError::damaged(attempt)(error))?;
                    parents.push(graph.id_at(position).to_owned());
                }
                parents
            }
        };
        Ok(CommitLinks {
            seconds: commit.commit_time().unwrap_or_default(),
            tree: commit.tree_id().map_err(ReadError::damaged(attempt))?,
            parents,
        })
    }

    pub(super) fn tree_of(&mut self, id: Id) -> Result<Id, ReadError> {
        let objects = &self.reader.repo.objects;
        let graph = self.graph.as_ref().map(|found| &found.graph);
        gix::traverse::commit::find(graph, objects, &id, &mut self.buffer)
            .and_then(Either::tree_id)
            .map_err(ReadError::damaged("read a commit"))
    }

    /// What tells which commits did not change a path, if the graph has it.
    pub(super) fn path_filter(&self, path: &TreePath) -> Option<PathFilter> {
        self.graph.as_ref()?.path_filter(path)
    }

    /// Whether it is certain that a commit has the same at the filter's path as its first parent, or nothing if it has no parent.
    pub(super) fn is_surely_unchanged(&self, id: Id, filter: &PathFilter) -> bool {
        let place = self.graph.as_ref().and_then(|found| found.graph.lookup(id));
        place.is_some_and(|place| !filter.may_have_changed(place.0))
    }
}
