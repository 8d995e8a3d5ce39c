//! Opening the database and lending its connections.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::error::{Attempt, StoreError};
use super::migrate;
use crate::clock::Clock;

/// Readers that are kept open; more are opened when needed and closed after.
const KEPT_READERS: usize = 4;

/// What the write-ahead log may keep of the disk once it has been taken over.
const WAL_KEPT_BYTES: i64 = 8 << 20;

/// Above this size the whole-file check at start is left to `quire doctor`: it reads every page.
const CHECK_LIMIT_BYTES: u64 = 32 << 20;

/// How SQLite keeps its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Journal {
    /// Write-ahead log: readers beside the writer.
    #[default]
    Wal,
    /// Rollback journal, for file systems on which shared memory is unsafe (network shares).
    Delete,
}

/// The database. Cloning is cheap and gives the same connections.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    clock: Clock,
    journal: Journal,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

impl Store {
    /// Opens the database, makes or migrates it (after a copy into `backups`), and checks that it is sound.
    ///
    /// # Errors
    /// The file cannot be opened, is damaged, is newer than this binary, or a migration fails.
    pub fn open(
        path: &Path,
        backups: &Path,
        journal: Journal,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let mut writer = open_sound(path, backups, journal)?;
        migrate::to_latest(&mut writer, path, backups, &clock)?;
        Ok(Self::with(path, clock, journal, writer))
    }

    /// Opens a database that `serve` keeps, from another process.
    ///
    /// # Errors
    /// It does not exist yet, cannot be opened, or is not of the version this binary knows.
    pub fn open_existing(path: &Path, clock: Clock) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = |source| StoreError::Open {
            path: path.into(),
            source,
        };
        let writer = Connection::open_with_flags(path, flags).map_err(open)?;
        settle(&writer).map_err(open)?;
        migrate::require_latest(&writer, path)?;
        Ok(Self::with(path, clock, Journal::default(), writer))
    }

    fn with(path: &Path, clock: Clock, journal: Journal, writer: Connection) -> Self {
        let inner = Inner {
            path: path.into(),
            clock,
            journal,
            writer: Mutex::new(writer),
            readers: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The clock that stamps rows.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Runs a call on a thread where it may block.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn call<T, F>(&self, call: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    {
        let store = self.clone();
        tokio::task::spawn_blocking(move || call(&store))
            .await
            .unwrap_or(Err(StoreError::Interrupted))
    }

    /// Runs `work` in one write transaction; it is committed when `work` gives `Ok`.
    pub(super) fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut writer = self
            .inner
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let transaction = writer
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .attempt("begin a transaction")?;
        let value = work(&transaction)?;
        transaction.commit().attempt("commit a transaction")?;
        Ok(value)
    }

    /// Lends a connection for reading.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let kept = self
            .inner
            .readers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let connection = match kept {
            Some(connection) => connection,
            None => connect(&self.inner.path, self.inner.journal).map_err(|source| {
                StoreError::Open {
                    path: self.inner.path.clone(),
                    source,
                }
            })?,
        };
        let value = work(&connection);
        let mut readers = self
            .inner
            .readers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if readers.len() < KEPT_READERS {
            readers.push(connection);
        }
        value
    }

    /// Size of the database with its journal, in bytes.
    #[must_use]
    pub fn database_bytes(&self) -> u64 {
        let size = |path: &Path| std::fs::metadata(path).map(|m| m.len()).unwrap_or(0);
        let mut journal = self.inner.path.clone().into_os_string();
        journal.push("-wal");
        size(&self.inner.path) + size(Path::new(&journal))
    }

    /// Proves that a row can be written, and leaves nothing behind.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn probe_write(&self) -> Result<(), StoreError> {
        self.write(|tx| {
            // There and back: SQLite writes nothing for a row that is written as it was.
            for change in [1, -1] {
                tx.execute(
                    "UPDATE instance SET created_at_ms = created_at_ms + ?1 WHERE one = 1",
                    [change],
                )
                .attempt("write a row")?;
            }
            Ok(())
        })
    }
}

fn connect(path: &Path, journal: Journal) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    settle(&connection)?;
    let mode = match journal {
        Journal::Wal => "WAL",
        Journal::Delete => "DELETE",
    };
    connection.pragma_update(None, "journal_mode", mode)?;
    Ok(connection)
}

/// Settings of every connection. FULL: a commit that was acknowledged outlives a power cut.
fn settle(connection: &Connection) -> rusqlite::Result<()> {
    // Longer than another program may hold it in passing (a copy, a look with the shell): what cannot be
    // recorded in time fails a run.
    connection.busy_timeout(Duration::from_secs(30))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // A log that somebody's long read made large gives its space back afterwards.
    connection.pragma_update(None, "journal_size_limit", WAL_KEPT_BYTES)?;
    connection.pragma_update(None, "cache_size", -2000)
}

/// Opens and reads the whole of a small database, for damage that would otherwise show up later.
fn open_sound(path: &Path, backups: &Path, journal: Journal) -> Result<Connection, StoreError> {
    let damaged = |detail: String| StoreError::Damaged {
        path: path.into(),
        detail,
        last_backup: migrate::newest_sound_backup(backups),
    };
    let judge = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => damaged(source.to_string()),
        _ => StoreError::Open {
            path: path.into(),
            source,
        },
    };
    let connection = connect(path, journal).map_err(judge)?;
    connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| {
            row.get::<_, i64>(0)
        })
        .map_err(judge)?;
    if std::fs::metadata(path).is_ok_and(|m| m.len() <= CHECK_LIMIT_BYTES) {
        let verdict: String = connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(judge)?;
        if verdict != "ok" {
            return Err(damaged(verdict));
        }
    }
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_writes_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quire.db");
        let store = Store::open(
            &path,
            &folder.path().join("backups"),
            Journal::Wal,
            Clock::system(),
        )
        .unwrap();
        store.instance_id().unwrap();
        let log = || {
            std::fs::metadata(path.with_extension("db-wal"))
                .unwrap()
                .len()
        };
        store.probe_write().unwrap();
        for _ in 0..3 {
            let before = log();
            store.probe_write().unwrap();
            assert!(log() > before, "nothing was written");
        }
    }
}
