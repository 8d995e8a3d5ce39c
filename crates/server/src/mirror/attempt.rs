//! One attempt to make a remote equal: read its refs, push what differs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpStream;

use super::attempt_error::AttemptError;
use super::settings::{MirrorSettings, MirrorTarget};
use crate::addresses::permitted;
use quire_git::{
    Git, KnownHostsFile, ObjectFormat, PushedRef, RefPush, RemoteAccess, RemoteError, RemoteLogin,
};
use quire_runtime::blocking::run_blocking;
use quire_store::{MirrorKey, MirrorRef, MirrorState, MirroredRef, Store};
use quire_types::failpoint;
use quire_types::git_remote_url::RemoteTransport;
use quire_types::names::{LANDING_REFS, ObjectId, RefName};
use quire_types::paths::Paths;
use quire_types::ssh_keys::host_key_fingerprint;

/// How long one address of several is waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How many refs that differ are read: all.
const ALL_REFS: u32 = u32::MAX;

/// What an attempt works with.
pub(super) struct MirrorAttempt<'a> {
    pub(super) store: &'a Store,
    pub(super) git: &'a Git,
    pub(super) paths: &'a Paths,
    pub(super) settings: &'a MirrorSettings,
    pub(super) target: &'a MirrorTarget,
    pub(super) state: &'a MirrorState,
    /// The refs that the remote has to have.
    pub(super) wanted: &'a [(RefName, ObjectId)],
    /// Whether refs that are not wanted are deleted.
    pub(super) delete: bool,
}

impl MirrorAttempt<'_> {
    /// Makes the remote equal, and records each step that has an effect there.
    pub(super) async fn run(&self) -> Result<(), AttemptError> {
        let key = self.state.key();
        let known_hosts = self.known_hosts().await?;
        let remote = self.access(known_hosts.as_ref()).await?;
        let repo = self.paths.repo(&key.repo);
        let first = self.wanted.first().map(|(_, id)| id);
        let format = first.map_or(ObjectFormat::Sha1, ObjectFormat::of);
        let found = self.git.remote_refs(&repo, format, &remote).await;
        self.pin_host_key(&key, known_hosts).await?;
        let mut found = found.map_err(|error| self.explained(error))?;
        found.retain(|(name, _)| is_mirrored(self.target, name));
        let differing = self.compared(&key, found).await?;
        if !differing.is_empty() {
            self.push(&key, &repo, (format, remote), &differing).await?;
        }
        let succeeded = move |store: &Store| store.mirrors().succeeded(&key);
        Ok(self.store.call(succeeded).await?)
    }

    /// Records what the remote has. Returns what differs.
    async fn compared(
        &self,
        key: &MirrorKey,
        found: Vec<(RefName, ObjectId)>,
    ) -> Result<Vec<MirrorRef>, AttemptError> {
        let (key, delete) = (key.clone(), self.delete);
        let record = move |store: &Store| {
            store.mirrors().compared(&key, &found, delete)?;
            store.mirrors().waiting_refs(&key, ALL_REFS)
        };
        Ok(self.store.call(record).await?)
    }

    async fn push(
        &self,
        key: &MirrorKey,
        repo: &std::path::Path,
        (format, mut remote): (ObjectFormat, RemoteAccess),
        differing: &[MirrorRef],
    ) -> Result<(), AttemptError> {
        // The key of the host is known by now.
        let known_hosts = self.known_hosts().await?;
        if let (
            Some(file),
            RemoteLogin::Key {
                known_hosts,
                accept_new,
                ..
            },
        ) = (&known_hosts, &mut remote.login)
        {
            file.path().clone_into(known_hosts);
            *accept_new = false;
        }
        let refs: Vec<RefPush> = differing
            .iter()
            .map(|differing| RefPush {
                ref_name: differing.ref_name.clone(),
                to: differing.wanted.clone(),
            })
            .collect();
        failpoint::hit("mirror-before-push");
        let force = self.target.force;
        let pushed = self
            .git
            .push_refs(repo, format, &remote, &refs, force)
            .await;
        failpoint::hit("mirror-pushed");
        let pushed = pushed.map_err(|error| self.explained(error))?;
        let results: Vec<MirroredRef> = refs
            .into_iter()
            .map(|push| result_of(push.ref_name, &pushed))
            .collect();
        let error = rejection(&results);
        let key = key.clone();
        let record = move |store: &Store| store.mirrors().pushed(&key, &results);
        self.store.call(record).await?;
        error.map_or(Ok(()), Err)
    }

    /// For SSH, a file with the host key that is known.
    async fn known_hosts(&self) -> Result<Option<KnownHostsFile>, AttemptError> {
        if self.target.url.transport() != RemoteTransport::Ssh {
            return Ok(None);
        }
        let key = self.state.key();
        let read = move |store: &Store| store.mirrors().host_key(&key);
        let host_key = self.store.call(read).await?;
        let make = move |git: &Git| git.known_hosts_file(host_key.as_deref());
        Ok(Some(self.git.call(make).await?))
    }

    /// Records the host key that was accepted, if none was known.
    async fn pin_host_key(
        &self,
        key: &MirrorKey,
        known_hosts: Option<KnownHostsFile>,
    ) -> Result<(), AttemptError> {
        let Some(file) = known_hosts else {
            return Ok(());
        };
        let key = key.clone();
        let pin = move |store: &Store| match (store.mirrors().host_key(&key)?, file.host_key()) {
            (None, Some(found)) => store.mirrors().set_host_key(&key, Some(&found)),
            _ => Ok(()),
        };
        Ok(self.store.call(pin).await?)
    }

    /// How the remote is reached.
    async fn access(
        &self,
        known_hosts: Option<&KnownHostsFile>,
    ) -> Result<RemoteAccess, AttemptError> {
        let url = &self.target.url;
        let allowed = &self.settings.allowed_networks;
        let addresses = permitted(url.host(), url.port(), allowed).await?;
        let (login, addresses) = match known_hosts {
            Some(file) => {
                let address = first_that_answers(addresses).await?;
                (self.key_login(file).await?, vec![address])
            }
            None => (self.token_login().await?, addresses),
        };
        let redactor = self.settings.redactor.clone();
        Ok(RemoteAccess {
            url: url.clone(),
            addresses: addresses.iter().map(SocketAddr::ip).collect(),
            login,
            redactor: run_blocking(move || redactor()).await?,
        })
    }

    async fn key_login(&self, known_hosts: &KnownHostsFile) -> Result<RemoteLogin, AttemptError> {
        let private_key: PathBuf = self.git.call(Git::remote_key).await?;
        Ok(RemoteLogin::Key {
            private_key,
            known_hosts: known_hosts.path().to_owned(),
            accept_new: known_hosts.host_key().is_none(),
        })
    }

    async fn token_login(&self) -> Result<RemoteLogin, AttemptError> {
        let Some((user, read)) = self.target.login.clone() else {
            let missing = "`token` is missing";
            return Err(AttemptError::Settings(missing.to_owned()));
        };
        let token = run_blocking(move || read()).await?;
        let token = token.map_err(AttemptError::Settings)?;
        if token.expose().contains(char::is_control) {
            let problem =
                "the value of the secret `token` has several lines or other control characters";
            return Err(AttemptError::Settings(problem.to_owned()));
        }
        Ok(RemoteLogin::Token { user, token })
    }

    fn explained(&self, error: RemoteError) -> AttemptError {
        let RemoteError::HostKeyChanged { found } = error else {
            return AttemptError::Remote(error);
        };
        let known = self
            .state
            .host_key
            .as_deref()
            .and_then(host_key_fingerprint);
        AttemptError::HostKeyChanged {
            authority: self.target.url.authority(),
            repo: self.state.repo.as_str().to_owned(),
            name: self.state.name.clone(),
            known: known.unwrap_or_else(|| "the known one".to_owned()),
            found,
        }
    }
}

