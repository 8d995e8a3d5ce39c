//! What an entry of the trash says about its repository.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use quire_git::{Git, TrashEntry, TrashState};
use quire_types::clock::Millis;
use quire_types::fsutil::{folder_size, replace_file_durably};
use quire_types::names::RepoName;
use quire_types::paths::Paths;

use crate::rename::RenameError;

const FILE: &str = "entry.json";
const ROWS: &str = "rows.db";

/// The file in the folder of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EntryFile {
    /// The name that the repository had.
    pub(super) repo: RepoName,
    pub(super) removed_at_ms: Millis,
    /// The name of the key of the user who removed it, or `local`.
    pub(super) removed_by: String,
    /// The name under which it is being restored.
    #[serde(default)]
    pub(super) restore_as: Option<RepoName>,
}

impl EntryFile {
    /// Reads the file of an entry; `None` if there is none: its removal was cut off before anything changed.
    pub(super) fn read(git: &Git, entry: TrashEntry) -> Result<Option<Self>, RenameError> {
        let path = git.trash_folder(entry).join(FILE);
        let failed = |source| RenameError::Io {
            attempt: "cannot read",
            path: path.clone(),
            source,
        };
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| failed(error.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    pub(super) fn write(&self, git: &Git, entry: TrashEntry) -> Result<(), RenameError> {
        let path = git.trash_folder(entry).join(FILE);
        let written = serde_json::to_vec(self)
            .map_err(Into::into)
            .and_then(|text| replace_file_durably(&path, &text, 0o644));
        written.map_err(|source| RenameError::Io {
            attempt: "cannot write",
            path,
            source,
        })
    }
}

/// The file with the rows of the repository.
pub(super) fn rows_file(git: &Git, entry: TrashEntry) -> PathBuf {
    git.trash_folder(entry).join(ROWS)
}

/// A repository in the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrashedRepo {
    pub entry: TrashEntry,
    /// The name that it had.
    pub repo: RepoName,
    pub removed_at: Millis,
    pub removed_by: String,
}

impl TrashedRepo {
    /// All repositories that can be restored, the one that was removed last first. One whose entry cannot be read is left out.
    pub fn list(git: &Git) -> Result<Vec<Self>, RenameError> {
        let mut found = Vec::new();
        for entry in git.trash_entries()? {
            if entry.state != TrashState::Complete {
                continue;
            }
            if let Ok(Some(file)) = EntryFile::read(git, entry) {
                found.push(Self {
                    entry,
                    repo: file.repo,
                    removed_at: file.removed_at_ms,
                    removed_by: file.removed_by,
                });
            }
        }
        found.reverse();
        Ok(found)
    }

    /// The name under which a repository of this name, or of an id that begins so, is being restored.
    pub(crate) fn being_restored(
        git: &Git,
        wanted: &RepoName,
    ) -> Result<Option<RepoName>, RenameError> {
        for entry in git.trash_entries()? {
            if entry.state != TrashState::Restoring {
                continue;
            }
            let Some(file) = EntryFile::read(git, entry)? else {
                continue;
            };
            if file.repo == *wanted || entry.id.to_string().starts_with(wanted.as_str()) {
                return Ok(file.restore_as);
            }
        }
        Ok(None)
    }

    /// The bytes of its folder, and of the logs and artifacts of its runs.
    #[must_use]
    pub fn bytes(&self, paths: &Paths, git: &Git) -> u64 {
        let id = self.entry.id.to_string();
        [
            git.trash_folder(self.entry),
            paths.trash_runs(&id),
            paths.trash_artifacts(&id),
        ]
        .iter()
        .map(|folder| folder_size(folder))
        .sum()
    }
}
