//! Errors of the database.

use std::path::PathBuf;

use quire_types::run::{RunName, RunState};

/// A failed operation of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database {path} cannot be opened")]
    Open {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    /// The file exists, but SQLite's check found it damaged.
    #[error("the database {path} is damaged: {detail}")]
    Damaged {
        path: PathBuf,
        detail: String,
        /// The newest backup that is intact, if there is one.
        last_backup: Option<PathBuf>,
    },
    #[error("the database {path} was removed or replaced while it was open")]
    Replaced { path: PathBuf },
    /// A newer quire wrote the file.
    #[error(
        "the database {path} has version {found}, but this quire supports versions up to {known}"
    )]
    Newer {
        path: PathBuf,
        found: usize,
        known: usize,
        /// The copy that was made before the migration to that version, if there is one.
        snapshot: Option<PathBuf>,
    },
    /// The file has an older version. Only `quire serve` migrates it.
    #[error(
        "the database {path} has version {found}, but this quire needs version {known}; `quire serve` migrates the database when it starts"
    )]
    Older {
        path: PathBuf,
        found: usize,
        known: usize,
    },
    /// The copy before a migration failed, so the migration was not tried.
    #[error(
        "the database could not be copied to {path} before its migration; it was left unchanged"
    )]
    Backup {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A migration failed; it was rolled back.
    #[error("the database {path} could not be migrated; it was left unchanged")]
    Migrate {
        path: PathBuf,
        #[source]
        source: rusqlite_migration::Error,
    },
    #[error("the database failed to {action}")]
    Sql {
        action: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    /// The state machine has no such transition. It is a bug or a lost race.
    #[error("run {run} cannot become {to}: it is {from}")]
    IllegalTransition {
        /// The run, with the job or step if it is about one.
        run: String,
        /// Its state, or `unknown`.
        from: String,
        to: &'static str,
    },
    #[error("there is no run `{0}`")]
    NoSuchRun(String),
    #[error("`{selector}` names more than one run")]
    AmbiguousRun {
        selector: String,
        /// Some of them.
        candidates: Vec<RunName>,
    },
    #[error("run {run} is {state}; only a finished run can be retried")]
    NotFinished { run: String, state: RunState },
    #[error("run {0} is complete: it has no failed jobs to retry")]
    NothingFailed(String),
    /// The thread that executed the call panicked, or the runtime was shut down.
    #[error("a database call was interrupted")]
    Interrupted,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let path = || PathBuf::from("/data/quire.db");
        let sqlite = || rusqlite::Error::QueryReturnedNoRows;
        let run = || "01970000-0000-7000-8000-000000000001".to_owned();
        let messages = [
            StoreError::Open {
                path: path(),
                source: sqlite(),
            },
            StoreError::Damaged {
                path: path(),
                detail: "database disk image is malformed".into(),
                last_backup: None,
            },
            StoreError::Newer {
                path: path(),
                found: 9,
                known: 5,
                snapshot: None,
            },
            StoreError::Older {
                path: path(),
                found: 4,
                known: 5,
            },
            StoreError::Backup {
                path: "/data/backups/quire-v0004.db".into(),
                source: "No space left on device".into(),
            },
            StoreError::Migrate {
                path: path(),
                source: rusqlite_migration::Error::FileLoad("0005".into()),
            },
            StoreError::Sql {
                action: "finish a run",
                source: sqlite(),
            },
            StoreError::IllegalTransition {
                run: run(),
                from: "complete".into(),
                to: "failed",
            },
            StoreError::NoSuchRun("0197".into()),
            StoreError::AmbiguousRun {
                selector: "0".into(),
                candidates: Vec::new(),
            },
            StoreError::NotFinished {
                run: run(),
                state: RunState::Active,
            },
            StoreError::NothingFailed(run()),
            StoreError::Interrupted,
        ];
        let messages: Vec<String> = messages.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(messages.join("\n"), @"
        the database /data/quire.db cannot be opened
        the database /data/quire.db is damaged: database disk image is malformed
        the database /data/quire.db has version 9, but this quire supports versions up to 5
        the database /data/quire.db has version 4, but this quire needs version 5; `quire serve` migrates the database when it starts
        the database could not be copied to /data/backups/quire-v0004.db before its migration; it was left unchanged
        the database /data/quire.db could not be migrated; it was left unchanged
        the database failed to finish a run
        run 01970000-0000-7000-8000-000000000001 cannot become failed: it is complete
        there is no run `0197`
        `0` names more than one run
        run 01970000-0000-7000-8000-000000000001 is active; only a finished run can be retried
        run 01970000-0000-7000-8000-000000000001 is complete: it has no failed jobs to retry
        a database call was interrupted
        ");
    }
}
