//! What can go wrong with the database.

use std::path::PathBuf;

use crate::run::RunState;

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("the database {path} cannot be opened")]
    Open {
        /// The file.
        path: PathBuf,
        /// SQLite's reason.
        #[source]
        source: rusqlite::Error,
    },
    /// The file is there and is not a sound database.
    #[error("the database {path} is damaged: {detail}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the check said.
        detail: String,
        /// The newest copy in `backups/` that is whole, where there is one.
        last_backup: Option<PathBuf>,
    },
    /// The file was written by a newer quire.
    #[error("the database {path} is of version {found}, this quire knows versions up to {known}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// The newest this binary knows.
        known: usize,
        /// The copy made before the migration to that version, where there is one.
        snapshot: Option<PathBuf>,
    },
    /// The file is of an older version and only `serve` migrates.
    #[error(
        "the database {path} is of version {found}, this quire needs {known}; `quire serve` migrates it when it starts"
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// The version needed.
        known: usize,
    },
    /// The copy before a migration could not be made, so the migration was not tried.
    #[error(
        "the database could not be copied to {path} before its migration, so it was left as it is"
    )]
    Backup {
        /// Where to.
        path: PathBuf,
        /// The reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A migration failed; the database is as it was.
    #[error("the database {path} could not be migrated")]
    Migrate {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: rusqlite_migration::Error,
    },
    /// A statement failed.
    #[error("the database refused to {attempt}")]
    Sql {
        /// What was attempted.
        attempt: &'static str,
        /// SQLite's reason.
        #[source]
        source: rusqlite::Error,
    },
    /// A state change that the state machine does not have; always a bug or a lost race.
    #[error("run {run} cannot become {to}: it is {from}")]
    IllegalTransition {
        /// The run (and job).
        run: String,
        /// Its state, or `unknown`.
        from: String,
        /// The state asked for.
        to: &'static str,
    },
    /// No run has such an id.
    #[error("there is no run `{0}`")]
    NoSuchRun(String),
    /// More than one run starts with this prefix.
    #[error("more than one run starts with `{0}`")]
    AmbiguousRun(String),
    /// A run that has not ended cannot be repeated.
    #[error("run {run} is {state}; only a run that has ended can be retried")]
    NotEnded {
        /// The run.
        run: String,
        /// Its state.
        state: RunState,
    },
    /// Nothing of the run failed, so there is nothing to repeat of that.
    #[error("run {0} is complete: nothing of it failed, so there is nothing to repeat of that")]
    NothingFailed(String),
    /// The thread that carried the call ended.
    #[error("a database call was cut off")]
    Interrupted,
}

/// Names what a statement was for, when it fails.
pub(super) trait Attempt<T> {
    fn attempt(self, attempt: &'static str) -> Result<T, StoreError>;
}

impl<T> Attempt<T> for rusqlite::Result<T> {
    fn attempt(self, attempt: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Sql { attempt, source })
    }
}
