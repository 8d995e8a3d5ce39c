//! Which images quire pulled or built, and when each was last used.
//!
//! The engine is the source of truth for what exists; these rows record only which images are quire's to remove,
//! and when each was last used. A missing row means "used now", and a row without its image is deleted: so neither a
//! crash nor an older backup of the database makes quire remove what it should not.

use std::time::Duration;

use rusqlite::params;

use super::error::StoreError;
use super::open::Store;
use super::{row, sql};
use quire_types::clock::Millis;
use quire_types::image_reference::ImageReference;
use quire_types::names::RepoName;

/// A use that follows the last recorded one within this time is not recorded: a day more or less is what counts.
const USAGE_RESOLUTION_MS: i64 = 60 * 60 * 1000;

/// How long a look for a newer version of an image is remembered: an image in use is looked for each day.
const MAX_LOOK_AGE_MS: i64 = 90 * 24 * 60 * 60 * 1000;

/// The last look for a newer version of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastLook {
    pub age: Duration,
    /// What the name referred to; empty for an image that quire built.
    pub image_id: String,
    /// The newer version by its digest, if there was one.
    pub newer: Option<ImageReference>,
}

/// The last use of an image that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUse {
    /// A replaced image has its id as its name.
    pub name: String,
    /// What the name referred to when quire pulled or built it. Empty for a build that did not
    /// record its end.
    pub image_id: String,
    /// The repository from which quire built it; `None` if quire pulled it.
    pub repo: Option<RepoName>,
    pub used_at: Millis,
}

/// The last use of an image without a name that a build of a version before 0.2 left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerUse {
    /// The beginning of its id.
    pub image_id: String,
    /// The engine's time when the build started.
    pub since: Millis,
    /// The image that the build was for.
    pub built_for: String,
    /// When a build last used it.
    pub used_at: Millis,
}

/// Access to the images that quire pulled or built.
#[derive(Debug, Clone, Copy)]
pub struct Images<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn images(&self) -> Images<'_> {
        Images { store: self }
    }
}

