//! Runs statements and reads their rows. Each statement is prepared once a connection, and names what it is for
//! when it fails.

use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::error::StoreError;

/// Names what a failed statement was for.
pub(super) trait SqlContext<T> {
    fn context(self, action: &'static str) -> Result<T, StoreError>;
}

impl<T> SqlContext<T> for rusqlite::Result<T> {
    fn context(self, action: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Sql { action, source })
    }
}

/// Runs a statement that returns no rows; returns the number of rows that it changed.
pub(super) fn execute(
    connection: &Connection,
    action: &'static str,
    sql: &str,
    parameters: impl Params,
) -> Result<usize, StoreError> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.execute(parameters))
        .context(action)
}

/// Returns the first row, or `None` if there is no row.
pub(super) fn first<T>(
    connection: &Connection,
    action: &'static str,
    sql: &str,
    parameters: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, StoreError> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_row(parameters, read).optional())
        .context(action)
}

/// Returns all rows.
pub(super) fn all<T>(
    connection: &Connection,
    action: &'static str,
    sql: &str,
    parameters: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_map(parameters, read)?.collect())
        .context(action)
}
