//! When images and caches were last used, and which images are quire's own to remove.
//!
//! What there is, the executors know; these rows only say what cannot be asked there. A thing without
//! a row counts as used when it is first looked at, a row without its thing is forgotten: so neither a
//! crash nor an older copy of the database removes what it should not.

use rusqlite::params;

use super::error::{Attempt, StoreError};
use super::open::Store;
use super::row;
use crate::clock::Millis;
use crate::names::RepoName;
use crate::run::ExecutorKind;

/// A use that follows the last one this soon is not written down: a day more or less is what counts.
const SAME_USE_MS: i64 = 60 * 60 * 1000;

/// An image by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRow {
    /// Its name.
    pub name: String,
    /// What the name stood for when it was quire's.
    pub image_id: String,
    /// When a run last had it.
    pub used_at: Millis,
}

/// An image without a name, left by a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRow {
    /// The beginning of its id.
    pub image_id: String,
    /// The engine's time when the build began.
    pub since: Millis,
    /// The image that was to become of it.
    pub built_for: String,
    /// When a build last had it.
    pub used_at: Millis,
}

/// The last use of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheUse {
    /// What keeps it.
    pub executor: ExecutorKind,
    /// The repository.
    pub repo: RepoName,
    /// Its name.
    pub name: String,
    /// When a run last had it.
    pub used_at: Millis,
}

impl Store {
    /// Notes an image as quire's own, used just now. One that is known under this id only has a new use.
    ///
    /// # Errors
    /// The database refuses.
    pub fn image_owned(&self, engine: &str, name: &str, image_id: &str) -> Result<(), StoreError> {
        let now = self.clock().now().0;
        self.write(|tx| {
            tx.execute(
                "INSERT INTO images (engine, name, image_id, used_at_ms) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (engine, name) DO UPDATE SET image_id = excluded.image_id, used_at_ms = excluded.used_at_ms",
                params![engine, name, image_id, now],
            )
            .attempt("note an image")?;
            Ok(())
        })
    }

    /// Notes the use of an image, where it is quire's own.
    ///
    /// # Errors
    /// The database refuses.
    pub fn image_used(&self, name: &str) -> Result<(), StoreError> {
        let now = self.clock().now().0;
        self.write(|tx| {
            tx.prepare_cached(
                "UPDATE images SET used_at_ms = ?2 WHERE name = ?1 AND abs(?2 - used_at_ms) > ?3",
            )
            .and_then(|mut statement| statement.execute(params![name, now, SAME_USE_MS]))
            .attempt("note the use of an image")?;
            Ok(())
        })
    }

    /// Notes what a build made, or used again, on its way to `built_for`.
    ///
    /// # Errors
    /// The database refuses.
    pub fn layer_built(
        &self,
        engine: &str,
        image_id: &str,
        since: Millis,
        built_for: &str,
    ) -> Result<(), StoreError> {
        let now = self.clock().now().0;
        self.write(|tx| {
            tx.prepare_cached(
                "INSERT INTO layers (engine, image_id, since_ms, built_for, used_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (engine, image_id) DO UPDATE SET built_for = excluded.built_for, used_at_ms = excluded.used_at_ms",
            )
            .and_then(|mut statement| statement.execute(params![engine, image_id, since.0, built_for, now]))
            .attempt("note what a build made")?;
            Ok(())
        })
    }

