//! The life of a run. Each change is one conditional UPDATE.

use rusqlite::{OptionalExtension, Transaction, params};

use super::error::{Attempt, StoreError};
use super::former_names;
use super::open::Store;
use super::row::{self, RUN_COLUMNS};
use super::schedules;
use crate::names::{RepoName, RunId};
use crate::run::{Outcome, Run};

impl Store {
    /// The run's container exists; from here on reconciling can find it.
    ///
    /// # Errors
    /// The run is not active.
    pub fn container_created(
        &self,
        run: RunId,
        container: &str,
        image: &str,
    ) -> Result<(), StoreError> {
        self.update_active(
            run,
            "container",
            "container_id = ?2, image_tag = ?3",
            &[&container, &image],
        )
    }

    /// The run's container runs.
    ///
    /// # Errors
    /// The run is not active.
    pub fn container_started(&self, run: RunId) -> Result<(), StoreError> {
        let now = self.clock().now().0;
        self.update_active(
            run,
            "container",
            "container_started_at_ms = max(?2, started_at_ms)",
            &[&now],
        )
    }

    /// The run's container is confirmed gone.
    ///
    /// # Errors
    /// The run is not active.
    pub fn container_gone(&self, run: RunId) -> Result<(), StoreError> {
        let now = self.clock().now().0;
        let stopped = "container_stopped_at_ms = CASE WHEN container_started_at_ms IS NULL THEN NULL ELSE max(?2, container_started_at_ms) END";
        self.update_active(
            run,
            "container",
            &format!("container_id = NULL, workspace_path = NULL, {stopped}"),
            &[&now],
        )
    }

    /// The run's workspace lies here (host executor).
    ///
    /// # Errors
    /// The run is not active.
    pub fn workspace_made(&self, run: RunId, path: &str) -> Result<(), StoreError> {
        self.update_active(run, "workspace", "workspace_path = ?2", &[&path])
    }

    /// The run's image build began.
    ///
    /// # Errors
    /// The run is not active.
    pub fn build_started(&self, run: RunId) -> Result<(), StoreError> {
        let now = self.clock().now().0;
        self.update_active(
            run,
            "build",
            "build_started_at_ms = max(?2, started_at_ms)",
            &[&now],
        )
    }

    /// The run's image build ended.
    ///
    /// # Errors
    /// The run is not active.
    pub fn build_finished(&self, run: RunId, image: &str) -> Result<(), StoreError> {
        let now = self.clock().now().0;
        self.update_active(
            run,
            "build",
            "build_finished_at_ms = max(?2, build_started_at_ms), image_tag = ?3",
            &[&now, &image],
        )
    }

