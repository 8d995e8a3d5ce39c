//! Lists and counts for pages, commands and metrics. Paged by key, never by offset.

use rusqlite::{OptionalExtension, ToSql};

use super::error::{Attempt, StoreError};
use super::former_names;
use super::open::Store;
use super::row::{self, RUN_COLUMNS};
use crate::clock::Millis;
use crate::names::{RefName, RepoName, RunId};
use crate::run::{FailureKind, Run, RunState};

/// Which runs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only of this repository.
    pub repo: Option<RepoName>,
    /// Only of this ref.
    pub ref_name: Option<RefName>,
    /// Only in this state.
    pub state: Option<RunState>,
    /// Only older than this run: the key of the next page.
    pub before: Option<RunId>,
    /// At most so many.
    pub limit: u32,
}

/// A repository as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RepoSummary {
    /// The repository.
    pub repo: RepoName,
    /// When it was last pushed to.
    pub last_push_ms: Option<Millis>,
    /// Its newest run.
    pub newest_run: Option<Run>,
}

/// Figures for health and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runs in the queue.
    pub pending: u64,
    /// Runs in progress.
    pub active: u64,
    /// Ended runs by outcome.
    pub by_outcome: Vec<(RunState, Option<FailureKind>, u64)>,
    /// When the oldest pending run was queued.
    pub oldest_pending_ms: Option<Millis>,
    /// Recorded events.
    pub events: u64,
}

