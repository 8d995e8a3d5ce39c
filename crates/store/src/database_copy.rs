//! Copies of the whole database, and what such a copy contains.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::error::StoreError;
use super::migrate::{supported_version, vacuum_into};
use super::open::Store;
use super::sql::{self, SqlContext};

/// What a copy of the database contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseSummary {
    /// The number of migrations that it has had.
    pub version: usize,
    /// The id of its appliance; `None` if it has none yet.
    pub instance: Option<String>,
    /// How many pushes were recorded and runs claimed.
    pub sequence: i64,
    pub runs: u64,
    /// Recorded pushes.
    pub pushes: u64,
}

impl Store {
    /// Writes a complete copy of the database, as it is at this moment, to a path at which nothing exists.
    pub fn copy_to(&self, target: &Path) -> Result<(), StoreError> {
        self.read(|connection| vacuum_into(connection, target).context("copy the database"))
    }
}

impl DatabaseSummary {
    /// Checks every page of a copy and counts its rows. The copy is not changed.
    ///
    /// # Errors
    /// The copy is damaged, or a newer quire wrote it.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        let damaged = |detail: String| StoreError::Damaged {
            path: path.to_owned(),
            detail,
            last_backup: None,
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(path, flags).map_err(|error| damaged(error.to_string()))?;
        let verdict: String = connection
            .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
            .map_err(|error| damaged(error.to_string()))?;
        if verdict != "ok" {
            return Err(damaged(verdict));
        }
        let version = supported_version(&connection, path)?;
        let count = |table: &str| -> Result<u64, StoreError> {
            let sql = format!("SELECT count(*) FROM {table}");
            let rows: i64 = connection
                .query_row(&sql, [], |row| row.get(0))
                .context("count the rows of a copy")?;
            Ok(u64::try_from(rows).unwrap_or(0))
        };
        let instance = sql::first(
            &connection,
            "read the instance of a copy",
            "SELECT id FROM instance WHERE one = 1",
            [],
            |found| found.get(0),
        )?;
        Ok(Self {
            version,
            instance,
            sequence: sequence(&connection, version)?,
            runs: count("runs")?,
            pushes: count("events")?,
        })
    }
}

/// The sequence number; databases have one since migration 8.
fn sequence(connection: &Connection, version: usize) -> Result<i64, StoreError> {
    if version < 8 {
        return Ok(0);
    }
    let found = sql::first(
        connection,
        "read the sequence number of a copy",
        "SELECT sequence FROM instance WHERE one = 1",
        [],
        |found| found.get(0),
    )?;
    Ok(found.unwrap_or(0))
}
