//! What pushes overwrote, and hidden refs of git keep: one row for each ref that was deleted, or moved to a commit that does
//! not contain the old one.

use std::collections::BTreeSet;

use rusqlite::{Row, Transaction, params};

use super::error::StoreError;
use super::open::Store;
use super::redirects;
use super::row;
use super::sql;
use quire_types::clock::Millis;
use quire_types::names::{EventId, ObjectId, RefName, RepoName};
use quire_types::push_event::{PushEvent, RefUpdate};

/// A ref that a push deleted or moved by force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverwrittenRef {
    pub event_id: EventId,
    pub repo: RepoName,
    pub ref_name: RefName,
    /// What it referred to.
    pub old_sha: ObjectId,
    /// What the push made it refer to; `None` if it was deleted.
    pub new_sha: Option<ObjectId>,
    pub pushed_at_ms: Millis,
    /// When the server recorded it. Its time begins then.
    pub recorded_at_ms: Millis,
    /// The name of the key that pushed.
    pub pusher: Option<String>,
}

/// Access to overwritten refs.
#[derive(Debug, Clone, Copy)]
pub struct OverwrittenRefs<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn overwritten_refs(&self) -> OverwrittenRefs<'_> {
        OverwrittenRefs { store: self }
    }
}

impl OverwrittenRefs<'_> {
    /// Those of a repository, or of one of its refs, the newest first.
    pub fn list(
        self,
        repo: &RepoName,
        ref_name: Option<&RefName>,
        limit: u32,
    ) -> Result<Vec<OverwrittenRef>, StoreError> {
        self.store.read(|connection| {
            let repo = redirects::resolve(connection, repo)?;
            sql::all(
                connection,
                "list overwritten refs",
                "SELECT event_id, repo, ref_name, old_sha, new_sha, pushed_at_ms, recorded_at_ms, pusher FROM overwritten_refs
                 WHERE repo = ?1 AND (?2 IS NULL OR ref_name = ?2) ORDER BY recorded_at_ms DESC, event_id DESC, ref_name LIMIT ?3",
                params![repo.as_str(), ref_name.map(RefName::as_str), limit],
                overwritten_ref,
            )
        })
    }

    /// The newest one that referred to this object.
    pub fn newest_of_object(
        self,
        repo: &RepoName,
        object: &ObjectId,
    ) -> Result<Option<OverwrittenRef>, StoreError> {
        self.store.read(|connection| {
            let repo = redirects::resolve(connection, repo)?;
            sql::first(
                connection,
                "find an overwritten object",
                "SELECT event_id, repo, ref_name, old_sha, new_sha, pushed_at_ms, recorded_at_ms, pusher FROM overwritten_refs
                 WHERE repo = ?1 AND old_sha = ?2 ORDER BY recorded_at_ms DESC, event_id DESC LIMIT 1",
                [repo.as_str(), object.as_str()],
                overwritten_ref,
            )
        })
    }

    /// The objects that those of a repository referred to.
    pub fn objects(self, repo: &RepoName) -> Result<BTreeSet<ObjectId>, StoreError> {
        let objects = self.store.read(|connection| {
            let repo = redirects::resolve(connection, repo)?;
            sql::all(
                connection,
                "list overwritten objects",
                "SELECT DISTINCT old_sha FROM overwritten_refs WHERE repo = ?1",
                [repo.as_str()],
                |found| row::parsed_at(found, 0),
            )
        })?;
        Ok(objects.into_iter().collect())
    }

    /// Deletes those that were recorded before this time, and all but the newest `max` of each repository. Returns how many.
    pub fn expire(self, before: Millis, max: u32) -> Result<usize, StoreError> {
        self.store.write(|tx| {
            sql::execute(
                tx,
                "delete old overwritten refs",
                "DELETE FROM overwritten_refs WHERE recorded_at_ms < ?1 OR (event_id, ref_name) IN (
                   SELECT event_id, ref_name FROM (
                     SELECT event_id, ref_name, row_number() OVER (PARTITION BY repo ORDER BY recorded_at_ms DESC, event_id DESC) AS position
                     FROM overwritten_refs) WHERE position > ?2)",
                params![before.0, max],
            )
        })
    }
}

/// Records what a push overwrote. A comparison of refs and the event of the push may find the same: the newer row takes the
/// place of the older one.
pub(super) fn record(
    tx: &Transaction<'_>,
    event: &PushEvent,
    overwritten: &[RefUpdate],
    now: Millis,
) -> Result<(), StoreError> {
    let action = "record an overwritten ref";
    for update in overwritten {
        let new_sha = (!update.new_sha.is_zero()).then(|| update.new_sha.as_str());
        let (repo, ref_name) = (event.repo.as_str(), update.ref_name.as_str());
        sql::execute(
            tx,
            action,
            "DELETE FROM overwritten_refs WHERE repo = ?1 AND ref_name = ?2 AND old_sha = ?3 AND new_sha IS ?4 AND event_id = (
               SELECT event_id FROM overwritten_refs WHERE repo = ?1 AND ref_name = ?2 ORDER BY recorded_at_ms DESC, event_id DESC LIMIT 1)",
            params![repo, ref_name, update.old_sha.as_str(), new_sha],
        )?;
        sql::execute(
            tx,
            action,
            "INSERT INTO overwritten_refs (event_id, ref_name, repo, old_sha, new_sha, pushed_at_ms, recorded_at_ms, pusher)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                event.id.to_string(),
                ref_name,
                repo,
                update.old_sha.as_str(),
                new_sha,
                event.pushed_at.0,
                now.0,
                event.pusher
            ],
        )?;
    }
    Ok(())
}

fn overwritten_ref(found: &Row<'_>) -> rusqlite::Result<OverwrittenRef> {
    let new_sha: Option<String> = found.get(4)?;
    Ok(OverwrittenRef {
        event_id: row::parsed_at(found, 0)?,
        repo: row::parsed_at(found, 1)?,
        ref_name: row::parsed_at(found, 2)?,
        old_sha: row::parsed_at(found, 3)?,
        new_sha: new_sha.map(|_| row::parsed_at(found, 4)).transpose()?,
        pushed_at_ms: Millis(found.get(5)?),
        recorded_at_ms: Millis(found.get(6)?),
        pusher: found.get(7)?,
    })
}
