//! What retention reads and deletes. Each deletion is one short transaction that checks again
//! whether the run may be deleted: it may have been retried since the list was read.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, params};

use super::error::StoreError;
use super::open::Store;
use super::row;
use super::sql;
use quire_types::clock::Millis;
use quire_types::names::{RepoName, RunId};
use quire_types::run::RunState;

/// What retention needs to know of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionCandidate {
    pub id: RunId,
    /// A number for the run's branch, for this list only; `None` for a tag or a deleted branch.
    pub branch: Option<u32>,
    pub state: RunState,
    /// When it finished, or was queued if it has not finished.
    pub since: Millis,
    /// Whether an open run needs it, its container is kept, or it has to be told.
    pub needed: bool,
}

/// Which of a run's files retention has deleted, or is about to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovedFiles {
    pub logs: bool,
    pub artifacts: bool,
}

/// Runs that open runs need, or whose container is kept. A retry of failed jobs uses results and artifacts of the old run, which may
/// have finished before it copied them from the run before it.
const NEEDED: &str = "SELECT id FROM (
       WITH RECURSIVE chain (id) AS (
         SELECT retry_of FROM runs WHERE state IN ('pending', 'active') AND retry_of IS NOT NULL
         UNION SELECT runs.retry_of FROM chain JOIN runs ON runs.id = chain.id WHERE runs.retry_of IS NOT NULL AND runs.only_failed = 1)
       SELECT id FROM chain)
     UNION ALL SELECT reused_from FROM jobs WHERE reused_from IS NOT NULL AND run_id IN (SELECT id FROM runs WHERE state IN ('pending', 'active'))
     UNION ALL SELECT run_id FROM kept_containers";

/// Whether no target of notifications waits for a run; without targets, none does. An index answers this, since the outbox
/// may be long.
const IS_TOLD: &str = "NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.run_id = runs.id AND seq > (SELECT min(position) FROM notify_targets))";

/// Access to what retention reads and deletes.
#[derive(Debug, Clone, Copy)]
pub struct Retention<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn retention(&self) -> Retention<'_> {
        Retention { store: self }
    }
}

