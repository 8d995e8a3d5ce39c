//! The files that differ between two trees.

use gix::ObjectId as Id;
use gix::bstr::BStr;
use gix::diff::tree::{Recorder, Visit, recorder, visit};

use super::budget::Budget;
use super::error::ReadError;
use super::reader::Reader;
use super::tree::EntryMode;

/// The most changed files that are known.
const MAX_CHANGES: usize = 20_000;

/// One version of a changed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) mode: EntryMode,
    pub(super) id: Id,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) path: Vec<u8>,
    pub(super) old_path: Option<Vec<u8>>,
    pub(super) old: Option<Version>,
    pub(super) new: Option<Version>,
}

impl Reader {
    /// The files that differ between two trees, and whether there are more. A renamed file is one that was deleted and one that was added.
    pub(super) fn plain_changes(
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
        Ok((changes, bounded.is_cut))
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
