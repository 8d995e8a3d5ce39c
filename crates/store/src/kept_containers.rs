//! Containers of failed runs that are kept for a while, as was asked for.

use rusqlite::{Row, params};

use super::error::StoreError;
use super::open::Store;
use super::row;
use super::runs;
use super::sql;
use quire_types::clock::Millis;
use quire_types::names::RunId;

/// A container that is kept after its run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptContainer {
    pub run_id: RunId,
    pub container_id: String,
    pub until_ms: Millis,
}

/// Access to kept containers.
#[derive(Debug, Clone, Copy)]
pub struct KeptContainers<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn kept_containers(&self) -> KeptContainers<'_> {
        KeptContainers { store: self }
    }
}

impl KeptContainers<'_> {
    /// Takes the container from an active run, which then can finish, and keeps it until the given time. Returns false
    /// if the run has no container.
    pub fn keep(self, run: RunId, until: Millis) -> Result<bool, StoreError> {
        let action = "keep a container";
        self.store.write(|tx| {
            let Some(container) = runs::get(tx, run)?.container_id else {
                return Ok(false);
            };
            sql::execute(
                tx,
                action,
                "INSERT INTO kept_containers (run_id, container_id, until_ms) VALUES (?1, ?2, ?3)",
                params![run.to_string(), container, until.0],
            )?;
            let taken = sql::execute(
                tx,
                action,
                "UPDATE runs SET container_id = NULL WHERE id = ?1 AND state = 'active'",
                [run.to_string()],
            )?;
            if taken == 1 {
                Ok(true)
            } else {
                Err(StoreError::NoSuchRun(run.to_string()))
            }
        })
    }

    /// Releases containers whose time is up, and all but the newest `max` of the others; returns those that are
    /// still kept. A released container belongs to no run, and is removed like any other that does not.
    pub fn expire(self, max: u32) -> Result<Vec<KeptContainer>, StoreError> {
        let action = "list the kept containers";
        let now = self.store.clock().now();
        self.store.write(|tx| {
            sql::execute(
                tx,
                action,
                "DELETE FROM kept_containers WHERE until_ms <= ?1
                 OR run_id NOT IN (SELECT run_id FROM kept_containers ORDER BY run_id DESC LIMIT ?2)",
                params![now.0, max],
            )?;
            let sql = "SELECT * FROM kept_containers ORDER BY run_id";
            sql::all(tx, action, sql, [], kept_container)
        })
    }

    /// Releases the container of a run, so that the next sweep removes it. Returns false if none is kept.
    pub fn release(self, run: RunId) -> Result<bool, StoreError> {
        let sql = "DELETE FROM kept_containers WHERE run_id = ?1";
        self.store
            .write(|tx| sql::execute(tx, "release a kept container", sql, [run.to_string()]))
            .map(|deleted| deleted > 0)
    }

    /// The container that is kept of a run.
    pub fn get(self, run: RunId) -> Result<Option<KeptContainer>, StoreError> {
        let sql = "SELECT * FROM kept_containers WHERE run_id = ?1";
        self.store.read(|connection| {
            sql::first(
                connection,
                "find a kept container",
                sql,
                [run.to_string()],
                kept_container,
            )
        })
    }
}

fn kept_container(found: &Row<'_>) -> rusqlite::Result<KeptContainer> {
    Ok(KeptContainer {
        run_id: row::parsed(found, "run_id")?,
        container_id: found.get("container_id")?,
        until_ms: Millis(found.get("until_ms")?),
    })
}
