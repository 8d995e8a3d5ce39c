//! What retention reads and removes. Each removal is one short transaction that asks once more
//! whether the run may go: it may have been repeated since the list was made.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, params};

use super::error::{Attempt, StoreError};
use super::former_names::current;
use super::open::Store;
use super::row;
use crate::clock::Millis;
use crate::names::{RepoName, RunId};
use crate::run::RunState;

/// A run, as far as retention asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldRun {
    /// The run.
    pub id: RunId,
    /// The branch it is of, by a number of the list's own; none where that branch is gone, or it is of a tag.
    pub branch: Option<u32>,
    /// Its state.
    pub state: RunState,
    /// When it ended; when it was queued, where it has not.
    pub since: Millis,
    /// A living run needs it, or its container is kept.
    pub needed: bool,
}

/// What of a run's files retention has removed, or is about to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovedFiles {
    /// Its logs.
    pub logs: bool,
    /// Its artifacts.
    pub artifacts: bool,
}

/// When git's own maintenance of a repository ended last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastUpkeep {
    /// When.
    pub ended: Millis,
    /// Why it did not succeed.
    pub problem: Option<String>,
    /// When the repository was last pushed to.
    pub pushed: Option<Millis>,
}

/// Runs that living ones need. A retry of failed jobs uses results and artifacts of the old run, which may
/// have ended before it had them from the one before it.
const NEEDED: &str = "SELECT id FROM (
       WITH RECURSIVE chain (id) AS (
         SELECT retry_of FROM runs WHERE state IN ('pending', 'active') AND retry_of IS NOT NULL
         UNION SELECT runs.retry_of FROM chain JOIN runs ON runs.id = chain.id WHERE runs.retry_of IS NOT NULL AND runs.only_failed = 1)
       SELECT id FROM chain)
     UNION ALL SELECT reused_from FROM jobs WHERE reused_from IS NOT NULL AND run_id IN (SELECT id FROM runs WHERE state IN ('pending', 'active'))
     UNION ALL SELECT run_id FROM kept_containers";

