//! Opening the database and lending its connections.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::error::StoreError;
use super::migrate;
use super::sql::SqlContext;
use quire_types::clock::Clock;
use quire_types::sync::lock;

/// Idle readers that stay open. More are opened when needed, and closed afterwards.
const MAX_IDLE_READERS: usize = 4;

/// Size to which the write-ahead log is truncated after a checkpoint.
const MAX_WAL_BYTES: i64 = 8 << 20;

/// Larger databases are not checked at start, since the check reads every page.
const MAX_CHECKED_BYTES: u64 = 32 << 20;

/// SQLite's journal mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Journal {
    /// Write-ahead log: readers do not wait for the writer.
    #[default]
    Wal,
    /// Rollback journal, for file systems on which shared memory is unsafe (network shares).
    Delete,
}

/// The database. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<SharedStore>,
}

#[derive(Debug)]
struct SharedStore {
    path: PathBuf,
    /// Device and inode of the file that is open.
    file: (u64, u64),
    clock: Clock,
    journal: Journal,
    writer: Mutex<WritingConnection>,
    readers: Mutex<Vec<Connection>>,
}

/// The connection through which everything is written.
#[derive(Debug)]
struct WritingConnection {
    connection: Connection,
    durability: Durability,
}

/// What a power cut may do to a commit. It never breaks the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// The commit is on the disk before it is acknowledged.
    Synced,
    /// The commit may be lost until one that is [`Durability::Synced`] follows it.
    Unsynced,
}

impl WritingConnection {
    fn new(connection: Connection) -> Self {
        Self {
            connection,
            durability: Durability::Synced,
        }
    }

    /// Runs `work` in a transaction, which is committed if `work` returns `Ok`.
    fn write<T>(
        &mut self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.durability != durability {
            let synchronous = match durability {
                Durability::Synced => SYNCED,
                Durability::Unsynced => "NORMAL",
            };
            self.connection
                .pragma_update(None, "synchronous", synchronous)
                .context("set how commits are synced")?;
            self.durability = durability;
        }
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .context("begin a transaction")?;
        let value = work(&transaction)?;
        transaction.commit().context("commit a transaction")?;
        Ok(value)
    }
}

impl Store {
    /// Opens the database, creates or migrates it (after a copy into `backups`), and checks it for damage.
    pub fn open(
        path: &Path,
        backups: &Path,
        journal: Journal,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let mut writer = open_checked(path, backups, journal)?;
        migrate::to_latest(&mut writer, path, backups, &clock)?;
        let store = Self::with(path, clock, journal, writer)?;
        store.checkpoint()?;
        Ok(store)
    }

