//! Caches as folders below the data volume.

use std::io;
use std::path::PathBuf;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use quire_types::failpoint;
use quire_types::names::RepoName;

use super::cache_dirs;
use super::running::RunningRuns;
use super::workspace_dir::{self, run_blocking};
use crate::api::{CacheInfo, CacheStore};
use crate::error::ExecutorError;

pub(super) struct HostCaches {
    dir: PathBuf,
    running: RunningRuns,
}

impl HostCaches {
    pub(super) fn new(dir: PathBuf, running: RunningRuns) -> Self {
        Self { dir, running }
    }

    async fn list(&self) -> Result<Vec<CacheInfo>, ExecutorError> {
        let dir = self.dir.clone();
        run_blocking("list the caches", move || cache_dirs::list(&dir)).await
    }

    async fn sizes(&self) -> Result<Vec<(CacheInfo, u64)>, ExecutorError> {
        let dir = self.dir.clone();
        run_blocking("measure the caches", move || {
            let measured = |cache: CacheInfo| {
                let dir = cache_dirs::cache_dir(&dir, &cache.repo, &cache.name);
                (cache, cache_dirs::size(&dir))
            };
            io::Result::Ok(cache_dirs::list(&dir)?.into_iter().map(measured).collect())
        })
        .await
    }

    async fn remove(&self, repo: &RepoName, name: &str) -> Result<bool, ExecutorError> {
        // Moved away at once, so that no run begins to use it before it is gone; what a crash
        // leaves of it the next sweep removes.
        let moved = self
            .running
            .unless_running(repo, || cache_dirs::move_to_trash(&self.dir, repo, name))
            .ok_or_else(|| ExecutorError::CacheInUse {
                repo: repo.clone(),
                name: name.to_owned(),
            })?
            .map_err(|error| ExecutorError::caused_by("remove the cache", &error))?;
        failpoint::hit("host-cache-aside");
        match moved {
            Some(trashed) => workspace_dir::remove(trashed).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Removes what interrupted removals have left, and returns how many caches that were.
    pub(super) async fn empty_trash(&self) -> usize {
        let mut removed = 0;
        for cache in cache_dirs::trashed(&self.dir) {
            match workspace_dir::remove(cache).await {
                Ok(()) => removed += 1,
                Err(error) => {
                    tracing::warn!(%error, "cannot remove what an interrupted removal left of a cache; it is retried");
                }
            }
        }
        removed
    }
}

impl CacheStore for HostCaches {
    fn list(&self) -> BoxFuture<'_, Result<Vec<CacheInfo>, ExecutorError>> {
        self.list().boxed()
    }

    fn sizes(&self) -> BoxFuture<'_, Result<Vec<(CacheInfo, u64)>, ExecutorError>> {
        self.sizes().boxed()
    }

    fn remove<'a>(
        &'a self,
        repo: &'a RepoName,
        name: &'a str,
    ) -> BoxFuture<'a, Result<bool, ExecutorError>> {
        self.remove(repo, name).boxed()
    }
}
