//! (being built)
//!
//! A stand-in with the agreed signatures, so that the web can be built and tested beside it.
#![allow(missing_docs, clippy::missing_errors_doc)]

use std::path::{Path, PathBuf};
use std::str::FromStr;

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::clock::Millis;
use crate::names::{RefName, RepoName, RunId};
use crate::run::{FailureKind, JobRow, Run, RunState, StepRow};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("there is no run `{0}`")]
    NoSuchRun(String),
    #[error("`{0}` names more than one run")]
    AmbiguousRun(String),
    #[error("the database failed")]
    Sql(#[from] rusqlite::Error),
}

#[derive(Debug, Clone)]
pub struct Store(PathBuf);

#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    pub repo: Option<RepoName>,
    pub ref_name: Option<RefName>,
    pub state: Option<RunState>,
    pub before: Option<RunId>,
    pub limit: u32,
}

#[derive(Debug, Clone)]
pub struct RepoSummary {
    pub repo: RepoName,
    pub last_push_ms: Option<Millis>,
    pub newest_run: Option<Run>,
}

#[derive(Debug, Clone, Default)]
pub struct Counts {
    pub pending: u64,
    pub active: u64,
    pub by_outcome: Vec<(RunState, Option<FailureKind>, u64)>,
    pub oldest_pending_ms: Option<Millis>,
    pub events: u64,
}

fn word<T: FromStr>(row: &Row<'_>, name: &str) -> rusqlite::Result<T> {
    let text: String = row.get(name)?;
    text.parse().map_err(|_| rusqlite::Error::InvalidColumnName(format!("{name}: {text}")))
}

fn maybe<T: FromStr>(row: &Row<'_>, name: &str) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(name)?;
    text.map(|t| t.parse().map_err(|_| rusqlite::Error::InvalidColumnName(format!("{name}: {t}")))).transpose()
}

fn time(row: &Row<'_>, name: &str) -> rusqlite::Result<Option<Millis>> {
    Ok(row.get::<_, Option<i64>>(name)?.map(Millis))
}

fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    Ok(Run {
        id: word(row, "id")?,
        repo: word(row, "repo")?,
        ref_name: word(row, "ref_name")?,
        sha: word(row, "sha")?,
        previous_sha: maybe(row, "previous_sha")?,
        forced: row.get("forced")?,
        event_id: maybe(row, "event_id")?,
        trigger: word(row, "trigger")?,
        source: row.get("source")?,
        pusher: row.get("pusher")?,
        only_job: row.get("only_job")?,
        retry_of: maybe(row, "retry_of")?,
        superseded_by: maybe(row, "superseded_by")?,
        stop_requested: maybe(row, "stop_requested")?,
        state: word(row, "state")?,
        failure_kind: maybe(row, "failure_kind")?,
        message: row.get("message")?,
        pushed_at_ms: Millis(row.get("pushed_at_ms")?),
        queued_at_ms: Millis(row.get("queued_at_ms")?),
        started_at_ms: time(row, "started_at_ms")?,
        finished_at_ms: time(row, "finished_at_ms")?,
        executor: maybe(row, "executor")?,
        container_id: row.get("container_id")?,
        image_tag: row.get("image_tag")?,
        build_started_at_ms: time(row, "build_started_at_ms")?,
        build_finished_at_ms: time(row, "build_finished_at_ms")?,
        container_started_at_ms: time(row, "container_started_at_ms")?,
        container_stopped_at_ms: time(row, "container_stopped_at_ms")?,
        workspace_path: row.get("workspace_path")?,
    })
}

