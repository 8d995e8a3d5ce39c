//! Which commit each line of a file comes from: the question, the answer, and what the cache has of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use gix::ObjectId as Id;
use gix::object::Kind;
use quire_types::names::ObjectId;

use super::blame_cache::{BlameCache, BlameKey};
use super::blame_lines::{Span, Suspect, TracedLines};
use super::blame_walk::{BlameWalk, IgnoredRevs, MAX_BLAMED_BYTES};
use super::blob::is_binary;
use super::budget::Budget;
use super::commit::CommitSummary;
use super::error::ReadError;
use super::file_diff::lines;
use super::reader::{Reader, gix_id, public_id};
use super::tree::EntryMode;
use super::tree_path::TreePath;

/// The time for one call.
const TRACE_TIME: Duration = Duration::from_secs(2);
/// Where a repository lists the commits that blame passes over.
const IGNORED_REVS: &[u8] = b".git-blame-ignore-revs";
/// The largest such list.
const MAX_IGNORED_BYTES: u64 = 256 << 10;

/// Which lines are asked for.
#[derive(Debug, Clone)]
pub struct BlameQuery {
    /// The commit whose version of the file is shown.
    pub commit: ObjectId,
    /// The file.
    pub path: TreePath,
    /// The number of the first line, from 1. `budget.lines` says how many follow.
    pub from: usize,
    /// Whether commits in `.git-blame-ignore-revs` of HEAD are passed over.
    pub honours_ignored: bool,
}

/// Lines that came with one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlameBlock {
    /// The number of the first line, from 1.
    pub line: u32,
    /// How many lines.
    pub count: u32,
    /// The commit; `None` if the time ended before it was found.
    pub commit: Option<Arc<CommitSummary>>,
    /// What the file was called there.
    pub path: TreePath,
    /// The number of the first line in the commit's version.
    pub source_line: u32,
    /// The version before: commit, path, and about which line.
    pub previous: Option<(ObjectId, TreePath, u32)>,
}

/// The lines of a window and where they come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blame {
    /// The file.
    pub content: Vec<u8>,
    /// All lines of the window, block by block. Empty for a binary file.
    pub blocks: Vec<BlameBlock>,
    /// How many lines the file has.
    pub total: usize,
    /// How many commits `.git-blame-ignore-revs` lists.
    pub listed_as_ignored: usize,
}

impl Blame {
    /// Whether the commit of every line was found.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.blocks.iter().all(|block| block.commit.is_some())
    }
}

impl Reader {
    /// Where the lines of a file come from. A call that follows one that ran out of time goes on where that one ended, as
    /// long as the cache remembers it.
    pub fn blame(
        &self,
        query: &BlameQuery,
        cache: &BlameCache,
        budget: &Budget,
    ) -> Result<Blame, ReadError> {
        let budget = &budget.within(TRACE_TIME);
        let commit = gix_id(&query.commit)?;
        let (mode, blob) = self
            .lookup(self.root_tree(commit)?, &query.path)?
            .ok_or(ReadError::NoPath)?;
        if !mode.is_blob() {
            return Err(ReadError::NoPath);
        }
        let content = self.object(blob, Kind::Blob, MAX_BLAMED_BYTES)?;
        let ignored = self.ignored_revs()?;
        let mut blame = Blame {
            total: lines(&content).len(),
            listed_as_ignored: ignored.commits.len(),
            content,
            blocks: Vec::new(),
        };
        if is_binary(&blame.content) || blame.total == 0 {
            return Ok(blame);
        }
        let ignored = if query.honours_ignored {
            ignored
        } else {
            IgnoredRevs::default()
        };
        let first = query.from.checked_sub(1).ok_or(ReadError::NoPath)?;
        if first >= blame.total {
            return Err(ReadError::NoPath);
        }
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let from = number(first);
        let count = number((blame.total - first).min(budget.lines));
        let mut walk = BlameWalk::new(self, budget, ignored)?;
        let start = walk.last_change(commit, &query.path, blob)?;
        let key = BlameKey {
            repository: self.repo.git_dir().to_owned(),
            commit: start,
            path: query.path.clone(),
            from,
            count,
            ignored: walk.ignored.list,
        };
        let known = cache.get(&key);
        let traced = match known {
            Some(known) if known.open.is_empty() => known,
            known => {
                let known = known.map(|known| (*known).clone());
                let known = known.unwrap_or_else(|| TracedLines {
                    open: vec![Suspect {
                        commit: start,
                        path: query.path.clone(),
                        blob,
                        spans: vec![Span {
                            line: from,
                            count,
                            source: from,
                            before: from,
                        }],
                    }],
                    found: Vec::new(),
                });
                let traced = Arc::new(walk.trace(known)?);
                cache.insert(key, traced.clone());
                traced
            }
        };
        blame.blocks = self.blocks(&traced)?;
        Ok(blame)
    }

