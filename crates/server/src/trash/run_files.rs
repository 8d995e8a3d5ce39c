//! The folders of the runs of a removed repository, with their logs and artifacts.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use quire_git::TrashId;
use quire_types::failpoint;
use quire_types::fsutil::{remove_folder, sync_folder};
use quire_types::names::RepoName;
use quire_types::paths::Paths;

use crate::rename::{RenameError, remove_empty_run_folders, run_folders};

/// The folders of logs and of artifacts in the trash.
fn roots(paths: &Paths, entry: TrashId) -> [PathBuf; 2] {
    let id = entry.to_string();
    [paths.trash_runs(&id), paths.trash_artifacts(&id)]
}

/// Moves the folders of all runs of a repository into the trash.
pub(super) fn move_in(paths: &Paths, repo: &RepoName, entry: TrashId) -> Result<(), RenameError> {
    let [runs, artifacts] = roots(paths, entry);
    for folder in run_folders(paths, repo)? {
        let root = match folder.starts_with(paths.runs_dir()) {
            true => &runs,
            false => &artifacts,
        };
        let moved = fs::create_dir_all(root).and_then(|()| move_below(&folder, root));
        moved.map_err(failed("cannot move into the trash:", &folder))?;
        failpoint::hit("trash-folder-moved");
    }
    remove_empty_run_folders(paths, repo);
    Ok(())
}

/// Moves the folders of all runs of an entry to the name that their repository has now.
pub(super) fn move_out(paths: &Paths, entry: TrashId, repo: &RepoName) -> Result<(), RenameError> {
    let [runs, artifacts] = roots(paths, entry);
    for (root, target) in [
        (&runs, paths.repo_runs_dir(repo)),
        (&artifacts, paths.repo_artifacts(repo)),
    ] {
        let entries = match fs::read_dir(root) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>),
        };
        for folder in entries.map_err(failed("cannot list", root))? {
            let folder = folder.path();
            let moved = fs::create_dir_all(&target).and_then(|()| move_below(&folder, &target));
            moved.map_err(failed("cannot restore", &folder))?;
            failpoint::hit("restore-folder-moved");
        }
    }
    delete(paths, entry)
}

/// Deletes the folders of all runs of an entry.
pub(super) fn delete(paths: &Paths, entry: TrashId) -> Result<(), RenameError> {
    for root in roots(paths, entry) {
        remove_folder(&root).map_err(failed("cannot delete", &root))?;
    }
    Ok(())
}

/// Moves a folder into another one.
fn move_below(folder: &Path, target: &Path) -> io::Result<()> {
    fs::rename(folder, target.join(folder.file_name().unwrap_or_default()))?;
    sync_folder(target)?;
    sync_folder(folder.parent().unwrap_or(folder))
}

fn failed(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RenameError {
    let path = path.to_owned();
    move |source| RenameError::Io {
        attempt,
        path,
        source,
    }
}
