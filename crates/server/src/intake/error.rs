//! Why the intake could not record an event.

use quire_git::GitError;
use quire_runtime::blocking::BlockingInterrupted;
use quire_store::StoreError;
use quire_types::names::RepoName;

/// Why an event could not be recorded; its file stays in the spool and is retried.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The spool cannot be read or changed.
    #[error("{attempt} {path}")]
    Spool {
        attempt: &'static str,
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The work on the disk was interrupted.
    #[error(transparent)]
    Interrupted(#[from] BlockingInterrupted),
    /// Git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("a push to {repo} cannot be recorded")]
    Repository {
        repo: RepoName,
        #[source]
        source: GitError,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl IntakeError {
    /// The repository that cannot be read.
    pub(super) fn repo(&self) -> Option<&RepoName> {
        match self {
            Self::Repository { repo, .. } => Some(repo),
            _ => None,
        }
    }
}
