//! From an entry of the trash to a repository.

use quire_git::{GitError, TrashEntry, TrashState};
use quire_store::RunFilter;
use quire_types::failpoint;
use quire_types::names::RepoName;

use super::entry::{EntryFile, TrashedRepo, rows_file};
use super::run_files;
use crate::rename::{RenameError, RenameLock, run_folders};

impl RenameLock<'_> {
    /// Restores a repository under a name that is free. Nothing has changed after an error other than
    /// [`RenameError::RestoreUnfinished`].
    pub(crate) fn restore_from_trash(
        &self,
        trashed: &TrashedRepo,
        name: &RepoName,
    ) -> Result<(), RenameError> {
        let git = &self.renamer.git;
        self.check_target(trashed, name)?;
        if !git.reserve_for_trash(name)? {
            return Err(RenameError::Taken(name.clone()));
        }
        failpoint::hit("restore-reserved");
        let file = EntryFile {
            repo: trashed.repo.clone(),
            removed_at_ms: trashed.removed_at,
            removed_by: trashed.removed_by.clone(),
            restore_as: Some(name.clone()),
        };
        let begun = file
            .write(git, trashed.entry)
            .and_then(|()| Ok(git.set_trash_state(trashed.entry, TrashState::Restoring)?));
        let entry = match begun {
            Ok(entry) => entry,
            Err(error) => {
                git.release_reserved(name)?;
                return Err(error);
            }
        };
        failpoint::hit("restore-intended");
        self.finish_restore(entry)
            .map_err(|error| RenameError::RestoreUnfinished(Box::new(error)))
    }

    /// Whether a repository can have this name.
    fn check_target(&self, trashed: &TrashedRepo, name: &RepoName) -> Result<(), RenameError> {
        let git = &self.renamer.git;
        if !git.is_in_trash(trashed.entry)? {
            return Err(RenameError::NotInTrash(trashed.repo.clone()));
        }
        if *name != trashed.repo && name.collides_with_run_id() {
            return Err(GitError::LooksLikeRunId(name.clone()).into());
        }
        let current = git.resolve(name);
        if current != *name {
            return Err(RenameError::Redirected {
                name: name.clone(),
                repo: current,
            });
        }
        if git.exists(name)? {
            return Err(RenameError::Taken(name.clone()));
        }
        let runs = self.renamer.store.runs().list(&RunFilter {
            repo: Some(name.clone()),
            limit: 1,
            ..RunFilter::default()
        })?;
        if !runs.is_empty() || !run_folders(&self.renamer.paths, name)?.is_empty() {
            return Err(RenameError::Leftovers(name.clone()));
        }
        Ok(())
    }

    /// Continues a restore from whichever step it has reached.
    pub(super) fn finish_restore(&self, entry: TrashEntry) -> Result<(), RenameError> {
        let (git, paths) = (&self.renamer.git, &self.renamer.paths);
        if git.is_in_trash(entry)? {
            let file = EntryFile::read(git, entry)?;
            let Some((file, name)) = file.and_then(|file| Some((file.clone(), file.restore_as?)))
            else {
                // It does not say what to do, so it can be restored again.
                git.set_trash_state(entry, TrashState::Complete)?;
                return Ok(());
            };
            if !git.reserve_for_trash(&name)? {
                return Err(RenameError::Taken(name));
            }
            let rows = rows_file(git, entry);
            if rows.exists() {
                let store = self.renamer.store.repos();
                store.move_in(&rows, &file.repo, &name)?;
            }
            failpoint::hit("restore-rows-moved");
            run_files::move_out(paths, entry.id, &name)?;
            failpoint::hit("restore-folders-moved");
            // The repository is there from here on, with everything.
            git.move_out_of_trash(entry, &name)?;
            failpoint::hit("restore-repository-moved");
            // The comparison of refs finds pushes whose event was in the spool when the repository was removed.
            let _ = git.mark_push(&name, false);
        }
        let entry = git.set_trash_state(entry, TrashState::Deleting)?;
        self.finish_deletion(entry)
    }
}
