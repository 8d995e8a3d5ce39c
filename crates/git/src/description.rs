//! What a repository is, in one line: git's own file `description`, which other programs show as well.

use std::fs;
use std::io::ErrorKind;

use super::error::GitError;
use super::git::Git;
use quire_types::fsutil::{replace_file_durably, sync_folder};
use quire_types::names::RepoName;
use quire_types::text::single_line;

const FILE: &str = "description";
/// How what git writes into the file of a new repository begins.
const UNNAMED: &str = "Unnamed repository; edit this file";

impl Git {
    /// The description of a repository; `None` if it has none.
    pub fn description(&self, repo: &RepoName) -> Result<Option<String>, GitError> {
        let path = self.paths.repo(repo).join(FILE);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|source| GitError::Io {
                action: "read",
                path,
                source,
            })?,
        };
        let text = single_line(&String::from_utf8_lossy(&text));
        let text = text.trim();
        let is_set = !text.is_empty() && !text.starts_with(UNNAMED);
        Ok(is_set.then(|| text.to_owned()))
    }

    /// Describes a repository, or removes its description.
    pub fn set_description(&self, repo: &RepoName, text: Option<&str>) -> Result<(), GitError> {
        let folder = self.paths.repo(repo);
        let path = folder.join(FILE);
        let written = match text {
            Some(text) => replace_file_durably(&path, format!("{text}\n").as_bytes(), 0o644),
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                removed => removed.and_then(|()| sync_folder(&folder)),
            },
        };
        written.map_err(|source| GitError::Io {
            action: "write",
            path,
            source,
        })
    }
}
