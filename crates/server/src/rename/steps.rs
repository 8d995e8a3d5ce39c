//! The steps of a rename. Each may be done twice, so that a rename that was interrupted is completed by doing them
//! again.

use std::collections::HashSet;

use quire_git::ObjectFormat;
use quire_store::Redirect;
use quire_types::failpoint;
use quire_types::names::{RepoName, RunId};

use super::error::RenameError;
use super::renamer::{RenameLock, Renamer};
use super::run_folders::{self, roots, run_folders};

impl RenameLock<'_> {
    /// Renames a repository, even while it is used. Nothing has changed after an error other than
    /// [`RenameError::Unfinished`].
    pub fn rename(&self, from: &RepoName, to: &RepoName) -> Result<(), RenameError> {
        let Renamer { store, git, .. } = self.renamer;
        // A rename that was interrupted comes first.
        self.finish_pending()?;
        if from == to {
            return Err(RenameError::Same(to.clone()));
        }
        let current = git.resolve(from);
        if current != *from {
            return Err(RenameError::Redirected {
                name: from.clone(),
                repo: current,
            });
        }
        if !git.exists(from)? {
            return Err(RenameError::Unknown(from.clone()));
        }
        if git.same_on_disk(from, to) {
            return Err(RenameError::SameOnDisk(from.clone(), to.clone()));
        }
        if !run_folders(&self.renamer.paths, to)?.is_empty() {
            return Err(RenameError::Leftovers(to.clone()));
        }
        if !git.reserve(from, to)? {
            return Err(RenameError::Taken(to.clone()));
        }
        failpoint::hit("rename-reserved");
        if !store.redirects().begin_rename(from, to)? {
            git.remove_dangling_redirect(to)?;
            return Err(RenameError::Leftovers(to.clone()));
        }
        failpoint::hit("rename-intended");
        match self.complete(from, to) {
            Ok(true) => Ok(()),
            Ok(false) => Err(RenameError::Taken(to.clone())),
            Err(error) => Err(RenameError::Unfinished(Box::new(error))),
        }
    }

    /// Creates an empty repository at a name that redirects to another one, and returns that one. Returns `None`, and
    /// creates nothing, if the name is no redirect.
    pub fn create_over_redirect(
        &self,
        name: &RepoName,
        format: ObjectFormat,
    ) -> Result<Option<RepoName>, RenameError> {
        let Renamer { store, git, .. } = self.renamer;
        self.finish_pending()?;
        let target = git.resolve(name);
        if target == *name {
            return Ok(None);
        }
        // The row comes first: what is recorded for the new repository must not go to the other one.
        store.redirects().forget(name)?;
        git.create_over_redirect(name, format)?;
        Ok(Some(target))
    }

    /// Completes a rename whose intent is recorded, from whichever step it has reached. Returns false, and deletes
    /// the intent, if the repository no longer exists or another one has taken the name.
    fn complete(&self, from: &RepoName, to: &RepoName) -> Result<bool, RenameError> {
        let Renamer { store, git, .. } = self.renamer;
        if !git.move_to_reserved(from, to)? {
            store.redirects().abort_rename(from)?;
            git.remove_dangling_redirect(to)?;
            return Ok(false);
        }
        failpoint::hit("rename-repository-moved");
        let active = store.runs().active_of(from)?;
        let is_repo = |name: &RepoName| self.renamer.paths.repo(name).exists();
        for root in roots(&self.renamer.paths) {
            let moved = run_folders::move_all(&root, from, to, &active, &is_repo);
            moved.map_err(|source| RenameError::Io {
                attempt: "cannot move the folders of runs in",
                path: root,
                source,
            })?;
        }
        failpoint::hit("rename-folders-moved");
        store.redirects().finish_rename(from, to)?;
        failpoint::hit("rename-recorded");
        self.remove_links(from)?;
        failpoint::hit("rename-links-cleared");
        Ok(true)
    }

    /// Completes interrupted renames, removals and restores, and makes the redirects on disk match the database. Returns
    /// whether there was something to complete or a link to remove. What fails for one repository does not hold up the
    /// others; the first error is returned, and it is safe to retry.
    pub fn finish_pending(&self) -> Result<bool, RenameError> {
        let trash = self.finish_trash()?;
        let mut found_work = trash.found;
        let mut first_error = trash.first_error;
        for Redirect { name, repo, moving } in self.renamer.store.redirects().list()? {
            if moving {
                found_work = true;
                let done = match self.complete(&name, &repo) {
                    Ok(done) => done,
                    Err(error) => {
                        first_error.get_or_insert(error);
                        continue;
                    }
                };
                if done {
                    tracing::warn!(%name, %repo, "completed a rename that was interrupted");
                } else {
                    tracing::warn!(%name, %repo, "cancelled a rename that was interrupted, because the repository no longer exists or the new name is taken");
                }
            } else if !trash.reserved.contains(&repo) {
                // A redirect of a repository that cannot be looked at stays as it is.
                match self.refresh_redirect(&name, &repo) {
                    Err(RenameError::Git(_)) | Ok(()) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        for link in self.renamer.git.redirects()? {
            // One that cannot be followed is not dangling.
            if !trash.reserved.contains(&link) {
                let _ = self.renamer.git.remove_dangling_redirect(&link);
            }
        }
        for name in self.renamer.store.redirects().stale_links()? {
            found_work |= self.remove_links(&name)?;
        }
        first_error.map_or(Ok(found_work), Err)
    }

    /// Restores the redirect of a former name; removes it if its repository no longer exists or the name is taken.
    fn refresh_redirect(&self, name: &RepoName, repo: &RepoName) -> Result<(), RenameError> {
        let Renamer { store, git, .. } = self.renamer;
        let exists = git.exists(repo)?;
        if !exists || !git.ensure_redirect(name, repo)? {
            store.redirects().forget(name)?;
        }
        if !exists {
            git.remove_redirect(name)?;
        }
        Ok(())
    }

    /// Removes the links of moved runs that have ended. Returns whether none is left.
    fn remove_links(&self, name: &RepoName) -> Result<bool, RenameError> {
        let active: HashSet<RunId> = self
            .renamer
            .store
            .runs()
            .active()?
            .into_iter()
            .map(|run| run.id)
            .collect();
        let mut none_left = true;
        for root in roots(&self.renamer.paths) {
            let removed = run_folders::remove_links(&root, name, &active);
            none_left &= removed.map_err(|source| RenameError::Io {
                attempt: "cannot remove the links in",
                path: root,
                source,
            })?;
        }
        if none_left {
            self.renamer.store.redirects().forget_stale_links(name)?;
        }
        Ok(none_left)
    }
}