impl Retention<'_> {
    /// All runs of a repository, oldest first.
    pub fn candidates(self, repo: &RepoName) -> Result<Vec<RetentionCandidate>, StoreError> {
        self.store.read(|connection| {
            let needed = needed(connection)?;
            let mut branches: HashMap<String, u32> = HashMap::new();
            sql::all(
                connection,
                "list runs for retention",
                "SELECT r.id, r.state, coalesce(r.finished_at_ms, r.queued_at_ms), s.ref_name
                 FROM runs r LEFT JOIN seen_refs s ON s.repo = r.repo AND s.ref_name = r.ref_name AND s.ref_name GLOB 'refs/heads/*'
                 WHERE r.repo = ?1 ORDER BY r.id",
                [repo.as_str()],
                |found| {
                    let next = u32::try_from(branches.len()).unwrap_or(u32::MAX);
                    let branch: Option<String> = found.get(3)?;
                    let id: RunId = row::parsed_at(found, 0)?;
                    Ok(RetentionCandidate {
                        id,
                        branch: branch.map(|name| *branches.entry(name).or_insert(next)),
                        state: row::parsed_at(found, 1)?,
                        since: Millis(found.get(2)?),
                        needed: needed.contains(&id),
                    })
                },
            )
        })
    }

    /// Which files of these runs are marked as removed. Runs that have no row are left out.
    pub fn removed_files(self, runs: &[RunId]) -> Result<HashMap<RunId, RemovedFiles>, StoreError> {
        self.store.read(|connection| {
            let mut removed = HashMap::new();
            for run in runs {
                let files = sql::first(
                    connection,
                    "read which files were removed",
                    "SELECT logs_removed_at_ms IS NOT NULL, artifacts_removed_at_ms IS NOT NULL FROM runs WHERE id = ?1",
                    [run.to_string()],
                    |found| Ok(RemovedFiles { logs: found.get(0)?, artifacts: found.get(1)? }),
                )?;
                removed.extend(files.map(|files| (*run, files)));
            }
            Ok(removed)
        })
    }

    /// Marks files of these runs as removed, before they are. Returns the runs whose files may be removed: those that
    /// are finished and that no open run needs.
    pub fn mark_removed(
        self,
        runs: &[RunId],
        files: RemovedFiles,
    ) -> Result<Vec<RunId>, StoreError> {
        let now = self.store.clock().now().0;
        let sql = format!(
            "UPDATE runs SET logs_removed_at_ms = CASE WHEN ?2 THEN coalesce(logs_removed_at_ms, ?4) ELSE logs_removed_at_ms END,
                             artifacts_removed_at_ms = CASE WHEN ?3 THEN coalesce(artifacts_removed_at_ms, ?4) ELSE artifacts_removed_at_ms END
             WHERE id = ?1 AND state NOT IN ('pending', 'active') AND id NOT IN ({NEEDED}) AND {IS_TOLD}"
        );
        self.store.write(|tx| {
            let mut marked = Vec::new();
            for run in runs {
                let parameters = params![run.to_string(), files.logs, files.artifacts, now];
                let changed = sql::execute(tx, "mark files as removed", &sql, parameters)?;
                marked.extend((changed > 0).then_some(*run));
            }
            Ok(marked)
        })
    }

    /// Deletes the rows of runs whose files are marked as removed and that no open run needs. Returns how many were
    /// deleted.
    pub fn remove_runs(self, runs: &[RunId]) -> Result<usize, StoreError> {
        let sql = format!(
            "DELETE FROM runs WHERE id = ?1 AND state NOT IN ('pending', 'active')
               AND logs_removed_at_ms IS NOT NULL AND artifacts_removed_at_ms IS NOT NULL AND id NOT IN ({NEEDED}) AND {IS_TOLD}"
        );
        self.store.write(|tx| {
            let mut removed = 0;
            for run in runs {
                removed += sql::execute(tx, "remove old runs", &sql, [run.to_string()])?;
            }
            Ok(removed)
        })
    }

    /// Deletes at most `limit` events that were made before `before`, have no run any more and are told to no target any more. The
    /// newest event of each repository stays, since it says when the repository was last pushed to. Returns how many were deleted.
    pub fn remove_events(self, before: Millis, limit: u32) -> Result<usize, StoreError> {
        self.store.write(|tx| {
            sql::execute(
                tx,
                "remove old events",
                "DELETE FROM events WHERE id IN (
                   SELECT e.id FROM events e
                   WHERE e.id < ?1 AND NOT EXISTS (SELECT 1 FROM runs WHERE event_id = e.id)
                     AND EXISTS (SELECT 1 FROM events n WHERE n.repo = e.repo AND n.pushed_at_ms > e.pushed_at_ms)
                     AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.event_id = e.id AND seq > (SELECT min(position) FROM notify_targets))
                   LIMIT ?2)",
                params![first_id_at(before), limit],
            )
        })
    }

    /// When the newest run was queued that was queued before this time.
    pub fn last_queued_before(self, before: Millis) -> Result<Option<Millis>, StoreError> {
        // Along the primary key: ids are in the order of insertion.
        let sql = "SELECT queued_at_ms FROM runs WHERE queued_at_ms < ?1 ORDER BY id DESC LIMIT 1";
        self.store.read(|connection| {
            sql::first(
                connection,
                "find an earlier run",
                sql,
                [before.0],
                |found| found.get(0).map(Millis),
            )
        })
    }

    /// Sets times of use that are in the future to now: they were recorded while the clock was wrong.
    pub fn clamp_future_usage(self) -> Result<(), StoreError> {
        let now = self.store.clock().now().0;
        self.store.write(|tx| {
            for table in ["images", "layers", "cache_uses"] {
                let sql = format!("UPDATE {table} SET used_at_ms = ?1 WHERE used_at_ms > ?1");
                sql::execute(tx, "correct times of use", &sql, [now])?;
            }
            Ok(())
        })
    }
}

/// Sorts before all ids that are made at this time or later: a range of the primary key, which is a UUIDv7.
pub(super) fn first_id_at(at: Millis) -> String {
    let millis = at.0.clamp(0, (1 << 48) - 1);
    format!("{:08x}-{:04x}", millis >> 16, millis & 0xffff)
}

fn needed(connection: &Connection) -> Result<HashSet<RunId>, StoreError> {
    let sql = format!(
        "{NEEDED} UNION ALL SELECT run_id FROM outbox WHERE run_id IS NOT NULL AND seq > (SELECT min(position) FROM notify_targets)"
    );
    let needed = sql::all(connection, "list runs for retention", &sql, [], |found| {
        row::parsed_at(found, 0)
    })?;
    Ok(needed.into_iter().collect())
}
