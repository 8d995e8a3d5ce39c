//! Why an attempt to make a remote equal failed, and when the next one is made.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::lfs::LfsError;
use crate::addresses::AddressError;
use crate::intake::SpoolError;
use quire_git::{ForbiddenMove, GitError, RemoteError};
use quire_runtime::blocking::BlockingInterrupted;
use quire_store::{MirrorState, StoreError};
use quire_types::backoff::Backoff;
use quire_types::git_remote_url::GitRemoteUrl;
use quire_types::mirror::MirrorFailureKind;
use quire_types::names::RepoName;
use quire_types::ssh_keys::host_key_fingerprint;

/// The longest delay between attempts.
pub(super) const MAX_DELAY: Duration = Duration::from_secs(24 * 3600);

/// Why an attempt failed. No message contains a secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttemptError {
    /// The settings of the mirror, or a secret that they name.
    #[error("{0}")]
    Settings(String),
    #[error("{problem}; :mirrors {{:allowed-networks [\"{address}\"]}} permits it")]
    NotPermitted {
        address: std::net::IpAddr,
        problem: AddressError,
    },
    #[error(transparent)]
    Address(AddressError),
    #[error("cannot connect to {address}")]
    Connect {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(
        "{authority} has another host key than before: {} in place of {known}. Nothing was transferred. Find out why; if the new \
         key is right, `mirror sync {repo} {name} --new-host-key` accepts it",
        found.as_deref().unwrap_or("one of another type")
    )]
    HostKeyChanged {
        authority: String,
        repo: String,
        name: String,
        known: String,
        found: Option<String>,
    },
    #[error(
        "{0}; create an empty one there, since a mirror creates none, and then `mirror sync REPO` pushes to it"
    )]
    NoRepository(RemoteError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("{rejected} of {pushed} refs {} not accepted; {first}", if *rejected == 1 { "was" } else { "were" })]
    Rejected {
        rejected: usize,
        pushed: usize,
        /// The first one, and why.
        first: String,
    },
    /// The refs are as they have to be, as far as nothing else is said of them.
    #[error("objects of Git LFS are missing")]
    Lfs(#[source] LfsError),
    /// A pull mirror whose other side replaced or deleted what this one keeps.
    #[error(
        "{forbidden}, as the other side did; `repo unprotect {repo} {}` lets it follow",
        .forbidden.pattern.shell_word()
    )]
    ProtectedHere {
        repo: RepoName,
        forbidden: ForbiddenMove,
    },
    #[error("a ref was moved by another push at the same time")]
    MovedMeanwhile,
    #[error("the event of what was fetched cannot be written")]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Interrupted(#[from] BlockingInterrupted),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<AddressError> for AttemptError {
    fn from(error: AddressError) -> Self {
        match error {
            AddressError::NotPermitted { address, .. }
            | AddressError::NotPublic { address, .. } => Self::NotPermitted {
                address,
                problem: error,
            },
            error => Self::Address(error),
        }
    }
}

impl AttemptError {
    /// What is said of a mirror whose remote has failed.
    pub(super) fn of_mirror(error: RemoteError, state: &MirrorState, url: &GitRemoteUrl) -> Self {
        let RemoteError::HostKeyChanged { found } = error else {
            return Self::Remote(error);
        };
        let known = state.host_key.as_deref().and_then(host_key_fingerprint);
        Self::HostKeyChanged {
            authority: url.authority(),
            repo: state.repo.as_str().to_owned(),
            name: state.name.clone(),
            known: known.unwrap_or_else(|| "the known one".to_owned()),
            found,
        }
    }

    pub(super) fn kind(&self) -> MirrorFailureKind {
        match self {
            Self::Settings(_) | Self::NotPermitted { .. } => MirrorFailureKind::Settings,
            Self::Address(_) | Self::Connect { .. } => MirrorFailureKind::Connection,
            Self::HostKeyChanged { .. } => MirrorFailureKind::HostKey,
            Self::NoRepository(error) | Self::Remote(error) => error.kind(),
            Self::Rejected { .. } | Self::ProtectedHere { .. } => MirrorFailureKind::Rejected,
            Self::Lfs(_) => MirrorFailureKind::Lfs,
            Self::MovedMeanwhile
            | Self::Spool(_)
            | Self::Git(_)
            | Self::Interrupted(_)
            | Self::Store(_) => MirrorFailureKind::Repository,
        }
    }
}

/// The delay after a failure that this many failures precede. What only the owner can change is rarely tried again: a token
/// that has expired does not work the next time, and its use may lock an account.
pub(super) fn delay_after(kind: MirrorFailureKind, failures: u32) -> Duration {
    let (first, max) = match kind {
        MirrorFailureKind::Connection | MirrorFailureKind::Lfs | MirrorFailureKind::Repository => {
            (5, 3600)
        }
        MirrorFailureKind::Rejected => (60, 3600),
        MirrorFailureKind::Settings | MirrorFailureKind::HostKey | MirrorFailureKind::Access => {
            (3600, MAX_DELAY.as_secs())
        }
    };
    let mut backoff = Backoff::new(Duration::from_secs(first), Duration::from_secs(max));
    (0..failures.min(32)).for_each(|_| {
        backoff.next_delay();
    });
    backoff.next_delay()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_git::ForbiddenChange;
    use quire_types::ref_pattern::RefPattern;

    #[test]
    fn attempts_wait_longer_each_time_and_longest_for_the_owner() {
        let delays = |kind| [0, 1, 2, 9, u32::MAX].map(|n| delay_after(kind, n).as_secs());
        assert_eq!(
            delays(MirrorFailureKind::Connection),
            [5, 10, 20, 2560, 3600]
        );
        assert_eq!(
            delays(MirrorFailureKind::Rejected),
            [60, 120, 240, 3600, 3600]
        );
        assert_eq!(
            delays(MirrorFailureKind::Access),
            [3600, 7200, 14400, 86400, 86400]
        );
    }

    #[test]
    fn messages_say_what_to_do() {
        let changed = |found: Option<&str>| AttemptError::HostKeyChanged {
            authority: "nas:22".to_owned(),
            repo: "app".to_owned(),
            name: "nas".to_owned(),
            known: "SHA256:old".to_owned(),
            found: found.map(str::to_owned),
        };
        let address = "127.0.0.1".parse().unwrap();
        let errors = [
            changed(Some("SHA256:new")),
            changed(None),
            AttemptError::from(AddressError::NotPermitted {
                host: "localhost".to_owned(),
                address,
            }),
            AttemptError::Rejected {
                rejected: 1,
                pushed: 3,
                first: "refs/heads/main: [rejected] (fetch first)".to_owned(),
            },
            AttemptError::ProtectedHere {
                repo: "work/app".parse().unwrap(),
                forbidden: ForbiddenMove {
                    ref_name: "refs/heads/main".parse().unwrap(),
                    pattern: RefPattern::from_user("main").unwrap(),
                    change: ForbiddenChange::ForcedMove,
                },
            },
        ];
        insta::assert_snapshot!(errors.map(|error| error.to_string()).join("\n"));
    }
}
