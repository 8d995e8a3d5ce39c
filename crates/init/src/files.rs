//! File operations that several steps of preflight share.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::error::InitError;

/// Creates a folder that only its owner can enter. One that exists is left as it is.
pub(super) fn create_private_dir(path: &Path) -> Result<(), InitError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other.map_err(InitError::io("create the folder", path)),
    }
}
