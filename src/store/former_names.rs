//! Names that repositories had before, and the rename of one: all its rows in one transaction.
//!
//! Whoever still holds a name in memory or in a spool file may use it: what is asked or recorded by
//! name goes through [`current`], which leads to the name that the rows bear just now.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::error::{Attempt, StoreError};
use super::open::Store;
use super::row;
use crate::clock::Millis;
use crate::names::{RepoName, RunId};

/// The tables in which rows bear a repository's name.
const TABLES: [&str; 6] = [
    "events",
    "seen_refs",
    "runs",
    "schedules",
    "schedule_sources",
    "maintenance",
];

/// A list of repositories is never as old as this when it is used, in milliseconds.
const LATELY_MS: i64 = 60 * 1000;

/// A name that a repository had before, or is about to give up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerName {
    /// The name.
    pub name: RepoName,
    /// The repository's name now, or soon.
    pub repo: RepoName,
    /// The rename is not done yet: rows still bear the former name.
    pub moving: bool,
}

impl Store {
    /// All former names, those of renames that are not done first.
    ///
    /// # Errors
    /// The database refuses.
    pub fn former_names(&self) -> Result<Vec<FormerName>, StoreError> {
        let attempt = "list former names";
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached(
                    "SELECT name, repo, moving FROM former_names ORDER BY moving DESC, name",
                )
                .attempt(attempt)?;
            let rows = statement.query_map([], |found| {
                Ok(FormerName {
                    name: row::parsed_at(found, 0)?,
                    repo: row::parsed_at(found, 1)?,
                    moving: found.get(2)?,
                })
            });
            rows.attempt(attempt)?
                .collect::<rusqlite::Result<_>>()
                .attempt(attempt)
        })
    }

    /// Notes that a repository is to be renamed: from here on it will be, and none of its runs is claimed until
    /// it is. What an earlier repository of the new name left in rows goes. False where that one still has runs,
    /// or another rename is not done.
    ///
    /// # Errors
    /// The database refuses.
    pub fn begin_rename(&self, from: &RepoName, to: &RepoName) -> Result<bool, StoreError> {
        let attempt = "begin a rename";
        let now = self.clock().now().0;
        self.write(|tx| {
            let taken: bool = tx
                .query_row(
                    "SELECT EXISTS (SELECT 1 FROM runs WHERE repo = ?1) OR EXISTS (SELECT 1 FROM former_names WHERE repo = ?1 AND moving = 1)",
                    [to.as_str()],
                    |found| found.get(0),
                )
                .attempt(attempt)?;
            if taken {
                return Ok(false);
            }
            for table in TABLES.iter().filter(|table| **table != "runs") {
                tx.execute(&format!("DELETE FROM {table} WHERE repo = ?1"), [to.as_str()]).attempt(attempt)?;
            }
            // One that is not done is finished first; a second one does not take its place.
            let begun = tx
                .execute(
                    "INSERT INTO former_names (name, repo, moving, renamed_at_ms) VALUES (?1, ?2, 1, ?3)
                     ON CONFLICT (name) DO UPDATE SET repo = excluded.repo, moving = 1, renamed_at_ms = excluded.renamed_at_ms WHERE moving = 0",
                    params![from.as_str(), to.as_str(), now],
                )
                .attempt(attempt)?;
            Ok(begun == 1)
        })
    }

    /// Takes back that a repository is to be renamed: nothing of it has been moved.
    ///
    /// # Errors
    /// The database refuses.
    pub fn withdraw_rename(&self, from: &RepoName) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute(
                "DELETE FROM former_names WHERE name = ?1 AND moving = 1",
                [from.as_str()],
            )
            .attempt("withdraw a rename")?;
            Ok(())
        })
    }

    /// Gives all rows of a repository its new name: its folders bear it already. Whatever led to the old name
    /// leads to the new one, and the old name itself does. Done twice it is done once.
    ///
    /// # Errors
    /// The database refuses.
    pub fn finish_rename(&self, from: &RepoName, to: &RepoName) -> Result<(), StoreError> {
        let attempt = "rename a repository";
        let names = [from.as_str(), to.as_str()];
        self.write(|tx| {
            let begun =
                tx.execute("UPDATE former_names SET moving = 0 WHERE name = ?1 AND repo = ?2 AND moving = 1", names).attempt(attempt)?;
            if begun == 0 {
                return Ok(());
            }
            tx.execute("INSERT OR IGNORE INTO left_links (name) VALUES (?1)", [from.as_str()]).attempt(attempt)?;
            tx.execute("DELETE FROM former_names WHERE name = ?1", [to.as_str()]).attempt(attempt)?;
            for table in TABLES.iter().chain(&["former_names"]) {
                tx.execute(&format!("UPDATE {table} SET repo = ?2 WHERE repo = ?1"), names).attempt(attempt)?;
            }
            Ok(())
        })
    }

    /// Forgets that a name led to a repository: it is free, or somebody else's.
    ///
    /// # Errors
    /// The database refuses.
    pub fn forget_former_name(&self, name: &RepoName) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute(
                "DELETE FROM former_names WHERE name = ?1 AND moving = 0",
                [name.as_str()],
            )
            .attempt("forget a former name")?;
            Ok(())
        })
    }

    /// Whether a rename is not done, or links of one are left.
    ///
    /// # Errors
    /// The database refuses.
    pub fn has_open_renames(&self) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM former_names WHERE moving = 1) OR EXISTS (SELECT 1 FROM left_links)";
        self.read(|connection| {
            let mut statement = connection.prepare_cached(sql).attempt("look for renames")?;
            statement
                .query_row([], |found| found.get(0))
                .attempt("look for renames")
        })
    }

    /// Names below which links to the folders of moved runs may lie.
    ///
    /// # Errors
    /// The database refuses.
    pub fn left_links(&self) -> Result<Vec<RepoName>, StoreError> {
        let attempt = "list names with links";
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT name FROM left_links")
                .attempt(attempt)?;
            let rows = statement.query_map([], |found| row::parsed_at(found, 0));
            rows.attempt(attempt)?
                .collect::<rusqlite::Result<_>>()
                .attempt(attempt)
        })
    }

    /// No link lies below this name any more.
    ///
    /// # Errors
    /// The database refuses.
    pub fn forget_left_links(&self, name: &RepoName) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute("DELETE FROM left_links WHERE name = ?1", [name.as_str()])
                .attempt("forget links")?;
            Ok(())
        })
    }

    /// The active runs of a repository.
    ///
    /// # Errors
    /// The database refuses.
    pub fn active_runs_of(&self, repo: &RepoName) -> Result<Vec<RunId>, StoreError> {
        let attempt = "list active runs";
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT id FROM runs WHERE repo = ?1 AND state = 'active'")
                .attempt(attempt)?;
            let rows = statement.query_map([repo.as_str()], |found| row::parsed_at(found, 0));
            rows.attempt(attempt)?
                .collect::<rusqlite::Result<_>>()
                .attempt(attempt)
        })
    }
}

