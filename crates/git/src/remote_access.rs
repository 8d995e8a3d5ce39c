//! How a remote on another machine is reached.

use std::net::IpAddr;
use std::path::PathBuf;

use super::remote_output::LoginKind;
use quire_types::git_remote_url::GitRemoteUrl;
use quire_types::secret::{Redactor, Secret};

/// A remote and how it is reached.
#[derive(Debug, Clone)]
pub struct RemoteAccess {
    pub url: GitRemoteUrl,
    /// Addresses of the host that may be connected to, at least one.
    pub addresses: Vec<IpAddr>,
    pub login: RemoteLogin,
    /// Takes secrets out of what the remote says.
    pub redactor: Redactor,
}

/// Who quire is to a remote.
#[derive(Debug, Clone)]
pub enum RemoteLogin {
    /// No login: what everyone may read over HTTPS.
    Anonymous,
    Token {
        user: String,
        token: Secret,
    },
    Key {
        private_key: PathBuf,
        /// A file of known hosts, of which only the key of this remote is read.
        known_hosts: PathBuf,
        /// Whether a key is accepted, and written to the file, if the file has none.
        accept_new: bool,
    },
}

impl RemoteLogin {
    pub(super) fn kind(&self) -> LoginKind {
        match self {
            Self::Anonymous => LoginKind::Anonymous,
            Self::Token { .. } => LoginKind::Token,
            Self::Key { .. } => LoginKind::Key,
        }
    }
}
