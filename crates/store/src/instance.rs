//! The identity of this appliance, created at its first start, and whether its database was replaced by an older copy.
//!
//! ```text
//! in use ──start: behind the file beside the repositories──► undecided ──owner──► adopt | run ──server──► in use
//! ```
//! While it is held, no run is claimed and no schedule comes due; pushes are recorded.

use rusqlite::{Transaction, params};

use super::error::StoreError;
use super::landings;
use super::open::Store;
use super::sql::{self, SqlContext};
use quire_types::clock::Millis;
use quire_types::names::RunId;

/// Why no run is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The database is an older copy, and the owner has not decided what happens.
    Undecided,
    /// The refs are to be recorded as they are, and the runs that wait canceled.
    Adopt,
    /// What is missing is to run, and so are the runs that wait.
    Run,
}

impl Hold {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undecided => "undecided",
            Self::Adopt => "adopt",
            Self::Run => "run",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "adopt" => Self::Adopt,
            "run" => Self::Run,
            _ => Self::Undecided,
        }
    }
}

/// Access to the identity of the appliance.
#[derive(Debug, Clone, Copy)]
pub struct Instance<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn instance(&self) -> Instance<'_> {
        Instance { store: self }
    }
}

impl Instance<'_> {
    /// Returns the id of this appliance, and creates it if it has none.
    pub fn id(self) -> Result<String, StoreError> {
        let action = "read the instance id";
        let now = self.store.clock().now().0;
        self.store.write(|tx| {
            sql::execute(
                tx,
                action,
                "INSERT INTO instance (one, id, created_at_ms) VALUES (1, ?1, ?2) ON CONFLICT (one) DO NOTHING",
                (RunId::new().to_string(), now),
            )?;
            tx.query_row("SELECT id FROM instance", [], |found| found.get(0))
                .context(action)
        })
    }

    /// When the database was created.
    pub fn created_at(self) -> Result<Millis, StoreError> {
        self.store.read(|connection| {
            connection
                .query_row("SELECT created_at_ms FROM instance", [], |found| {
                    found.get(0)
                })
                .map(Millis)
                .context("read the instance")
        })
    }

    /// How many pushes were recorded and runs claimed; `None` if the appliance has no id yet.
    pub fn sequence(self) -> Result<Option<i64>, StoreError> {
        self.store.read(|connection| {
            sql::first(
                connection,
                "read the sequence number",
                "SELECT sequence FROM instance WHERE one = 1",
                [],
                |found| found.get(0),
            )
        })
    }

    pub fn hold(self) -> Result<Option<Hold>, StoreError> {
        self.store.read(|connection| {
            let held: Option<Option<String>> = sql::first(
                connection,
                "read whether runs are held",
                "SELECT held FROM instance WHERE one = 1",
                [],
                |found| found.get(0),
            )?;
            Ok(held.flatten().map(|text| Hold::parse(&text)))
        })
    }

    /// Holds all runs, because the file beside the repositories is ahead of this database.
    pub fn begin_hold(self, sequence: i64) -> Result<(), StoreError> {
        self.store.write(|tx| {
            let sql = "UPDATE instance SET held = 'undecided', sequence = max(sequence, ?1),
                       held_run = (SELECT max(id) FROM runs) WHERE one = 1";
            sql::execute(tx, "hold the runs", sql, [sequence])?;
            Ok(())
        })
    }

    /// Records the owner's decision. Returns false if nothing is held.
    pub fn decide(self, decision: Hold) -> Result<bool, StoreError> {
        self.store.write(|tx| {
            let sql = "UPDATE instance SET held = ?1 WHERE one = 1 AND held IS NOT NULL";
            Ok(sql::execute(tx, "record a decision", sql, [decision.as_str()])? > 0)
        })
    }

    /// Ends the hold. With [`Hold::Adopt`] the runs that waited in the older copy are canceled. Returns how many.
    pub fn end_hold(self, decision: Hold) -> Result<usize, StoreError> {
        let now = self.store.clock().now().0;
        self.store.write(|tx| {
            let mut canceled = 0;
            if decision == Hold::Adopt {
                canceled = sql::execute(
                    tx,
                    "cancel the runs that wait",
                    "UPDATE runs SET state = 'canceled', finished_at_ms = max(?1, queued_at_ms),
                                     stop_requested = 'canceled',
                                     message = 'canceled: it waited in an older copy of the database, and may have run since'
                     WHERE state = 'pending' AND EXISTS (
                       SELECT 1 FROM instance i WHERE runs.id <= i.held_run OR (runs.\"trigger\" = 'orphan' AND runs.retry_of <= i.held_run))",
                    params![now],
                )?;
                landings::cancel_held(tx, now)?;
            }
            sql::execute(tx, "end the hold", "UPDATE instance SET held = NULL, held_run = NULL WHERE one = 1", [])?;
            Ok(canceled)
        })
    }
}

/// Counts a push that was recorded or a run that was claimed.
pub(super) fn advance(tx: &Transaction<'_>) -> Result<(), StoreError> {
    let sql = "UPDATE instance SET sequence = sequence + 1 WHERE one = 1";
    sql::execute(tx, "advance the sequence number", sql, [])?;
    Ok(())
}