    /// Opens the database from another process than `serve`. It must exist and have the version that this
    /// binary knows.
    pub fn open_existing(path: &Path, clock: Clock) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = |source| StoreError::Open {
            path: path.into(),
            source,
        };
        let writer = Connection::open_with_flags(path, flags).map_err(open)?;
        apply_pragmas(&writer).map_err(open)?;
        migrate::require_latest(&writer, path)?;
        Self::with(path, clock, Journal::default(), writer)
    }

    fn with(
        path: &Path,
        clock: Clock,
        journal: Journal,
        writer: Connection,
    ) -> Result<Self, StoreError> {
        let file = identity(path).ok_or_else(|| StoreError::Replaced { path: path.into() })?;
        let shared = SharedStore {
            path: path.into(),
            file,
            clock,
            journal,
            writer: Mutex::new(WritingConnection::new(writer)),
            readers: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Fails if the file at the path of the database is no longer the one that is open: it was removed or replaced, and
    /// what is written would be lost.
    pub fn check_file(&self) -> Result<(), StoreError> {
        if identity(&self.shared.path) == Some(self.shared.file) {
            Ok(())
        } else {
            Err(StoreError::Replaced {
                path: self.shared.path.clone(),
            })
        }
    }

    /// Moves the write-ahead log into the database, so that a copy of the one file has everything, and the space of the log
    /// is free. A reader may keep a part of the log.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        let writer = lock(&self.shared.writer);
        writer
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .context("move the write-ahead log into the database")
    }

    /// The clock that stamps rows.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Runs a call on a thread that may block.
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

    /// Runs `work` in one write transaction, which is committed if `work` returns `Ok`, and which survives a power cut then.
    pub(super) fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        lock(&self.shared.writer).write(Durability::Synced, work)
    }

    /// Like [`Store::write`], but does not wait for the disk: a power cut may revert the transaction, unless one of
    /// [`Store::write`] has followed it. For what is of no use without such a later one, as the steps of a run are without the
    /// end of the run.
    pub(super) fn write_unsynced<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        lock(&self.shared.writer).write(Durability::Unsynced, work)
    }

    /// SQLite's setting of how commits are synced, as the last write has left it.
    #[cfg(test)]
    pub(super) fn synchronous(&self) -> i64 {
        let writer = lock(&self.shared.writer);
        let read = writer
            .connection
            .pragma_query_value(None, "synchronous", |row| row.get(0));
        read.unwrap_or(-1)
    }

    /// Runs `work` on a connection of its own, for reading.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let idle = lock(&self.shared.readers).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect_reader()?,
        };
        let value = work(&connection);
        let mut readers = lock(&self.shared.readers);
        if readers.len() < MAX_IDLE_READERS {
            readers.push(connection);
        }
        value
    }

    /// Opens one more connection to the file that is open. Never creates a database.
    fn connect_reader(&self) -> Result<Connection, StoreError> {
        self.check_file()?;
        let (path, journal) = (&self.shared.path, self.shared.journal);
        connect(path, journal, OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(|source| StoreError::Open {
            path: path.clone(),
            source,
        })
    }

    /// Size of the database and its write-ahead log.
    #[must_use]
    pub fn database_bytes(&self) -> u64 {
        let size = |path: &Path| std::fs::metadata(path).map(|m| m.len()).unwrap_or(0);
        let mut journal = self.shared.path.clone().into_os_string();
        journal.push("-wal");
        size(&self.shared.path) + size(Path::new(&journal))
    }

    /// Writes a row and reverts it, as a check that the database can be written.
    pub fn probe_write(&self) -> Result<(), StoreError> {
        self.write(|tx| {
            // Two changes, since SQLite writes nothing for a row that is set to the values it has.
            for change in [1, -1] {
                tx.execute(
                    "UPDATE instance SET created_at_ms = created_at_ms + ?1 WHERE one = 1",
                    [change],
                )
                .context("write a row")?;
            }
            Ok(())
        })
    }
}

/// Device and inode of a file; `None` if there is none.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

fn connect(path: &Path, journal: Journal, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    apply_pragmas(&connection)?;
    let mode = match journal {
        Journal::Wal => "WAL",
        Journal::Delete => "DELETE",
    };
    connection.pragma_update(None, "journal_mode", mode)?;
    Ok(connection)
}

/// The value of `synchronous` with which a commit that was acknowledged survives a power cut.
const SYNCED: &str = "FULL";

/// Settings of every connection.
fn apply_pragmas(connection: &Connection) -> rusqlite::Result<()> {
    // Longer than another program (a backup, SQLite's shell) is likely to hold the lock: a change that cannot
    // be written in time fails a run.
    connection.busy_timeout(Duration::from_secs(30))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "synchronous", SYNCED)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // A long read lets the write-ahead log grow; this returns the space afterwards.
    connection.pragma_update(None, "journal_size_limit", MAX_WAL_BYTES)?;
    connection.pragma_update(None, "cache_size", -2000)
}

/// Opens the database, and reads all of it if it is small, to find damage that would otherwise show up later.
fn open_checked(path: &Path, backups: &Path, journal: Journal) -> Result<Connection, StoreError> {
    let damaged = |detail: String| StoreError::Damaged {
        path: path.into(),
        detail,
        last_backup: migrate::newest_intact_backup(backups),
    };
    let open_error = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => damaged(source.to_string()),
        _ => StoreError::Open {
            path: path.into(),
            source,
        },
    };
    let create = OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = connect(path, journal, create).map_err(open_error)?;
    connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| {
            row.get::<_, i64>(0)
        })
        .map_err(open_error)?;
    if std::fs::metadata(path).is_ok_and(|m| m.len() <= MAX_CHECKED_BYTES) {
        let verdict: String = connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(open_error)?;
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
    fn probe_write_writes_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quire.db");
        let store = Store::open(
            &path,
            &folder.path().join("backups"),
            Journal::Wal,
            Clock::system(),
        )
        .unwrap();
        store.instance().id().unwrap();
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
