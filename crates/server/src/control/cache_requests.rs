//! The server's side of listing and removing caches: only the server reaches the executors that hold them.

use std::sync::Arc;

use super::protocol::CacheEntry;
use quire_executor::{CacheInfo, Executor, ExecutorError};
use quire_store::{CacheUse, Store};
use quire_types::names::RepoName;

/// Returns the caches of one repository or of all, from all executors.
///
/// Fails only if the executor of new runs fails: an engine that is unreachable must not hide the
/// caches on the disk of a user who never uses that engine.
async fn list(
    executors: &[Arc<dyn Executor>],
    repo: Option<&RepoName>,
) -> Result<Vec<CacheEntry>, ExecutorError> {
    let mut caches = Vec::new();
    for (position, executor) in executors.iter().enumerate() {
        let Some(store) = executor.caches() else {
            continue;
        };
        match store.list().await {
            Ok(found) => {
                let own = found
                    .into_iter()
                    .filter(|cache| repo.is_none_or(|repo| cache.repo == *repo));
                let entry = |cache: CacheInfo| CacheEntry {
                    repo: cache.repo,
                    name: cache.name,
                    executor: executor.name().clone(),
                    bytes: None,
                    used_at_ms: None,
                    volume: None,
                    node: None,
                };
                caches.extend(own.map(entry));
            }
            // The first executor executes new runs; the others only hold caches of earlier ones.
            Err(error) if position > 0 => {
                tracing::debug!(%error, "cannot list the caches of an executor that executes no new runs")
            }
            Err(error) => return Err(error),
        }
    }
    caches.sort_by(|a, b| (&a.repo, &a.name).cmp(&(&b.repo, &b.name)));
    Ok(caches)
}

/// Returns the same with size and last use, as far as they are known.
pub(super) async fn list_with_usage(
    store: &Store,
    executors: &[Arc<dyn Executor>],
    repo: Option<&RepoName>,
) -> Result<Vec<CacheEntry>, ExecutorError> {
    let mut caches = list(executors, repo).await?;
    let uses = uses(store).await;
    for executor in executors {
        let name = executor.name();
        let Some(store) = executor.caches() else {
            continue;
        };
        if !caches.iter().any(|cache| cache.executor == *name) {
            continue;
        }
        let sizes = store.sizes().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read the sizes of caches");
            Vec::new()
        });
        for cache in caches.iter_mut().filter(|cache| cache.executor == *name) {
            let size = sizes
                .iter()
                .find(|(info, _)| info.repo == cache.repo && info.name == cache.name);
            cache.bytes = size.map(|(_, bytes)| *bytes);
            let used = uses.iter().find(|used| {
                used.executor == *name && used.repo == cache.repo && used.name == cache.name
            });
            cache.used_at_ms = used.map(|used| used.used_at);
        }
    }
    caches.extend(remote(executors, &uses, repo));
    caches.sort_by(|a, b| (&a.repo, &a.name).cmp(&(&b.repo, &b.name)));
    Ok(caches)
}

async fn uses(store: &Store) -> Vec<CacheUse> {
    let listed = store.call(|store| store.caches().list()).await;
    listed.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot read when caches were last used");
        Vec::new()
    })
}

/// The caches on machines that cannot be asked, as far as runs are known to have used them.
fn remote(
    executors: &[Arc<dyn Executor>],
    uses: &[CacheUse],
    repo: Option<&RepoName>,
) -> Vec<CacheEntry> {
    let uses = uses
        .iter()
        .filter(|used| repo.is_none_or(|repo| used.repo == *repo));
    let entry = |used: &CacheUse| {
        let mut executors = executors.iter();
        let executor = executors.find(|executor| *executor.name() == used.executor)?;
        let remote = executor.remote_cache(&used.repo, &used.name)?;
        Some(CacheEntry {
            repo: used.repo.clone(),
            name: used.name.clone(),
            executor: used.executor.clone(),
            bytes: None,
            used_at_ms: Some(used.used_at),
            volume: Some(remote.volume),
            node: remote.machine,
        })
    };
    uses.filter_map(entry).collect()
}

/// Removes all caches of a repository, or the one with this name. Returns those that were removed, and with their volumes
/// those on machines that cannot be asked: a person removes them, and they are not listed any more until a run uses
/// them again.
pub(super) async fn clear(
    store: &Store,
    executors: &[Arc<dyn Executor>],
    repo: &RepoName,
    name: Option<&str>,
) -> Result<Vec<CacheEntry>, ExecutorError> {
    let mut removed = Vec::new();
    let mut failed = None;
    for cache in list(executors, Some(repo))
        .await?
        .into_iter()
        .filter(|cache| name.is_none_or(|name| cache.name == name))
    {
        let stores = executors
            .iter()
            .filter(|executor| *executor.name() == cache.executor)
            .filter_map(|executor| executor.caches());
        for cache_store in stores {
            match cache_store.remove(repo, &cache.name).await {
                Ok(true) => removed.push(cache.clone()),
                Ok(false) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
    }
    // The others stay listed: an error does not name them.
    if let Some(error) = failed {
        return Err(error);
    }
    let mut remote = remote(executors, &uses(store).await, Some(repo));
    remote.retain(|cache| name.is_none_or(|name| cache.name == name));
    for cache in &remote {
        let cache = cache.clone();
        let forgotten = store.call(move |store| {
            store
                .caches()
                .forget(&cache.executor, &cache.repo, &cache.name)
        });
        if let Err(error) = forgotten.await {
            tracing::warn!(%error, "cannot forget a cache");
        }
    }
    removed.extend(remote);
    Ok(removed)
}
