//! What a commit changed against a parent: files with their counts, and the lines of each.

use std::time::Duration;

use gix::ObjectId as Id;
use gix::object::Kind;
use quire_types::names::ObjectId;

use super::blob::is_binary;
use super::budget::Budget;
use super::error::ReadError;
use super::file_diff::{ComputedDiff, FileDiff, LineCounts, Whitespace};
use super::fold::{FoldReason, fold_reason};
use super::reader::{Reader, gix_id, public_id};
use super::tree::EntryMode;
use super::tree_changes::{Change, Version};
use super::tree_path::TreePath;
use super::word_marks::mark_words;

/// Larger versions of a file are not compared.
pub(super) const MAX_COMPARED_BYTES: u64 = 2 << 20;
/// The time for all lines of a page.
const LINES_TIME: Duration = Duration::from_secs(2);
/// How many bytes of changed lines are compared word by word for a page.
const MAX_WORD_BYTES: usize = 256 << 10;

/// Which part of a difference is wanted.
#[derive(Debug, Clone, Default)]
pub struct DiffOptions {
    /// How many files are passed over.
    pub skip_files: usize,
    /// How many files are listed.
    pub max_files: usize,
    /// The number of the parent of a commit that is compared with, from 0.
    pub parent: usize,
    /// Only this file.
    pub only: Option<TreePath>,
    /// How many lines of the file are passed over; only with `only`.
    pub skip_lines: usize,
    /// How many lines of one file are shown at most.
    pub max_lines: usize,
    /// Which lines count as the same.
    pub whitespace: Whitespace,
    /// Whether files that are rarely read have no lines.
    pub folds: bool,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Added,
    Deleted,
    Modified,
    Renamed,
}

/// A file that a commit changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedFile {
    /// What became of it.
    pub kind: ChangeKind,
    /// Its path; the last one if it was deleted.
    pub path: Vec<u8>,
    /// Its path before it was renamed.
    pub old_path: Option<Vec<u8>>,
    /// Kind and object before and after.
    pub old: Option<(EntryMode, ObjectId)>,
    /// Kind and object after.
    pub new: Option<(EntryMode, ObjectId)>,
    /// How many lines changed; `None` if it is binary, too large, or the time was over.
    pub counts: Option<LineCounts>,
    /// Whether git takes a version for binary.
    pub is_binary: bool,
    /// Whether a version is too large to be compared.
    pub is_too_large: bool,
    /// Why its lines are left out, if they are.
    pub folded: Option<FoldReason>,
    /// The lines, as far as they have a place on this page.
    pub diff: FileDiff,
}

/// Part of what a commit changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitDiff {
    /// The files of this part, in the order of their paths.
    pub files: Vec<ChangedFile>,
    /// How many files changed; at least so many if `is_cut`.
    pub total: usize,
    /// Whether more files changed than are known.
    pub is_cut: bool,
    /// How many files stand before the rest; `None` if this is the end.
    pub next: Option<usize>,
    /// Whether the time ended before everything of this part was compared.
    pub out_of_time: bool,
}

impl Reader {
    /// What a commit changed against a parent, or against nothing if it has none. `budget.lines` is for all files together.
    pub fn commit_diff(
        &self,
        commit: &ObjectId,
        options: &DiffOptions,
        budget: &Budget,
    ) -> Result<CommitDiff, ReadError> {
        let (old, new) = self.trees_of_change(commit, options.parent)?;
        self.diff_of_trees(old, new, options, budget)
    }

    /// The trees of a parent, by its number from 0, and of the commit. Without parents, the commit is compared with nothing.
    pub(super) fn trees_of_change(
        &self,
        commit: &ObjectId,
        parent: usize,
    ) -> Result<(Option<Id>, Id), ReadError> {
        let details = self.commit(commit)?;
        let new = gix_id(&details.tree)?;
        let parents = &details.summary.parents;
        let parent = match parent {
            0 => parents.first(),
            other => Some(parents.get(other).ok_or(ReadError::NoPath)?),
        };
        let parent = parent.map(gix_id).transpose()?;
        // A parent beyond the end of a shallow history is not there.
        let parent = parent.filter(|parent| self.repo.has_object(parent));
        let old = parent.map(|parent| self.root_tree(parent)).transpose()?;
        Ok((old, new))
    }