impl Store {
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        connection.execute_batch(include_str!("../../migrations/0001_initial.sql"))?;
        Ok(Self(path.to_owned()))
    }

    fn connect(&self) -> Result<Connection, StoreError> {
        let connection = Connection::open_with_flags(&self.0, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        Ok(connection)
    }

    pub async fn call<T, F>(&self, f: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    {
        let store = self.clone();
        match tokio::task::spawn_blocking(move || f(&store)).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::NoSuchRun(String::new())),
        }
    }

    pub fn run(&self, id: RunId) -> Result<Option<Run>, StoreError> {
        Ok(self.connect()?.query_row("SELECT * FROM runs WHERE id = ?1", [id.to_string()], run).optional()?)
    }

    pub fn resolve_run(&self, prefix: &str) -> Result<RunId, StoreError> {
        let connection = self.connect()?;
        let mut statement = connection.prepare("SELECT id FROM runs WHERE substr(id, 1, length(?1)) = ?1 LIMIT 2")?;
        let found: Vec<String> = statement.query_map([prefix], |row| row.get(0))?.collect::<Result<_, _>>()?;
        match found.as_slice() {
            [one] if !prefix.is_empty() => one.parse().map_err(|_| StoreError::NoSuchRun(prefix.to_owned())),
            [_, _] => Err(StoreError::AmbiguousRun(prefix.to_owned())),
            _ => Err(StoreError::NoSuchRun(prefix.to_owned())),
        }
    }

    pub fn list_runs(&self, filter: &RunFilter) -> Result<Vec<Run>, StoreError> {
        let connection = self.connect()?;
        let mut statement = connection.prepare(
            "SELECT * FROM runs WHERE (?1 IS NULL OR repo = ?1) AND (?2 IS NULL OR ref_name = ?2)
             AND (?3 IS NULL OR state = ?3) AND (?4 IS NULL OR id < ?4) ORDER BY id DESC LIMIT ?5",
        )?;
        let rows = statement.query_map(
            params![
                filter.repo.as_ref().map(ToString::to_string),
                filter.ref_name.as_ref().map(ToString::to_string),
                filter.state.map(RunState::as_str),
                filter.before.map(|id| id.to_string()),
                filter.limit
            ],
            run,
        )?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub fn jobs(&self, id: RunId) -> Result<Vec<JobRow>, StoreError> {
        let connection = self.connect()?;
        let mut statement = connection.prepare("SELECT * FROM jobs WHERE run_id = ?1 ORDER BY position")?;
        let rows = statement.query_map([id.to_string()], |row| {
            Ok(JobRow {
                run_id: id,
                job_id: word(row, "job_id")?,
                position: row.get("position")?,
                inputs: serde_json::from_str(&row.get::<_, String>("inputs")?).unwrap_or_default(),
                state: word(row, "state")?,
                exit_code: row.get("exit_code")?,
                message: row.get("message")?,
                output: None,
                started_at_ms: time(row, "started_at_ms")?,
                finished_at_ms: time(row, "finished_at_ms")?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub fn steps(&self, id: RunId) -> Result<Vec<StepRow>, StoreError> {
        let connection = self.connect()?;
        let mut statement = connection.prepare("SELECT * FROM steps WHERE run_id = ?1 ORDER BY seq")?;
        let rows = statement.query_map([id.to_string()], |row| {
            Ok(StepRow {
                run_id: id,
                seq: row.get("seq")?,
                job_id: word(row, "job_id")?,
                command: row.get("command")?,
                exit_code: row.get("exit_code")?,
                started_at_ms: Millis(row.get("started_at_ms")?),
                finished_at_ms: time(row, "finished_at_ms")?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub fn repo_summaries(&self) -> Result<Vec<RepoSummary>, StoreError> {
        let connection = self.connect()?;
        let mut statement = connection.prepare("SELECT *, max(id) FROM runs GROUP BY repo ORDER BY repo")?;
        let rows = statement.query_map([], run)?;
        rows.map(|row| {
            let run = row?;
            Ok(RepoSummary { repo: run.repo.clone(), last_push_ms: Some(run.pushed_at_ms), newest_run: Some(run) })
        })
        .collect()
    }

    pub fn successor_of(&self, id: RunId) -> Result<Option<RunId>, StoreError> {
        let connection = self.connect()?;
        Ok(connection
            .query_row("SELECT id FROM runs WHERE retry_of = ?1 ORDER BY id LIMIT 1", [id.to_string()], |row| word(row, "id"))
            .optional()?)
    }

    pub fn request_cancel(&self, id: RunId) -> Result<bool, StoreError> {
        let changed = self.connect()?.execute(
            "UPDATE runs SET stop_requested = 'canceled' WHERE id = ?1 AND state IN ('pending', 'active')",
            [id.to_string()],
        )?;
        Ok(changed > 0)
    }

    pub fn retry(&self, id: RunId) -> Result<Run, StoreError> {
        let old = self.run(id)?.ok_or_else(|| StoreError::NoSuchRun(id.to_string()))?;
        let new = RunId::new();
        self.connect()?.execute(
            "INSERT INTO runs (id, repo, ref_name, sha, \"trigger\", retry_of, state, pushed_at_ms, queued_at_ms)
             VALUES (?1, ?2, ?3, ?4, 'retry', ?5, 'pending', ?6, ?6)",
            params![
                new.to_string(),
                old.repo.as_str(),
                old.ref_name.as_str(),
                old.sha.as_str(),
                id.to_string(),
                old.queued_at_ms.0
            ],
        )?;
        self.run(new)?.ok_or_else(|| StoreError::NoSuchRun(new.to_string()))
    }

    pub fn take_login_link(&self, token_hash: &str, now: Millis) -> Result<Option<String>, StoreError> {
        let connection = self.connect()?;
        Ok(connection
            .query_row(
                "DELETE FROM login_links WHERE token_hash = ?1 AND expires_at_ms > ?2 RETURNING key_name",
                params![token_hash, now.0],
                |row| row.get(0),
            )
            .optional()?)
    }

    pub fn create_session(&self, token_hash: &str, key_name: &str, now: Millis, expires: Millis) -> Result<(), StoreError> {
        self.connect()?.execute("INSERT INTO sessions VALUES (?1, ?2, ?3, ?4)", params![token_hash, key_name, now.0, expires.0])?;
        Ok(())
    }

    pub fn session(&self, token_hash: &str, now: Millis) -> Result<Option<String>, StoreError> {
        let connection = self.connect()?;
        Ok(connection
            .query_row(
                "SELECT key_name FROM sessions WHERE token_hash = ?1 AND expires_at_ms > ?2",
                params![token_hash, now.0],
                |row| row.get(0),
            )
            .optional()?)
    }

    pub fn delete_session(&self, token_hash: &str) -> Result<(), StoreError> {
        self.connect()?.execute("DELETE FROM sessions WHERE token_hash = ?1", [token_hash])?;
        Ok(())
    }

    pub fn counts(&self) -> Result<Counts, StoreError> {
        let connection = self.connect()?;
        let mut statement = connection.prepare("SELECT state, failure_kind, count(*) AS n FROM runs GROUP BY 1, 2")?;
        let rows = statement
            .query_map([], |row| Ok((word::<RunState>(row, "state")?, maybe::<FailureKind>(row, "failure_kind")?, row.get::<_, u32>("n")?.into())))?;
        let mut counts = Counts::default();
        for row in rows {
            let (state, kind, n) = row?;
            match state {
                RunState::Pending => counts.pending += n,
                RunState::Active => counts.active += n,
                _ => counts.by_outcome.push((state, kind, n)),
            }
        }
        counts.oldest_pending_ms = connection
            .query_row("SELECT min(queued_at_ms) FROM runs WHERE state = 'pending'", [], |row| row.get::<_, Option<i64>>(0))?
            .map(Millis);
        counts.events = connection.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, u32>(0))?.into();
        Ok(counts)
    }

    pub fn database_bytes(&self) -> Result<u64, StoreError> {
        Ok(std::fs::metadata(&self.0).map_or(0, |m| m.len()))
    }
}
