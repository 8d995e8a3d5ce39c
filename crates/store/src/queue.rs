//! The queue: which pending run may start next, why the others wait, and of which group each is.

use rusqlite::{ToSql, Transaction, named_params, params};

use super::error::StoreError;
use super::instance::advance;
use super::new_run::NewRun;
use super::open::Store;
use super::redirects;
use super::row::{self, RUN_COLUMNS};
use super::sql::{self, SqlContext};
use super::supersede::{SupersedeDecision, apply_supersede, enter_queue};
use quire_pipeline::Group;
use quire_types::names::{RepoName, RunId};
use quire_types::run::{ExecutorName, Run};

/// How many runs of one repository are listed whose group is not known: more than one, because the first may
/// have to be retried later.
const MAX_UNKNOWN_OF_REPO: u32 = 10;

/// Whether a pending run `p` may start: its group is known, no run of its ref is active, no
/// run before it in the queue is or may be of its group, its repository is not being renamed, and runs are not held.
const CLAIMABLE: &str = "p.state = 'pending' AND p.unexamined = 0
    AND (SELECT held FROM instance WHERE one = 1) IS NULL
    AND NOT EXISTS (SELECT 1 FROM former_names f WHERE f.name = p.repo AND f.moving = 1)
    AND NOT EXISTS (SELECT 1 FROM runs a WHERE a.state = 'active' AND a.repo = p.repo AND a.ref_name = p.ref_name)
    AND NOT EXISTS (SELECT 1 FROM runs g WHERE g.state IN ('pending', 'active') AND g.repo = p.repo AND g.group_name = p.group_name
                    AND (g.queued_at_ms, g.id) < (p.queued_at_ms, p.id))
    AND NOT EXISTS (SELECT 1 FROM runs u WHERE u.state = 'pending' AND u.unexamined = 1 AND u.repo = p.repo
                    AND (u.queued_at_ms, u.id) < (p.queued_at_ms, p.id) AND (p.group_name IS NOT NULL OR u.ref_name = p.ref_name))";

/// Only the pending runs that come next say which run they wait for.
const MAX_REASONS: u32 = 100;

/// Access to the queue.
#[derive(Debug, Clone, Copy)]
pub struct QueueTable<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn queue(&self) -> QueueTable<'_> {
        QueueTable { store: self }
    }
}

impl QueueTable<'_> {
    /// Queues a run that was not made by a push; returns its id.
    pub fn enqueue(self, run: &NewRun, decide: SupersedeDecision) -> Result<RunId, StoreError> {
        let now = self.store.clock().now();
        self.store.write(|tx| {
            let run = NewRun {
                repo: redirects::resolve(tx, &run.repo)?,
                ..run.clone()
            };
            Ok(enter_queue(tx, &run, None, now, decide)?.0)
        })
    }

    /// Claims the oldest pending run that may start.
    pub fn claim_next(self, executor: &ExecutorName) -> Result<Option<Run>, StoreError> {
        let now = self.store.clock().now();
        self.store.write(|tx| {
            let run = sql::first(
                tx,
                "claim a run",
                &claim_sql(),
                named_params! { ":now": now.0, ":executor": executor.as_str() },
                row::run,
            )?;
            if run.is_some() {
                advance(tx)?;
            }
            Ok(run)
        })
    }

    /// Whether [`QueueTable::claim_next`] would find a run.
    pub fn has_claimable(self) -> Result<bool, StoreError> {
        self.store.read(|connection| {
            let mut statement = connection
                .prepare_cached(&claimable_sql())
                .context("find a pending run")?;
            statement
                .query_row([], |found| found.get(0))
                .context("find a pending run")
        })
    }

    /// Sets one reason why all pending runs wait, or clears it; returns the runs that changed.
    pub fn set_wait_reason(self, reason: Option<&str>) -> Result<Vec<RunId>, StoreError> {
        let sql = "UPDATE runs SET message = ?1 WHERE state = 'pending' AND message IS NOT ?1 RETURNING id";
        self.store.write(|tx| update_messages(tx, sql, &[&reason]))
    }

    /// Sets for each of the pending runs that come next which run of its ref or group it waits for, or `otherwise` if
    /// it waits for none of these; returns the runs that changed.
    pub fn set_block_reasons(self, otherwise: Option<&str>) -> Result<Vec<RunId>, StoreError> {
        let sql = block_reasons_sql();
        self.store
            .write(|tx| update_messages(tx, &sql, &[&otherwise]))
    }

    /// Pending runs whose group is not known yet, oldest first; of each repository the oldest ones only, so that
    /// one with many does not hide the others.
    pub fn with_unknown_group(self, limit: u32) -> Result<Vec<Run>, StoreError> {
        let sql = unknown_group_sql(limit);
        self.store.read(|connection| {
            sql::all(
                connection,
                "list runs whose group is not known",
                &sql,
                [],
                row::run,
            )
        })
    }

    /// Sets the group of a pending run, and supersedes what `decide` says; returns the runs that changed. A run that
    /// has been finished meanwhile stays as it is.
    pub fn set_group(
        self,
        run: &Run,
        group: Option<&Group>,
        decide: SupersedeDecision,
    ) -> Result<Vec<RunId>, StoreError> {
        let now = self.store.clock().now();
        let name = group.map(|group| group.name.as_str());
        let supersede = group.is_none_or(|group| group.supersede);
        self.store.write(|tx| {
            let changed = sql::execute(
                tx,
                "set the group of a run",
                "UPDATE runs SET unexamined = 0, group_name = ?2, supersede = ?3, message = NULL
                 WHERE id = ?1 AND state = 'pending' AND unexamined = 1",
                params![run.id.to_string(), name, supersede],
            )?;
            if changed == 0 {
                return Ok(Vec::new());
            }
            // The repository may have been renamed since the run was read.
            let repo = redirects::resolve(tx, &run.repo)?;
            let mut changed = apply_supersede(tx, &repo, &run.ref_name, name, now, decide)?;
            changed.push(run.id);
            Ok(changed)
        })
    }

    /// Records why the group of a pending run is not known yet; returns the run if that changed.
    pub fn set_group_error(self, run: RunId, error: &str) -> Result<Vec<RunId>, StoreError> {
        let sql = "UPDATE runs SET message = ?2 WHERE id = ?1 AND state = 'pending' AND message IS NOT ?2 RETURNING id";
        self.store
            .write(|tx| update_messages(tx, sql, &[&run.to_string(), &error]))
    }

    /// The repositories that have an open run, and whether any run is pending.
    pub fn busy_repos(self) -> Result<(Vec<RepoName>, bool), StoreError> {
        let sql = "SELECT repo, max(state = 'pending') FROM runs WHERE state IN ('pending', 'active') GROUP BY repo";
        let repos: Vec<(RepoName, bool)> = self.store.read(|connection| {
            sql::all(
                connection,
                "list repositories with open runs",
                sql,
                [],
                |found| Ok((row::parsed_at(found, 0)?, found.get(1)?)),
            )
        })?;
        let has_pending = repos.iter().any(|(_, pending)| *pending);
        Ok((
            repos.into_iter().map(|(repo, _)| repo).collect(),
            has_pending,
        ))
    }
}

