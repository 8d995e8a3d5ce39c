//! Retries: by a user, and of an orphaned run by quire itself.
//!
//! A run that reuses a job's result has the job's artifacts as well, once it has started. Until then they
//! are in one of the runs before it: the run that executed the job, or one that reused its result.

use std::collections::HashSet;

use rusqlite::{Transaction, params};

use super::error::StoreError;
use super::jobs::{Jobs, jobs_of_run};
use super::new_run::{NewRun, insert_at};
use super::row;
use super::runs::{self, Runs};
use super::sql;
use super::supersede::{SupersedeDecision, apply_supersede, enter_queue};
use quire_types::names::{JobName, RunId};
use quire_types::run::{FailureKind, Outcome, Run, RunArtifact, RunJob, RunState, Trigger};
use quire_types::supersede;

/// How a run is retried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryOptions {
    /// Only the jobs that failed and those that depend on them; the results of the others are reused.
    pub only_failed: bool,
    /// The container of the new run is kept for a while if the run fails.
    pub keep: bool,
}

/// The message of a run that was active when quire was stopped. Any other message of an orphaned run is that of a crash.
pub const STOPPED_WITH_QUIRE: &str = "quire was stopped while the run was active";

/// How many of the runs before an orphaned run are looked at.
const MAX_PREDECESSORS: usize = 1_000;

impl Runs<'_> {
    /// Finishes an active run that no task drives any more, and requeues it if the policy says so: at the
    /// place of the old run, so that the runs behind it still wait. Returns the new run.
    pub fn orphan(
        self,
        run: RunId,
        message: &str,
        requeue: bool,
        decide: SupersedeDecision,
    ) -> Result<Option<RunId>, StoreError> {
        let now = self.store.clock().now();
        self.store.write(|tx| {
            let old = runs::get(tx, run)?;
            let outcome = match old.stop_requested {
                // It was to be stopped anyway, and now it has.
                Some(reason) => Outcome::of_stop_request(reason),
                None => Outcome::Failed(FailureKind::Orphaned, message.to_owned()),
            };
            runs::finish(tx, run, &outcome, now.0)?;
            let crashed_twice = message != STOPPED_WITH_QUIRE && crashed_before(tx, &old)?;
            if !supersede::requeue_orphan(crashed_twice, old.stop_requested.is_some(), requeue) {
                return Ok(None);
            }
            let new = NewRun {
                only_failed: old.only_failed,
                keep: old.keep,
                rebuild: old.rebuild,
                ..retry_of(&old, Trigger::Orphan)
            };
            let id = insert_at(tx, &new, old.event_id, old.queued_at_ms, now)?;
            let reused = jobs_of_run(tx, run)?
                .into_iter()
                .filter(|job| job.reused_from.is_some());
            reuse_results(tx, id, &reused.collect::<Vec<_>>())?;
            let group = new.group_name.as_deref();
            apply_supersede(tx, &new.repo, &new.ref_name, group, now, decide)?;
            Ok(Some(id))
        })
    }

    /// Queues a new run that retries a finished one, and returns it.
    pub fn retry(
        self,
        run: RunId,
        options: RetryOptions,
        decide: SupersedeDecision,
    ) -> Result<Run, StoreError> {
        let now = self.store.clock().now();
        self.store.write(|tx| {
            let old = runs::get(tx, run)?;
            if !old.state.is_final() {
                return Err(StoreError::NotFinished {
                    run: run.to_string(),
                    state: old.state,
                });
            }
            if options.only_failed && old.state == RunState::Complete {
                return Err(StoreError::NothingFailed(run.to_string()));
            }
            let new = NewRun {
                only_failed: options.only_failed,
                keep: options.keep,
                ..retry_of(&old, Trigger::Retry)
            };
            let (id, _) = enter_queue(tx, &new, None, now, decide)?;
            if options.only_failed {
                let mut jobs = jobs_of_run(tx, run)?;
                let reusable = supersede::reusable_jobs(&jobs, &lost_artifacts(tx, run)?);
                jobs.retain(|job| reusable.contains(&job.job_id));
                reuse_results(tx, id, &jobs)?;
            }
            runs::get(tx, id)
        })
    }
}

/// Whether one of the runs that a requeued run continues was ended by a crash.
fn crashed_before(tx: &Transaction<'_>, run: &Run) -> Result<bool, StoreError> {
    let mut previous = run.retry_of.filter(|_| run.trigger == Trigger::Orphan);
    for _ in 0..MAX_PREDECESSORS {
        let Some(id) = previous else { return Ok(false) };
        let run = runs::get(tx, id)?;
        if run.message.as_deref() != Some(STOPPED_WITH_QUIRE) {
            return Ok(true);
        }
        previous = run.retry_of.filter(|_| run.trigger == Trigger::Orphan);
    }
    Ok(true)
}

