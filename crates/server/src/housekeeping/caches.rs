//! Removes caches: those that no run has used for long, then the least recently used ones until the others fit the
//! limit.

use std::sync::Arc;

use quire_executor::{CacheInfo, Executor, ExecutorError};
use quire_store::{CacheUse, StoreError};
use quire_types::clock::Millis;

use super::cleanup_pass::CleanupPass;
use super::error::HousekeepingError;

/// A cache of an executor, and when it was last used.
struct CacheCandidate {
    executor: Arc<dyn Executor>,
    info: CacheInfo,
    used_at: Millis,
    /// `None` if it is not known.
    bytes: Option<u64>,
}

impl CleanupPass<'_> {
    pub(super) async fn remove_caches(&mut self) -> Result<(), HousekeepingError> {
        let cutoff = self.cutoff;
        let budget = self.limits.caches;
        let is_old = |cache: &CacheCandidate| cutoff.is_some_and(|cutoff| cache.used_at < cutoff);
        let mut caches = self.list_caches().await?;
        if budget == 0 && !caches.iter().any(is_old) {
            return Ok(());
        }
        self.measure_caches(&mut caches).await;
        let mut total: u64 = caches.iter().filter_map(|cache| cache.bytes).sum();
        caches.sort_by_key(|cache| cache.used_at);
        for cache in &caches {
            // Removing a cache of unknown size would not count.
            let makes_room =
                budget > 0 && total > budget && cache.bytes.is_some_and(|bytes| bytes > 0);
            if (is_old(cache) || makes_room) && self.remove_cache(cache).await? {
                total = total.saturating_sub(cache.bytes.unwrap_or(0));
            }
        }
        Ok(())
    }

    /// Returns the caches of all executors.
    async fn list_caches(&mut self) -> Result<Vec<CacheCandidate>, StoreError> {
        let mut found = Vec::new();
        for executor in &self.deps.executors {
            let Some(cache_store) = executor.caches() else {
                continue;
            };
            let caches = match cache_store.list().await {
                Ok(caches) => caches,
                Err(error) => {
                    self.record_problem("cannot list caches", &error);
                    continue;
                }
            };
            let uses = self.update_cache_uses(executor.as_ref(), &caches).await?;
            found.extend(caches.into_iter().filter_map(|info| {
                let used = uses.iter().find(|used| is_use_of(used, &info))?;
                Some(CacheCandidate {
                    executor: Arc::clone(executor),
                    info,
                    used_at: used.used_at,
                    bytes: None,
                })
            }));
        }
        Ok(found)
    }

    /// Makes the rows of an executor's caches match the caches that exist, and returns them.
    async fn update_cache_uses(
        &self,
        executor: &dyn Executor,
        existing: &[CacheInfo],
    ) -> Result<Vec<CacheUse>, StoreError> {
        let name = executor.name().clone();
        let existing = existing.to_vec();
        self.call(move |store| {
            let mut known = store.caches().list()?;
            known.retain(|used| used.executor == name);
            for used in &known {
                if !existing.iter().any(|cache| is_use_of(used, cache)) {
                    store.caches().forget(&name, &used.repo, &used.name)?;
                }
            }
            // A cache whose use was never recorded counts as used now.
            for cache in &existing {
                if !known.iter().any(|used| is_use_of(used, cache)) {
                    let names = std::slice::from_ref(&cache.name);
                    store.caches().record_use(&name, &cache.repo, names)?;
                }
            }
            let mut uses = store.caches().list()?;
            uses.retain(|used| used.executor == name);
            Ok(uses)
        })
        .await
    }

    async fn measure_caches(&mut self, caches: &mut [CacheCandidate]) {
        for executor in &self.deps.executors {
            let Some(cache_store) = executor.caches() else {
                continue;
            };
            let is_own = |cache: &CacheCandidate| cache.executor.name() == executor.name();
            if !caches.iter().any(is_own) {
                continue;
            }
            match cache_store.sizes().await {
                Ok(sizes) => {
                    for cache in caches.iter_mut().filter(|cache| is_own(cache)) {
                        cache.bytes = sizes
                            .iter()
                            .find(|(info, _)| *info == cache.info)
                            .map(|(_, bytes)| *bytes);
                    }
                }
                Err(error) => self.record_problem("cannot measure caches", &error),
            }
        }
    }

    /// Removes a cache, then its row. Returns false if the cache stays, for example because a run uses it.
    async fn remove_cache(&mut self, cache: &CacheCandidate) -> Result<bool, StoreError> {
        let CacheInfo { repo, name, .. } = &cache.info;
        let Some(cache_store) = cache.executor.caches() else {
            return Ok(false);
        };
        match cache_store.remove(repo, name).await {
            Ok(existed) => {
                tracing::info!(%repo, cache = name, "removed a cache that was too old or over the size limit");
                self.freed.caches += u64::from(existed);
                self.freed.bytes += cache.bytes.unwrap_or(0);
            }
            Err(ExecutorError::CacheInUse { .. }) => return Ok(false),
            Err(error) => {
                self.record_problem(&format!("cannot remove the cache {name} of {repo}"), &error);
                return Ok(false);
            }
        }
        quire_types::failpoint::hit("housekeeping-cache-gone");
        let executor = cache.executor.name().clone();
        let repo = repo.clone();
        let name = name.clone();
        self.call(move |store| store.caches().forget(&executor, &repo, &name))
            .await?;
        Ok(true)
    }
}

fn is_use_of(used: &CacheUse, cache: &CacheInfo) -> bool {
    used.repo == cache.repo && used.name == cache.name
}
