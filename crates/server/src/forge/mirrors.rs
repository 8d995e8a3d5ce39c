//! Listing mirrors, changing them, and pushing to them now. Only the server connects to remotes.

use std::time::Duration;

use super::access::Forge;
use super::error::ForgeError;
use super::operation_log::recorded;
use super::repos;
use crate::control::client;
use crate::control::protocol::MirrorSyncResult;
use quire_git::Git;
use quire_store::{MirrorRef, MirrorState, PullMirror, Store, StoreError};
use quire_types::failpoint;
use quire_types::git_remote_url::{GitRemoteUrl, RemoteTransport};
use quire_types::names::RepoName;
use quire_types::operation::{Operation, PullSettings};
use quire_types::ssh_keys::host_key_fingerprint;

/// How many refs that differ are listed for each mirror.
pub const MAX_LISTED_REFS: u32 = 100;

/// The user of a token, unless another one is named. Servers that know a user by the token accept any.
const DEFAULT_USER: &str = "git";

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

/// What is changed of a pull mirror; `None` leaves a value as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MirrorChange {
    pub every: Option<Duration>,
    /// The secret that is the token; `Some(None)` for none.
    pub secret: Option<Option<String>>,
    /// The user of the token.
    pub user: Option<String>,
    pub has_runs: Option<bool>,
}

impl MirrorChange {
    /// The settings of a mirror after the change.
    fn of(&self, before: &PullMirror) -> PullMirror {
        let (user, secret) = before.login.clone().unzip();
        let secret = self.secret.clone().unwrap_or(secret);
        let user = self.user.clone().or(user);
        PullMirror {
            login: secret.map(|secret| (user.unwrap_or_else(|| DEFAULT_USER.to_owned()), secret)),
            every: self.every.unwrap_or(before.every),
            has_runs: self.has_runs.unwrap_or(before.has_runs),
            ..before.clone()
        }
    }
}

/// Changes how a repository follows another one. Returns how it follows it now.
pub fn set(
    forge: &Forge,
    repo: &RepoName,
    change: &MirrorChange,
) -> Result<PullMirror, ForgeError> {
    let before = followed(forge, repo)?;
    set_to(forge, change.of(&before), &before)
}

/// Sets a mirror back to how it was, if it is still as it was set.
pub(super) fn set_back(
    forge: &Forge,
    repo: &RepoName,
    before: &PullSettings,
    after: &PullSettings,
) -> Result<bool, ForgeError> {
    let now = followed(forge, repo)?;
    if settings(&now) != *after {
        return Ok(false);
    }
    let new = PullMirror {
        login: before.user.clone().zip(before.secret.clone()),
        every: Duration::from_millis(before.every_ms),
        has_runs: before.runs,
        ..now.clone()
    };
    set_to(forge, new, &now).map(|_| true)
}

/// The mirror that a repository is.
fn followed(forge: &Forge, repo: &RepoName) -> Result<PullMirror, ForgeError> {
    let repo = repos::existing(forge, repo)?;
    let found = forge.store()?.pull_mirrors().find(&repo)?;
    // A row without its mark counts as none.
    let is_marked = forge.git.mirrored_from(&repo)?.is_some();
    found
        .filter(|_| is_marked)
        .ok_or(ForgeError::NoPullMirror(repo))
}

fn set_to(forge: &Forge, new: PullMirror, before: &PullMirror) -> Result<PullMirror, ForgeError> {
    let url: Option<GitRemoteUrl> = new.url.parse().ok();
    let is_ssh = url.is_some_and(|url| url.transport() == RemoteTransport::Ssh);
    if new.login.is_some() && is_ssh {
        return Err(ForgeError::SecretForSsh);
    }
    if new == *before {
        return Ok(new);
    }
    let operation = Operation::MirrorSet {
        repo: new.repo.clone(),
        before: settings(before),
        after: settings(&new),
    };
    recorded(forge, operation, |_| {
        match forge.store()?.pull_mirrors().change(&new)? {
            true => Ok(()),
            false => Err(ForgeError::NoPullMirror(new.repo.clone())),
        }
    })?;
    forge.notifier.notify(&[]);
    Ok(new)
}

/// What the log of operations has of a mirror.
fn settings(mirror: &PullMirror) -> PullSettings {
    let (user, secret) = mirror.login.clone().unzip();
    PullSettings {
        every_ms: u64::try_from(mirror.every.as_millis()).unwrap_or(u64::MAX),
        user,
        secret,
        runs: mirror.has_runs,
    }
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
