//! What a commit changed against its first parent: files with their counts, and the lines of each.

use std::time::Duration;

use gix::ObjectId as Id;
use gix::bstr::BStr;
use gix::diff::Rewrites;
use gix::diff::tree::{Recorder, Visit, recorder, visit};
use gix::object::Kind;
use gix::object::tree::diff::ChangeDetached;
use quire_types::names::ObjectId;

use super::blob::is_binary;
use super::budget::Budget;
use super::error::ReadError;
use super::file_diff::{ComputedDiff, FileDiff, LineCounts};
use super::reader::{Reader, gix_id, public_id};
use super::tree::EntryMode;
use super::tree_path::TreePath;

/// The most changed files that are known of a commit.
const MAX_CHANGES: usize = 20_000;
/// Renames are looked for among this many changes at most.
const MAX_RENAME_CHANGES: usize = 2000;
/// Pairs of files that are compared for renames: at most the square of it.
const RENAME_LIMIT: usize = 30;
/// Larger versions of a file are not compared.
const MAX_COMPARED_BYTES: u64 = 2 << 20;
/// The time for all lines of a page.
const LINES_TIME: Duration = Duration::from_secs(2);

/// Which part of a difference is wanted.
#[derive(Debug, Clone, Default)]
pub struct DiffOptions {
    /// How many files are passed over.
    pub skip_files: usize,
    /// How many files are listed.
    pub max_files: usize,
    /// Only this file.
    pub only: Option<TreePath>,
    /// How many lines of the file are passed over; only with `only`.
    pub skip_lines: usize,
    /// How many lines of one file are shown at most.
    pub max_lines: usize,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Added,
    Deleted,
    Modified,
    Renamed,
}

