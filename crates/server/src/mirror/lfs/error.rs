//! Why objects of Git LFS were not transferred. No message contains a secret.

use std::io;

use hyper::StatusCode;

use crate::addresses::AddressError;
use crate::outgoing::ConnectionError;
use quire_git::GitError;
use quire_git::lfs::{LfsSshError, UploadError};
use quire_runtime::blocking::BlockingInterrupted;
use quire_runtime::process::ProcError;

use super::stall::{MIN_SPEED, STALL_TIMEOUT, TRANSFER_TIME};

/// How ssh ends if it is ssh that has failed.
pub(super) const SSH_FAILED: i32 = 255;

#[derive(Debug, thiserror::Error)]
pub(in crate::mirror) enum LfsError {
    /// The other side has no Git LFS at all.
    #[error("the other side has no Git LFS ({words})")]
    None { words: String },
    #[error("{origin} is no address of HTTPS, so nothing was sent to it or fetched from it")]
    NotTls { origin: String },
    #[error("{origin} redirects to another address, and redirects are not followed")]
    Redirected { origin: String },
    #[error("{origin} answered {status}{words}")]
    Answered {
        origin: String,
        status: StatusCode,
        /// What it said, after a colon, or nothing.
        words: String,
    },
    #[error("{problem}; :mirrors {{:allowed-networks [\"{address}\"]}} permits it")]
    NotPermitted {
        address: std::net::IpAddr,
        problem: AddressError,
    },
    #[error(transparent)]
    Connection(ConnectionError),
    #[error("the answer of {origin} cannot be used: {problem}")]
    Protocol { origin: String, problem: String },
    #[error("the session of git-lfs-transfer failed{}", with_colon(.words))]
    Ssh {
        #[source]
        source: LfsSshError,
        /// The last words of the other side, or of ssh.
        words: String,
    },
    #[error("ssh cannot be started")]
    StartSsh(#[source] io::Error),
    #[error("git-lfs-authenticate did not end")]
    Authenticate(#[from] ProcError),
    /// The exit code of git-lfs-authenticate is `None` after a signal.
    #[error("git-lfs-authenticate failed{}", with_colon(.words))]
    NoAuthentication { code: Option<i32>, words: String },
    #[error("nothing was transferred for {} seconds", STALL_TIMEOUT.as_secs())]
    Stalled,
    #[error(
        "the transfer took more than {} minutes and was slower than {} KiB a second; the next attempt goes on from here",
        TRANSFER_TIME.as_secs() / 60, MIN_SPEED >> 10
    )]
    TooSlow,
    /// Objects that the other side did not take, or does not hand out.
    #[error("{count} {} not transferred; that of {path}: {words}", if *count == 1 { "was" } else { "were" })]
    Refused {
        count: usize,
        /// The path of the first one, and what the other side said.
        path: String,
        words: String,
    },
    #[error("an object cannot be read here")]
    Read(#[source] io::Error),
    #[error("an object cannot be stored here")]
    Store(#[from] UploadError),
    #[error("{0}")]
    NoRoom(String),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Interrupted(#[from] BlockingInterrupted),
}

fn with_colon(words: &str) -> String {
    match words {
        "" => String::new(),
        words => format!(" ({words})"),
    }
}

impl From<ConnectionError> for LfsError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Address(
                problem @ (AddressError::NotPermitted { address, .. }
                | AddressError::NotPublic { address, .. }),
            ) => Self::NotPermitted { address, problem },
            error => Self::Connection(error),
        }
    }
}

impl LfsError {
    /// Whether the same may succeed a little later, without any change on either side.
    pub(in crate::mirror) fn is_passing(&self) -> bool {
        match self {
            Self::Answered { status, .. } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
                    )
            }
            Self::NoAuthentication { code, .. } => matches!(code, None | Some(SSH_FAILED)),
            Self::Connection(_)
            | Self::Ssh { .. }
            | Self::StartSsh(_)
            | Self::Authenticate(_)
            | Self::Stalled
            | Self::TooSlow
            | Self::Read(_)
            | Self::Store(UploadError::DiskFull | UploadError::Io(_) | UploadError::Replaced)
            | Self::NoRoom(_)
            | Self::Git(_)
            | Self::Interrupted(_) => true,
            Self::None { .. }
            | Self::NotTls { .. }
            | Self::Redirected { .. }
            | Self::NotPermitted { .. }
            | Self::Protocol { .. }
            | Self::Store(_)
            | Self::Refused { .. } => false,
        }
    }

    /// Whether it is of one object, so that others can be transferred all the same.
    pub(super) fn is_of_object(&self) -> bool {
        let is_login = matches!(
            self,
            Self::Answered {
                status: StatusCode::UNAUTHORIZED,
                ..
            }
        );
        !is_login && !self.is_passing()
    }
}
