//! Redirects from the former names of repositories, and the rename of one: all its rows in one transaction.
//!
//! A caller may still use a name that it read before a rename, or that is in a spool file. What is looked up or
//! recorded by name goes through [`resolve`], which returns the name that the rows have at that moment.

use rusqlite::{Connection, Transaction, params};

use super::error::StoreError;
use super::open::Store;
use super::row;
use super::sql;
use quire_types::clock::Millis;
use quire_types::names::RepoName;

/// The tables whose rows have the name of a repository.
const TABLES: [&str; 12] = [
    "change_commits",
    "events",
    "landings",
    "mirrors",
    "overwritten_refs",
    "pull_mirrors",
    "seen_refs",
    "runs",
    "run_numbers",
    "schedules",
    "schedule_sources",
    "maintenance",
];

/// A list of repositories is used within this time after it was read.
const MAX_LIST_AGE_MS: i64 = 60 * 1000;

/// A redirect from a former name of a repository, or from the name that a rename is about to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    pub name: RepoName,
    /// The repository's name now, or once the rename is done.
    pub repo: RepoName,
    /// Whether the rename is not done yet: the rows still have the former name.
    pub moving: bool,
}

/// Access to redirects.
#[derive(Debug, Clone, Copy)]
pub struct Redirects<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn redirects(&self) -> Redirects<'_> {
        Redirects { store: self }
    }
}

impl Redirects<'_> {
    /// All redirects; those of renames that are not done come first.
    pub fn list(self) -> Result<Vec<Redirect>, StoreError> {
        self.store.read(|connection| {
            sql::all(
                connection,
                "list redirects",
                "SELECT name, repo, moving FROM former_names ORDER BY moving DESC, name",
                [],
                |found| {
                    Ok(Redirect {
                        name: row::parsed_at(found, 0)?,
                        repo: row::parsed_at(found, 1)?,
                        moving: found.get(2)?,
                    })
                },
            )
        })
    }

    /// Begins the rename of a repository: from here on it will be done, and none of the repository's runs is claimed before
    /// that. Rows that an earlier repository of the new name left are deleted. Returns false if the new name still has
    /// runs, or another rename is not done.
    pub fn begin_rename(self, from: &RepoName, to: &RepoName) -> Result<bool, StoreError> {
        let action = "begin a rename";
        let now = self.store.clock().now().0;
        self.store.write(|tx| {
            let occupied = sql::first(
                tx,
                action,
                "SELECT 1 FROM runs WHERE repo = ?1
                 UNION ALL SELECT 1 FROM former_names WHERE repo = ?1 AND moving = 1 LIMIT 1",
                [to.as_str()],
                |found| found.get::<_, i64>(0),
            )?;
            if occupied.is_some() {
                return Ok(false);
            }
            for table in TABLES.iter().filter(|table| **table != "runs") {
                let sql = format!("DELETE FROM {table} WHERE repo = ?1");
                sql::execute(tx, action, &sql, [to.as_str()])?;
            }
            // A rename that is not done must be finished before the next one begins.
            let begun = sql::execute(
                tx,
                action,
                "INSERT INTO former_names (name, repo, moving, renamed_at_ms) VALUES (?1, ?2, 1, ?3)
                 ON CONFLICT (name) DO UPDATE SET repo = excluded.repo, moving = 1, renamed_at_ms = excluded.renamed_at_ms WHERE moving = 0",
                params![from.as_str(), to.as_str(), now],
            )?;
            Ok(begun == 1)
        })
    }

    /// Aborts a rename that has not moved anything yet.
    pub fn abort_rename(self, from: &RepoName) -> Result<(), StoreError> {
        self.store.write(|tx| {
            let sql = "DELETE FROM former_names WHERE name = ?1 AND moving = 1";
            sql::execute(tx, "abort a rename", sql, [from.as_str()])?;
            Ok(())
        })
    }

    /// Changes the name in all rows of a repository whose folders have the new name already. The old name and the
    /// redirects to it then redirect to the new one. Does nothing if it is done already.
    pub fn finish_rename(self, from: &RepoName, to: &RepoName) -> Result<(), StoreError> {
        let action = "rename a repository";
        let names = [from.as_str(), to.as_str()];
        self.store.write(|tx| {
            let begun = sql::execute(
                tx,
                action,
                "UPDATE former_names SET moving = 0 WHERE name = ?1 AND repo = ?2 AND moving = 1",
                names,
            )?;
            if begun == 0 {
                return Ok(());
            }
            sql::execute(
                tx,
                action,
                "INSERT OR IGNORE INTO left_links (name) VALUES (?1)",
                [from.as_str()],
            )?;
            sql::execute(
                tx,
                action,
                "DELETE FROM former_names WHERE name = ?1",
                [to.as_str()],
            )?;
            // One that a crash left before its repository was there.
            let sql = "DELETE FROM pull_mirrors WHERE repo = ?1";
            sql::execute(tx, action, sql, [to.as_str()])?;
            for table in TABLES.iter().chain(&["former_names"]) {
                let sql = format!("UPDATE {table} SET repo = ?2 WHERE repo = ?1");
                sql::execute(tx, action, &sql, names)?;
            }
            Ok(())
        })
    }

    /// Deletes a redirect: its name is free, or another repository has it.
    pub fn forget(self, name: &RepoName) -> Result<(), StoreError> {
        self.store.write(|tx| {
            let sql = "DELETE FROM former_names WHERE name = ?1 AND moving = 0";
            sql::execute(tx, "delete a redirect", sql, [name.as_str()])?;
            Ok(())
        })
    }

    /// Whether a rename is not done, or has left links to the folders of moved runs.
    pub fn has_pending_work(self) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM former_names WHERE moving = 1 UNION ALL SELECT 1 FROM left_links LIMIT 1";
        let found = self.store.read(|connection| {
            sql::first(connection, "find unfinished renames", sql, [], |found| {
                found.get::<_, i64>(0)
            })
        })?;
        Ok(found.is_some())
    }

    /// Names below which there may be links to the folders of moved runs.
    pub fn stale_links(self) -> Result<Vec<RepoName>, StoreError> {
        self.store.read(|connection| {
            sql::all(
                connection,
                "list names with links",
                "SELECT name FROM left_links",
                [],
                |found| row::parsed_at(found, 0),
            )
        })
    }

    /// There are no links below this name any more.
    pub fn forget_stale_links(self, name: &RepoName) -> Result<(), StoreError> {
        self.store.write(|tx| {
            let sql = "DELETE FROM left_links WHERE name = ?1";
            sql::execute(tx, "forget links", sql, [name.as_str()])?;
            Ok(())
        })
    }
}

