//! How a remote is reached: at which address, with which login, and whether its host key is the known one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpStream;

use super::attempt_error::AttemptError;
use super::settings::{MirrorOrigin, MirrorSettings};
use crate::addresses::permitted;
use crate::notify::SecretReader;
use quire_git::{Git, KnownHostsFile, RemoteAccess, RemoteError, RemoteLogin, RemoteRefs};
use quire_runtime::blocking::run_blocking;
use quire_store::{MirrorKey, Store, StoreError};
use quire_types::git_remote_url::{GitRemoteUrl, RemoteTransport};

/// How long one address of several is waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A remote, and what is known of it.
pub(super) struct RemoteAddress<'a> {
    pub(super) origin: MirrorOrigin,
    pub(super) url: &'a GitRemoteUrl,
    /// User and token for HTTPS.
    pub(super) login: Option<&'a (String, SecretReader)>,
    /// The type and the key, in base64, that the other side showed first.
    pub(super) host_key: Option<&'a str>,
}

/// A remote that may be connected to.
pub(super) struct RemoteConnection {
    pub(super) access: RemoteAccess,
    /// For SSH, a file with its host key.
    known_hosts: Option<KnownHostsFile>,
    is_host_known: bool,
}

impl RemoteConnection {
    /// Checks the address, and reads the login.
    pub(super) async fn open(
        git: &Git,
        settings: &MirrorSettings,
        remote: RemoteAddress<'_>,
    ) -> Result<Self, AttemptError> {
        let url = remote.url;
        let reachable = settings.reachable(remote.origin);
        let host = (url.host(), url.port());
        let addresses = permitted(host, reachable).await?;
        let host_key = remote.host_key.map(str::to_owned);
        let is_host_known = host_key.is_some();
        let (login, known_hosts, addresses) = match url.transport() {
            RemoteTransport::Ssh => {
                let file = git
                    .call(move |git| git.known_hosts_file(host_key.as_deref()))
                    .await?;
                let address = first_that_answers(addresses).await?;
                let login = key_login(git, &file, !is_host_known).await?;
                (login, Some(file), vec![address])
            }
            RemoteTransport::Https => (https_login(remote.login).await?, None, addresses),
        };
        let redactor = settings.redactor.clone();
        let access = RemoteAccess {
            url: url.clone(),
            addresses: addresses.iter().map(SocketAddr::ip).collect(),
            login,
            redactor: run_blocking(move || redactor()).await?,
        };
        Ok(Self {
            access,
            known_hosts,
            is_host_known,
        })
    }

    /// Reads the refs of the remote. Another host key than the one that it has now is not accepted later.
    pub(super) async fn refs(&mut self, git: &Git) -> Result<RemoteRefs, RemoteError> {
        let refs = git.remote_refs(&self.access).await;
        if let RemoteLogin::Key { accept_new, .. } = &mut self.access.login {
            *accept_new = false;
        }
        refs
    }

    /// Records the host key that was accepted, if none was known.
    pub(super) async fn record_host_key(
        &self,
        store: &Store,
        key: &MirrorKey,
    ) -> Result<(), StoreError> {
        let (Some(accepted), key) = (self.accepted_host_key(), key.clone()) else {
            return Ok(());
        };
        let record = move |store: &Store| store.mirrors().set_host_key(&key, Some(&accepted));
        store.call(record).await
    }

    /// The host key that was accepted because none was known.
    pub(super) fn accepted_host_key(&self) -> Option<String> {
        match self.is_host_known {
            true => None,
            false => self.known_hosts.as_ref()?.host_key(),
        }
    }
}

async fn key_login(
    git: &Git,
    known_hosts: &KnownHostsFile,
    accept_new: bool,
) -> Result<RemoteLogin, AttemptError> {
    let private_key: PathBuf = git.call(Git::remote_key).await?;
    Ok(RemoteLogin::Key {
        private_key,
        known_hosts: known_hosts.path().to_owned(),
        accept_new,
    })
}

async fn https_login(login: Option<&(String, SecretReader)>) -> Result<RemoteLogin, AttemptError> {
    let Some((user, read)) = login.cloned() else {
        return Ok(RemoteLogin::Anonymous);
    };
    let token = run_blocking(move || read()).await?;
    let token = token.map_err(AttemptError::Settings)?;
    if token.expose().contains(char::is_control) {
        let problem = "the value of the token has several lines or other control characters";
        return Err(AttemptError::Settings(problem.to_owned()));
    }
    Ok(RemoteLogin::Token { user, token })
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
