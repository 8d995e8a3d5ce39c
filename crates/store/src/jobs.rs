//! The jobs of a run.

use rusqlite::{Connection, params};

use super::error::StoreError;
use super::open::Store;
use super::row;
use super::sql;
use quire_types::names::{JobName, RunId};
use quire_types::run::{JobState, RunJob};

/// How a job finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobResult<'a> {
    /// A final state.
    pub state: JobState,
    /// Exit code of the command that failed it.
    pub exit_code: Option<i32>,
    /// One sentence.
    pub message: Option<&'a str>,
    /// What the job's function returned.
    pub output: Option<&'a serde_json::Value>,
}

impl JobResult<'_> {
    /// A state, with no exit code, message or output.
    #[must_use]
    pub fn of_state(state: JobState) -> Self {
        Self {
            state,
            exit_code: None,
            message: None,
            output: None,
        }
    }
}

/// Access to jobs.
#[derive(Debug, Clone, Copy)]
pub struct Jobs<'a> {
    pub(super) store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn jobs(&self) -> Jobs<'_> {
        Jobs { store: self }
    }
}

impl Jobs<'_> {
    /// Records the jobs of a run with their inputs, as pending, in the order of registration. A job whose result is
    /// reused has a row already, and keeps it.
    pub fn register(self, run: RunId, jobs: &[(JobName, Vec<String>)]) -> Result<(), StoreError> {
        self.store.write_unsynced(|tx| {
            for (position, (job, inputs)) in (0_i64..).zip(jobs) {
                let inputs = serde_json::Value::from(inputs.clone()).to_string();
                let changed = sql::execute(
                    tx,
                    "record the jobs of a run",
                    "INSERT INTO jobs (run_id, job_id, position, inputs, state) VALUES (?1, ?2, ?3, ?4, 'pending')
                     ON CONFLICT (run_id, job_id) DO UPDATE SET position = excluded.position WHERE reused_from IS NOT NULL",
                    params![run.to_string(), job.as_str(), position, inputs],
                )?;
                expect_one(changed, run, job, JobState::Pending)?;
            }
            Ok(())
        })
    }

    /// The job's function is about to be called. The job must be pending.
    pub fn started(self, run: RunId, job: &JobName) -> Result<(), StoreError> {
        let now = self.store.clock().now().0;
        self.store.write_unsynced(|tx| {
            let changed = sql::execute(
                tx,
                "start a job",
                "UPDATE jobs SET state = 'active', started_at_ms = ?3 WHERE run_id = ?1 AND job_id = ?2 AND state = 'pending'",
                params![run.to_string(), job.as_str(), now],
            )?;
            expect_one(changed, run, job, JobState::Active)
        })
    }

    /// The job finished. It must be in the state `from`.
    pub fn finished(
        self,
        run: RunId,
        job: &JobName,
        from: JobState,
        result: &JobResult<'_>,
    ) -> Result<(), StoreError> {
        let now = self.store.clock().now().0;
        self.store.write_unsynced(|tx| {
            let changed = sql::execute(
                tx,
                "finish a job",
                "UPDATE jobs SET state = ?4, exit_code = ?5, message = ?6, output = ?7, finished_at_ms = max(?8, coalesce(started_at_ms, 0))
                 WHERE run_id = ?1 AND job_id = ?2 AND state = ?3",
                params![
                    run.to_string(),
                    job.as_str(),
                    from.as_str(),
                    result.state.as_str(),
                    result.exit_code,
                    result.message,
                    result.output.map(ToString::to_string),
                    now
                ],
            )?;
            expect_one(changed, run, job, result.state)
        })
    }

    /// The jobs of a run, in the order of registration.
    pub fn list(self, run: RunId) -> Result<Vec<RunJob>, StoreError> {
        self.store.read(|connection| jobs_of_run(connection, run))
    }

    /// The same without what the jobs returned, which can be large and is on no page.
    pub fn list_without_outputs(self, run: RunId) -> Result<Vec<RunJob>, StoreError> {
        let sql = "SELECT run_id, job_id, position, inputs, state, exit_code, message, NULL AS output, reused_from, started_at_ms, finished_at_ms
             FROM jobs WHERE run_id = ?1 ORDER BY position";
        self.store
            .read(|connection| select_jobs(connection, run, sql))
    }
}

/// The jobs of a run, in the order of registration.
pub(super) fn jobs_of_run(connection: &Connection, run: RunId) -> Result<Vec<RunJob>, StoreError> {
    let sql = "SELECT * FROM jobs WHERE run_id = ?1 ORDER BY position";
    select_jobs(connection, run, sql)
}

/// Returns the jobs that the query finds for the id of a run.
fn select_jobs(connection: &Connection, run: RunId, sql: &str) -> Result<Vec<RunJob>, StoreError> {
    let run = run.to_string();
    sql::all(connection, "list the jobs of a run", sql, [run], row::job)
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