impl Jobs<'_> {
    /// The jobs of a run that were not executed, since their recorded results are reused.
    pub fn reused(self, run: RunId) -> Result<Vec<RunJob>, StoreError> {
        let mut jobs = self.list(run)?;
        jobs.retain(|job| job.reused_from.is_some());
        Ok(jobs)
    }

    /// The artifacts of the jobs whose results a run reuses, as rows of the runs that have them.
    pub fn reused_artifacts(self, run: RunId) -> Result<Vec<RunArtifact>, StoreError> {
        let sql = format!(
            "WITH RECURSIVE {COPIES} SELECT artifacts.* FROM {ARTIFACTS_OF_COPIES} WHERE copies.run_id <> ?1 ORDER BY name, run_id DESC"
        );
        let mut artifacts = self.store.read(|connection| {
            sql::all(
                connection,
                "list the artifacts of reused results",
                &sql,
                [run.to_string()],
                row::artifact,
            )
        })?;
        // Several runs may have the same one.
        artifacts.dedup_by(|one, other| one.name == other.name);
        Ok(artifacts)
    }
}

/// For each job of run `?1`: the runs before it, and itself, that have the same result, whether they executed the job or
/// reused its result.
const COPIES: &str = "chain (id) AS (
       SELECT ?1
       UNION SELECT runs.retry_of FROM chain JOIN runs ON runs.id = chain.id WHERE runs.retry_of IS NOT NULL AND runs.only_failed = 1),
     origins (job_id, id) AS (SELECT job_id, coalesce(reused_from, run_id) FROM jobs WHERE run_id = ?1),
     copies (job_id, run_id) AS (
       SELECT origins.job_id, jobs.run_id FROM origins
       JOIN jobs ON jobs.run_id IN (SELECT id FROM chain UNION SELECT id FROM origins) AND jobs.job_id = origins.job_id
       WHERE coalesce(jobs.reused_from, jobs.run_id) = origins.id)";

/// The artifacts of `copies` that have not been removed.
const ARTIFACTS_OF_COPIES: &str =
    "copies JOIN artifacts ON artifacts.run_id = copies.run_id AND artifacts.job_id = copies.job_id
     JOIN runs ON runs.id = copies.run_id AND runs.artifacts_removed_at_ms IS NULL";

/// The jobs of a run that had artifacts which no run has any more. If the run that executed the job was deleted, its
/// artifacts count as lost, unless a run that reused the result has started and so has all there were.
fn lost_artifacts(tx: &Transaction<'_>, run: RunId) -> Result<HashSet<JobName>, StoreError> {
    let sql = format!(
        "WITH RECURSIVE {COPIES}
         SELECT job_id FROM origins
         WHERE NOT EXISTS (SELECT 1 FROM {ARTIFACTS_OF_COPIES} WHERE copies.job_id = origins.job_id)
           AND (EXISTS (SELECT 1 FROM copies JOIN artifacts ON artifacts.run_id = copies.run_id AND artifacts.job_id = copies.job_id
                        WHERE copies.job_id = origins.job_id)
                OR (NOT EXISTS (SELECT 1 FROM runs WHERE id = origins.id)
                    AND NOT EXISTS (SELECT 1 FROM copies JOIN jobs ON jobs.run_id = copies.run_id AND jobs.reused_from IS NULL
                                    WHERE copies.job_id = origins.job_id)))"
    );
    let lost = sql::all(
        tx,
        "find the artifacts of a run",
        &sql,
        [run.to_string()],
        |found| row::parsed_at(found, 0),
    )?;
    Ok(lost.into_iter().collect())
}

/// A new run of the same commit.
fn retry_of(old: &Run, trigger: Trigger) -> NewRun {
    NewRun {
        repo: old.repo.clone(),
        ref_name: old.ref_name.clone(),
        sha: old.sha.clone(),
        subject: old.subject.clone(),
        previous_sha: old.previous_sha.clone(),
        trigger,
        source: old.source.clone(),
        pusher: old.pusher.clone(),
        only_job: old.only_job.clone(),
        retry_of: Some(old.id),
        only_failed: false,
        params: old.params.clone(),
        group_name: old.group_name.clone(),
        supersede: old.supersede,
        group_unknown: old.group_unknown,
        keep: false,
        rebuild: false,
        pushed_at: old.pushed_at_ms,
    }
}

/// Copies the rows of jobs to a run that reuses their results. A copy names the run that executed the job.
fn reuse_results(tx: &Transaction<'_>, run: RunId, jobs: &[RunJob]) -> Result<(), StoreError> {
    let names: Vec<&str> = jobs.iter().map(|job| job.job_id.as_str()).collect();
    let Some(first) = jobs.first() else {
        return Ok(());
    };
    sql::execute(
        tx,
        "reuse the results of jobs",
        "INSERT INTO jobs (run_id, job_id, position, inputs, state, exit_code, message, output, started_at_ms, finished_at_ms, reused_from)
         SELECT ?1, job_id, position, inputs, state, exit_code, message, output, started_at_ms, finished_at_ms, coalesce(reused_from, run_id)
         FROM jobs WHERE run_id = ?2 AND job_id IN (SELECT value FROM json_each(?3))",
        params![
            run.to_string(),
            first.run_id.to_string(),
            serde_json::Value::from(names).to_string()
        ],
    )?;
    Ok(())
}
