//! Why nothing was imported. No message contains a secret.

use super::attempt_error::AttemptError;
use quire_git::{GitError, RemoteError};
use quire_runtime::blocking::BlockingInterrupted;
use quire_store::StoreError;
use quire_types::git_remote_url::{GitRemoteUrl, InvalidRemoteUrl, RemoteTransport};
use quire_types::mirror::MirrorFailureKind;
use quire_types::names::RepoName;

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Url(#[from] InvalidRemoteUrl),
    #[error("a secret is for HTTPS; over SSH the key is used that `mirror key` prints")]
    SecretForSsh,
    #[error("another import of `{0}` is under way")]
    UnderWay(RepoName),
    #[error(
        "a repository `{0}` was created meanwhile; if it is renamed or removed, the same import goes on, and fetches nothing a second time"
    )]
    CreatedMeanwhile(RepoName),
    #[error("{problem}{}", advice.map_or_else(String::new, |advice| format!("; {advice}")))]
    Remote {
        problem: String,
        advice: Option<&'static str>,
    },
    /// What was fetched stays.
    #[error(
        "not all objects of Git LFS were fetched: {0}; the same command goes on from here, and with --no-lfs it leaves them out"
    )]
    Lfs(String),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Interrupted(#[from] BlockingInterrupted),
}

impl ImportError {
    /// What the user can do about a remote that cannot be read.
    pub(super) fn of_attempt(error: &AttemptError, url: &GitRemoteUrl, has_login: bool) -> Self {
        let problem = quire_types::error_chain::chain(error);
        let is_access = error.kind() == MirrorFailureKind::Access;
        let advice = match (url.transport(), has_login, error) {
            (RemoteTransport::Ssh, _, AttemptError::Remote(_)) if is_access => {
                Some("the other side has to know the key that `mirror key` prints")
            }
            (RemoteTransport::Https, false, AttemptError::Remote(_)) if is_access => Some(
                "for a repository that is not public, `secret set NAME` stores a token, and `--secret NAME` uses it",
            ),
            (_, _, AttemptError::Remote(RemoteError::Process(_) | RemoteError::NoSpace { .. })) => {
                Some("the same command goes on from here")
            }
            _ => None,
        };
        Self::Remote { problem, advice }
    }
}
