//! The trash: folders of repositories that were removed and can be restored.
//!
//! ```text
//! repos/.trash/ID.removing/   ─►  repos/.trash/ID/  ─►  repos/.trash/ID.restoring/
//!                                        └─────────────►  repos/.trash/ID.deleting/
//! ```
//! The suffix is the state of an entry and changes by one rename. A repository enters and leaves an entry, as the folder
//! `repo.git` in it, by an exchange with a link that reserves the repository's name, so that no other repository gets the
//! name before everything else of the removed one has left it.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::libc;

use super::error::GitError;
use super::git::Git;
use super::redirects::{PathState, exchange, relative_link};
use super::trash_entry::{TrashEntry, TrashId, TrashState};
use quire_types::fsutil::{remove_folder, sync_folder, sync_parent};
use quire_types::names::RepoName;

/// The folder of the repository in an entry.
const REPOSITORY: &str = "repo.git";

impl Git {
    /// All entries of the trash, the oldest first.
    pub fn trash_entries(&self) -> Result<Vec<TrashEntry>, GitError> {
        let folder = self.paths.trash();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io_error("list", &folder))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(io_error("list", &folder))?.file_name();
            found.extend(name.to_str().and_then(TrashEntry::from_folder_name));
        }
        found.sort_by_key(|entry| entry.id);
        Ok(found)
    }

    /// Whether something is being done with an entry, or was when a process was killed.
    pub fn has_unfinished_trash(&self) -> Result<bool, GitError> {
        let entries = self.trash_entries()?;
        Ok(entries
            .iter()
            .any(|entry| entry.state != TrashState::Complete))
    }

    /// The folder of an entry.
    #[must_use]
    pub fn trash_folder(&self, entry: TrashEntry) -> PathBuf {
        self.paths.trash().join(entry.folder_name())
    }

    /// The repository in an entry.
    pub(super) fn trash_repository(&self, entry: TrashEntry) -> PathBuf {
        self.trash_folder(entry).join(REPOSITORY)
    }

    /// Creates an entry without a repository.
    pub fn create_trash_entry(&self, state: TrashState) -> Result<TrashEntry, GitError> {
        let id = TrashId::new();
        let entry = TrashEntry { id, state };
        let folder = self.trash_folder(entry);
        fs::create_dir_all(&folder)
            .and_then(|()| sync_parent(&folder))
            .and_then(|()| sync_folder(&self.paths.repos()))
            .map_err(io_error("create", &folder))?;
        Ok(entry)
    }

    /// Changes the state of an entry.
    pub fn set_trash_state(
        &self,
        entry: TrashEntry,
        state: TrashState,
    ) -> Result<TrashEntry, GitError> {
        let next = TrashEntry { state, ..entry };
        let (from, to) = (self.trash_folder(entry), self.trash_folder(next));
        fs::rename(&from, &to)
            .and_then(|()| sync_parent(&to))
            .map_err(io_error("rename", &from))?;
        Ok(next)
    }

    /// Deletes the folder of an entry. A part of it may be deleted already.
    pub fn delete_trash_folder(&self, entry: TrashEntry) -> Result<(), GitError> {
        let folder = self.trash_folder(entry);
        remove_folder(&folder).map_err(io_error("delete the removed repository in", &folder))
    }

    /// Whether the repository is in its entry.
    pub fn is_in_trash(&self, entry: TrashEntry) -> Result<bool, GitError> {
        let inside = self.trash_repository(entry);
        match fs::symlink_metadata(&inside) {
            // A link of quire's own reserves a name. That of a user, to a repository elsewhere, is absolute.
            Ok(found) if found.is_symlink() => Ok(!is_relative_link(&inside)),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(source) => Err(io_error("read", &inside)(source)),
        }
    }

    /// Moves a repository into an entry, and leaves its name reserved. Does nothing if that is done already.
    pub fn move_into_trash(&self, repo: &RepoName, entry: TrashEntry) -> Result<(), GitError> {
        if self.is_in_trash(entry)? {
            return Ok(());
        }
        let path = self.paths.repo(repo);
        let inside = self.trash_repository(entry);
        let link = own_link(repo);
        let moved = make_link(&link, &inside)
            .and_then(|()| exchange(&path, &inside))
            .or_else(|error| match error.raw_os_error() {
                // Then another repository may get the name for a moment.
                Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => {
                    fs::remove_file(&inside)?;
                    fs::rename(&path, &inside)?;
                    make_link(&link, &path)
                }
                _ => Err(error),
            });
        moved
            .and_then(|()| sync_parent(&inside))
            .and_then(|()| sync_parent(&path))
            .map_err(io_error("remove", &path))
    }

    /// Moves the repository of an entry to a name that is reserved for it. Does nothing if that is done already.
    pub fn move_out_of_trash(&self, entry: TrashEntry, repo: &RepoName) -> Result<(), GitError> {
        if !self.is_in_trash(entry)? {
            return Ok(());
        }
        let path = self.paths.repo(repo);
        let inside = self.trash_repository(entry);
        let moved = exchange(&inside, &path).or_else(|error| match error.raw_os_error() {
            Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => {
                fs::remove_file(&path)?;
                fs::rename(&inside, &path)
            }
            _ => Err(error),
        });
        moved
            .and_then(|()| sync_parent(&path))
            .and_then(|()| sync_parent(&inside))
            .map_err(io_error("restore", &path))
    }

    /// Reserves a name for a repository of the trash. Returns false if the name is in use, also as a redirect.
    pub fn reserve_for_trash(&self, repo: &RepoName) -> Result<bool, GitError> {
        let path = self.paths.repo(repo);
        match self.path_state(repo) {
            PathState::Occupied => return Ok(false),
            PathState::Redirect => return Ok(is_reserved(&path, repo)),
            PathState::Vacant => {}
        }
        let reserved = path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| symlink(own_link(repo), &path));
        match reserved {
            Ok(()) => sync_parent(&path).map(|()| true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(is_reserved(&path, repo)),
            Err(error) => Err(error),
        }
        .map_err(io_error("reserve", &path))
    }

    /// Removes the reservation of a name, and the folder of its group if that is empty then.
    pub fn release_reserved(&self, repo: &RepoName) -> Result<(), GitError> {
        let path = self.paths.repo(repo);
        if is_reserved(&path, repo) {
            fs::remove_file(&path)
                .and_then(|()| sync_parent(&path))
                .map_err(io_error("remove the link", &path))?;
        }
        self.remove_empty_group(&path);
        Ok(())
    }
}

/// The target of a link that refers to itself: what [`Git::create`] and pushes take for a name in use.
fn own_link(repo: &RepoName) -> PathBuf {
    relative_link(repo.as_str(), &format!("{repo}.git"))
}

fn is_reserved(path: &Path, repo: &RepoName) -> bool {
    fs::read_link(path).is_ok_and(|target| target == own_link(repo))
}

fn is_relative_link(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|target| target.is_relative())
}

/// Creates a link, unless there is one already.
fn make_link(target: &Path, path: &Path) -> io::Result<()> {
    match symlink(target, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> GitError {
    let path = path.to_owned();
    move |source| GitError::Io {
        action,
        path,
        source,
    }
}