/// Returns the name that the rows of a repository have at this moment, given any of its names.
pub(super) fn resolve(connection: &Connection, repo: &RepoName) -> Result<RepoName, StoreError> {
    let found = sql::first(
        connection,
        "resolve the name of a repository",
        "SELECT name FROM former_names WHERE repo = ?1 AND moving = 1
         UNION ALL SELECT repo FROM former_names WHERE name = ?1 AND moving = 0",
        [repo.as_str()],
        |found| row::parsed_at(found, 0),
    )?;
    Ok(found.unwrap_or_else(|| repo.clone()))
}

/// Whether no rename is pending or was done within the last minute. If one was, a list of the existing repositories may have been
/// read before it, so a repository that is missing in the list must not be forgotten yet.
pub(super) fn no_pending_rename(connection: &Connection, now: Millis) -> Result<bool, StoreError> {
    let recent = sql::first(
        connection,
        "find recent renames",
        "SELECT 1 FROM former_names WHERE moving = 1 OR abs(?1 - renamed_at_ms) < ?2 LIMIT 1",
        [now.0, MAX_LIST_AGE_MS],
        |found| found.get::<_, i64>(0),
    )?;
    Ok(recent.is_none())
}

/// Deletes all redirects to a repository.
pub(super) fn forget_all_of(tx: &Transaction<'_>, repo: &RepoName) -> Result<(), StoreError> {
    let sql = "DELETE FROM former_names WHERE repo = ?1 AND moving = 0";
    sql::execute(
        tx,
        "delete the redirects to a repository",
        sql,
        [repo.as_str()],
    )?;
    Ok(())
}
