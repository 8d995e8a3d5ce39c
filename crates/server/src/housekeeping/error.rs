//! Why a part of a round failed.

use std::io;
use std::path::PathBuf;

use crate::rename::RenameError;
use quire_git::GitError;
use quire_store::StoreError;
use tokio::task::JoinError;

#[derive(Debug, thiserror::Error)]
pub enum HousekeepingError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Rename(#[from] RenameError),
    #[error("cannot list the files in {}", .path.display())]
    List {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A thread of our own panicked.
    #[error("internal error: a housekeeping task failed")]
    Task(#[from] JoinError),
}
