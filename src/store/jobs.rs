//! Jobs and steps of a run.

use rusqlite::params;

use super::error::{Attempt, StoreError};
use super::open::Store;
use super::row;
use crate::names::{JobName, RunId};
use crate::run::{JobRow, JobState, StepRow};

impl Store {
    /// Records the jobs that a run consists of, pending, in the order of registration. One whose
    /// result is used again has a row already, and keeps it.
    ///
    /// # Errors
    /// The run does not exist or has jobs of its own already.
    pub fn register_jobs(
        &self,
        run: RunId,
        jobs: &[(JobName, Vec<String>)],
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            let mut statement = tx
                .prepare_cached(
                    "INSERT INTO jobs (run_id, job_id, position, inputs, state) VALUES (?1, ?2, ?3, ?4, 'pending')
                     ON CONFLICT (run_id, job_id) DO UPDATE SET position = excluded.position WHERE reused_from IS NOT NULL",
                )
                .attempt("record a run's jobs")?;
            for (position, (job, inputs)) in (0_i64..).zip(jobs) {
                let inputs = serde_json::Value::from(inputs.clone()).to_string();
                let changed = statement.execute(params![run.to_string(), job.as_str(), position, inputs]).attempt("record a run's jobs")?;
                expect_one(changed, run, job, JobState::Pending)?;
            }
            Ok(())
        })
    }

    /// A job's function is about to be called.
    ///
    /// # Errors
    /// The job is not pending.
    pub fn job_started(&self, run: RunId, job: &JobName) -> Result<(), StoreError> {
        let now = self.clock().now().0;
        self.write(|tx| {
            let changed = tx
                .prepare_cached(
                    "UPDATE jobs SET state = 'active', started_at_ms = ?3 WHERE run_id = ?1 AND job_id = ?2 AND state = 'pending'",
                )
                .and_then(|mut statement| statement.execute(params![run.to_string(), job.as_str(), now]))
                .attempt("start a job")?;
            expect_one(changed, run, job, JobState::Active)
        })
    }

    /// A job ended. `from` is the state it must be in.
    ///
    /// # Errors
    /// The job is not in that state.
    pub fn job_ended(
        &self,
        run: RunId,
        job: &JobName,
        from: JobState,
        end: &JobResult<'_>,
    ) -> Result<(), StoreError> {
        let now = self.clock().now().0;
        let output = end.output.map(ToString::to_string);
        self.write(|tx| {
            let changed = tx
                .prepare_cached(
                    "UPDATE jobs SET state = ?4, exit_code = ?5, message = ?6, output = ?7, finished_at_ms = max(?8, coalesce(started_at_ms, 0))
                     WHERE run_id = ?1 AND job_id = ?2 AND state = ?3",
                )
                .and_then(|mut statement| {
                    statement.execute(params![
                        run.to_string(),
                        job.as_str(),
                        from.as_str(),
                        end.state.as_str(),
                        end.exit_code,
                        end.message,
                        output,
                        now
                    ])
                })
                .attempt("end a job")?;
            expect_one(changed, run, job, end.state)
        })
    }

    /// A step starts.
    ///
    /// # Errors
    /// The job does not exist, or the number was used before.
    pub fn step_started(
        &self,
        run: RunId,
        seq: u32,
        job: &JobName,
        command: &str,
    ) -> Result<(), StoreError> {
        let now = self.clock().now().0;
        self.write(|tx| {
            tx.prepare_cached("INSERT INTO steps (run_id, seq, job_id, command, started_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)")
                .and_then(|mut statement| statement.execute(params![run.to_string(), seq, job.as_str(), command, now]))
                .attempt("start a step")?;
            Ok(())
        })
    }

    /// A step ended; without exit code it was cut.
    ///
    /// # Errors
    /// The step does not run.
    pub fn step_ended(
        &self,
        run: RunId,
        seq: u32,
        exit_code: Option<i32>,
    ) -> Result<(), StoreError> {
        let now = self.clock().now().0;
        self.write(|tx| {
            let changed = tx
                .prepare_cached(
                    "UPDATE steps SET exit_code = ?3, finished_at_ms = max(?4, started_at_ms)
                     WHERE run_id = ?1 AND seq = ?2 AND finished_at_ms IS NULL",
                )
                .and_then(|mut statement| {
                    statement.execute(params![run.to_string(), seq, exit_code, now])
                })
                .attempt("end a step")?;
            if changed == 1 {
                Ok(())
            } else {
                Err(StoreError::IllegalTransition {
                    run: format!("{run} step {seq}"),
                    from: "ended".into(),
                    to: "ended",
                })
            }
        })
    }

    /// The jobs of a run with what they returned, in the order of registration.
    ///
    /// # Errors
    /// The database refuses.
    pub fn jobs(&self, run: RunId) -> Result<Vec<JobRow>, StoreError> {
        self.jobs_by(
            run,
            "SELECT * FROM jobs WHERE run_id = ?1 ORDER BY position",
        )
    }

    /// The same without what they returned, which may be a lot and is on no page.
    ///
    /// # Errors
    /// The database refuses.
    pub fn jobs_without_outputs(&self, run: RunId) -> Result<Vec<JobRow>, StoreError> {
        self.jobs_by(
            run,
            "SELECT run_id, job_id, position, inputs, state, exit_code, message, NULL AS output, reused_from, started_at_ms, finished_at_ms
             FROM jobs WHERE run_id = ?1 ORDER BY position",
        )
    }

    fn jobs_by(&self, run: RunId, query: &str) -> Result<Vec<JobRow>, StoreError> {
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached(query)
                .attempt("list a run's jobs")?;
            let rows = statement
                .query_map([run.to_string()], row::job)
                .attempt("list a run's jobs")?;
            rows.collect::<rusqlite::Result<_>>()
                .attempt("list a run's jobs")
        })
    }

    /// The steps of a run, in the order of starting.
    ///
    /// # Errors
    /// The database refuses.
    pub fn steps(&self, run: RunId) -> Result<Vec<StepRow>, StoreError> {
        self.steps_since(run, 0, &[])
    }

    /// The steps of a run after number `after`, and those before it that `also` names; in the order of starting.
    ///
    /// # Errors
    /// The database refuses.
    pub fn steps_since(
        &self,
        run: RunId,
        after: u32,
        also: &[u32],
    ) -> Result<Vec<StepRow>, StoreError> {
        let also = serde_json::Value::from(also).to_string();
        self.read(|connection| {
            let attempt = "list a run's steps";
            let mut statement = connection
                .prepare_cached(
                    "SELECT * FROM steps WHERE run_id = ?1 AND seq <= ?2 AND seq IN (SELECT value FROM json_each(?3))
                     UNION ALL
                     SELECT * FROM steps WHERE run_id = ?1 AND seq > ?2
                     ORDER BY seq",
                )
                .attempt(attempt)?;
            let rows = statement.query_map(params![run.to_string(), after, also], row::step).attempt(attempt)?;
            rows.collect::<rusqlite::Result<_>>().attempt(attempt)
        })
    }
}

/// How a job ended, as its row tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobResult<'a> {
    /// A final state.
    pub state: JobState,
    /// Exit code of the command that failed it.
    pub exit_code: Option<i32>,
    /// One sentence.
    pub message: Option<&'a str>,
    /// What its function returned.
    pub output: Option<&'a serde_json::Value>,
}

impl JobResult<'_> {
    /// A state without anything to add.
    #[must_use]
    pub fn plain(state: JobState) -> Self {
        Self {
            state,
            exit_code: None,
            message: None,
            output: None,
        }
    }
}

fn expect_one(changed: usize, run: RunId, job: &JobName, to: JobState) -> Result<(), StoreError> {
    if changed == 1 {
        return Ok(());
    }
    Err(StoreError::IllegalTransition {
        run: format!("{run} job {job}"),
        from: "in another state".into(),
        to: to.as_str(),
    })
}
