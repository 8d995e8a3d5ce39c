//! When git's maintenance of each repository ended last, and how.

use rusqlite::params;

use super::error::StoreError;
use super::open::Store;
use super::redirects::resolve;
use super::sql;
use quire_types::clock::Millis;
use quire_types::names::RepoName;

/// The last maintenance of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastMaintenance {
    pub ended: Millis,
    /// Why it failed.
    pub problem: Option<String>,
    /// When the repository was last pushed to.
    pub pushed: Option<Millis>,
}

/// Access to the records of maintenance.
#[derive(Debug, Clone, Copy)]
pub struct Maintenance<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn maintenance(&self) -> Maintenance<'_> {
        Maintenance { store: self }
    }
}

impl Maintenance<'_> {
    /// The last maintenance of a repository, or `None` if there was none.
    pub fn last(self, repo: &RepoName) -> Result<Option<LastMaintenance>, StoreError> {
        self.store.read(|connection| {
            let repo = resolve(connection, repo)?;
            sql::first(
                connection,
                "read the last maintenance of a repository",
                "SELECT ended_ms, problem, (SELECT max(pushed_at_ms) FROM events WHERE repo = ?1) FROM maintenance WHERE repo = ?1",
                [repo.as_str()],
                |found| {
                    Ok(LastMaintenance {
                        ended: Millis(found.get(0)?),
                        problem: found.get(1)?,
                        pushed: found.get::<_, Option<i64>>(2)?.map(Millis),
                    })
                },
            )
        })
    }

    /// Records that maintenance of a repository ended just now, and why it failed.
    pub fn record(self, repo: &RepoName, problem: Option<&str>) -> Result<(), StoreError> {
        let now = self.store.clock().now().0;
        self.store.write(|tx| {
            let repo = resolve(tx, repo)?;
            sql::execute(
                tx,
                "record the maintenance of a repository",
                "INSERT INTO maintenance (repo, ended_ms, problem) VALUES (?1, ?2, ?3)
                 ON CONFLICT (repo) DO UPDATE SET ended_ms = excluded.ended_ms, problem = excluded.problem",
                params![repo.as_str(), now, problem],
            )?;
            Ok(())
        })
    }

    /// The repositories whose last maintenance failed, and why.
    pub fn problems(self) -> Result<Vec<(String, String)>, StoreError> {
        self.store.read(|connection| {
            sql::all(
                connection,
                "list failed maintenance",
                "SELECT repo, problem FROM maintenance WHERE problem IS NOT NULL ORDER BY repo",
                [],
                |found| Ok((found.get(0)?, found.get(1)?)),
            )
        })
    }
}
