//! Removes the artifacts of a run.

use std::io;
use std::path::Path;

use quire_types::names::{RepoName, RunId};
use quire_types::paths::Paths;

/// Removes all artifacts of a run. A missing folder is not an error.
pub fn remove(paths: &Paths, repo: &RepoName, run: RunId) -> io::Result<()> {
    remove_folder(&paths.run_artifacts(repo, run))
}

pub(super) fn remove_folder(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
