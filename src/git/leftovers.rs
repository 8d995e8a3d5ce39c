//! What somebody who was killed while they made or removed a repository left behind.

use std::fs;
use std::time::Duration;

use super::Git;

/// Older than this, a repository half made or half removed is nobody's any more.
const ABANDONED: Duration = Duration::from_secs(3600);

impl Git {
    /// Removes repositories that were being made or removed long ago by somebody who was killed.
    /// What cannot be removed now stays for the next time.
    pub fn remove_abandoned(&self) {
        for folder in [".new", ".trash"] {
            for entry in fs::read_dir(self.paths.repos().join(folder))
                .into_iter()
                .flatten()
                .flatten()
            {
                let age = entry
                    .metadata()
                    .and_then(|metadata| metadata.modified())
                    .ok()
                    .and_then(|made| made.elapsed().ok());
                if age.is_some_and(|age| age > ABANDONED) {
                    let _ = fs::remove_dir_all(entry.path());
                }
            }
        }
    }
}
