//! The handle through which everything here is called.

use std::path::PathBuf;

use quire_types::paths::Paths;

use super::error::GitError;
use super::object_cache::ObjectCache;
use super::object_format::ObjectFormat;

/// Access to this appliance's repositories. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Git {
    pub(crate) paths: Paths,
    pub(super) objects: ObjectCache,
}

impl Git {
    /// Access to the repositories below these paths. Clones share what they have read.
    #[must_use]
    pub fn new(paths: &Paths) -> Self {
        Self {
            paths: paths.clone(),
            objects: ObjectCache::default(),
        }
    }

    /// The paths of the data volume.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Runs a call that may block on a thread of its own.
    pub async fn call<T, F>(&self, call: F) -> Result<T, GitError>
    where
        T: Send + 'static,
        F: FnOnce(&Git) -> Result<T, GitError> + Send + 'static,
    {
        let git = self.clone();
        tokio::task::spawn_blocking(move || call(&git))
            .await
            .unwrap_or(Err(GitError::Interrupted))
    }

    /// An empty repository through which the objects of other repositories are read without the
    /// attributes that change what an archive contains (see [`Git::archive`]).
    pub(crate) fn empty_repo(&self, format: ObjectFormat) -> PathBuf {
        self.paths.repos().join(match format {
            ObjectFormat::Sha1 => ".plain",
            ObjectFormat::Sha256 => ".plain-sha256",
        })
    }
}