/// Whether a ref is mirrored: hidden refs and those of commits that wait to land never are.
pub(super) fn is_mirrored(target: &MirrorTarget, name: &RefName) -> bool {
    let own = ["refs/quire/", LANDING_REFS];
    !own.iter().any(|own| name.as_str().starts_with(own)) && (target.covers)(name)
}

/// ssh tries one address only.
async fn first_that_answers(addresses: Vec<SocketAddr>) -> Result<SocketAddr, AttemptError> {
    let mut failed = None;
    if let [address] = addresses[..] {
        return Ok(address);
    }
    for address in addresses {
        let connecting = TcpStream::connect(address);
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
        match connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
            Ok(_) => return Ok(address),
            Err(source) => failed = Some(AttemptError::Connect { address, source }),
        }
    }
    Err(failed.unwrap_or_else(|| AttemptError::Settings("the host has no address".to_owned())))
}

/// What the other side said to a ref. No word is no success.
fn result_of(ref_name: RefName, pushed: &[PushedRef]) -> MirroredRef {
    let found = pushed.iter().find(|pushed| pushed.ref_name == ref_name);
    let silence = || Err("the other side said nothing about it".to_owned());
    MirroredRef {
        result: found.map_or_else(silence, |pushed| pushed.result.clone()),
        ref_name,
    }
}

/// The refs that were rejected, as one error.
fn rejection(results: &[MirroredRef]) -> Option<AttemptError> {
    let mut rejected = results
        .iter()
        .filter_map(|of| Some((of.ref_name.as_str(), of.result.as_ref().err()?)));
    let (name, problem) = rejected.next()?;
    Some(AttemptError::Rejected {
        first: format!("{name}: {problem}"),
        rejected: rejected.count() + 1,
        pushed: results.len(),
    })
}
