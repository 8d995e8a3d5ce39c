//! Runs that repeat others: by a person's wish, and after nobody drove one any more.
//!
//! A run that uses a job's result has the job's artifacts as well, once it has begun. Until then they
//! lie with one of those before it: the run in which the job was really run, or one that used its result.

use std::collections::HashSet;

use rusqlite::{Transaction, params};

use super::error::{Attempt, StoreError};
use super::open::Store;
use super::queue::{NewRun, SupersedeDecision, insert_at, insert_next, settle};
use super::row;
use super::runs::{end_active, get};
use crate::names::{JobName, RunId};
use crate::policy;
use crate::run::{ArtifactRow, FailureKind, JobRow, Outcome, Run, RunState, Trigger};

/// How a run is repeated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repeat {
    /// Only what failed and what depends on it; the recorded results of the rest are used again.
    pub only_failed: bool,
    /// The new run's container is kept for a while when it fails.
    pub keep: bool,
}

impl Store {
    /// Ends an active run that nobody drives any more, and queues it again where policy says so, in
    /// the place of the old one: what waited behind it still waits. Gives the new run.
    ///
    /// # Errors
    /// The run is not active, or its container is not confirmed gone.
    pub fn orphan(
        &self,
        run: RunId,
        message: &str,
        requeue: bool,
        decide: SupersedeDecision,
    ) -> Result<Option<RunId>, StoreError> {
        let now = self.clock().now();
        self.write(|tx| {
            let old = get(tx, run)?;
            let outcome = match old.stop_requested {
                // It was to be stopped anyway; what was asked for has happened.
                Some(reason) => Outcome::stopped(reason),
                None => Outcome::Failed(FailureKind::Orphaned, message.to_owned()),
            };
            end_active(tx, run, &outcome, now.0)?;
            if !policy::requeue_orphan(
                old.trigger == Trigger::Orphan,
                old.stop_requested.is_some(),
                requeue,
            ) {
                return Ok(None);
            }
            let again = NewRun {
                only_failed: old.only_failed,
                keep: old.keep,
                ..again(&old, Trigger::Orphan)
            };
            let id = insert_at(tx, &again, old.event_id, old.queued_at_ms, now)?;
            let reused = jobs(tx, run)?
                .into_iter()
                .filter(|job| job.reused_from.is_some());
            reuse(tx, id, &reused.collect::<Vec<_>>())?;
            settle(
                tx,
                &again.repo,
                &again.ref_name,
                again.group_name.as_deref(),
                now,
                decide,
            )?;
            Ok(Some(id))
        })
    }

    /// Queues a new run that repeats an ended one.
    ///
    /// # Errors
    /// There is no such run, it has not ended, or nothing of it failed and only that is wanted.
    pub fn retry(&self, run: RunId, how: Repeat) -> Result<Run, StoreError> {
        let now = self.clock().now();
        self.write(|tx| {
            let old = get(tx, run)?;
            if !old.state.is_final() {
                return Err(StoreError::NotEnded {
                    run: run.to_string(),
                    state: old.state,
                });
            }
            if how.only_failed && old.state == RunState::Complete {
                return Err(StoreError::NothingFailed(run.to_string()));
            }
            let again = NewRun {
                only_failed: how.only_failed,
                keep: how.keep,
                ..again(&old, Trigger::Retry)
            };
            // Nothing is replaced: what is retried may be older than what stands, and the claim puts them in line.
            let id = insert_next(tx, &again, None, now)?;
            if how.only_failed {
                let jobs = jobs(tx, run)?;
                let passed = policy::passed(&jobs, &lost(tx, run)?);
                reuse(
                    tx,
                    id,
                    &jobs
                        .into_iter()
                        .filter(|job| passed.contains(&job.job_id))
                        .collect::<Vec<_>>(),
                )?;
            }
            get(tx, id)
        })
    }

    /// The recorded results that a run uses instead of running those jobs, once they are there.
    ///
    /// # Errors
    /// The database refuses.
    pub fn reused(&self, run: RunId) -> Result<Vec<JobRow>, StoreError> {
        Ok(self
            .jobs(run)?
            .into_iter()
            .filter(|job| job.reused_from.is_some())
            .collect())
    }

    /// The artifacts of jobs whose results a run uses, as rows of the runs that have them.
    ///
    /// # Errors
    /// The database refuses.
    pub fn reused_artifacts(&self, run: RunId) -> Result<Vec<ArtifactRow>, StoreError> {
        let attempt = "list the artifacts of used results";
        self.read(|connection| {
            let sql =
                format!("WITH RECURSIVE {COPIES} SELECT artifacts.* FROM {HELD} WHERE copies.run_id <> ?1 ORDER BY name, run_id DESC");
            let mut statement = connection.prepare_cached(&sql).attempt(attempt)?;
            let rows = statement.query_map([run.to_string()], row::artifact).attempt(attempt)?;
            let mut rows = rows.collect::<rusqlite::Result<Vec<_>>>().attempt(attempt)?;
            // Several runs may have the same one.
            rows.dedup_by(|one, other| one.name == other.name);
            Ok(rows)
        })
    }
}

