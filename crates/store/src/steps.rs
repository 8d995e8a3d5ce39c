//! The steps of a run: one row for each `sh`, numbered through the whole run.

use rusqlite::params;

use super::error::StoreError;
use super::open::Store;
use super::row;
use super::sql;
use quire_types::names::{JobName, RunId};
use quire_types::run::RunStep;

/// Access to steps.
#[derive(Debug, Clone, Copy)]
pub struct Steps<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn steps(&self) -> Steps<'_> {
        Steps { store: self }
    }
}

impl Steps<'_> {
    /// The step starts. Its number must be new.
    pub fn started(
        self,
        run: RunId,
        seq: u32,
        job: &JobName,
        command: &str,
    ) -> Result<(), StoreError> {
        let now = self.store.clock().now().0;
        self.store.write_unsynced(|tx| {
            sql::execute(
                tx,
                "start a step",
                "INSERT INTO steps (run_id, seq, job_id, command, started_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![run.to_string(), seq, job.as_str(), command, now],
            )?;
            Ok(())
        })
    }

    /// The step finished; without an exit code if it was interrupted.
    pub fn finished(self, run: RunId, seq: u32, exit_code: Option<i32>) -> Result<(), StoreError> {
        let now = self.store.clock().now().0;
        self.store.write_unsynced(|tx| {
            let changed = sql::execute(
                tx,
                "finish a step",
                "UPDATE steps SET exit_code = ?3, finished_at_ms = max(?4, started_at_ms)
                 WHERE run_id = ?1 AND seq = ?2 AND finished_at_ms IS NULL",
                params![run.to_string(), seq, exit_code, now],
            )?;
            if changed == 1 {
                return Ok(());
            }
            Err(StoreError::IllegalTransition {
                run: format!("{run} step {seq}"),
                from: "finished".into(),
                to: "finished",
            })
        })
    }

    /// The steps of a run, in the order of starting.
    pub fn list(self, run: RunId) -> Result<Vec<RunStep>, StoreError> {
        self.list_since(run, 0, &[])
    }

    /// The steps of a run after number `after`, and those before it that `also` names, in the order of starting.
    pub fn list_since(
        self,
        run: RunId,
        after: u32,
        also: &[u32],
    ) -> Result<Vec<RunStep>, StoreError> {
        let also = serde_json::Value::from(also).to_string();
        self.store.read(|connection| {
            sql::all(
                connection,
                "list the steps of a run",
                "SELECT * FROM steps WHERE run_id = ?1 AND seq <= ?2 AND seq IN (SELECT value FROM json_each(?3))
                 UNION ALL
                 SELECT * FROM steps WHERE run_id = ?1 AND seq > ?2
                 ORDER BY seq",
                params![run.to_string(), after, also],
                row::step,
            )
        })
    }
}