    fn update_active(
        &self,
        run: RunId,
        to: &'static str,
        set: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> Result<(), StoreError> {
        let id = run.to_string();
        let mut all: Vec<&dyn rusqlite::ToSql> = vec![&id];
        all.extend_from_slice(values);
        self.write(|tx| {
            let changed = tx
                .prepare_cached(&format!(
                    "UPDATE runs SET {set} WHERE id = ?1 AND state = 'active'"
                ))
                .and_then(|mut statement| statement.execute(all.as_slice()))
                .attempt("update an active run")?;
            if changed == 1 {
                Ok(())
            } else {
                Err(illegal(tx, run, to))
            }
        })
    }

    /// Ends an active run: its jobs and steps that are still open with it.
    ///
    /// # Errors
    /// The run is not active, or its container is not confirmed gone.
    pub fn finish(&self, run: RunId, outcome: &Outcome) -> Result<(), StoreError> {
        let now = self.clock().now().0;
        self.write(|tx| end_active(tx, run, outcome, now))
    }

    /// Cancels a run: a pending one at once, an active one by asking the runner. False when it has ended already.
    ///
    /// # Errors
    /// The database refuses.
    pub fn request_cancel(&self, run: RunId) -> Result<bool, StoreError> {
        let now = self.clock().now().0;
        self.write(|tx| {
            let id = run.to_string();
            let at_once = tx
                .execute(
                    "UPDATE runs SET state = 'failed', failure_kind = 'canceled', finished_at_ms = max(?2, queued_at_ms),
                                     stop_requested = 'canceled', message = 'canceled before it started'
                     WHERE id = ?1 AND state = 'pending'",
                    params![id, now],
                )
                .attempt("cancel a run")?;
            let asked = tx
                .execute("UPDATE runs SET stop_requested = 'canceled' WHERE id = ?1 AND state = 'active' AND stop_requested IS NULL", [&id])
                .attempt("cancel a run")?;
            Ok(at_once + asked > 0)
        })
    }

    /// All active runs.
    ///
    /// # Errors
    /// The database refuses.
    pub fn active_runs(&self) -> Result<Vec<Run>, StoreError> {
        let sql = format!("SELECT {RUN_COLUMNS} FROM runs WHERE state = 'active' ORDER BY id");
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached(&sql)
                .attempt("list active runs")?;
            let rows = statement
                .query_map([], row::run)
                .attempt("list active runs")?;
            rows.collect::<rusqlite::Result<_>>()
                .attempt("list active runs")
        })
    }

    /// One run.
    ///
    /// # Errors
    /// The database refuses.
    pub fn run(&self, run: RunId) -> Result<Option<Run>, StoreError> {
        self.read(|connection| find(connection, run))
    }

    /// Forgets a repository: its pending runs end, its active ones are asked to stop, ended ones go.
    ///
    /// # Errors
    /// The database refuses.
    pub fn forget_repo(&self, repo: &RepoName) -> Result<(), StoreError> {
        self.write(|tx| {
            schedules::forget(tx, repo)?;
            former_names::forget(tx, repo)?;
            let repo = repo.as_str();
            let attempt = "forget a repository";
            tx.execute(
                "UPDATE runs SET stop_requested = 'canceled' WHERE repo = ?1 AND state = 'active' AND stop_requested IS NULL",
                [repo],
            )
            .attempt(attempt)?;
            tx.execute("DELETE FROM runs WHERE repo = ?1 AND state <> 'active'", [repo]).attempt(attempt)?;
            tx.execute("DELETE FROM events WHERE repo = ?1 AND NOT EXISTS (SELECT 1 FROM runs WHERE event_id = events.id)", [repo])
                .attempt(attempt)?;
            for table in ["seen_refs", "maintenance", "cache_uses"] {
                tx.execute(&format!("DELETE FROM {table} WHERE repo = ?1"), [repo]).attempt(attempt)?;
            }
            Ok(())
        })
    }
}

pub(super) fn end_active(
    tx: &Transaction<'_>,
    run: RunId,
    outcome: &Outcome,
    now: i64,
) -> Result<(), StoreError> {
    let (kind, message) = match outcome {
        Outcome::Failed(kind, message) => (Some(kind.as_str()), Some(message.as_str())),
        Outcome::Complete | Outcome::Superseded => (None, None),
    };
    let id = run.to_string();
    let changed = tx
        .execute(
            "UPDATE runs SET state = ?2, failure_kind = ?3, message = ?4, finished_at_ms = max(?5, started_at_ms)
             WHERE id = ?1 AND state = 'active'",
            params![id, outcome.state().as_str(), kind, message, now],
        )
        .attempt("end a run")?;
    if changed == 0 {
        return Err(illegal(tx, run, outcome.state().as_str()));
    }
    tx.execute("UPDATE steps SET finished_at_ms = max(?2, started_at_ms) WHERE run_id = ?1 AND finished_at_ms IS NULL", params![id, now])
        .attempt("end a run's steps")?;
    tx.execute(
        "UPDATE jobs SET state = 'aborted', finished_at_ms = max(?2, started_at_ms) WHERE run_id = ?1 AND state = 'active'",
        params![id, now],
    )
    .attempt("end a run's jobs")?;
    tx.execute("UPDATE jobs SET state = 'skipped', finished_at_ms = ?2 WHERE run_id = ?1 AND state = 'pending'", params![id, now])
        .attempt("end a run's jobs")?;
    Ok(())
}

fn find(connection: &rusqlite::Connection, run: RunId) -> Result<Option<Run>, StoreError> {
    connection
        .prepare_cached(&format!("SELECT {RUN_COLUMNS} FROM runs WHERE id = ?1"))
        .and_then(|mut statement| statement.query_row([run.to_string()], row::run).optional())
        .attempt("read a run")
}

pub(super) fn get(connection: &rusqlite::Connection, run: RunId) -> Result<Run, StoreError> {
    find(connection, run)?.ok_or_else(|| StoreError::NoSuchRun(run.to_string()))
}

/// Names the state that stood in the way.
fn illegal(tx: &Transaction<'_>, run: RunId, to: &'static str) -> StoreError {
    let from: rusqlite::Result<String> = tx.query_row(
        "SELECT state FROM runs WHERE id = ?1",
        [run.to_string()],
        |found| found.get(0),
    );
    StoreError::IllegalTransition {
        run: run.to_string(),
        from: from.unwrap_or_else(|_| "unknown".into()),
        to,
    }
}
