//! Listing mirrors, and pushing to them now. Only the server connects to remotes.

use super::access::Forge;
use super::error::ForgeError;
use super::operation_log::recorded;
use super::repos;
use crate::control::client;
use crate::control::protocol::MirrorSyncResult;
use quire_git::Git;
use quire_store::{MirrorRef, MirrorState, Store, StoreError};
use quire_types::failpoint;
use quire_types::names::RepoName;
use quire_types::operation::Operation;
use quire_types::ssh_keys::host_key_fingerprint;

/// How many refs that differ are listed for each mirror.
pub const MAX_LISTED_REFS: u32 = 100;

/// A mirror with the refs that differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedMirror {
    pub state: MirrorState,
    /// The fingerprint of the known host key.
    pub host_key: Option<String>,
    /// At most [`MAX_LISTED_REFS`], by name.
    pub differing: Vec<MirrorRef>,
}

/// Returns the mirrors of a repository, or all, of the configuration in force.
pub fn list(forge: &Forge, repo: Option<&RepoName>) -> Result<Vec<ListedMirror>, ForgeError> {
    Ok(list_in(&forge.store()?, repo)?)
}

/// The same from an open database.
pub fn list_in(store: &Store, repo: Option<&RepoName>) -> Result<Vec<ListedMirror>, StoreError> {
    let listed = |state: MirrorState| {
        let key = state.key();
        let differing = store.mirrors().waiting_refs(&key, MAX_LISTED_REFS)?;
        let host_key = state.host_key.as_deref().and_then(host_key_fingerprint);
        Ok(ListedMirror {
            state,
            host_key,
            differing,
        })
    };
    let states = store.mirrors().list(repo)?;
    states.into_iter().map(listed).collect()
}

/// Pushes a repository to one of its mirrors, or to all. Returns once that has ended.
pub fn sync(
    forge: &Forge,
    repo: &RepoName,
    name: Option<&str>,
    new_host_key: bool,
) -> Result<Vec<MirrorSyncResult>, ForgeError> {
    let operation = Operation::MirrorSync {
        repo: repo.clone(),
        name: name.map(str::to_owned),
        new_host_key,
    };
    let name = name.map(str::to_owned);
    recorded(forge, operation, |_| {
        Ok(client::sync_mirrors(
            &forge.paths,
            repo.clone(),
            name,
            new_host_key,
        )?)
    })
}

/// Makes a repository that follows another one an ordinary one. Returns what it followed.
pub fn stop(forge: &Forge, repo: &RepoName) -> Result<String, ForgeError> {
    let repo = repos::existing(forge, repo)?;
    let store = forge.store()?;
    let mirror = store.pull_mirrors().find(&repo)?;
    let marked = forge.git.mirrored_from(&repo)?;
    let url = marked.or_else(|| mirror.as_ref().map(|mirror| mirror.url.clone()));
    let url = url.ok_or_else(|| ForgeError::NoPullMirror(repo.clone()))?;
    let operation = Operation::MirrorStop {
        repo: repo.clone(),
        url: url.clone(),
    };
    recorded(forge, operation, |_| {
        // A row without its mark counts as none.
        forge.git.remove_mirror_mark(&repo)?;
        failpoint::hit("mirror-unmarked");
        if let Some(mirror) = mirror {
            store.pull_mirrors().remove(&mirror)?;
        }
        Ok(())
    })?;
    Ok(url)
}

/// The public key by which remotes over SSH know this appliance, as a line of `authorized_keys`.
pub fn key(forge: &Forge) -> Result<String, ForgeError> {
    Ok(Git::new(&forge.paths).remote_public_key()?)
}
