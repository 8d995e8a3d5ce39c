//! Why a backup could not be made or restored.

use std::io;
use std::path::{Path, PathBuf};

use quire_git::GitError;
use quire_store::StoreError;

use crate::rename::RenameError;

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("the archive could not be written")]
    Write(#[source] io::Error),
    #[error("the archive could not be read")]
    Read(#[source] io::Error),
    #[error("this is not a backup of quire: {0}")]
    NotABackup(&'static str),
    #[error("the backup is incomplete: it was cut off before its end")]
    CutOff,
    #[error(
        "a newer quire made this backup: it has format {found}, and this quire reads formats up to {known}"
    )]
    NewerFormat { found: u32, known: u32 },
    #[error("the backup contains the entry `{0}`, which does not belong into a data folder")]
    ForeignEntry(String),
    #[error("{path} is not empty: it contains `{entry}`")]
    NotEmpty { path: PathBuf, entry: String },
    #[error("the backup has {found} {what}, but {expected} were written into it")]
    Missing {
        what: &'static str,
        found: u64,
        expected: u64,
    },
    #[error("could not {attempt} {path}")]
    Io {
        attempt: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Rename(#[from] RenameError),
}

impl BackupError {
    /// Turns an error of the operating system into one that names the attempt and the path.
    pub(super) fn io(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            attempt,
            path,
            source,
        }
    }
}