/// One version of a changed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    mode: EntryMode,
    id: Id,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    path: Vec<u8>,
    old_path: Option<Vec<u8>>,
    old: Option<Version>,
    new: Option<Version>,
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
    /// What a commit changed against its first parent, or against nothing if it has none. `budget.lines` is for all files
    /// together.
    pub fn commit_diff(
        &self,
        commit: &ObjectId,
        options: &DiffOptions,
        budget: &Budget,
    ) -> Result<CommitDiff, ReadError> {
        let details = self.commit(commit)?;
        let new = gix_id(&details.tree)?;
        let parent = details.summary.parents.first().map(gix_id).transpose()?;
        // A parent beyond the end of a shallow history is not there.
        let parent = parent.filter(|parent| self.repo.has_object(parent));
        let old = parent.map(|parent| self.root_tree(parent)).transpose()?;
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
        for change in changes.get(options.skip_files..end).unwrap_or_default() {
            let file = self.compare(change, options, lines_left, &budget)?;
            lines_left = lines_left.saturating_sub(file.diff.lines.len());
            part.out_of_time |= budget.is_over();
            part.files.push(file);
        }
        Ok(part)
    }

    /// The files that differ between two trees, and whether there are more.
    fn changes(
        &self,
        old: Option<Id>,
        new: Id,
        budget: &Budget,
    ) -> Result<(Vec<Change>, bool), ReadError> {
        let attempt = "compare two trees";
        let new_tree = self
            .repo
            .find_tree(new)
            .map_err(ReadError::damaged(attempt))?;
        let old_tree = match old {
            Some(old) => self
                .repo
                .find_tree(old)
                .map_err(ReadError::damaged(attempt))?,
            None => self.repo.empty_tree(),
        };
        let mut bounded = BoundedRecorder {
            recorder: Recorder::default(),
            budget,
            is_cut: false,
        };
        let compared = gix::diff::tree(
            gix::objs::TreeRefIter::from_bytes(&old_tree.data, new.kind()),
            gix::objs::TreeRefIter::from_bytes(&new_tree.data, new.kind()),
            gix::diff::tree::State::default(),
            &self.repo.objects,
            &mut bounded,
        );
        match compared {
            Ok(()) => {}
            Err(_) if bounded.is_cut => {}
            Err(error) => {
                let source = gix::Error::from_error(error);
                return Err(ReadError::Damaged { attempt, source });
            }
        }
        let changes: Vec<Change> = bounded
            .recorder
            .records
            .into_iter()
            .filter_map(Change::recorded)
            .collect();
        let has = |wanted: fn(&Change) -> bool| changes.iter().any(wanted);
        let may_rename = !bounded.is_cut
            && changes.len() <= MAX_RENAME_CHANGES
            && has(|change| change.old.is_none())
            && has(|change| change.new.is_none());
        if may_rename && let Ok(renamed) = self.changes_with_renames(&old_tree, &new_tree) {
            return Ok((renamed, false));
        }
        Ok((changes, bounded.is_cut))
    }

    fn changes_with_renames(
        &self,
        old: &gix::Tree<'_>,
        new: &gix::Tree<'_>,
    ) -> gix::Result<Vec<Change>> {
        let mut changes = Vec::new();
        let rewrites = Rewrites {
            copies: None,
            percentage: Some(0.5),
            limit: RENAME_LIMIT,
            track_empty: false,
        };
        let mut platform = old.changes()?;
        platform.options(|options| {
            options.track_path().track_rewrites(Some(rewrites));
        });
        platform.for_each_to_obtain_tree(new, |change| {
            changes.extend(Change::detached(change.detach()));
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        Ok(changes)
    }

    fn compare(
        &self,
        change: &Change,
        options: &DiffOptions,
        lines_left: usize,
        budget: &Budget,
    ) -> Result<ChangedFile, ReadError> {
        let mut file = change.listed()?;
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
        let computed = ComputedDiff::new(&old, &new);
        file.counts = Some(computed.counts());
        let limit = options.max_lines.min(lines_left);
        file.diff = computed.lines(options.skip_lines, limit);
        Ok(file)
    }

    /// The text of a version. Of a submodule it is the line that git shows.
    fn version(&self, version: Option<Version>) -> Result<Vec<u8>, ReadError> {
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

impl Change {
    fn new(
        path: impl Into<Vec<u8>>,
        old: Option<(gix::objs::tree::EntryMode, Id)>,
        new: Option<(gix::objs::tree::EntryMode, Id)>,
    ) -> Option<Self> {
        let version = |(mode, id)| {
            let mode = EntryMode::of(mode);
            (mode != EntryMode::Folder).then_some(Version { mode, id })
        };
        let (old, new) = (old.and_then(version), new.and_then(version));
        (old.is_some() || new.is_some()).then(|| Self {
            path: path.into(),
            old_path: None,
            old,
            new,
        })
    }

    /// A change of files; `None` for one of folders.
    fn recorded(change: recorder::Change) -> Option<Self> {
        use recorder::Change::{Addition, Deletion, Modification};
        match change {
            Addition {
                entry_mode,
                oid,
                path,
                ..
            } => Self::new(path, None, Some((entry_mode, oid))),
            Deletion {
                entry_mode,
                oid,
                path,
                ..
            } => Self::new(path, Some((entry_mode, oid)), None),
            Modification {
                previous_entry_mode,
                previous_oid,
                entry_mode,
                oid,
                path,
            } => Self::new(
                path,
                Some((previous_entry_mode, previous_oid)),
                Some((entry_mode, oid)),
            ),
        }
    }

    fn detached(change: ChangeDetached) -> Option<Self> {
        use ChangeDetached::{Addition, Deletion, Modification, Rewrite};
        match change {
            Addition {
                location,
                entry_mode,
                id,
                ..
            } => Self::new(location, None, Some((entry_mode, id))),
            Deletion {
                location,
                entry_mode,
                id,
                ..
            } => Self::new(location, Some((entry_mode, id)), None),
            Modification {
                location,
                previous_entry_mode,
                previous_id,
                entry_mode,
                id,
            } => Self::new(
                location,
                Some((previous_entry_mode, previous_id)),
                Some((entry_mode, id)),
            ),
            Rewrite {
                source_location,
                source_entry_mode,
                source_id,
                entry_mode,
                id,
                location,
                ..
            } => {
                let old = Some((source_entry_mode, source_id));
                let change = Self::new(location, old, Some((entry_mode, id)))?;
                Some(Self {
                    old_path: Some(source_location.into()),
                    ..change
                })
            }
        }
    }

    fn listed(&self) -> Result<ChangedFile, ReadError> {
        let version = |version: Option<Version>| -> Result<_, ReadError> {
            version
                .map(|version| Ok((version.mode, public_id(version.id)?)))
                .transpose()
        };
        Ok(ChangedFile {
            kind: match (&self.old_path, self.old, self.new) {
                (Some(_), _, _) => ChangeKind::Renamed,
                (None, None, _) => ChangeKind::Added,
                (None, Some(_), None) => ChangeKind::Deleted,
                (None, Some(_), Some(_)) => ChangeKind::Modified,
            },
            path: self.path.clone(),
            old_path: self.old_path.clone(),
            old: version(self.old)?,
            new: version(self.new)?,
            counts: None,
            is_binary: false,
            is_too_large: false,
            diff: FileDiff::default(),
        })
    }
}

/// Notes changes until there are too many or the time is over.
struct BoundedRecorder<'a> {
    recorder: Recorder,
    budget: &'a Budget,
    is_cut: bool,
}

impl Visit for BoundedRecorder<'_> {
    fn pop_front_tracked_path_and_set_current(&mut self) {
        self.recorder.pop_front_tracked_path_and_set_current();
    }

    fn push_back_tracked_path_component(&mut self, component: &BStr) {
        self.recorder.push_back_tracked_path_component(component);
    }

    fn push_path_component(&mut self, component: &BStr) {
        self.recorder.push_path_component(component);
    }

    fn pop_path_component(&mut self) {
        self.recorder.pop_path_component();
    }

    fn visit(&mut self, change: visit::Change) -> visit::Action {
        if self.recorder.records.len() >= MAX_CHANGES || self.budget.is_over() {
            self.is_cut = true;
            return std::ops::ControlFlow::Break(());
        }
        self.recorder.visit(change)
    }
}
