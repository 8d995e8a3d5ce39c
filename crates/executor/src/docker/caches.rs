//! Caches as volumes of the engine: one for each name of each repository of an appliance.
//!
//! A volume is a cache only if its labels and its name belong together: no run uses a volume of the
//! right name with other labels, and none of another name is listed or removed, because quire did
//! not create it. Caches do not carry a run's label, so no sweep removes them.

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use quire_types::names::RepoName;
use quire_types::token::hex;
use sha2::{Digest, Sha256};

use super::context::{
    CACHE_LABEL, DockerContext, INSTANCE_LABEL, REPO_LABEL, WORKSPACE_DIR, label,
};
use super::in_use::RunLease;
use super::volume_holders::VolumeHolders;
use super::warm_container::WarmContainers;
use crate::api::{CacheInfo, CacheMount, CacheStore};
use crate::cache_location::{CacheLocation, locate};
use crate::engine::{DockerError, Labels, ListedVolume, VolumeMount, VolumeSource};
use crate::error::{ExecutorError, InvalidCommand};

/// How long what held a volume may take to be gone, and the pause between two attempts to remove the volume.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);
const RELEASE_PAUSE: Duration = Duration::from_millis(200);

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct DockerCaches(DockerContext, VolumeHolders);

impl DockerCaches {
    pub(super) fn new(context: DockerContext, warm: WarmContainers) -> Self {
        let holders = VolumeHolders::default();
        holders.add(warm);
        Self(context, holders)
    }

    /// The pools of containers and jobs that wait for runs. Those that mount a cache are removed before it.
    pub(super) fn holders(&self) -> &VolumeHolders {
        &self.1
    }

    /// Creates the volumes of the caches that are missing, and returns all mounts, the outer one
    /// of two before the inner.
    pub(super) async fn mounts(
        &self,
        repo: &RepoName,
        caches: &[CacheMount],
        lease: &RunLease,
    ) -> Result<Vec<VolumeMount>, ExecutorError> {
        let mut mounts = Vec::new();
        for cache in caches {
            let target = Self::target(cache)?;
            mounts.push(VolumeMount {
                source: VolumeSource::Named(self.ensure_volume(repo, &cache.name, lease).await?),
                target,
            });
        }
        mounts.sort_by_key(|mount| mount.target.len());
        Ok(mounts)
    }

    /// Where a container has a cache: an absolute path.
    pub(super) fn target(cache: &CacheMount) -> Result<String, InvalidCommand> {
        let target = match locate(cache, Path::new(WORKSPACE_DIR))? {
            CacheLocation::Workspace(relative) => Path::new(WORKSPACE_DIR).join(relative),
            CacheLocation::Elsewhere(path) => path,
        };
        Ok(target.to_string_lossy().into_owned())
    }

    /// Creates the volume of a cache unless it exists, and returns its name.
    async fn ensure_volume(
        &self,
        repo: &RepoName,
        name: &str,
        lease: &RunLease,
    ) -> Result<String, ExecutorError> {
        let volume = self.volume_name(repo, name);
        lease.take(&volume).await;
        let expected = self.labels(repo, name);
        let mut labels = self
            .0
            .engine
            .ensure_volume(&volume, &expected)
            .await
            .map_err(|error| ExecutorError::from_engine("create the cache", error))?;
        labels.retain(|(key, _)| expected.iter().any(|(expected, _)| expected == key));
        labels.sort();
        if labels != expected {
            let message = format!(
                "quire did not create the engine's volume {volume}, which has the name of the cache `{name}` of `{repo}`; \
                 remove or rename the volume"
            );
            return Err(ExecutorError::failed("mount the cache", &message));
        }
        Ok(volume)
    }

    /// The caches in order, each with its volume.
    async fn volumes(&self) -> Result<Vec<(CacheInfo, String)>, ExecutorError> {
        let listed = self
            .0
            .engine
            .volumes(&self.0.instance_labels())
            .await
            .map_err(|error| ExecutorError::from_engine("list the caches", error))?;
        let cache = |volume: ListedVolume| {
            let info = CacheInfo {
                repo: label(&volume.labels, REPO_LABEL)?.parse().ok()?,
                name: label(&volume.labels, CACHE_LABEL)?.to_owned(),
            };
            let is_own = volume.name == self.volume_name(&info.repo, &info.name);
            is_own.then_some((info, volume.name))
        };
        let mut caches: Vec<_> = listed.into_iter().filter_map(cache).collect();
        caches.sort();
        Ok(caches)
    }

    async fn list(&self) -> Result<Vec<CacheInfo>, ExecutorError> {
        let caches = self.volumes().await?;
        Ok(caches.into_iter().map(|(info, _)| info).collect())
    }

    async fn sizes(&self) -> Result<Vec<(CacheInfo, u64)>, ExecutorError> {
        let caches = self.volumes().await?;
        if caches.is_empty() {
            return Ok(Vec::new());
        }
        let sizes = self
            .0
            .engine
            .volume_sizes()
            .await
            .map_err(|error| ExecutorError::from_engine("measure the caches", error))?;
        Ok(caches
            .into_iter()
            .filter_map(|(info, volume)| Some((info, *sizes.get(&volume)?)))
            .collect())
    }

    async fn remove(&self, repo: &RepoName, name: &str) -> Result<bool, ExecutorError> {
        let remove_error = |error| ExecutorError::from_engine("remove the cache", error);
        let in_use = || ExecutorError::CacheInUse {
            repo: repo.clone(),
            name: name.to_owned(),
        };
        let engine = &self.0.engine;
        let own_name = self.volume_name(repo, name);
        let volumes = engine
            .volumes(&self.labels(repo, name))
            .await
            .map_err(remove_error)?;
        if !volumes.iter().any(|volume| volume.name == own_name) {
            return Ok(false);
        }
        let was_held = self.1.release(&own_name).await;
        let Some(_removal) = self.0.in_use.begin_volume_removal(&own_name) else {
            return Err(in_use());
        };
        let deadline = Instant::now() + RELEASE_TIMEOUT;
        loop {
            match engine.remove_volume(&own_name).await {
                // A removed service is gone before its container, which still mounts the volume for a moment.
                Err(DockerError::Conflict { .. }) if was_held && Instant::now() < deadline => {
                    tokio::time::sleep(RELEASE_PAUSE).await;
                }
                Err(DockerError::Conflict { .. }) => return Err(in_use()),
                other => return other.map_err(remove_error),
            }
        }
    }

    /// The labels of a cache's volume, sorted by key.
    pub(super) fn labels(&self, repo: &RepoName, name: &str) -> Labels {
        let labels = [
            (CACHE_LABEL, name),
            (INSTANCE_LABEL, &self.0.config.instance),
            (REPO_LABEL, repo.as_str()),
        ];
        labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec()
    }

    /// A different name for each cache of each repository of each appliance.
    pub(super) fn volume_name(&self, repo: &RepoName, name: &str) -> String {
        let digest = Sha256::digest(format!("{repo}\n{name}"));
        let digits = hex(&digest[..16]);
        format!("quire-{}-{digits}", self.0.config.instance)
    }
}

impl CacheStore for DockerCaches {
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
