//! Moves all rows of a repository out of the database into a file, and back.
//!
//! The file is a database with the same tables, so one that an older quire wrote is migrated before its rows are read. Both
//! moves can be repeated: what was moved before is not moved a second time. Schedules are not moved, since they are read from
//! the default branch again, and neither is what concerns containers, images and caches.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Transaction, params, params_from_iter};

use super::error::StoreError;
use super::migrate;
use super::repos::{Repos, forget};
use super::sql::{self, SqlContext};
use quire_types::clock::Millis;
use quire_types::names::RepoName;

/// What the statements below are for.
const ACTION: &str = "move the rows of a repository";

/// The tables whose rows are moved, each with the condition for those of the repository `?1`. A table comes after those that
/// it refers to.
pub(super) const MOVED: [(&str, &str); 12] = [
    ("events", "repo = ?1"),
    (
        "event_refs",
        "event_id IN (SELECT id FROM events WHERE repo = ?1)",
    ),
    ("runs", "repo = ?1"),
    ("jobs", "run_id IN (SELECT id FROM runs WHERE repo = ?1)"),
    ("steps", "run_id IN (SELECT id FROM runs WHERE repo = ?1)"),
    (
        "artifacts",
        "run_id IN (SELECT id FROM runs WHERE repo = ?1)",
    ),
    ("seen_refs", "repo = ?1"),
    ("overwritten_refs", "repo = ?1"),
    ("change_commits", "repo = ?1"),
    ("run_numbers", "repo = ?1"),
    ("pull_mirrors", "repo = ?1"),
    ("former_names", "repo = ?1 AND moving = 0"),
];

impl Repos<'_> {
    /// Cancels the pending runs of a repository and asks the active ones to stop. Returns how many are active.
    pub fn cancel_open_runs(self, repo: &RepoName) -> Result<u64, StoreError> {
        let now = self.store.clock().now();
        self.store.write(|tx| cancel_open_runs(tx, repo, now))
    }

    /// Adds the rows of a repository to a file, which is created if it does not exist, and deletes them. Does nothing but
    /// cancel runs, and returns false, while runs of the repository are active.
    pub fn move_out(self, repo: &RepoName, file: &Path) -> Result<bool, StoreError> {
        let now = self.store.clock().now();
        let mut copy = open_file(file, OpenFlags::SQLITE_OPEN_CREATE)?;
        self.store.write(|tx| {
            if cancel_open_runs(tx, repo, now)? > 0 {
                return Ok(false);
            }
            // The copy is on the disk before the rows are deleted. If the process ends in between, it is made again.
            let copied = copy.transaction().context(ACTION)?;
            for (table, condition) in MOVED {
                let rows = RowsOf {
                    connection: tx,
                    table,
                    condition,
                    repo,
                };
                rows.copy_to(&copied, ("INSERT OR REPLACE", ""), |_, _| true)?;
            }
            copied.commit().context(ACTION)?;
            forget(tx, repo)?;
            Ok(true)
        })
    }

    /// Adds the rows that [`Repos::move_out`] moved into a file to the database, under the name that the repository has now.
    pub fn move_in(self, file: &Path, from: &RepoName, to: &RepoName) -> Result<(), StoreError> {
        let now = self.store.clock().now();
        let copy = open_file(file, OpenFlags::empty())?;
        self.store.write(|tx| {
            // A run may refer to a later one.
            tx.pragma_update(None, "defer_foreign_keys", true)
                .context(ACTION)?;
            sql::execute(
                tx,
                ACTION,
                "DELETE FROM seen_refs WHERE repo = ?1",
                [to.as_str()],
            )?;
            for (table, condition) in MOVED {
                let rows = RowsOf {
                    connection: &copy,
                    table,
                    condition,
                    repo: from,
                };
                let conflict = match table {
                    // One that a crash left.
                    "pull_mirrors" => {
                        "ON CONFLICT (repo) DO UPDATE SET url = excluded.url, login_user = excluded.login_user,
                         secret = excluded.secret, every_ms = excluded.every_ms, has_runs = excluded.has_runs"
                    }
                    "run_numbers" => {
                        "ON CONFLICT (repo) DO UPDATE SET last = max(last, excluded.last)"
                    }
                    _ => "ON CONFLICT DO NOTHING",
                };
                rows.copy_to(tx, ("INSERT", conflict), |column, value| match column {
                    "repo" => {
                        *value = Value::Text(to.as_str().to_owned());
                        true
                    }
                    "renamed_at_ms" => {
                        *value = Value::Integer(now.0);
                        true
                    }
                    // A former name that the repository has again is no redirect.
                    "name" if table == "former_names" => {
                        *value != Value::Text(to.as_str().to_owned())
                    }
                    _ => true,
                })?;
            }
            Ok(())
        })
    }
}

