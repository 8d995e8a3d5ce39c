//! What the key of a session may do. This is the one border: `quire exec` asks here before it runs anything.
//!
//! The key is looked up at each session, because a connection outlives the removal, the expiry and the change of its key,
//! and further sessions can be opened on it. What is not allowed explicitly to a key with limits is denied.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use super::command::{GitService, LfsOperation, SshCommand};
use quire_git::Git;
use quire_types::clock::Clock;
use quire_types::names::RepoName;
use quire_types::paths::Paths;
use quire_types::ssh_keys::{self, AuthorizedKeys, KeyDenied, KeyLimits, SessionKey};
use quire_types::text::single_line;

/// Who opened a session, and what the key allows.
#[derive(Debug, Clone, Default)]
pub struct SessionAccess {
    /// The key, if sshd reports it.
    pub key: Option<SessionKey>,
    /// What it may do.
    pub limits: KeyLimits,
}

/// Why a session may not do what it asks for.
#[derive(Debug, thiserror::Error)]
pub enum AccessDenied {
    /// The files of the key or of all keys cannot be read.
    #[error("the key of this connection could not be checked, so nothing was done")]
    Unreadable(#[source] io::Error),
    /// sshd does not say which key it was, and there are keys with limits.
    #[error(
        "sshd did not report the key of this connection, and some keys have limits, so nothing was done"
    )]
    Unidentified,
    /// The connection is older than the end of its key.
    #[error("the key of this connection may not connect any more")]
    Ended,
    /// The key does not allow it.
    #[error("the key `{name}` may {limits}")]
    Limited {
        /// The name of the key.
        name: String,
        /// What it may do.
        limits: KeyLimits,
    },
}

impl SessionAccess {
    /// Asks which key opened this session, and whether it may connect now.
    ///
    /// # Errors
    /// It may not, or that cannot be told.
    pub fn of_session(paths: &Paths) -> Result<Self, AccessDenied> {
        let text = ssh_keys::read(paths).map_err(AccessDenied::Unreadable)?;
        let keys = AuthorizedKeys::parse(&text);
        let info = match std::env::var_os("SSH_USER_AUTH") {
            Some(path) => std::fs::read_to_string(path).map_err(AccessDenied::Unreadable)?,
            None => String::new(),
        };
        let Some(session) = ssh_keys::session_key(&info, &text) else {
            return if keys.has_limited() {
                Err(AccessDenied::Unidentified)
            } else {
                Ok(Self::default())
            };
        };
        let now = Clock::system().now();
        let limits = keys
            .admit(
                &session.key.fingerprint,
                session.certificate.as_deref(),
                client_address(),
                now,
            )
            .map_err(|_: KeyDenied| AccessDenied::Ended)?
            .clone();
        ssh_keys::record_use(paths, &session.key.fingerprint, now);
        Ok(Self {
            key: Some(session),
            limits,
        })
    }

    /// Checks whether the session may run a command.
    ///
    /// # Errors
    /// The limits of its key do not allow it.
    pub fn check(&self, git: &Git, command: &SshCommand) -> Result<(), AccessDenied> {
        let is_allowed = self.limits.is_full()
            || match command {
                SshCommand::Greeting => true,
                SshCommand::Transport(GitService::UploadPack | GitService::UploadArchive, repo)
                | SshCommand::Lfs(LfsOperation::Download, repo) => self.reaches(git, repo),
                SshCommand::Transport(GitService::ReceivePack, repo)
                | SshCommand::Lfs(LfsOperation::Upload, repo) => {
                    !self.limits.read_only && self.reaches(git, repo)
                }
                SshCommand::Manage(_) => false,
            };
        if is_allowed {
            return Ok(());
        }
        let name = self.key.as_ref().map(|session| session.key.name.as_str());
        Err(AccessDenied::Limited {
            name: single_line(name.unwrap_or("(unknown key)")),
            limits: self.limits.clone(),
        })
    }

    /// Whether a repository is one of the key's, also under a former or a newer name.
    fn reaches(&self, git: &Git, repo: &RepoName) -> bool {
        let repos = &self.limits.repos;
        repos.is_empty() || {
            let current = git.resolve(repo);
            repos.iter().any(|own| git.resolve(own) == current)
        }
    }
}

/// The address of the client. One that no list of addresses admits if sshd does not report it.
fn client_address() -> IpAddr {
    let connection = std::env::var("SSH_CONNECTION").unwrap_or_default();
    let address = connection.split(' ').next().unwrap_or_default();
    // Link-local addresses have their interface behind a percent sign.
    let address = address.split('%').next().unwrap_or_default();
    address.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::command::parse;

    #[test]
    fn a_key_with_limits_may_do_what_they_name_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let git = Git::new(&Paths::new(folder.path(), folder.path()));
        let access = |read_only, repos: &[&str]| SessionAccess {
            key: None,
            limits: KeyLimits {
                read_only,
                repos: repos.iter().map(|name| name.parse().unwrap()).collect(),
            },
        };
        let full = access(false, &[]);
        let [read, of_app, read_app] = [
            access(true, &[]),
            access(false, &["app"]),
            access(true, &["app"]),
        ];
        // Which of the three may run it.
        for (command, expected) in [
            ("", [true; 3]),
            ("git-upload-pack app", [true; 3]),
            ("git-upload-archive app", [true; 3]),
            ("git-lfs-transfer app download", [true; 3]),
            ("git-upload-pack other", [true, false, false]),
            ("git-upload-archive other", [true, false, false]),
            ("git-lfs-transfer other download", [true, false, false]),
            ("git-upload-pack work/app", [true, false, false]),
            ("git-receive-pack app", [false, true, false]),
            ("git-lfs-transfer app upload", [false, true, false]),
            ("git-receive-pack other", [false; 3]),
            ("git-lfs-transfer other upload", [false; 3]),
            ("repo list", [false; 3]),
            ("repo new other", [false; 3]),
            ("run list --repo app", [false; 3]),
            ("run logs app#1", [false; 3]),
            ("run attach app#1", [false; 3]),
            ("schedule list", [false; 3]),
            ("cache list", [false; 3]),
            ("notify list", [false; 3]),
            ("key list", [false; 3]),
            ("key add x", [false; 3]),
            ("secret list", [false; 3]),
            ("secret set x", [false; 3]),
            ("config show", [false; 3]),
            ("login", [false; 3]),
            ("login --token x", [false; 3]),
            ("status", [false; 3]),
            ("gc", [false; 3]),
            ("backup", [false; 3]),
            ("reconcile --run", [false; 3]),
            ("help", [false; 3]),
        ] {
            let command = parse(Some(command)).unwrap();
            let found =
                [&read, &of_app, &read_app].map(|access| access.check(&git, &command).is_ok());
            assert_eq!(found, expected, "{command:?}");
            assert!(full.check(&git, &command).is_ok());
        }
    }
}
