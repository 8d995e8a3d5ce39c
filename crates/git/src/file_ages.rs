//! How old the files of a folder are: what is old enough is not in use.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use quire_types::clock::Millis;

/// The entries of a folder with their age in milliseconds. Missing entries and a missing folder are no error.
pub(super) fn files_with_age(folder: &Path, now: Millis) -> io::Result<Vec<(PathBuf, u64)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if let Ok(metadata) = fs::symlink_metadata(&path) {
            found.push((path, now.since(Millis(metadata.mtime() * 1000))));
        }
    }
    Ok(found)
}