fn cancel_open_runs(tx: &Transaction<'_>, repo: &RepoName, now: Millis) -> Result<u64, StoreError> {
    let action = "cancel the runs of a repository";
    sql::execute(
        tx,
        action,
        "UPDATE runs SET state = 'canceled', finished_at_ms = max(?2, queued_at_ms),
                         stop_requested = 'canceled', message = 'canceled before it started: its repository was removed'
         WHERE repo = ?1 AND state = 'pending'",
        params![repo.as_str(), now.0],
    )?;
    sql::execute(
        tx,
        action,
        "UPDATE runs SET stop_requested = 'canceled' WHERE repo = ?1 AND state = 'active' AND stop_requested IS NULL",
        [repo.as_str()],
    )?;
    let active: Option<i64> = sql::first(
        tx,
        action,
        "SELECT count(*) FROM runs WHERE repo = ?1 AND state = 'active'",
        [repo.as_str()],
        |found| found.get(0),
    )?;
    Ok(active.map_or(0, i64::unsigned_abs))
}

/// Opens a file of rows and brings its tables to the newest version.
fn open_file(file: &Path, create: OpenFlags) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
    let open = |flags| -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(file, flags)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // Its rows refer to rows of the same file, which may come later.
        connection.pragma_update(None, "foreign_keys", false)?;
        Ok(connection)
    };
    let mut connection = open(flags).map_err(|source| StoreError::Open {
        path: file.to_owned(),
        source,
    })?;
    migrate::without_copy(&mut connection, file)?;
    Ok(connection)
}

/// The rows of a repository in one table, whatever the columns of the table are.
struct RowsOf<'a> {
    connection: &'a Connection,
    table: &'a str,
    condition: &'a str,
    repo: &'a RepoName,
}

impl RowsOf<'_> {
    /// Copies the rows, one at a time, with a statement of this verb and conflict clause. `change` may change each value of a
    /// row, given the name of its column; the row is left out if it returns false.
    fn copy_to(
        &self,
        to: &Connection,
        (verb, conflict): (&str, &str),
        change: impl Fn(&str, &mut Value) -> bool,
    ) -> Result<(), StoreError> {
        let select = format!("SELECT * FROM {} WHERE {}", self.table, self.condition);
        let mut select = self.connection.prepare(&select).context(ACTION)?;
        let columns: Vec<String> = select
            .column_names()
            .into_iter()
            .map(str::to_owned)
            .collect();
        let names: Vec<String> = columns.iter().map(|name| format!("\"{name}\"")).collect();
        let insert = format!(
            "{verb} INTO {} ({}) VALUES ({}) {conflict}",
            self.table,
            names.join(", "),
            vec!["?"; columns.len()].join(", ")
        );
        let mut rows = select.query([self.repo.as_str()]).context(ACTION)?;
        while let Some(row) = rows.next().context(ACTION)? {
            let mut values: Vec<Value> = (0..columns.len())
                .map(|at| row.get(at))
                .collect::<rusqlite::Result<_>>()
                .context(ACTION)?;
            let mut changed = columns.iter().zip(&mut values);
            if changed.all(|(column, value)| change(column, value)) {
                sql::execute(to, ACTION, &insert, params_from_iter(values))?;
            }
        }
        Ok(())
    }
}
