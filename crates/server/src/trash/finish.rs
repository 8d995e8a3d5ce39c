//! Deletes entries of the trash, and completes what was cut off.

use std::collections::HashSet;

use quire_git::{TrashEntry, TrashState};
use quire_types::clock::Millis;
use quire_types::failpoint;
use quire_types::names::RepoName;

use super::entry::{EntryFile, TrashedRepo};
use super::run_files;
use crate::rename::{RenameError, RenameLock};

/// What was done with interrupted changes of the trash.
#[derive(Debug, Default)]
pub(crate) struct FinishedTrash {
    /// Whether there was one.
    pub(crate) found: bool,
    /// Names that stay reserved, since a change could not be completed.
    pub(crate) reserved: HashSet<RepoName>,
    pub(crate) first_error: Option<RenameError>,
}

impl RenameLock<'_> {
    /// Completes removals, restores and deletions that were cut off. What fails for one repository does not hold up the
    /// others.
    pub(crate) fn finish_trash(&self) -> Result<FinishedTrash, RenameError> {
        let git = &self.renamer.git;
        let mut finished = FinishedTrash::default();
        for entry in git.trash_entries()? {
            let done = match entry.state {
                TrashState::Complete => continue,
                TrashState::Removing => self.finish_removal(entry).map(drop),
                TrashState::Restoring => self.finish_restore(entry),
                TrashState::Deleting => self.finish_deletion(entry),
            };
            finished.found = true;
            match done {
                Ok(()) => {
                    tracing::warn!(id = %entry.id, state = ?entry.state, "completed a change of the trash that was interrupted");
                }
                Err(error) => {
                    if let Ok(Some(file)) = EntryFile::read(git, entry) {
                        finished.reserved.extend(file.restore_as);
                        finished.reserved.insert(file.repo);
                    }
                    finished.first_error.get_or_insert(error);
                }
            }
        }
        Ok(finished)
    }

    /// Deletes a repository of the trash for good.
    pub(crate) fn delete_from_trash(&self, trashed: &TrashedRepo) -> Result<(), RenameError> {
        let git = &self.renamer.git;
        let entry = git.set_trash_state(trashed.entry, TrashState::Deleting)?;
        failpoint::hit("trash-deleting");
        self.finish_deletion(entry)
    }

    /// Deletes all repositories that were removed before this time. Returns how many, and their size.
    pub(crate) fn delete_expired(&self, before: Millis) -> Result<(u64, u64), RenameError> {
        let Self { renamer, .. } = self;
        let (mut count, mut bytes) = (0, 0);
        for trashed in TrashedRepo::list(&renamer.git)? {
            if trashed.removed_at < before {
                let size = trashed.bytes(&renamer.paths, &renamer.git);
                self.delete_from_trash(&trashed)?;
                count += 1;
                bytes += size;
            }
        }
        Ok((count, bytes))
    }

    pub(super) fn finish_deletion(&self, entry: TrashEntry) -> Result<(), RenameError> {
        run_files::delete(&self.renamer.paths, entry.id)?;
        self.renamer.git.delete_trash_folder(entry)?;
        Ok(())
    }
}
