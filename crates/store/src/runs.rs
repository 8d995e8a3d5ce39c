//! The life of a run. Each change is one conditional UPDATE.

use rusqlite::{Connection, ToSql, Transaction, params};

use super::error::StoreError;
use super::landings;
use super::open::Store;
use super::row::{self, RUN_COLUMNS};
use super::sql;
use quire_types::names::{RepoName, RunId};
use quire_types::run::{Outcome, Run};

/// Access to runs.
#[derive(Debug, Clone, Copy)]
pub struct Runs<'a> {
    pub(super) store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn runs(&self) -> Runs<'_> {
        Runs { store: self }
    }
}

impl Runs<'_> {
    pub fn get(self, run: RunId) -> Result<Option<Run>, StoreError> {
        self.store.read(|connection| find(connection, run))
    }

    /// All active runs.
    pub fn active(self) -> Result<Vec<Run>, StoreError> {
        let sql = format!("SELECT {RUN_COLUMNS} FROM runs WHERE state = 'active' ORDER BY id");
        self.store
            .read(|connection| sql::all(connection, "list active runs", &sql, [], row::run))
    }

    /// The active runs of a repository.
    pub fn active_of(self, repo: &RepoName) -> Result<Vec<RunId>, StoreError> {
        let sql = "SELECT id FROM runs WHERE repo = ?1 AND state = 'active'";
        self.store.read(|connection| {
            sql::all(
                connection,
                "list active runs",
                sql,
                [repo.as_str()],
                |found| row::parsed_at(found, 0),
            )
        })
    }

    /// The run's container was created. From here on, reconciling can find it.
    pub fn container_created(
        self,
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

    /// The run's container was started.
    pub fn container_started(self, run: RunId) -> Result<(), StoreError> {
        self.update_active(
            run,
            "container",
            "container_started_at_ms = max(?2, started_at_ms)",
            &[&self.now()],
        )
    }

    /// It is confirmed that nothing runs in the run's container or workspace any more.
    pub fn container_ended(self, run: RunId) -> Result<(), StoreError> {
        let stopped = "container_stopped_at_ms = CASE WHEN container_started_at_ms IS NULL THEN NULL ELSE max(?2, container_started_at_ms) END";
        self.update_active(
            run,
            "container",
            &format!("container_id = NULL, workspace_path = NULL, {stopped}"),
            &[&self.now()],
        )
    }

    /// The run's workspace was created (host executor).
    pub fn workspace_created(self, run: RunId, path: &str) -> Result<(), StoreError> {
        self.update_active(run, "workspace", "workspace_path = ?2", &[&path])
    }

    /// The build of the run's image started.
    pub fn build_started(self, run: RunId) -> Result<(), StoreError> {
        self.update_active(
            run,
            "build",
            "build_started_at_ms = max(?2, started_at_ms)",
            &[&self.now()],
        )
    }

    /// The build of the run's image finished.
    pub fn build_finished(self, run: RunId, image: &str) -> Result<(), StoreError> {
        self.update_active(
            run,
            "build",
            "build_finished_at_ms = max(?2, build_started_at_ms), image_tag = ?3",
            &[&self.now(), &image],
        )
    }

    /// Finishes an active run, and its unfinished jobs and steps with it. Fails if its container is not known to be
    /// removed.
    pub fn finish(self, run: RunId, outcome: &Outcome) -> Result<(), StoreError> {
        let now = self.now();
        self.store.write(|tx| finish(tx, run, outcome, now))
    }

    /// Cancels a run: a pending one immediately, an active one by asking the runner to stop it. The commit of one that has
    /// finished does not land any more, if it waits for that. Returns false if the run has finished already, or has been
    /// asked to stop.
    pub fn request_cancel(self, run: RunId) -> Result<bool, StoreError> {
        let action = "cancel a run";
        let now = self.now();
        self.store.write(|tx| {
            let id = run.to_string();
            let canceled = sql::execute(
                tx,
                action,
                "UPDATE runs SET state = 'canceled', finished_at_ms = max(?2, queued_at_ms),
                                 stop_requested = 'canceled', message = 'canceled before it started'
                 WHERE id = ?1 AND state = 'pending'",
                params![id, now],
            )?;
            let requested = sql::execute(
                tx,
                action,
                "UPDATE runs SET stop_requested = 'canceled' WHERE id = ?1 AND state = 'active' AND stop_requested IS NULL",
                [&id],
            )?;
            // What has ended green may wait for an earlier commit.
            let withdrawn = landings::withdraw(tx, run, now)?;
            Ok(canceled + requested > 0 || withdrawn)
        })
    }

    fn now(self) -> i64 {
        self.store.clock().now().0
    }

    fn update_active(
        self,
        run: RunId,
        to: &'static str,
        assignments: &str,
        values: &[&dyn ToSql],
    ) -> Result<(), StoreError> {
        let sql = format!("UPDATE runs SET {assignments} WHERE id = ?1 AND state = 'active'");
        let id = run.to_string();
        let mut parameters: Vec<&dyn ToSql> = vec![&id];
        parameters.extend_from_slice(values);
        self.store.write_unsynced(|tx| {
            match sql::execute(tx, "update an active run", &sql, parameters.as_slice())? {
                1 => Ok(()),
                _ => Err(illegal_transition(tx, run, to)),
            }
        })
    }
}

/// Finishes an active run, and its unfinished jobs and steps with it.
pub(super) fn finish(
    tx: &Transaction<'_>,
    run: RunId,
    outcome: &Outcome,
    now: i64,
) -> Result<(), StoreError> {
    let (kind, message) = match outcome {
        Outcome::Failed(kind, message) => (Some(kind.as_str()), Some(message.as_str())),
        Outcome::Canceled => (None, Some("canceled while it ran")),
        Outcome::Complete | Outcome::Superseded => (None, None),
    };
    let id = run.to_string();
    let changed = sql::execute(
        tx,
        "finish a run",
        "UPDATE runs SET state = ?2, failure_kind = ?3, message = ?4, finished_at_ms = max(?5, started_at_ms)
         WHERE id = ?1 AND state = 'active'",
        params![id, outcome.state().as_str(), kind, message, now],
    )?;
    if changed == 0 {
        return Err(illegal_transition(tx, run, outcome.state().as_str()));
    }
    for unfinished in [
        "UPDATE steps SET finished_at_ms = max(?2, started_at_ms) WHERE run_id = ?1 AND finished_at_ms IS NULL",
        "UPDATE jobs SET state = 'aborted', finished_at_ms = max(?2, started_at_ms) WHERE run_id = ?1 AND state = 'active'",
        "UPDATE jobs SET state = 'skipped', finished_at_ms = ?2 WHERE run_id = ?1 AND state = 'pending'",
    ] {
        sql::execute(
            tx,
            "finish the jobs and steps of a run",
            unfinished,
            params![id, now],
        )?;
    }
    Ok(())
}

fn find(connection: &Connection, run: RunId) -> Result<Option<Run>, StoreError> {
    let sql = format!("SELECT {RUN_COLUMNS} FROM runs WHERE id = ?1");
    sql::first(connection, "read a run", &sql, [run.to_string()], row::run)
}

/// Reads a run that must exist.
pub(super) fn get(connection: &Connection, run: RunId) -> Result<Run, StoreError> {
    find(connection, run)?.ok_or_else(|| StoreError::NoSuchRun(run.to_string()))
}

/// Names the state in which the run is instead.
fn illegal_transition(tx: &Transaction<'_>, run: RunId, to: &'static str) -> StoreError {
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
