//! From a repository to an entry of the trash.

use std::time::{Duration, Instant};

use quire_git::{GitError, TrashEntry, TrashState};
use quire_types::failpoint;
use quire_types::names::RepoName;

use super::entry::{EntryFile, TrashedRepo, rows_file};
use super::run_files;
use crate::rename::{RenameError, RenameLock};

/// How long runs that started at the last moment may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_POLL: Duration = Duration::from_millis(100);

impl RenameLock<'_> {
    /// Moves a repository with its runs into the trash. Nothing has changed after an error other than
    /// [`RenameError::RemovalUnfinished`].
    pub(crate) fn move_to_trash(
        &self,
        repo: &RepoName,
        removed_by: &str,
    ) -> Result<TrashedRepo, RenameError> {
        let git = &self.renamer.git;
        let file = EntryFile {
            repo: repo.clone(),
            removed_at_ms: self.renamer.store.clock().now(),
            removed_by: removed_by.to_owned(),
            restore_as: None,
        };
        let entry = git.create_trash_entry(TrashState::Removing)?;
        failpoint::hit("trash-entry-made");
        let begun = file.write(git, entry).and_then(|()| {
            failpoint::hit("trash-intended");
            Ok(git.move_into_trash(repo, entry)?)
        });
        failpoint::hit("trash-repository-moved");
        let deadline = Instant::now() + STOP_TIMEOUT;
        let entry = loop {
            match self.finish_removal(entry) {
                Ok(Some(entry)) => break entry,
                Ok(None) => {
                    begun?;
                    return Err(GitError::NoRepository(file.repo).into());
                }
                Err(RenameError::ActiveRuns(_)) if Instant::now() < deadline => {
                    std::thread::sleep(STOP_POLL);
                }
                // Its rows are where they were.
                Err(error @ (RenameError::ActiveRuns(_) | RenameError::Store(_))) => {
                    return Err(self.revert_removal(entry, repo, error));
                }
                Err(error) => return Err(RenameError::RemovalUnfinished(Box::new(error))),
            }
        };
        Ok(TrashedRepo {
            entry,
            repo: file.repo,
            removed_at: file.removed_at_ms,
            removed_by: file.removed_by,
        })
    }

    /// Moves a repository back whose rows could not be moved. Returns why that was so.
    fn revert_removal(
        &self,
        entry: TrashEntry,
        repo: &RepoName,
        error: RenameError,
    ) -> RenameError {
        let git = &self.renamer.git;
        let reverted = git
            .move_out_of_trash(entry, repo)
            .and_then(|()| git.delete_trash_folder(entry));
        match reverted {
            Ok(()) => error,
            Err(_) => RenameError::RemovalUnfinished(Box::new(error)),
        }
    }

    /// Continues a removal that was cut off, or deletes its entry if its repository is still in its place. Returns the
    /// complete entry.
    pub(super) fn finish_removal(
        &self,
        entry: TrashEntry,
    ) -> Result<Option<TrashEntry>, RenameError> {
        let git = &self.renamer.git;
        match EntryFile::read(git, entry)? {
            Some(file) if git.is_in_trash(entry)? => self.complete_removal(entry, &file).map(Some),
            _ => {
                git.delete_trash_folder(entry)?;
                Ok(None)
            }
        }
    }

    /// Moves everything else of a repository into the entry that has its folder, and releases its name.
    fn complete_removal(
        &self,
        entry: TrashEntry,
        file: &EntryFile,
    ) -> Result<TrashEntry, RenameError> {
        let (git, repo) = (&self.renamer.git, &file.repo);
        let store = self.renamer.store.repos();
        if !store.move_out(repo, &rows_file(git, entry))? {
            return Err(RenameError::ActiveRuns(repo.clone()));
        }
        failpoint::hit("trash-rows-moved");
        run_files::move_in(&self.renamer.paths, repo, entry.id)?;
        failpoint::hit("trash-folders-moved");
        let entry = git.set_trash_state(entry, TrashState::Complete)?;
        failpoint::hit("trash-complete");
        git.release_reserved(repo)?;
        Ok(entry)
    }
}
