//! The mark of a repository that follows one on another machine. It refuses pushes, whatever else is running: the database
//! knows the mirror, and pushes do not read it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::error::GitError;
use super::git::Git;
use super::import_draft::ImportDraft;
use quire_types::fsutil::sync_folder;
use quire_types::names::RepoName;

/// A file in each repository that is a pull mirror: the address that it follows.
const MARK: &str = "quire-mirror";

impl ImportDraft {
    /// Makes the repository that this becomes a pull mirror of its address, or an ordinary one.
    pub fn set_mirror_mark(&self, is_mirror: bool) -> Result<(), GitError> {
        let path = self.path().join(MARK);
        let written = match is_mirror {
            true => fs::write(&path, format!("{}\n", self.url())),
            false => remove_if_there(&path),
        };
        written.map_err(|source| GitError::Io {
            action: "write",
            path,
            source,
        })
    }
}

impl Git {
    /// The address that a repository follows, if it is a pull mirror.
    pub fn mirrored_from(&self, repo: &RepoName) -> Result<Option<String>, GitError> {
        let path = self.paths.repo(repo).join(MARK);
        match fs::read_to_string(&path) {
            Ok(url) => Ok(Some(url.trim_end().to_owned())),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(source) => Err(GitError::Io {
                action: "read",
                path,
                source,
            }),
        }
    }

    /// Lets a repository take pushes again.
    pub fn remove_mirror_mark(&self, repo: &RepoName) -> Result<(), GitError> {
        let folder = self.paths.repo(repo);
        let removed = remove_if_there(&folder.join(MARK)).and_then(|()| sync_folder(&folder));
        removed.map_err(|source| GitError::Io {
            action: "remove the mark of a mirror in",
            path: folder,
            source,
        })
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
