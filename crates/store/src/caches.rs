//! When each cache was last used. Which caches exist, the executors know.

use rusqlite::params;

use super::error::StoreError;
use super::open::Store;
use super::row;
use super::sql;
use quire_types::clock::Millis;
use quire_types::names::RepoName;
use quire_types::run::ExecutorName;

/// The last use of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheUse {
    /// The executor that has the cache.
    pub executor: ExecutorName,
    pub repo: RepoName,
    pub name: String,
    pub used_at: Millis,
}

/// Access to the uses of caches.
#[derive(Debug, Clone, Copy)]
pub struct Caches<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn caches(&self) -> Caches<'_> {
        Caches { store: self }
    }
}

impl Caches<'_> {
    /// Records that a run uses these caches of its repository.
    pub fn record_use(
        self,
        executor: &ExecutorName,
        repo: &RepoName,
        names: &[String],
    ) -> Result<(), StoreError> {
        let now = self.store.clock().now().0;
        self.store.write(|tx| {
            for name in names {
                sql::execute(
                    tx,
                    "record the use of a cache",
                    "INSERT INTO cache_uses (executor, repo, name, used_at_ms) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (executor, repo, name) DO UPDATE SET used_at_ms = excluded.used_at_ms",
                    params![executor.as_str(), repo.as_str(), name, now],
                )?;
            }
            Ok(())
        })
    }

    /// The last use of each cache.
    pub fn list(self) -> Result<Vec<CacheUse>, StoreError> {
        self.store.read(|connection| {
            sql::all(
                connection,
                "list the uses of caches",
                "SELECT executor, repo, name, used_at_ms FROM cache_uses",
                [],
                |found| {
                    Ok(CacheUse {
                        executor: row::parsed_at(found, 0)?,
                        repo: row::parsed_at(found, 1)?,
                        name: found.get(2)?,
                        used_at: Millis(found.get(3)?),
                    })
                },
            )
        })
    }

    /// Forgets a cache that was removed.
    pub fn forget(
        self,
        executor: &ExecutorName,
        repo: &RepoName,
        name: &str,
    ) -> Result<(), StoreError> {
        self.store.write(|tx| {
            sql::execute(
                tx,
                "forget a cache",
                "DELETE FROM cache_uses WHERE executor = ?1 AND repo = ?2 AND name = ?3",
                params![executor.as_str(), repo.as_str(), name],
            )?;
            Ok(())
        })
    }
}
