//! The temporary folder of a local run.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::error::CiError;
use quire_types::names::RunId;

/// Holds the logs of the run and, with the host executor, its workspace. Dropping it removes the folder.
pub(super) struct ScratchDir(PathBuf);

impl ScratchDir {
    pub(super) fn create(run: RunId) -> Result<Self, CiError> {
        let path = std::env::temp_dir().join(format!("quire-ci-{run}"));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(error) => Err(CiError::Write(path, error)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("quire: {} could not be removed: {error}", self.0.display());
        }
    }
}
