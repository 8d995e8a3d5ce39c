//! Why an attempt to deliver a message failed.

use std::time::Duration;

use crate::addresses::AddressError;
use crate::outgoing::ConnectionError;
use quire_git::{GitError, NoteError};
use quire_runtime::blocking::BlockingInterrupted;
use quire_types::names::RepoName;

/// How long one attempt may take.
pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// Why an attempt failed. No message contains the path of a URL or another secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeliveryError {
    /// The settings of the target, or a secret that they name.
    #[error("{0}")]
    Settings(String),
    #[error(transparent)]
    Connection(ConnectionError),
    #[error("{problem}; :notify {{:allowed-networks [\"{address}\"]}} permits it")]
    NotPermitted {
        address: std::net::IpAddr,
        problem: AddressError,
    },
    #[error("the request is not valid")]
    Request(#[from] hyper::http::Error),
    #[error("{origin} redirects to another address, and redirects are not followed")]
    Redirected { origin: String },
    /// The receiver does not accept messages now, or none of this target.
    #[error("{origin} answered {answer}")]
    Answered {
        origin: String,
        answer: String,
        retry_after: Option<Duration>,
    },
    /// The receiver does not accept this message, and would not the next time.
    #[error("{origin} refused the message: {answer}")]
    Refused { origin: String, answer: String },
    /// The dialogue with a mail server came to no end.
    #[error("the connection to {server} failed: {problem}")]
    Smtp { server: String, problem: String },
    #[error(
        "{server} does not offer STARTTLS, so nothing was sent; use smtps:// if it has TLS from the beginning, \
         or `:starttls false` if the network between is yours"
    )]
    NoStartTls { server: String },
    #[error("{server} offers no login with a password, but the target has `user` and `password`")]
    NoPasswords { server: String },
    #[error("the note of a commit in {repo} was not written")]
    Note {
        repo: RepoName,
        #[source]
        source: NoteError,
    },
    #[error("the commits that were pushed to {repo} cannot be read")]
    Push {
        repo: RepoName,
        #[source]
        source: GitError,
    },
    #[error("there was no answer within {} seconds", ATTEMPT_TIMEOUT.as_secs())]
    TimedOut,
    #[error(transparent)]
    Interrupted(#[from] BlockingInterrupted),
}

impl From<ConnectionError> for DeliveryError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Address(problem @ AddressError::NotPermitted { address, .. }) => {
                Self::NotPermitted { address, problem }
            }
            error => Self::Connection(error),
        }
    }
}

impl DeliveryError {
    /// The earliest time of the next attempt that the receiver asked for.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Answered { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether another attempt with the same message is of no use.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Refused { .. } => true,
            // What is wrong with one repository holds up no other.
            Self::Note { source, .. } => matches!(source, NoteError::Unusable(_)),
            Self::Push { source, .. } => !matches!(
                source,
                GitError::Start { .. }
                    | GitError::Pipe { .. }
                    | GitError::TimedOut { .. }
                    | GitError::Interrupted
            ),
            _ => false,
        }
    }
}