impl Images<'_> {
    /// Records that quire pulled an image just now.
    pub fn record_pulled(self, engine: &str, name: &str, image_id: &str) -> Result<(), StoreError> {
        let now = self.store.clock().now().0;
        self.store.write(|tx| {
            sql::execute(
                tx,
                "record an image",
                "INSERT INTO images (engine, name, image_id, used_at_ms) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (engine, name) DO UPDATE SET image_id = excluded.image_id, used_at_ms = excluded.used_at_ms",
                params![engine, name, image_id, now],
            )?;
            Ok(())
        })
    }

    /// Records that quire is about to build an image for a tag.
    pub fn build_started(self, engine: &str, tag: &str, repo: &RepoName) -> Result<(), StoreError> {
        let now = self.store.clock().now().0;
        self.store.write(|tx| {
            sql::execute(
                tx,
                "record that an image is built",
                "INSERT INTO images (engine, name, image_id, repo, used_at_ms) VALUES (?1, ?2, '', ?3, ?4)
                 ON CONFLICT (engine, name) DO UPDATE SET repo = excluded.repo, used_at_ms = excluded.used_at_ms",
                params![engine, tag, repo.as_str(), now],
            )?;
            Ok(())
        })
    }

    /// Records the id of an image that was built. The image that had the tag before stays recorded
    /// by its id, because the engine keeps it without a name.
    pub fn build_finished(
        self,
        engine: &str,
        tag: &str,
        repo: &RepoName,
        image_id: &str,
    ) -> Result<(), StoreError> {
        let now = self.store.clock().now().0;
        self.store.write(|tx| {
            sql::execute(
                tx,
                "record a replaced image",
                "INSERT OR IGNORE INTO images (engine, name, image_id, repo, used_at_ms)
                 SELECT engine, image_id, image_id, repo, used_at_ms FROM images
                 WHERE engine = ?1 AND name = ?2 AND image_id NOT IN ('', ?3)",
                params![engine, tag, image_id],
            )?;
            sql::execute(
                tx,
                "record a built image",
                "INSERT INTO images (engine, name, image_id, repo, used_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (engine, name) DO UPDATE SET image_id = excluded.image_id, repo = excluded.repo, used_at_ms = excluded.used_at_ms",
                params![engine, tag, image_id, repo.as_str(), now],
            )?;
            // A build from the cache can have the id of an image that it replaced before.
            sql::execute(
                tx,
                "forget a replaced image that is used again",
                "DELETE FROM images WHERE engine = ?1 AND name = ?2",
                params![engine, image_id],
            )?;
            Ok(())
        })
    }

    /// Records the use of an image, if quire pulled or built it.
    pub fn record_use(self, name: &str) -> Result<(), StoreError> {
        let now = self.store.clock().now().0;
        self.store.write(|tx| {
            sql::execute(
                tx,
                "record the use of an image",
                "UPDATE images SET used_at_ms = ?2 WHERE name = ?1 AND abs(?2 - used_at_ms) > ?3",
                params![name, now, USAGE_RESOLUTION_MS],
            )?;
            Ok(())
        })
    }

    /// The last look for a newer version of an image.
    pub fn last_look(self, name: &str) -> Result<Option<LastLook>, StoreError> {
        let now = self.store.clock().now().0;
        self.store.read(|connection| {
            sql::first(
                connection,
                "read when an image was looked for",
                "SELECT looked_at_ms, image_id, newer FROM image_looks WHERE name = ?1",
                [name],
                |found| {
                    let looked_at: i64 = found.get(0)?;
                    Ok(LastLook {
                        // If the clock was set back, the look counts as an old one.
                        age: u64::try_from(now - looked_at)
                            .map_or(Duration::MAX, Duration::from_millis),
                        image_id: found.get(1)?,
                        newer: row::optional_at(found, 2)?,
                    })
                },
            )
        })
    }

    /// Records that a newer version of an image was looked for now, and forgets images that were not looked for for long.
    pub fn record_look(
        self,
        name: &str,
        image_id: &str,
        newer: Option<&ImageReference>,
    ) -> Result<(), StoreError> {
        let now = self.store.clock().now().0;
        self.store.write(|tx| {
            sql::execute(
                tx,
                "record that an image was looked for",
                "INSERT INTO image_looks (name, looked_at_ms, image_id, newer) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (name) DO UPDATE SET looked_at_ms = excluded.looked_at_ms, image_id = excluded.image_id, newer = excluded.newer",
                params![name, now, image_id, newer.map(ToString::to_string)],
            )?;
            sql::execute(
                tx,
                "forget when unused images were looked for",
                "DELETE FROM image_looks WHERE looked_at_ms < ?1",
                [now - MAX_LOOK_AGE_MS],
            )?;
            Ok(())
        })
    }

    /// The images that quire pulled or built on an engine, by name.
    pub fn list(self, engine: &str) -> Result<Vec<ImageUse>, StoreError> {
        self.store.read(|connection| {
            sql::all(
                connection,
                "list images",
                "SELECT name, image_id, repo, used_at_ms FROM images WHERE engine = ?1 ORDER BY name",
                [engine],
                |found| {
                    Ok(ImageUse {
                        name: found.get(0)?,
                        image_id: found.get(1)?,
                        repo: row::optional_at(found, 2)?,
                        used_at: Millis(found.get(3)?),
                    })
                },
            )
        })
    }

    /// Whether an image was built from a repository, on any engine.
    pub fn has_builds(self, repo: &RepoName) -> Result<bool, StoreError> {
        self.store.read(|connection| {
            let sql = "SELECT 1 FROM images WHERE repo = ?1 LIMIT 1";
            let found = sql::first(
                connection,
                "look for built images",
                sql,
                [repo.as_str()],
                |_| Ok(()),
            )?;
            Ok(found.is_some())
        })
    }

    /// What builds left on an engine, the newest first: it may be based on an older one.
    pub fn layers(self, engine: &str) -> Result<Vec<LayerUse>, StoreError> {
        self.store.read(|connection| {
            sql::all(
                connection,
                "list what builds made",
                "SELECT image_id, since_ms, built_for, used_at_ms FROM layers WHERE engine = ?1 ORDER BY used_at_ms DESC",
                [engine],
                |found| {
                    Ok(LayerUse {
                        image_id: found.get(0)?,
                        since: Millis(found.get(1)?),
                        built_for: found.get(2)?,
                        used_at: Millis(found.get(3)?),
                    })
                },
            )
        })
    }

    /// Forgets an image that was removed, or whose name now refers to another image.
    pub fn forget(self, engine: &str, name: &str) -> Result<(), StoreError> {
        self.store.write(|tx| {
            for sql in [
                "DELETE FROM images WHERE engine = ?1 AND name = ?2",
                "DELETE FROM layers WHERE engine = ?1 AND image_id = ?2",
            ] {
                sql::execute(tx, "forget an image", sql, [engine, name])?;
            }
            Ok(())
        })
    }
}