    /// How two trees differ.
    pub(super) fn diff_of_trees(
        &self,
        old: Option<Id>,
        new: Id,
        options: &DiffOptions,
        budget: &Budget,
    ) -> Result<CommitDiff, ReadError> {
        let (mut changes, is_cut) = self.changes(old, new, budget)?;
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(only) = &options.only {
            changes.retain(|change| change.path == only.as_bytes());
            if changes.is_empty() {
                return Err(ReadError::NoPath);
            }
        }
        let total = changes.len();
        let end = total.min(options.skip_files.saturating_add(options.max_files));
        let mut part = CommitDiff {
            files: Vec::new(),
            total,
            is_cut,
            next: (end < total).then_some(end),
            out_of_time: false,
        };
        let budget = budget.within(LINES_TIME);
        let mut lines_left = budget.lines;
        let mut word_bytes = MAX_WORD_BYTES;
        for change in changes.get(options.skip_files..end).unwrap_or_default() {
            let mut file = self.compare_versions(change, options, lines_left, &budget)?;
            mark_words(&mut file.diff.lines, &mut word_bytes);
            lines_left = lines_left.saturating_sub(file.diff.lines.len());
            part.out_of_time |= budget.is_over();
            part.files.push(file);
        }
        Ok(part)
    }

    fn compare_versions(
        &self,
        change: &Change,
        options: &DiffOptions,
        lines_left: usize,
        budget: &Budget,
    ) -> Result<ChangedFile, ReadError> {
        let mut file = listed(change)?;
        if budget.is_over() {
            return Ok(file);
        }
        let (old, new) = match (self.version(change.old), self.version(change.new)) {
            (Ok(old), Ok(new)) => (old, new),
            (Err(ReadError::TooLarge { .. }), _) | (_, Err(ReadError::TooLarge { .. })) => {
                file.is_too_large = true;
                return Ok(file);
            }
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        file.is_binary = is_binary(&old) || is_binary(&new);
        if file.is_binary {
            return Ok(file);
        }
        let computed = ComputedDiff::new(&old, &new, options.whitespace);
        file.counts = Some(computed.counts());
        let newest = if change.new.is_some() { &new } else { &old };
        if options.folds && options.only.is_none() {
            file.folded = fold_reason(&change.path, newest);
        }
        if file.folded.is_some() {
            return Ok(file);
        }
        let limit = options.max_lines.min(lines_left);
        file.diff = computed.lines(options.skip_lines, limit);
        Ok(file)
    }

    /// The text of a version. Of a submodule it is the line that git shows.
    pub(super) fn version(&self, version: Option<Version>) -> Result<Vec<u8>, ReadError> {
        match version {
            None => Ok(Vec::new()),
            Some(Version {
                mode: EntryMode::Submodule,
                id,
            }) => Ok(format!("Subproject commit {id}\n").into_bytes()),
            Some(version) => self.object(version.id, Kind::Blob, MAX_COMPARED_BYTES),
        }
    }
}

fn listed(change: &Change) -> Result<ChangedFile, ReadError> {
    let version = |version: Option<Version>| -> Result<_, ReadError> {
        version
            .map(|version| Ok((version.mode, public_id(version.id)?)))
            .transpose()
    };
    Ok(ChangedFile {
        kind: match (&change.old_path, change.old, change.new) {
            (Some(_), _, _) => ChangeKind::Renamed,
            (None, None, _) => ChangeKind::Added,
            (None, Some(_), None) => ChangeKind::Deleted,
            (None, Some(_), Some(_)) => ChangeKind::Modified,
        },
        path: change.path.clone(),
        old_path: change.old_path.clone(),
        old: version(change.old)?,
        new: version(change.new)?,
        counts: None,
        is_binary: false,
        is_too_large: false,
        folded: None,
        diff: FileDiff::default(),
    })
}