impl Store {
    /// Runs, newest first.
    ///
    /// # Errors
    /// The database refuses.
    pub fn list_runs(&self, filter: &RunFilter) -> Result<Vec<Run>, StoreError> {
        let repo = filter
            .repo
            .as_ref()
            .map(|repo| self.read(|connection| former_names::current(connection, repo)))
            .transpose()?;
        let mut conditions = vec!["1".to_owned()];
        let mut values: Vec<String> = Vec::new();
        let mut want = |column: &str, operator: &str, value: Option<String>| {
            if let Some(value) = value {
                values.push(value);
                conditions.push(format!("{column} {operator} ?{}", values.len()));
            }
        };
        want("repo", "=", repo.as_ref().map(ToString::to_string));
        want(
            "ref_name",
            "=",
            filter.ref_name.as_ref().map(ToString::to_string),
        );
        want("state", "=", filter.state.map(|state| state.to_string()));
        want("id", "<", filter.before.map(|id| id.to_string()));
        let sql = format!(
            "SELECT {RUN_COLUMNS} FROM runs WHERE {} ORDER BY id DESC LIMIT {}",
            conditions.join(" AND "),
            filter.limit
        );
        let values: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&sql).attempt("list runs")?;
            let rows = statement
                .query_map(values.as_slice(), row::run)
                .attempt("list runs")?;
            rows.collect::<rusqlite::Result<_>>().attempt("list runs")
        })
    }

    /// The run whose id starts so.
    ///
    /// # Errors
    /// No run does, or more than one.
    pub fn resolve_run(&self, prefix: &str) -> Result<RunId, StoreError> {
        let hexadecimal = prefix.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        if prefix.is_empty() || prefix.len() > 36 || !hexadecimal {
            return Err(StoreError::NoSuchRun(prefix.chars().take(60).collect()));
        }
        let prefix = prefix.to_ascii_lowercase();
        self.read(|connection| {
            // `~` sorts after every character of an id: a range on the primary key.
            let mut statement = connection
                .prepare_cached(
                    "SELECT id FROM runs WHERE id >= ?1 AND id < ?1 || '~' ORDER BY id LIMIT 2",
                )
                .attempt("look a run up")?;
            let rows = statement
                .query_map([&prefix], |found| row::first::<RunId>(found.get(0)))
                .attempt("look a run up")?;
            let found: Vec<RunId> = rows
                .collect::<rusqlite::Result<Vec<_>>>()
                .attempt("look a run up")?
                .into_iter()
                .flatten()
                .collect();
            match found.as_slice() {
                [] => Err(StoreError::NoSuchRun(prefix.clone())),
                [one] => Ok(*one),
                _ => Err(StoreError::AmbiguousRun(prefix.clone())),
            }
        })
    }

    /// Every repository that was ever pushed to or run, by name.
    ///
    /// # Errors
    /// The database refuses.
    pub fn repo_summaries(&self) -> Result<Vec<RepoSummary>, StoreError> {
        let newest =
            format!("SELECT {RUN_COLUMNS} FROM runs WHERE repo = ?1 ORDER BY id DESC LIMIT 1");
        self.read(|connection| {
            let attempt = "list repositories";
            // A loose index scan: one seek per repository, however many events it has.
            let mut repos = connection
                .prepare_cached(
                    "WITH RECURSIVE names (repo) AS (
                       SELECT min(repo) FROM events
                       UNION ALL
                       SELECT (SELECT min(repo) FROM events WHERE repo > names.repo) FROM names WHERE names.repo IS NOT NULL)
                     SELECT repo, (SELECT max(pushed_at_ms) FROM events e WHERE e.repo = names.repo) FROM names WHERE repo IS NOT NULL",
                )
                .attempt(attempt)?;
            let rows = repos
                .query_map([], |found| Ok((row::first::<RepoName>(found.get(0))?, found.get::<_, Option<i64>>(1)?)))
                .attempt(attempt)?;
            let mut summaries = Vec::new();
            for pair in rows {
                let (Some(repo), pushed) = pair.attempt(attempt)? else { continue };
                let newest_run = connection
                    .prepare_cached(&newest)
                    .and_then(|mut statement| statement.query_row([repo.as_str()], row::run).optional())
                    .attempt(attempt)?;
                summaries.push(RepoSummary { repo, last_push_ms: pushed.map(Millis), newest_run });
            }
            Ok(summaries)
        })
    }

    /// The run that repeats this one, the newest where there are several.
    ///
    /// # Errors
    /// The database refuses.
    pub fn successor_of(&self, run: RunId) -> Result<Option<RunId>, StoreError> {
        self.read(|connection| {
            let found = connection
                .prepare_cached("SELECT id FROM runs WHERE retry_of = ?1 ORDER BY id DESC LIMIT 1")
                .and_then(|mut statement| {
                    row::first(statement.query_row([run.to_string()], |found| found.get(0)))
                });
            found.attempt("look a successor up")
        })
    }

    /// Figures for health and metrics.
    ///
    /// # Errors
    /// The database refuses.
    pub fn counts(&self) -> Result<Counts, StoreError> {
        self.read(|connection| {
            let attempt = "count runs";
            let one = |sql: &str| connection.query_row(sql, [], |found| found.get::<_, Option<i64>>(0)).attempt(attempt);
            let count = |sql: &str| Ok::<u64, StoreError>(one(sql)?.and_then(|n| u64::try_from(n).ok()).unwrap_or(0));
            let mut counts = Counts {
                pending: count("SELECT count(*) FROM runs WHERE state = 'pending'")?,
                active: count("SELECT count(*) FROM runs WHERE state = 'active'")?,
                oldest_pending_ms: one("SELECT min(queued_at_ms) FROM runs WHERE state = 'pending'")?.map(Millis),
                events: count("SELECT count(*) FROM events")?,
                by_outcome: Vec::new(),
            };
            for state in [RunState::Complete, RunState::Superseded] {
                let number = count(&format!("SELECT count(*) FROM runs WHERE state = '{state}'"))?;
                counts.by_outcome.push((state, None, number));
            }
            let mut statement = connection
                .prepare_cached("SELECT failure_kind, count(*) FROM runs WHERE state = 'failed' GROUP BY failure_kind")
                .attempt(attempt)?;
            let rows = statement
                .query_map([], |found| Ok((row::first::<FailureKind>(found.get(0))?, found.get::<_, i64>(1)?)))
                .attempt(attempt)?;
            for pair in rows {
                let (kind, number) = pair.attempt(attempt)?;
                counts.by_outcome.push((RunState::Failed, kind, u64::try_from(number).unwrap_or(0)));
            }
            Ok(counts)
        })
    }

    /// This appliance's id, made at its first start.
    ///
    /// # Errors
    /// The database refuses.
    pub fn instance_id(&self) -> Result<String, StoreError> {
        let now = self.clock().now().0;
        self.write(|tx| {
            let attempt = "read the instance id";
            let fresh = RunId::new().to_string();
            tx.execute("INSERT INTO instance (one, id, created_at_ms) VALUES (1, ?1, ?2) ON CONFLICT (one) DO NOTHING", (fresh, now))
                .attempt(attempt)?;
            tx.query_row("SELECT id FROM instance", [], |found| found.get(0)).attempt(attempt)
        })
    }
}
