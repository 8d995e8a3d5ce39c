//! Caches: those that no run has had for long, then the least recently used ones until the rest fits.

use std::sync::Arc;

use super::{Housekeeping, HousekeepingError, put_off};
use crate::clock::Millis;
use crate::executor::{CacheInfo, Executor, ExecutorError};
use crate::run::event::Freed;
use crate::store::StoreError;

/// A cache that there is.
struct Cache {
    executor: Arc<dyn Executor>,
    info: CacheInfo,
    used_at: Millis,
    /// What it takes, where that is known.
    bytes: Option<u64>,
}

impl Housekeeping {
    /// `cutoff`: what was last used before goes. `budget`: what all caches may take; 0 is no limit.
    pub(super) async fn remove_caches(
        &self,
        cutoff: Option<Millis>,
        budget: u64,
        freed: &mut Freed,
    ) -> Result<(), HousekeepingError> {
        let mut caches = self.known_caches(freed).await?;
        let is_old = |cache: &Cache| cutoff.is_some_and(|cutoff| cache.used_at < cutoff);
        if budget == 0 && !caches.iter().any(is_old) {
            return Ok(());
        }
        self.measure(&mut caches, freed).await;
        let mut total: u64 = caches.iter().filter_map(|cache| cache.bytes).sum();
        caches.sort_by_key(|cache| cache.used_at);
        for cache in &caches {
            // One of unknown size makes no room.
            let makes_room =
                budget > 0 && total > budget && cache.bytes.is_some_and(|bytes| bytes > 0);
            if (is_old(cache) || makes_room) && self.remove_cache(cache, freed).await? {
                total = total.saturating_sub(cache.bytes.unwrap_or(0));
            }
        }
        Ok(())
    }

    /// The caches of all executors with their last uses. Uses of caches that are gone are forgotten.
    async fn known_caches(&self, freed: &mut Freed) -> Result<Vec<Cache>, StoreError> {
        let mut found = Vec::new();
        for executor in &self.0.executors {
            let kind = executor.kind();
            let caches = match executor.caches().await {
                Ok(caches) => caches,
                Err(error) => {
                    put_off("caches", &error, freed);
                    continue;
                }
            };
            let there = caches.clone();
            let uses = self.0.store.call(move |store| {
                let known = store.cache_uses()?;
                let known = || known.iter().filter(|used| used.executor == kind);
                for used in known().filter(|used| {
                    !there
                        .iter()
                        .any(|cache| cache.repo == used.repo && cache.name == used.name)
                }) {
                    store.forget_cache(kind, &used.repo, &used.name)?;
                }
                // One that no run has noted counts as used now.
                for cache in there.iter().filter(|cache| {
                    !known().any(|used| cache.repo == used.repo && cache.name == used.name)
                }) {
                    store.caches_used(kind, &cache.repo, std::slice::from_ref(&cache.name))?;
                }
                store.cache_uses()
            });
            let uses = uses.await?;
            found.extend(caches.into_iter().filter_map(|info| {
                let used = uses.iter().find(|used| {
                    used.executor == kind && used.repo == info.repo && used.name == info.name
                })?;
                Some(Cache {
                    executor: Arc::clone(executor),
                    info,
                    used_at: used.used_at,
                    bytes: None,
                })
            }));
        }
        Ok(found)
    }

    async fn measure(&self, caches: &mut [Cache], freed: &mut Freed) {
        for executor in &self.0.executors {
            let own = |cache: &&mut Cache| cache.executor.kind() == executor.kind();
            if !caches.iter_mut().any(|cache| own(&cache)) {
                continue;
            }
            match executor.cache_sizes().await {
                Ok(sizes) => {
                    for cache in caches.iter_mut().filter(own) {
                        cache.bytes = sizes
                            .iter()
                            .find(|(info, _)| *info == cache.info)
                            .map(|(_, bytes)| *bytes);
                    }
                }
                Err(error) => put_off("the sizes of caches", &error, freed),
            }
        }
    }

    /// First the cache, then its row. False where it stays: a run has it.
    async fn remove_cache(&self, cache: &Cache, freed: &mut Freed) -> Result<bool, StoreError> {
        let Cache {
            executor,
            info,
            bytes,
            ..
        } = cache;
        match executor.remove_cache(&info.repo, &info.name).await {
            Ok(was_there) => {
                tracing::info!(repo = %info.repo, cache = info.name, "removed a cache that was not used for long, or one too many");
                freed.caches += u64::from(was_there);
                freed.bytes += bytes.unwrap_or(0);
            }
            Err(ExecutorError::Busy(_)) => return Ok(false),
            Err(error) => {
                put_off(
                    &format!("the cache {} of {}", info.name, info.repo),
                    &error,
                    freed,
                );
                return Ok(false);
            }
        }
        crate::fault::point("housekeeping-cache-gone");
        let (kind, info) = (executor.kind(), info.clone());
        self.0
            .store
            .call(move |store| store.forget_cache(kind, &info.repo, &info.name))
            .await?;
        Ok(true)
    }
}
