//! Removes the artifacts of a run.

use std::io;

use quire_types::fsutil::remove_folder;
use quire_types::names::{RepoName, RunId};
use quire_types::paths::Paths;

/// Removes all artifacts of a run. A missing folder is not an error.
pub fn remove(paths: &Paths, repo: &RepoName, run: RunId) -> io::Result<()> {
    remove_folder(&paths.run_artifacts(repo, run))
}
