//! Which commit each line of a file comes from.
//!
//! Lines go back from commit to parent, newest commit first. A parent that has the same object takes all of them; otherwise a
//! parent takes the lines that its version has unchanged, in the order of the parents. A file that a parent does not have is looked for
//! under another name there. What no parent takes came with the commit. The order and the differences are those of `git blame`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use gix::ObjectId as Id;
use gix::object::Kind;

use super::blame_lines::{
    Culprit, DividedSpans, Span, Suspect, TracedLines, divide, divide_by_likeness,
};
use super::budget::Budget;
use super::commit_links::LinkReader;
use super::error::ReadError;
use super::file_diff::{hunks, lines};
use super::reader::Reader;
use super::tree::EntryMode;
use super::tree_path::TreePath;

/// The time for the renames of one commit. Their number and size are bounded, so it ends early only on a machine that stands still.
const RENAME_TIME: Duration = Duration::from_secs(10);
/// Larger versions of a file are not traced.
pub(super) const MAX_BLAMED_BYTES: u64 = 4 << 20;
/// Contents of versions that a walk remembers, in bytes.
const MAX_REMEMBERED_BYTES: usize = 16 << 20;
/// Entries of trees that a walk remembers.
const MAX_REMEMBERED_ENTRIES: usize = 20_000;

/// The commits that are passed over.
#[derive(Debug, Clone, Default)]
pub(super) struct IgnoredRevs {
    pub(super) list: Option<Id>,
    pub(super) commits: HashSet<Id>,
}

pub(super) struct BlameWalk<'a> {
    reader: &'a Reader,
    budget: &'a Budget,
    pub(super) ignored: IgnoredRevs,
    links: LinkReader<'a>,
    /// Commits to which lines have come, by time, then by when they were found.
    queue: BinaryHeap<(i64, Reverse<u64>, Id)>,
    queued: u64,
    suspects: HashMap<Id, Vec<Suspect>>,
    found: Vec<Culprit>,
    entries: HashMap<(Id, TreePath), Option<(EntryMode, Id)>>,
    contents: HashMap<Id, Rc<Vec<u8>>>,
    content_bytes: usize,
}

impl<'a> BlameWalk<'a> {
    pub(super) fn new(
        reader: &'a Reader,
        budget: &'a Budget,
        ignored: IgnoredRevs,
    ) -> Result<Self, ReadError> {
        Ok(Self {
            reader,
            budget,
            ignored,
            links: LinkReader::new(reader)?,
            queue: BinaryHeap::new(),
            queued: 0,
            suspects: HashMap::new(),
            found: Vec::new(),
            entries: HashMap::new(),
            contents: HashMap::new(),
            content_bytes: 0,
        })
    }

