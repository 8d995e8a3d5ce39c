//! Caches, for commands that ask on the event socket: they reach no engine themselves.

use std::sync::Arc;

use crate::executor::{CacheInfo, Executor, ExecutorError};
use crate::names::RepoName;
use crate::run::event::{AnsweredCache, SocketAnswer};
use crate::store::Store;

/// The caches of all executors, or of one repository in them.
///
/// An executor that cannot say is an error, but only where it has to be asked: an engine that is
/// away does not hide what is on the disk of one who never uses it.
pub(super) async fn list(
    executors: &[Arc<dyn Executor>],
    repo: Option<&RepoName>,
) -> Result<Vec<AnsweredCache>, ExecutorError> {
    let mut caches = Vec::new();
    for (place, executor) in executors.iter().enumerate() {
        match executor.caches().await {
            Ok(found) => {
                let own = found
                    .into_iter()
                    .filter(|cache| repo.is_none_or(|repo| cache.repo == *repo));
                let answered = |cache: CacheInfo| AnsweredCache {
                    repo: cache.repo,
                    name: cache.name,
                    executor: executor.kind(),
                    bytes: None,
                    used_at_ms: None,
                };
                caches.extend(own.map(answered));
            }
            // The first one runs new runs; of the others only what they left is of interest.
            Err(error) if place > 0 => {
                tracing::debug!(%error, "the caches of an executor that is not used cannot be listed")
            }
            Err(error) => return Err(error),
        }
    }
    caches.sort_by(|a, b| (&a.repo, &a.name).cmp(&(&b.repo, &b.name)));
    Ok(caches)
}

/// The same with what each takes and when it was last used, as far as that can be known.
pub(super) async fn list_in_full(
    store: &Store,
    executors: &[Arc<dyn Executor>],
    repo: Option<&RepoName>,
) -> Result<Vec<AnsweredCache>, ExecutorError> {
    let mut caches = list(executors, repo).await?;
    let uses = store.call(Store::cache_uses).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "when caches were used cannot be read");
        Vec::new()
    });
    for executor in executors {
        let kind = executor.kind();
        if !caches.iter().any(|cache| cache.executor == kind) {
            continue;
        }
        let sizes = executor.cache_sizes().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "what caches take cannot be asked");
            Vec::new()
        });
        for cache in caches.iter_mut().filter(|cache| cache.executor == kind) {
            let size = sizes
                .iter()
                .find(|(info, _)| info.repo == cache.repo && info.name == cache.name);
            cache.bytes = size.map(|(_, bytes)| *bytes);
            let used = uses.iter().find(|used| {
                used.executor == kind && used.repo == cache.repo && used.name == cache.name
            });
            cache.used_at_ms = used.map(|used| used.used_at);
        }
    }
    Ok(caches)
}

/// Removes the caches of a repository, or one of them; gives those that were there.
pub(super) async fn clear(
    executors: &[Arc<dyn Executor>],
    repo: &RepoName,
    name: Option<&str>,
) -> Result<Vec<AnsweredCache>, ExecutorError> {
    let mut removed = Vec::new();
    let mut failed = None;
    for cache in list(executors, Some(repo))
        .await?
        .into_iter()
        .filter(|cache| name.is_none_or(|name| cache.name == name))
    {
        for executor in executors
            .iter()
            .filter(|executor| executor.kind() == cache.executor)
        {
            match executor.remove_cache(repo, &cache.name).await {
                Ok(true) => removed.push(cache.clone()),
                Ok(false) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
    }
    failed.map_or(Ok(removed), Err)
}

/// What is said to who asked.
pub(super) fn answer(done: Result<Vec<AnsweredCache>, ExecutorError>) -> SocketAnswer {
    done.map_or_else(
        |error| SocketAnswer::Error {
            message: error.to_string(),
        },
        |caches| SocketAnswer::Caches { caches },
    )
}
