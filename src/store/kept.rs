//! Containers of failed runs that were asked to be kept for a while.

use rusqlite::params;

use super::error::{Attempt, StoreError};
use super::open::Store;
use super::row;
use super::runs::get;
use crate::clock::Millis;
use crate::names::RunId;

/// A container that is kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Kept {
    /// The run.
    pub run_id: RunId,
    /// The container.
    pub container_id: String,
    /// Until when.
    pub until_ms: Millis,
}

impl Store {
    /// An active run hands its container over: it is no longer the run's, which may end, and is kept until then.
    /// False where it has none.
    ///
    /// # Errors
    /// There is no such run.
    pub fn keep_container(&self, run: RunId, until: Millis) -> Result<bool, StoreError> {
        let attempt = "keep a container";
        self.write(|tx| {
            let Some(container) = get(tx, run)?.container_id else {
                return Ok(false);
            };
            tx.execute(
                "INSERT INTO kept_containers (run_id, container_id, until_ms) VALUES (?1, ?2, ?3)",
                params![run.to_string(), container, until.0],
            )
            .attempt(attempt)?;
            let taken = tx
                .execute(
                    "UPDATE runs SET container_id = NULL WHERE id = ?1 AND state = 'active'",
                    [run.to_string()],
                )
                .attempt(attempt)?;
            if taken == 1 {
                Ok(true)
            } else {
                Err(StoreError::NoSuchRun(run.to_string()))
            }
        })
    }

    /// Forgets containers whose time is up, and of the rest all but the newest `most`; gives what is
    /// still kept. What is forgotten belongs to no run, and is removed like anything that does not.
    ///
    /// # Errors
    /// The database refuses.
    pub fn kept_containers(&self, most: u32) -> Result<Vec<Kept>, StoreError> {
        let attempt = "list the containers that are kept";
        let now = self.clock().now();
        self.write(|tx| {
            tx.execute(
                "DELETE FROM kept_containers WHERE until_ms <= ?1
                 OR run_id NOT IN (SELECT run_id FROM kept_containers ORDER BY run_id DESC LIMIT ?2)",
                params![now.0, most],
            )
            .attempt(attempt)?;
            let mut statement = tx.prepare_cached("SELECT * FROM kept_containers ORDER BY run_id").attempt(attempt)?;
            let rows = statement.query_map([], kept).attempt(attempt)?;
            rows.collect::<rusqlite::Result<_>>().attempt(attempt)
        })
    }

    /// A person needs a run's container no more. What is kept of no run is removed with the next sweep. False where none is kept.
    ///
    /// # Errors
    /// The database refuses.
    pub fn release_container(&self, run: RunId) -> Result<bool, StoreError> {
        self.write(|tx| {
            let gone = tx.execute(
                "DELETE FROM kept_containers WHERE run_id = ?1",
                [run.to_string()],
            );
            gone.map(|gone| gone > 0).attempt("let a kept container go")
        })
    }

    /// The container that is kept of a run.
    ///
    /// # Errors
    /// The database refuses.
    pub fn kept_container(&self, run: RunId) -> Result<Option<Kept>, StoreError> {
        use rusqlite::OptionalExtension;
        self.read(|connection| {
            connection
                .query_row(
                    "SELECT * FROM kept_containers WHERE run_id = ?1",
                    [run.to_string()],
                    kept,
                )
                .optional()
                .attempt("find the container that is kept of a run")
        })
    }
}

fn kept(found: &rusqlite::Row<'_>) -> rusqlite::Result<Kept> {
    let run_id = row::first(found.get("run_id"))?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    Ok(Kept {
        run_id,
        container_id: found.get("container_id")?,
        until_ms: Millis(found.get("until_ms")?),
    })
}
