//! Caches as volumes of the engine's: one for each name of each repository of an appliance.
//!
//! A volume is known by its labels, not by its name: one of the right name with other labels is
//! somebody else's, and no run gets it. They bear no run's label, so no sweep takes them.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::super::caches::{CacheInfo, Seen, busy, seen};
use super::super::{CacheMount, ExecutorError};
use super::aside::NotGiven;
use super::hold::Hold;
use super::{DockerExecutor, FOLDER, INSTANCE, REPO, aside, fault};
use crate::docker::{DockerError, Labels, VolumeMount};
use crate::names::RepoName;

/// The label with the cache's name.
const CACHE: &str = "io.quire.cache";

impl DockerExecutor {
    /// Makes sure of the caches' volumes; gives where each is mounted, the outer one of two before the inner.
    pub(super) async fn cache_mounts(
        &self,
        repo: &RepoName,
        caches: &[CacheMount],
        hold: &Hold,
    ) -> Result<Vec<VolumeMount>, ExecutorError> {
        let mut mounts = Vec::new();
        for cache in caches {
            let target = match seen(cache, Path::new(FOLDER))? {
                Seen::Workspace(below) => Path::new(FOLDER).join(below),
                Seen::Elsewhere(path) => path,
            };
            let volume = self.volume_name(repo, &cache.name);
            hold.take(&volume).await;
            let wanted = self.cache_labels(repo, &cache.name);
            let mut labels = self
                .engine
                .ensure_volume(&volume, &wanted)
                .await
                .map_err(|error| fault("make the cache", &error))?;
            labels.retain(|(key, _)| wanted.iter().any(|(wanted, _)| wanted == key));
            labels.sort();
            if labels != wanted {
                let message = format!(
                    "the volume {volume} on the engine is not quire's cache `{}` of `{repo}`",
                    cache.name
                );
                return Err(ExecutorError::Other {
                    attempt: "mount the cache",
                    message,
                });
            }
            mounts.push(VolumeMount {
                volume,
                target: target.to_string_lossy().into_owned(),
            });
        }
        mounts.sort_by_key(|mount| mount.target.len());
        Ok(mounts)
    }

    /// Gives a cache that is new to the image's user. One that belongs to somebody else than root
    /// was given before, and going through all of it again at every run would take long.
    pub(super) async fn give_caches(
        &self,
        container: &str,
        mounts: &[VolumeMount],
        user: &str,
    ) -> Result<(), NotGiven> {
        for mount in mounts {
            let root = ["find", &mount.target, "-maxdepth", "0", "-user", "0"];
            match aside::run(&self.engine, container, Some("0"), &root).await? {
                (Some(0), found) if found.trim().is_empty() => {}
                (Some(0), _) => {
                    aside::give(&self.engine, container, &mount.target, user, &[]).await?
                }
                (_, words) => return Err(NotGiven::refused(&words)),
            }
        }
        Ok(())
    }

    pub(super) async fn caches(&self) -> Result<Vec<CacheInfo>, ExecutorError> {
        Ok(self
            .cache_volumes()
            .await?
            .into_iter()
            .map(|(info, _)| info)
            .collect())
    }

    pub(super) async fn cache_sizes(&self) -> Result<Vec<(CacheInfo, u64)>, ExecutorError> {
        let volumes = self.cache_volumes().await?;
        if volumes.is_empty() {
            return Ok(Vec::new());
        }
        let sizes = self
            .engine
            .volume_sizes()
            .await
            .map_err(|error| fault("ask what caches take", &error))?;
        Ok(volumes
            .into_iter()
            .filter_map(|(info, volume)| Some((info, *sizes.get(&volume)?)))
            .collect())
    }

    /// The caches in order, each with its volume.
    async fn cache_volumes(&self) -> Result<Vec<(CacheInfo, String)>, ExecutorError> {
        let listed = self
            .engine
            .volumes(&self.instance_labels())
            .await
            .map_err(|error| fault("list the caches", &error))?;
        let label = |labels: &Labels, key: &str| {
            labels
                .iter()
                .find(|(k, _)| k == key)
                .map(|(_, value)| value.clone())
        };
        let info = |labels: &Labels| {
            Some(CacheInfo {
                repo: label(labels, REPO)?.parse().ok()?,
                name: label(labels, CACHE)?,
            })
        };
        let mut caches: Vec<_> = listed
            .into_iter()
            .filter_map(|volume| Some((info(&volume.labels)?, volume.name)))
            .collect();
        caches.sort();
        Ok(caches)
    }

    pub(super) async fn remove_cache(
        &self,
        repo: &RepoName,
        name: &str,
    ) -> Result<bool, ExecutorError> {
        let failed = |error| fault("remove the cache", &error);
        let own = self
            .engine
            .volumes(&self.cache_labels(repo, name))
            .await
            .map_err(failed)?;
        let mut removed = false;
        for volume in own {
            let Some(_going) = self.live.volume_goes(&volume.name) else {
                return Err(busy(repo, name));
            };
            match self.engine.remove_volume(&volume.name).await {
                Err(DockerError::Conflict { .. }) => return Err(busy(repo, name)),
                other => removed |= other.map_err(failed)?,
            }
        }
        Ok(removed)
    }

    /// In the order of keys.
    fn cache_labels(&self, repo: &RepoName, name: &str) -> Labels {
        let labels = [
            (CACHE, name),
            (INSTANCE, &self.config.instance),
            (REPO, repo.as_str()),
        ];
        labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec()
    }

    /// Another one for each cache of each repository of each appliance.
    fn volume_name(&self, repo: &RepoName, name: &str) -> String {
        let digest = Sha256::digest(format!("{repo}\n{name}"));
        let digits: String = digest
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("quire-{}-{digits}", self.config.instance)
    }
}