/// For each job of run `?1`, the runs before it (and itself) that have its very result, however they came by it.
const COPIES: &str = "chain (id) AS (
       SELECT ?1
       UNION SELECT runs.retry_of FROM chain JOIN runs ON runs.id = chain.id WHERE runs.retry_of IS NOT NULL AND runs.only_failed = 1),
     origins (job_id, id) AS (SELECT job_id, coalesce(reused_from, run_id) FROM jobs WHERE run_id = ?1),
     copies (job_id, run_id) AS (
       SELECT origins.job_id, jobs.run_id FROM origins
       JOIN jobs ON jobs.run_id IN (SELECT id FROM chain UNION SELECT id FROM origins) AND jobs.job_id = origins.job_id
       WHERE coalesce(jobs.reused_from, jobs.run_id) = origins.id)";

/// Artifacts of those jobs that are there.
const HELD: &str =
    "copies JOIN artifacts ON artifacts.run_id = copies.run_id AND artifacts.job_id = copies.job_id
     JOIN runs ON runs.id = copies.run_id AND runs.artifacts_removed_at_ms IS NULL";

/// Jobs of a run whose artifacts are in no run any more. Where the run that kept them is gone altogether, they count
/// as lost unless one that used its result had begun, and so has what there was.
fn lost(tx: &Transaction<'_>, run: RunId) -> Result<HashSet<JobName>, StoreError> {
    let attempt = "look for the artifacts of a run";
    let sql = format!(
        "WITH RECURSIVE {COPIES}
         SELECT job_id FROM origins
         WHERE NOT EXISTS (SELECT 1 FROM {HELD} WHERE copies.job_id = origins.job_id)
           AND (EXISTS (SELECT 1 FROM copies JOIN artifacts ON artifacts.run_id = copies.run_id AND artifacts.job_id = copies.job_id
                        WHERE copies.job_id = origins.job_id)
                OR (NOT EXISTS (SELECT 1 FROM runs WHERE id = origins.id)
                    AND NOT EXISTS (SELECT 1 FROM copies JOIN jobs ON jobs.run_id = copies.run_id AND jobs.reused_from IS NULL
                                    WHERE copies.job_id = origins.job_id)))"
    );
    let mut statement = tx.prepare_cached(&sql).attempt(attempt)?;
    let rows = statement
        .query_map([run.to_string()], |found| row::parsed_at(found, 0))
        .attempt(attempt)?;
    rows.collect::<rusqlite::Result<_>>().attempt(attempt)
}

/// A new run of the same commit.
fn again(old: &Run, trigger: Trigger) -> NewRun {
    NewRun {
        previous_sha: old.previous_sha.clone(),
        trigger,
        source: old.source.clone(),
        pusher: old.pusher.clone(),
        only_job: old.only_job.clone(),
        retry_of: Some(old.id),
        params: old.params.clone(),
        group_name: old.group_name.clone(),
        supersede: old.supersede,
        unexamined: old.unexamined,
        ..NewRun::of_push(
            old.repo.clone(),
            old.ref_name.clone(),
            old.sha.clone(),
            old.pushed_at_ms,
        )
    }
}

fn jobs(tx: &Transaction<'_>, run: RunId) -> Result<Vec<JobRow>, StoreError> {
    let attempt = "list a run's jobs";
    let mut statement = tx
        .prepare_cached("SELECT * FROM jobs WHERE run_id = ?1 ORDER BY position")
        .attempt(attempt)?;
    let rows = statement
        .query_map([run.to_string()], row::job)
        .attempt(attempt)?;
    rows.collect::<rusqlite::Result<_>>().attempt(attempt)
}

/// Copies the rows of jobs to a run that uses their results. A copy names the run in which the job was really run.
fn reuse(tx: &Transaction<'_>, run: RunId, jobs: &[JobRow]) -> Result<(), StoreError> {
    let names: Vec<&str> = jobs.iter().map(|job| job.job_id.as_str()).collect();
    let Some(first) = jobs.first() else {
        return Ok(());
    };
    tx.execute(
        "INSERT INTO jobs (run_id, job_id, position, inputs, state, exit_code, message, output, started_at_ms, finished_at_ms, reused_from)
         SELECT ?1, job_id, position, inputs, state, exit_code, message, output, started_at_ms, finished_at_ms, coalesce(reused_from, run_id)
         FROM jobs WHERE run_id = ?2 AND job_id IN (SELECT value FROM json_each(?3))",
        params![run.to_string(), first.run_id.to_string(), serde_json::Value::from(names).to_string()],
    )
    .attempt("use a job's result again")?;
    Ok(())
}
