//! The trash in a backup: removed repositories that can be restored from it as well.
//!
//! An entry of the trash does not change until it is restored or deleted, so it is copied as it is. One that is restored or deleted meanwhile
//! is not in the backup: what was copied of it is removed when the backup is restored.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use quire_git::{Git, TrashState};
use quire_types::paths::Paths;

use super::archive_writer::BackupArchive;
use super::error::BackupError;
use super::write::BackupContent;
use crate::trash::TrashedRepo;

impl<W: Write> BackupArchive<'_, W> {
    /// Adds what is in the trash. Returns the ids of the entries that are complete.
    pub(super) fn add_trash(
        &mut self,
        git: &Git,
        trashed: &[TrashedRepo],
        content: BackupContent,
    ) -> Result<Vec<String>, BackupError> {
        let mut complete = Vec::new();
        for one in trashed {
            let id = one.entry.id.to_string();
            let [repo, runs, artifacts] = folders(&id);
            let mut is_complete = self.add_folder(&repo, &|_| false)?;
            for (folder, is_wanted) in [(runs, content.logs), (artifacts, content.artifacts)] {
                if is_wanted {
                    is_complete &= self.add_folder(&folder, &|_| false)?;
                }
            }
            let entries = git.trash_entries()?;
            let is_there = entries
                .iter()
                .any(|entry| *entry == one.entry && entry.state == TrashState::Complete);
            if is_there && is_complete {
                complete.push(id);
            } else if !is_there && git.exists(&one.repo)? {
                self.problems.push(format!(
                    "{} was restored from the trash while the backup was made",
                    one.repo
                ));
            }
        }
        Ok(complete)
    }
}

/// The folders of an entry, relative to the data folder: the repository with its rows, logs, artifacts.
fn folders(id: &str) -> [PathBuf; 3] {
    ["repos", "runs", "artifacts"].map(|root| Path::new(root).join(".trash").join(id))
}

/// Removes all but these entries from the trash of a restored backup. Returns how many there are of them.
pub(super) fn keep_only(paths: &Paths, known: &[String]) -> Result<usize, BackupError> {
    let trash = paths.trash();
    let entries = match fs::read_dir(&trash) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(BackupError::io("list", &trash))?,
    };
    let mut found = 0;
    for entry in entries {
        let name = entry.map_err(BackupError::io("list", &trash))?.file_name();
        let name = name.to_string_lossy();
        if known.iter().any(|known| *known == *name) {
            found += 1;
            continue;
        }
        for folder in folders(&name) {
            let folder = paths.data().join(folder);
            quire_types::fsutil::remove_folder(&folder)
                .map_err(BackupError::io("remove", &folder))?;
        }
    }
    Ok(found)
}