impl Store {
    /// The repositories that have runs, by name.
    ///
    /// # Errors
    /// The database refuses.
    pub fn repos_with_runs(&self) -> Result<Vec<RepoName>, StoreError> {
        self.read(|connection| {
            // A loose index scan: one seek per repository.
            let mut statement = connection
                .prepare_cached(
                    "WITH RECURSIVE names (repo) AS (
                       SELECT min(repo) FROM runs
                       UNION ALL
                       SELECT (SELECT min(repo) FROM runs WHERE repo > names.repo) FROM names WHERE names.repo IS NOT NULL)
                     SELECT repo FROM names WHERE repo IS NOT NULL",
                )
                .attempt("list repositories")?;
            let rows = statement.query_map([], |found| row::first::<RepoName>(found.get(0))).attempt("list repositories")?;
            Ok(rows.collect::<rusqlite::Result<Vec<_>>>().attempt("list repositories")?.into_iter().flatten().collect())
        })
    }

    /// All runs of a repository, oldest first.
    ///
    /// # Errors
    /// The database refuses.
    pub fn held_runs(&self, repo: &RepoName) -> Result<Vec<HeldRun>, StoreError> {
        let attempt = "list runs for retention";
        self.read(|connection| {
            let needed = needed(connection)?;
            let mut statement = connection
                .prepare_cached(
                    "SELECT r.id, r.state, coalesce(r.finished_at_ms, r.queued_at_ms), s.ref_name
                     FROM runs r LEFT JOIN seen_refs s ON s.repo = r.repo AND s.ref_name = r.ref_name AND s.ref_name GLOB 'refs/heads/*'
                     WHERE r.repo = ?1 ORDER BY r.id",
                )
                .attempt(attempt)?;
            let mut branches: HashMap<String, u32> = HashMap::new();
            let rows = statement.query_map([repo.as_str()], |found| {
                let next = u32::try_from(branches.len()).unwrap_or(u32::MAX);
                let branch = found.get::<_, Option<String>>(3)?.map(|name| *branches.entry(name).or_insert(next));
                let id: RunId = row::parsed_at(found, 0)?;
                Ok(HeldRun { id, branch, state: row::parsed_at(found, 1)?, since: Millis(found.get(2)?), needed: needed.contains(&id) })
            });
            rows.attempt(attempt)?.collect::<rusqlite::Result<_>>().attempt(attempt)
        })
    }

    /// What is noted as removed of each of these runs; nothing for one that has no row.
    ///
    /// # Errors
    /// The database refuses.
    pub fn removed_files(
        &self,
        runs: &[RunId],
    ) -> Result<HashMap<RunId, RemovedFiles>, StoreError> {
        let attempt = "read what retention removed";
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT logs_removed_at_ms IS NOT NULL, artifacts_removed_at_ms IS NOT NULL FROM runs WHERE id = ?1")
                .attempt(attempt)?;
            let mut found = HashMap::new();
            for run in runs {
                let marks = statement
                    .query_row([run.to_string()], |row| Ok(RemovedFiles { logs: row.get(0)?, artifacts: row.get(1)? }))
                    .optional()
                    .attempt(attempt)?;
                found.extend(marks.map(|marks| (*run, marks)));
            }
            Ok(found)
        })
    }

    /// Notes that files of these runs go, before they do. Gives those of which they may: ended, and needed by nobody.
    ///
    /// # Errors
    /// The database refuses.
    pub fn note_removed(
        &self,
        runs: &[RunId],
        what: RemovedFiles,
    ) -> Result<Vec<RunId>, StoreError> {
        let attempt = "note what retention removes";
        let now = self.clock().now().0;
        let sql = format!(
            "UPDATE runs SET logs_removed_at_ms = CASE WHEN ?2 THEN coalesce(logs_removed_at_ms, ?4) ELSE logs_removed_at_ms END,
                             artifacts_removed_at_ms = CASE WHEN ?3 THEN coalesce(artifacts_removed_at_ms, ?4) ELSE artifacts_removed_at_ms END
             WHERE id = ?1 AND state IN ('complete', 'failed', 'superseded') AND id NOT IN ({NEEDED})"
        );
        self.write(|tx| {
            let mut statement = tx.prepare_cached(&sql).attempt(attempt)?;
            let mut noted = Vec::new();
            for run in runs {
                let changed = statement
                    .execute(params![run.to_string(), what.logs, what.artifacts, now])
                    .attempt(attempt)?;
                noted.extend((changed > 0).then_some(*run));
            }
            Ok(noted)
        })
    }

    /// Removes the rows of runs whose files are noted as removed and that nobody needs. Gives how many went.
    ///
    /// # Errors
    /// The database refuses.
    pub fn remove_runs(&self, runs: &[RunId]) -> Result<usize, StoreError> {
        let attempt = "remove old runs";
        let sql = format!(
            "DELETE FROM runs WHERE id = ?1 AND state IN ('complete', 'failed', 'superseded')
               AND logs_removed_at_ms IS NOT NULL AND artifacts_removed_at_ms IS NOT NULL AND id NOT IN ({NEEDED})"
        );
        self.write(|tx| {
            let mut statement = tx.prepare_cached(&sql).attempt(attempt)?;
            let mut gone = 0;
            for run in runs {
                gone += statement.execute([run.to_string()]).attempt(attempt)?;
            }
            Ok(gone)
        })
    }

    /// Removes at most `limit` events made before `before` that have no run any more. Each repository
    /// keeps its newest, which says when it was last pushed to. Gives how many went.
    ///
    /// # Errors
    /// The database refuses.
    pub fn remove_events(&self, before: Millis, limit: u32) -> Result<usize, StoreError> {
        self.write(|tx| {
            tx.prepare_cached(
                "DELETE FROM events WHERE id IN (
                   SELECT e.id FROM events e
                   WHERE e.id < ?1 AND NOT EXISTS (SELECT 1 FROM runs WHERE event_id = e.id)
                     AND EXISTS (SELECT 1 FROM events n WHERE n.repo = e.repo AND n.pushed_at_ms > e.pushed_at_ms)
                   LIMIT ?2)",
            )
            .and_then(|mut statement| statement.execute(params![first_id_at(before), limit]))
            .attempt("remove old events")
        })
    }

    /// The last maintenance of a repository; none where there was none.
    ///
    /// # Errors
    /// The database refuses.
    pub fn last_upkeep(&self, repo: &RepoName) -> Result<Option<LastUpkeep>, StoreError> {
        self.read(|connection| {
            let repo = current(connection, repo)?;
            connection
                .prepare_cached(
                    "SELECT ended_ms, problem, (SELECT max(pushed_at_ms) FROM events WHERE repo = ?1) FROM maintenance WHERE repo = ?1",
                )
                .and_then(|mut statement| {
                    let last = |row: &rusqlite::Row<'_>| {
                        Ok(LastUpkeep {
                            ended: Millis(row.get(0)?),
                            problem: row.get(1)?,
                            pushed: row.get::<_, Option<i64>>(2)?.map(Millis),
                        })
                    };
                    statement.query_row([repo.as_str()], last).optional()
                })
                .attempt("read when a repository was packed")
        })
    }

    /// Notes that maintenance of a repository has ended just now, and what went wrong.
    ///
    /// # Errors
    /// The database refuses.
    pub fn note_upkeep(&self, repo: &RepoName, problem: Option<&str>) -> Result<(), StoreError> {
        let now = self.clock().now().0;
        self.write(|tx| {
            let repo = current(tx, repo)?;
            tx.execute(
                "INSERT INTO maintenance (repo, ended_ms, problem) VALUES (?1, ?2, ?3)
                 ON CONFLICT (repo) DO UPDATE SET ended_ms = excluded.ended_ms, problem = excluded.problem",
                params![repo.as_str(), now, problem],
            )
            .attempt("note that a repository was packed")?;
            Ok(())
        })
    }

    /// The repositories whose last maintenance failed, and why.
    ///
    /// # Errors
    /// The database refuses.
    pub fn upkeep_problems(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.read(|connection| {
            let attempt = "read when repositories were packed";
            let mut statement = connection
                .prepare_cached(
                    "SELECT repo, problem FROM maintenance WHERE problem IS NOT NULL ORDER BY repo",
                )
                .attempt(attempt)?;
            let rows = statement
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                .attempt(attempt)?;
            rows.collect::<rusqlite::Result<_>>().attempt(attempt)
        })
    }

    /// When the newest run was queued that was queued before this; none where there is none.
    ///
    /// # Errors
    /// The database refuses.
    pub fn last_queued_before(&self, before: Millis) -> Result<Option<Millis>, StoreError> {
        self.read(|connection| {
            // Along the primary key: ids are in the order of queueing.
            let found = connection.query_row(
                "SELECT queued_at_ms FROM runs WHERE queued_at_ms < ?1 ORDER BY id DESC LIMIT 1",
                [before.0],
                |found| found.get(0),
            );
            Ok(found
                .optional()
                .attempt("find the last run of yesterday")?
                .map(Millis))
        })
    }

    /// When the database was made.
    ///
    /// # Errors
    /// The database refuses.
    pub fn made_at(&self) -> Result<Millis, StoreError> {
        self.read(|connection| {
            connection
                .query_row("SELECT created_at_ms FROM instance", [], |found| {
                    found.get(0)
                })
                .map(Millis)
                .attempt("read the instance")
        })
    }
}

/// What no id made at this time or later sorts before: a range of the primary key, which is a UUIDv7.
fn first_id_at(at: Millis) -> String {
    let millis = at.0.clamp(0, (1 << 48) - 1);
    format!("{:08x}-{:04x}", millis >> 16, millis & 0xffff)
}

fn needed(connection: &Connection) -> Result<HashSet<RunId>, StoreError> {
    let attempt = "list runs for retention";
    let mut statement = connection.prepare_cached(NEEDED).attempt(attempt)?;
    let rows = statement
        .query_map([], |found| row::first::<RunId>(found.get(0)))
        .attempt(attempt)?;
    Ok(rows
        .collect::<rusqlite::Result<Vec<_>>>()
        .attempt(attempt)?
        .into_iter()
        .flatten()
        .collect())
}