    /// The commit at which a file got the content that it has at `commit`, or how far the time suffices to look.
    pub(super) fn last_change(
        &mut self,
        mut commit: Id,
        path: &TreePath,
        blob: Id,
    ) -> Result<Id, ReadError> {
        'commits: while !self.budget.is_over() {
            for parent in self.links.of(commit)?.parents {
                let tree = self.links.tree_of(parent)?;
                if self.version(tree, path)? == Some(blob) {
                    commit = parent;
                    continue 'commits;
                }
            }
            break;
        }
        Ok(commit)
    }

    pub(super) fn trace(mut self, lines: TracedLines) -> Result<TracedLines, ReadError> {
        self.found = lines.found;
        for suspect in lines.open {
            self.add(suspect)?;
        }
        // One commit at least, so that every call comes nearer to the end.
        while let Some((_, _, commit)) = self.queue.pop() {
            for suspect in self.suspects.remove(&commit).unwrap_or_default() {
                self.pass(suspect)?;
            }
            if self.budget.is_over() {
                break;
            }
        }
        let mut open: Vec<Suspect> = self.suspects.into_values().flatten().collect();
        open.sort_by(|a, b| (a.commit, &a.path).cmp(&(b.commit, &b.path)));
        Ok(TracedLines {
            open,
            found: self.found,
        })
    }

    fn add(&mut self, suspect: Suspect) -> Result<(), ReadError> {
        if suspect.spans.is_empty() {
            return Ok(());
        }
        let commit = suspect.commit;
        let of_commit = self.suspects.entry(commit).or_default();
        if of_commit.is_empty() {
            let seconds = self.links.of(commit)?.seconds;
            self.queue.push((seconds, Reverse(self.queued), commit));
            self.queued += 1;
        }
        match of_commit
            .iter_mut()
            .find(|known| known.path == suspect.path)
        {
            Some(known) => known.spans.extend(suspect.spans),
            None => of_commit.push(suspect),
        }
        Ok(())
    }

    /// Passes lines to the parents of a version; what remains came with it.
    fn pass(&mut self, suspect: Suspect) -> Result<(), ReadError> {
        let Suspect {
            commit,
            path,
            blob,
            mut spans,
        } = suspect;
        let parents = self.links.of(commit)?.parents;
        let mut versions: Vec<Option<(TreePath, Id)>> = vec![None; parents.len()];
        for looks_for_renames in [false, true] {
            for (at, parent) in parents.iter().enumerate() {
                if versions[at].is_some() {
                    continue;
                }
                let found = match looks_for_renames {
                    false => self.same_path(*parent, commit, &path)?,
                    true => self.renamed(*parent, commit, &path)?,
                };
                let Some((old_path, old)) = found else {
                    continue;
                };
                if old == blob {
                    return self.add(Suspect {
                        commit: *parent,
                        path: old_path,
                        blob,
                        spans,
                    });
                }
                let is_known = versions.iter().flatten().any(|(_, known)| *known == old);
                if !is_known {
                    versions[at] = Some((old_path, old));
                }
            }
        }
        let mut previous = None;
        let rounds: &[bool] = match self.ignored.commits.contains(&commit) {
            true => &[false, true],
            false => &[false],
        };
        for guesses in rounds {
            for (parent, version) in parents.iter().zip(&versions) {
                let Some((old_path, old)) = version else {
                    continue;
                };
                let is_first = previous.is_none();
                previous.get_or_insert_with(|| (*parent, old_path.clone()));
                let divided = match guesses {
                    true => self.divide_by_likeness(&spans, *old, blob)?,
                    false => self.divide(&spans, *old, blob, is_first)?,
                };
                self.add(Suspect {
                    commit: *parent,
                    path: old_path.clone(),
                    blob: *old,
                    spans: divided.passed,
                })?;
                spans = divided.rest;
                if spans.is_empty() {
                    return Ok(());
                }
            }
        }
        self.found.push(Culprit {
            commit,
            path,
            previous,
            spans,
        });
        Ok(())
    }

    fn divide(
        &mut self,
        spans: &[Span],
        old: Id,
        new: Id,
        is_first: bool,
    ) -> Result<DividedSpans, ReadError> {
        let (old, new) = (self.content(old)?, self.content(new)?);
        Ok(divide(spans, &hunks(&old, &new), is_first))
    }

    fn divide_by_likeness(
        &mut self,
        spans: &[Span],
        old: Id,
        new: Id,
    ) -> Result<DividedSpans, ReadError> {
        let (old, new) = (self.content(old)?, self.content(new)?);
        let hunks = hunks(&old, &new);
        Ok(divide_by_likeness(
            spans,
            &hunks,
            &lines(&old),
            &lines(&new),
        ))
    }

    /// The object at a path, if it is a file or link.
    fn version(&mut self, tree: Id, path: &TreePath) -> Result<Option<Id>, ReadError> {
        let entry = self.entry(tree, path)?;
        Ok(entry.filter(|(mode, _)| mode.is_blob()).map(|(_, id)| id))
    }

    fn entry(&mut self, tree: Id, path: &TreePath) -> Result<Option<(EntryMode, Id)>, ReadError> {
        let key = (tree, path.clone());
        if let Some(known) = self.entries.get(&key) {
            return Ok(*known);
        }
        let entry = self.reader.lookup(tree, path)?;
        if self.entries.len() >= MAX_REMEMBERED_ENTRIES {
            self.entries.clear();
        }
        self.entries.insert(key, entry);
        Ok(entry)
    }

    fn same_path(
        &mut self,
        parent: Id,
        commit: Id,
        path: &TreePath,
    ) -> Result<Option<(TreePath, Id)>, ReadError> {
        let (old, new) = (self.links.tree_of(parent)?, self.links.tree_of(commit)?);
        let (old, new) = (self.entry(old, path)?, self.entry(new, path)?);
        let (Some(old), Some(new)) = (old, new) else {
            return Ok(None);
        };
        // A link that becomes a file is a new file.
        let is_link = |mode| mode == EntryMode::Symlink;
        let is_same_kind = old.0.is_blob() && is_link(old.0) == is_link(new.0);
        Ok(is_same_kind.then(|| (path.clone(), old.1)))
    }

    fn renamed(
        &mut self,
        parent: Id,
        commit: Id,
        path: &TreePath,
    ) -> Result<Option<(TreePath, Id)>, ReadError> {
        let (old, new) = (self.links.tree_of(parent)?, self.links.tree_of(commit)?);
        if self.entry(old, path)?.is_some() {
            return Ok(None);
        }
        // Not within the time of the call: a rename that was not found for want of time would be a wrong answer.
        let budget = Budget::new(RENAME_TIME, self.budget.lines, self.budget.bytes);
        let (changes, _) = self.reader.changes(Some(old), new, &budget)?;
        let change = changes
            .into_iter()
            .find(|change| change.path == path.as_bytes());
        Ok(change.and_then(|change| {
            let old_path = TreePath::parse(&change.old_path?)?;
            Some((old_path, change.old?.id))
        }))
    }

    /// The content of a version; empty if it is too large.
    fn content(&mut self, id: Id) -> Result<Rc<Vec<u8>>, ReadError> {
        if let Some(known) = self.contents.get(&id) {
            return Ok(known.clone());
        }
        let content = match self.reader.object(id, Kind::Blob, MAX_BLAMED_BYTES) {
            Ok(content) => Rc::new(content),
            Err(ReadError::TooLarge { .. }) => Rc::default(),
            Err(error) => return Err(error),
        };
        if self.content_bytes + content.len() > MAX_REMEMBERED_BYTES {
            self.contents.clear();
            self.content_bytes = 0;
        }
        self.content_bytes += content.len();
        self.contents.insert(id, content.clone());
        Ok(content)
    }
}