    /// The images of an engine that quire brought or built, by name.
    ///
    /// # Errors
    /// The database refuses.
    pub fn images(&self, engine: &str) -> Result<Vec<ImageRow>, StoreError> {
        let attempt = "list images";
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached(
                    "SELECT name, image_id, used_at_ms FROM images WHERE engine = ?1 ORDER BY name",
                )
                .attempt(attempt)?;
            let rows = statement
                .query_map([engine], |found| {
                    Ok(ImageRow {
                        name: found.get(0)?,
                        image_id: found.get(1)?,
                        used_at: Millis(found.get(2)?),
                    })
                })
                .attempt(attempt)?;
            rows.collect::<rusqlite::Result<_>>().attempt(attempt)
        })
    }

    /// What builds left on an engine, the newest first: it may stand on what is older.
    ///
    /// # Errors
    /// The database refuses.
    pub fn layers(&self, engine: &str) -> Result<Vec<LayerRow>, StoreError> {
        let attempt = "list what builds made";
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT image_id, since_ms, built_for, used_at_ms FROM layers WHERE engine = ?1 ORDER BY used_at_ms DESC")
                .attempt(attempt)?;
            let rows = statement
                .query_map([engine], |found| {
                    let (since, used_at) = (Millis(found.get(1)?), Millis(found.get(3)?));
                    Ok(LayerRow { image_id: found.get(0)?, since, built_for: found.get(2)?, used_at })
                })
                .attempt(attempt)?;
            rows.collect::<rusqlite::Result<_>>().attempt(attempt)
        })
    }

    /// Forgets an image that is gone or not quire's any more.
    ///
    /// # Errors
    /// The database refuses.
    pub fn forget_image(&self, engine: &str, name: &str) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute(
                "DELETE FROM images WHERE engine = ?1 AND name = ?2",
                [engine, name],
            )
            .attempt("forget an image")?;
            tx.execute(
                "DELETE FROM layers WHERE engine = ?1 AND image_id = ?2",
                [engine, name],
            )
            .attempt("forget an image")?;
            Ok(())
        })
    }

    /// What was used in the future was used while the clock was wrong: it counts as used now.
    ///
    /// # Errors
    /// The database refuses.
    pub fn mend_uses(&self) -> Result<(), StoreError> {
        let now = self.clock().now().0;
        self.write(|tx| {
            for table in ["images", "layers", "cache_uses"] {
                tx.execute(
                    &format!("UPDATE {table} SET used_at_ms = ?1 WHERE used_at_ms > ?1"),
                    [now],
                )
                .attempt("mend times of use")?;
            }
            Ok(())
        })
    }

    /// Notes the use of caches of a repository.
    ///
    /// # Errors
    /// The database refuses.
    pub fn caches_used(
        &self,
        executor: ExecutorKind,
        repo: &RepoName,
        names: &[String],
    ) -> Result<(), StoreError> {
        let now = self.clock().now().0;
        self.write(|tx| {
            let mut statement = tx
                .prepare_cached(
                    "INSERT INTO cache_uses (executor, repo, name, used_at_ms) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (executor, repo, name) DO UPDATE SET used_at_ms = excluded.used_at_ms
                       WHERE abs(excluded.used_at_ms - used_at_ms) > ?5",
                )
                .attempt("note the use of a cache")?;
            for name in names {
                statement.execute(params![executor.as_str(), repo.as_str(), name, now, SAME_USE_MS]).attempt("note the use of a cache")?;
            }
            Ok(())
        })
    }

    /// The last use of each cache.
    ///
    /// # Errors
    /// The database refuses.
    pub fn cache_uses(&self) -> Result<Vec<CacheUse>, StoreError> {
        let attempt = "read when caches were used";
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT executor, repo, name, used_at_ms FROM cache_uses")
                .attempt(attempt)?;
            let rows = statement
                .query_map([], |found| {
                    let (executor, repo) = (row::parsed_at(found, 0)?, row::parsed_at(found, 1)?);
                    Ok(CacheUse {
                        executor,
                        repo,
                        name: found.get(2)?,
                        used_at: Millis(found.get(3)?),
                    })
                })
                .attempt(attempt)?;
            rows.collect::<rusqlite::Result<_>>().attempt(attempt)
        })
    }

    /// Forgets a cache that is gone.
    ///
    /// # Errors
    /// The database refuses.
    pub fn forget_cache(
        &self,
        executor: ExecutorKind,
        repo: &RepoName,
        name: &str,
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute(
                "DELETE FROM cache_uses WHERE executor = ?1 AND repo = ?2 AND name = ?3",
                params![executor.as_str(), repo.as_str(), name],
            )
            .attempt("forget a cache")?;
            Ok(())
        })
    }

    /// The repositories that have a run which has not ended, and whether one of them waits.
    ///
    /// # Errors
    /// The database refuses.
    pub fn repos_at_work(&self) -> Result<(Vec<RepoName>, bool), StoreError> {
        let attempt = "list repositories with runs that go on";
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT repo, max(state = 'pending') FROM runs WHERE state IN ('pending', 'active') GROUP BY repo")
                .attempt(attempt)?;
            let rows = statement.query_map([], |found| Ok((row::parsed_at(found, 0)?, found.get::<_, bool>(1)?))).attempt(attempt)?;
            let rows = rows.collect::<rusqlite::Result<Vec<(RepoName, bool)>>>().attempt(attempt)?;
            let waits = rows.iter().any(|(_, waits)| *waits);
            Ok((rows.into_iter().map(|(repo, _)| repo).collect(), waits))
        })
    }
}