/// The name that a repository's rows bear just now, by whatever name it is called.
pub(super) fn current(connection: &Connection, repo: &RepoName) -> Result<RepoName, StoreError> {
    let attempt = "look a former name up";
    let found = connection
        .prepare_cached(
            "SELECT name FROM former_names WHERE repo = ?1 AND moving = 1
             UNION ALL SELECT repo FROM former_names WHERE name = ?1 AND moving = 0",
        )
        .and_then(|mut statement| {
            statement
                .query_row([repo.as_str()], |found| row::parsed_at(found, 0))
                .optional()
        });
    Ok(found.attempt(attempt)?.unwrap_or_else(|| repo.clone()))
}

/// Whether no repository is being renamed or was so lately. A list of the repositories there are may have been made
/// before or under it: what is not in it is not forgotten then, but another time.
pub(super) fn at_rest(connection: &Connection, now: Millis) -> Result<bool, StoreError> {
    let sql = "SELECT NOT EXISTS (SELECT 1 FROM former_names WHERE moving = 1 OR abs(?1 - renamed_at_ms) < ?2)";
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_row([now.0, LATELY_MS], |found| found.get(0)))
        .attempt("look for renames")
}

/// Forgets the names that a repository had before.
pub(super) fn forget(tx: &Transaction<'_>, repo: &RepoName) -> Result<(), StoreError> {
    tx.execute(
        "DELETE FROM former_names WHERE repo = ?1 AND moving = 0",
        [repo.as_str()],
    )
    .attempt("forget former names")?;
    Ok(())
}