    fn ignored_revs(&self) -> Result<IgnoredRevs, ReadError> {
        let path = TreePath::parse(IGNORED_REVS).unwrap_or_default();
        let Some(head) = self.head()? else {
            return Ok(IgnoredRevs::default());
        };
        let root = self.root_tree(gix_id(&head.commit)?)?;
        let Some((EntryMode::File, list)) = self.lookup(root, &path)? else {
            return Ok(IgnoredRevs::default());
        };
        let Ok(text) = self.object(list, Kind::Blob, MAX_IGNORED_BYTES) else {
            return Ok(IgnoredRevs::default());
        };
        let commits = lines(&text).into_iter().filter_map(|line| {
            let id = line.split(|b| *b == b'#').next()?.trim_ascii();
            Id::from_hex(id).ok()
        });
        Ok(IgnoredRevs {
            commits: commits.collect(),
            list: Some(list),
        })
    }

    fn blocks(&self, traced: &TracedLines) -> Result<Vec<BlameBlock>, ReadError> {
        let mut summaries: HashMap<Id, Arc<CommitSummary>> = HashMap::new();
        let mut blocks = Vec::new();
        for culprit in &traced.found {
            let summary = match summaries.get(&culprit.commit) {
                Some(known) => known.clone(),
                None => {
                    let read = Arc::new(self.commit_details(culprit.commit)?.summary);
                    summaries.insert(culprit.commit, read.clone());
                    read
                }
            };
            let previous = match &culprit.previous {
                Some((commit, path)) => Some((public_id(commit)?, path)),
                None => None,
            };
            blocks.extend(culprit.spans.iter().map(|span| {
                BlameBlock {
                    line: span.line + 1,
                    count: span.count,
                    commit: Some(summary.clone()),
                    path: culprit.path.clone(),
                    source_line: span.source + 1,
                    previous: previous
                        .as_ref()
                        .map(|(commit, path)| (commit.clone(), (*path).clone(), span.before + 1)),
                }
            }));
        }
        for suspect in &traced.open {
            blocks.extend(suspect.spans.iter().map(|span| BlameBlock {
                line: span.line + 1,
                count: span.count,
                commit: None,
                path: suspect.path.clone(),
                source_line: span.source + 1,
                previous: None,
            }));
        }
        blocks.sort_by_key(|block| block.line);
        Ok(joined(blocks))
    }
}

/// Joins blocks that follow each other, and did so in the commit's version.
fn joined(blocks: Vec<BlameBlock>) -> Vec<BlameBlock> {
    let mut joined: Vec<BlameBlock> = Vec::new();
    for block in blocks {
        match joined.last_mut() {
            Some(last) if last.is_followed_by(&block) => last.count += block.count,
            _ => joined.push(block),
        }
    }
    joined
}

impl BlameBlock {
    /// Whether a block came with the same version of the file.
    #[must_use]
    pub fn has_same_origin(&self, other: &Self) -> bool {
        let id = |block: &Self| block.commit.as_ref().map(|commit| commit.id.clone());
        id(self) == id(other) && self.path == other.path
    }

    fn is_followed_by(&self, other: &Self) -> bool {
        self.has_same_origin(other) && self.source_line + self.count == other.source_line
    }
}
