//! The lock that only one rename, removal or restore at a time can hold, and the task that completes interrupted ones.

use std::fs::{File, TryLockError};
use std::time::{Duration, Instant};

use quire_git::Git;
use quire_store::Store;
use quire_types::error_chain::chain;
use quire_types::paths::Paths;
use tokio_util::sync::CancellationToken;

use super::error::RenameError;
use crate::queue::{Queue, Waiter};

const LOCK_TIMEOUT: Duration = Duration::from_secs(20);
const LOCK_POLL: Duration = Duration::from_millis(20);
/// How often the database is asked for renames to complete.
const POLL: Duration = Duration::from_secs(2);
/// How often all redirects are compared with the disk.
const FULL_SCAN: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct Renamer {
    pub(crate) paths: Paths,
    pub(crate) store: Store,
    pub(crate) git: Git,
}

/// While it is held no other process creates, renames or removes the names of repositories.
#[derive(Debug)]
pub struct RenameLock<'a> {
    pub(crate) renamer: &'a Renamer,
    // The kernel releases the lock when the file is closed, also if the process is killed.
    _file: File,
}

impl Renamer {
    #[must_use]
    pub fn new(paths: &Paths, store: Store) -> Self {
        Self {
            paths: paths.clone(),
            store,
            git: Git::new(paths),
        }
    }

    /// Waits for the lock; fails with [`RenameError::Locked`] if that takes too long.
    pub fn lock(&self) -> Result<RenameLock<'_>, RenameError> {
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            if let Some(lock) = self.try_lock()? {
                return Ok(lock);
            }
            if Instant::now() >= deadline {
                return Err(RenameError::Locked);
            }
            std::thread::sleep(LOCK_POLL);
        }
    }

    fn try_lock(&self) -> Result<Option<RenameLock<'_>>, RenameError> {
        let path = self.paths.repos().join(".names.lock");
        let opened = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let locked = opened
            .map_err(TryLockError::Error)
            .and_then(|file| file.try_lock().map(|()| file));
        match locked {
            Ok(file) => Ok(Some(RenameLock {
                renamer: self,
                _file: file,
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(RenameError::Io {
                attempt: "cannot lock",
                path,
                source,
            }),
        }
    }

    /// Completes interrupted renames, removals and restores, unless another process holds the lock. Returns whether there was anything to
    /// do. After an error it is safe to retry.
    pub fn finish_pending(&self) -> Result<bool, RenameError> {
        self.try_lock()?
            .map_or(Ok(false), |lock| lock.finish_pending())
    }

    fn has_pending_work(&self) -> Result<bool, RenameError> {
        Ok(self.store.redirects().has_pending_work()? || self.git.has_unfinished_trash()?)
    }

    /// Completes interrupted renames, removals and restores until `stop` is cancelled.
    pub async fn run(self, queue: Queue, stop: CancellationToken) {
        let mut last_full_scan = Instant::now();
        while stop
            .run_until_cancelled(queue.wait(Waiter::Renames, POLL))
            .await
            .is_some()
        {
            let full_scan = last_full_scan.elapsed() >= FULL_SCAN;
            let renamer = self.clone();
            let finished = tokio::task::spawn_blocking(move || {
                if full_scan || renamer.has_pending_work()? {
                    renamer.finish_pending()
                } else {
                    Ok(false)
                }
            });
            match finished.await {
                Ok(Ok(true)) => queue.wake(),
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(error)) => tracing::error!(
                    "a rename, removal or restore cannot be completed yet; it will be retried: {}",
                    chain(&error)
                ),
            }
            if full_scan {
                last_full_scan = Instant::now();
            }
        }
    }
}
