//! Listing and removing the caches of runs, which the running server does.

use std::time::Duration;

use super::access::Forge;
use super::error::ForgeError;
use super::operation_log::recorded;
use crate::control::client;
use crate::control::protocol::CacheEntry;
use quire_types::names::RepoName;
use quire_types::operation::Operation;

/// How long the server may take to remove the caches of a removed repository.
const REPO_REMOVAL_TIMEOUT: Duration = Duration::from_secs(20);

/// Returns the caches of one repository or of all, with size and last use as far as they are known.
pub fn list(forge: &Forge, repo: Option<&RepoName>) -> Result<Vec<CacheEntry>, ForgeError> {
    let repo = repo.map(|repo| forge.git.resolve(repo));
    Ok(client::caches(&forge.paths, repo)?)
}

/// Removes all caches of a repository, or the one with this name. Returns those that were removed, and with their volumes
/// those that a person has to remove on nodes of a swarm.
pub fn clear(
    forge: &Forge,
    repo: &RepoName,
    name: Option<&str>,
) -> Result<Vec<CacheEntry>, ForgeError> {
    let current = forge.git.resolve(repo);
    let operation = Operation::CacheClear {
        repo: current.clone(),
        name: name.map(str::to_owned),
    };
    recorded(forge, operation, |_| {
        let name = name.map(str::to_owned);
        let removed =
            client::clear_caches(&forge.paths, current, name.clone(), client::CACHES_TIMEOUT)?;
        match name {
            Some(name) if removed.is_empty() => Err(ForgeError::NoCache {
                repo: repo.clone(),
                name,
            }),
            _ => Ok(removed),
        }
    })
}

/// Removes the caches of a repository that was removed. The server also does this by itself, so a failure only delays
/// it.
pub(super) fn clear_after_removal(forge: &Forge, repo: &RepoName) {
    let _ = client::clear_caches(&forge.paths, repo.clone(), None, REPO_REMOVAL_TIMEOUT);
}
