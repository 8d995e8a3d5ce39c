//! The locks of `git lfs lock`: which key works on which file. They are one file, changed under a lock of the kernel on the
//! folder of the store. Everything blocks.
//!
//! Locks do not stop a push: the client asks for them, and refuses to push a file that another key has locked.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::store::LfsStore;
use quire_types::clock::Millis;
use quire_types::fsutil::replace_file_durably;

/// The most locks of a repository.
pub const MAX_LOCKS: usize = 10_000;

/// A file that is locked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LfsLock {
    pub id: String,
    pub path: String,
    /// The name of the key.
    pub owner: String,
    /// RFC 3339.
    pub locked_at: String,
}

/// Why the locks were not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("this file is locked already")]
    Conflict(LfsLock),
    #[error("there is no such lock")]
    NotFound,
    #[error("the repository has {MAX_LOCKS} locks already")]
    TooMany,
    #[error("the locks cannot be read or changed")]
    Io(#[from] io::Error),
}

/// The locks of one repository.
#[derive(Debug)]
pub struct LfsLocks {
    folder: PathBuf,
}

impl LfsLocks {
    /// The locks beside these objects.
    #[must_use]
    pub fn of(store: &LfsStore) -> Self {
        Self {
            folder: store.folder().to_owned(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("locks.json")
    }

    /// All locks, oldest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn list(&self) -> Result<Vec<LfsLock>, LockError> {
        match std::fs::read(self.path()) {
            Ok(text) => Ok(serde_json::from_slice(&text).map_err(io::Error::from)?),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Locks a file.
    ///
    /// # Errors
    /// The file is locked, or the lock cannot be written.
    pub fn lock(&self, path: &str, owner: &str, now: Millis) -> Result<LfsLock, LockError> {
        self.change(|locks| {
            if let Some(found) = locks.iter().find(|lock| lock.path == path) {
                return Err(LockError::Conflict(found.clone()));
            }
            if locks.len() >= MAX_LOCKS {
                return Err(LockError::TooMany);
            }
            let lock = LfsLock {
                id: Uuid::now_v7().to_string(),
                path: path.to_owned(),
                owner: owner.to_owned(),
                locked_at: now.to_string(),
            };
            locks.push(lock.clone());
            Ok(lock)
        })
    }

    /// Removes a lock and returns it.
    ///
    /// # Errors
    /// There is no such lock, or the file cannot be written.
    pub fn unlock(&self, id: &str) -> Result<LfsLock, LockError> {
        self.change(|locks| {
            let found = locks.iter().position(|lock| lock.id == id);
            found.map(|at| locks.remove(at)).ok_or(LockError::NotFound)
        })
    }

    fn change(
        &self,
        change: impl FnOnce(&mut Vec<LfsLock>) -> Result<LfsLock, LockError>,
    ) -> Result<LfsLock, LockError> {
        let folder = File::open(&self.folder)?;
        folder.lock()?;
        let mut locks = self.list()?;
        let changed = change(&mut locks)?;
        let text = serde_json::to_vec(&locks).map_err(io::Error::from)?;
        replace_file_durably(&self.path(), &text, 0o644)?;
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_lock() {
        let folder = tempfile::tempdir().unwrap();
        let store = LfsStore::of(folder.path());
        store.create().unwrap();
        let locks = LfsLocks::of(&store);
        assert_eq!(locks.list().unwrap(), []);
        let lock = |path, owner| locks.lock(path, owner, Millis(0));
        let mine = lock("a b.psd", "laptop").unwrap();
        let conflict = lock("a b.psd", "desktop");
        assert!(matches!(conflict, Err(LockError::Conflict(found)) if found == mine));
        let other = lock("c.psd", "desktop").unwrap();
        assert_eq!(locks.list().unwrap(), [mine.clone(), other.clone()]);
        assert_eq!(locks.unlock(&mine.id).unwrap(), mine);
        assert!(matches!(locks.unlock(&mine.id), Err(LockError::NotFound)));
        assert_eq!(locks.list().unwrap(), [other]);
        assert_eq!(mine.locked_at, "1970-01-01T00:00:00.000Z");
    }
}