/// The statements that are executed again and again, for a test of their query plans.
#[cfg(test)]
pub(super) fn hot_queries() -> Vec<String> {
    vec![
        claim_sql(),
        claimable_sql(),
        block_reasons_sql(),
        unknown_group_sql(100),
        super::new_run::LAST_QUEUED.to_owned(),
        super::supersede::open_runs_sql(),
    ]
}

fn claim_sql() -> String {
    format!(
        "UPDATE runs SET state = 'active', started_at_ms = max(:now, queued_at_ms), executor = :executor, message = NULL
         WHERE state = 'pending' AND id = (
           SELECT p.id FROM runs p INDEXED BY runs_pending WHERE {CLAIMABLE} ORDER BY p.queued_at_ms, p.id LIMIT 1)
         RETURNING {RUN_COLUMNS}"
    )
}

fn claimable_sql() -> String {
    format!("SELECT EXISTS (SELECT 1 FROM runs p WHERE {CLAIMABLE})")
}

fn block_reasons_sql() -> String {
    format!(
        "WITH next AS (SELECT id, repo, ref_name, group_name, queued_at_ms FROM runs p INDEXED BY runs_pending
                       WHERE state = 'pending' AND unexamined = 0 ORDER BY queued_at_ms, id LIMIT {MAX_REASONS}),
              reasons AS (SELECT id, coalesce(
           (SELECT 'waits: the database is an older copy; `reconcile --adopt` or `reconcile --run` decides what happens' FROM instance
            WHERE one = 1 AND held IS NOT NULL),
           (SELECT 'waits until its repository is renamed to ' || f.repo FROM former_names f WHERE f.name = p.repo AND f.moving = 1),
           (SELECT 'waits for run ' || a.id || ' of the same ref' FROM runs a
            WHERE a.state = 'active' AND a.repo = p.repo AND a.ref_name = p.ref_name),
           (SELECT 'waits for run ' || g.id || ' of the same group, ' || g.group_name FROM runs g
            WHERE g.state IN ('pending', 'active') AND g.repo = p.repo AND g.group_name = p.group_name
              AND (g.queued_at_ms, g.id) < (p.queued_at_ms, p.id)
            ORDER BY g.queued_at_ms DESC, g.id DESC LIMIT 1), ?1) AS reason FROM next p)
         UPDATE runs SET message = reasons.reason FROM reasons
         WHERE runs.id = reasons.id AND runs.state = 'pending' AND runs.message IS NOT reasons.reason RETURNING runs.id"
    )
}

fn unknown_group_sql(limit: u32) -> String {
    format!(
        "SELECT {RUN_COLUMNS} FROM runs WHERE id IN (
           SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY repo ORDER BY queued_at_ms, id) AS turn
                           FROM runs INDEXED BY runs_unexamined WHERE state = 'pending' AND unexamined = 1)
           WHERE turn <= {MAX_UNKNOWN_OF_REPO})
         ORDER BY queued_at_ms, id LIMIT {limit}"
    )
}

/// Executes an UPDATE that returns the ids of the runs that it changed.
fn update_messages(
    tx: &Transaction<'_>,
    sql: &str,
    values: &[&dyn ToSql],
) -> Result<Vec<RunId>, StoreError> {
    sql::all(tx, "set why runs wait", sql, values, |found| {
        row::parsed_at(found, 0)
    })
}
