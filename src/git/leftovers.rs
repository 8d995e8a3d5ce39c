//! What a git that was killed leaves behind, and what stands in the way of the next one.
//!
//! A lock of a dead process refuses every later push to its ref, for ever: git leaves it to a
//! person to find out. Here a lock is dead when no process works in its repository: the locks
//! are listed first, so that whoever holds one is alive while the processes are looked at.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Git, GitError};
use crate::names::RepoName;

/// Older than this, a repository half made or half removed is nobody's any more.
const ABANDONED: Duration = Duration::from_secs(3600);

impl Git {
    /// Removes the locks in a repository that no living process holds; gives their names.
    ///
    /// # Errors
    /// The repository cannot be read or changed.
    pub fn remove_dead_locks(&self, repo: &RepoName) -> Result<Vec<PathBuf>, GitError> {
        let folder = self.paths.repo(repo);
        let found = locks(&folder)?;
        if found.is_empty() || is_worked_in(&folder) {
            return Ok(Vec::new());
        }
        for lock in &found {
            match fs::remove_file(lock) {
                Err(source) if source.kind() != ErrorKind::NotFound => {
                    return Err(GitError::Io { attempt: "remove the dead lock", path: lock.clone(), source });
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Removes repositories that were being made or removed long ago by somebody who was killed.
    /// What cannot be removed now stays for the next time.
    pub fn remove_abandoned(&self) {
        for folder in [".new", ".trash"] {
            for entry in fs::read_dir(self.paths.repos().join(folder)).into_iter().flatten().flatten() {
                let age = entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|made| made.elapsed().ok());
                if age.is_some_and(|age| age > ABANDONED) {
                    let _ = fs::remove_dir_all(entry.path());
                }
            }
        }
    }
}

/// The lock files of a repository: of its own files, and of refs.
fn locks(repo: &Path) -> Result<Vec<PathBuf>, GitError> {
    let (mut found, mut folders) = (Vec::new(), vec![repo.to_owned()]);
    while let Some(folder) = folders.pop() {
        let fail = |source| GitError::Io { attempt: "list", path: folder.clone(), source };
        let entries = match fs::read_dir(&folder) {
            // A folder of refs goes with its last ref.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.map_err(fail)?,
        };
        for entry in entries {
            let entry = entry.map_err(fail)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(fail)?);
            if kind.is_file() && path.extension().is_some_and(|extension| extension == "lock") {
                found.push(path);
            } else if kind.is_dir() && (folder != repo || entry.file_name() == "refs") {
                folders.push(path);
            }
        }
    }
    Ok(found)
}

/// Whether a process stands in the repository or was told of it when it was started.
fn is_worked_in(repo: &Path) -> bool {
    let real = repo.canonicalize().unwrap_or_else(|_| repo.to_owned());
    let own = std::process::id().to_string();
    let names = |line: &[u8], path: &Path| {
        let path = path.as_os_str().as_bytes();
        line.windows(path.len()).any(|part| part == path)
    };
    let works_there = |process: &Path| {
        fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&real))
            || fs::read(process.join("cmdline")).is_ok_and(|line| names(&line, &real) || names(&line, repo))
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|entry| entry.file_name().as_bytes().first().is_some_and(u8::is_ascii_digit) && *entry.file_name() != *own)
        .any(|entry| works_there(&entry.path()))
}
