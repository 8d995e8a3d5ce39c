//! Caches, for commands that ask on the event socket: they reach no engine themselves.

use std::sync::Arc;

use crate::executor::{Executor, ExecutorError};
use crate::names::RepoName;
use crate::run::event::{AnsweredCache, SocketAnswer};

/// The caches of all executors, or of one repository in them.
///
/// An executor that cannot say is an error, but only where it has to be asked: an engine that is
/// away does not hide what is on the disk of one who never uses it.
pub(super) async fn list(executors: &[Arc<dyn Executor>], repo: Option<&RepoName>) -> Result<Vec<AnsweredCache>, ExecutorError> {
    let mut caches = Vec::new();
    for (place, executor) in executors.iter().enumerate() {
        match executor.caches().await {
            Ok(found) => {
                let own = found.into_iter().filter(|cache| repo.is_none_or(|repo| cache.repo == *repo));
                caches.extend(own.map(|cache| AnsweredCache { repo: cache.repo, name: cache.name, executor: executor.kind() }));
            }
            // The first one runs new runs; of the others only what they left is of interest.
            Err(error) if place > 0 => tracing::debug!(%error, "the caches of an executor that is not used cannot be listed"),
            Err(error) => return Err(error),
        }
    }
    caches.sort_by(|a, b| (&a.repo, &a.name).cmp(&(&b.repo, &b.name)));
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
    for cache in list(executors, Some(repo)).await?.into_iter().filter(|cache| name.is_none_or(|name| cache.name == name)) {
        for executor in executors.iter().filter(|executor| executor.kind() == cache.executor) {
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
    done.map_or_else(|error| SocketAnswer::Error { message: error.to_string() }, |caches| SocketAnswer::Caches { caches })
}
