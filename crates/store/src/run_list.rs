//! Finds and counts runs, for pages, commands and metrics. Pages are by key, never by offset.

use std::collections::BTreeMap;

use rusqlite::{Connection, ToSql};

use super::error::StoreError;
use super::redirects;
use super::row::{self, RUN_COLUMNS};
use super::runs::Runs;
use super::sql;
use quire_types::clock::Millis;
use quire_types::names::{ObjectId, RefName, RepoName, RunId};
use quire_types::run::{FailureKind, Run, RunName, RunSelector, RunState};

/// Which runs to list. Fields that are `None` do not restrict the list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    pub repo: Option<RepoName>,
    pub ref_name: Option<RefName>,
    pub state: Option<RunState>,
    /// Only runs older than this one: the key of the next page.
    pub before: Option<RunId>,
    /// The maximum number of runs.
    pub limit: u32,
}

/// Numbers of runs and events, for health and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunCounts {
    pub pending: u64,
    pub active: u64,
    /// Finished runs by state and failure kind.
    pub by_outcome: Vec<(RunState, Option<FailureKind>, u64)>,
    /// When the oldest pending run was queued.
    pub oldest_pending_ms: Option<Millis>,
    /// Recorded events.
    pub events: u64,
}

impl Runs<'_> {
    /// Lists runs, newest first.
    pub fn list(self, filter: &RunFilter) -> Result<Vec<Run>, StoreError> {
        self.store.read(|connection| {
            let repo = filter
                .repo
                .as_ref()
                .map(|repo| redirects::resolve(connection, repo))
                .transpose()?;
            let mut conditions = vec!["1".to_owned()];
            let mut values: Vec<String> = Vec::new();
            let mut restrict = |column: &str, operator: &str, value: Option<String>| {
                if let Some(value) = value {
                    values.push(value);
                    conditions.push(format!("{column} {operator} ?{}", values.len()));
                }
            };
            restrict("repo", "=", repo.map(|repo| repo.to_string()));
            restrict(
                "ref_name",
                "=",
                filter.ref_name.as_ref().map(ToString::to_string),
            );
            restrict("state", "=", filter.state.map(|state| state.to_string()));
            restrict("id", "<", filter.before.map(|id| id.to_string()));
            let sql = format!(
                "SELECT {RUN_COLUMNS} FROM runs WHERE {} ORDER BY id DESC LIMIT {}",
                conditions.join(" AND "),
                filter.limit
            );
            let values: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
            sql::all(connection, "list runs", &sql, values.as_slice(), row::run)
        })
    }

    /// Returns the branches and tags that fail, newest first: the last of their runs from the same source that completed or failed
    /// has failed. Of the failures of all repositories the newest 500 are looked at.
    pub fn failing(self, limit: u32) -> Result<Vec<Run>, StoreError> {
        self.store.read(|connection| {
            let sql = format!(
                "SELECT {RUN_COLUMNS} FROM runs AS failed \
                 WHERE id IN (SELECT id FROM runs WHERE state = 'failed' ORDER BY id DESC LIMIT 500) \
                   AND EXISTS (SELECT 1 FROM seen_refs AS seen \
                               WHERE seen.repo = failed.repo AND seen.ref_name = failed.ref_name) \
                   AND NOT EXISTS (SELECT 1 FROM runs AS newer \
                                   WHERE newer.repo = failed.repo AND newer.ref_name = failed.ref_name \
                                     AND newer.source = failed.source AND newer.id > failed.id \
                                     AND newer.state IN ('complete', 'failed')) \
                 ORDER BY id DESC LIMIT {limit}"
            );
            sql::all(connection, "list failing branches", &sql, [], row::run)
        })
    }

    /// Returns the newest run of a commit, if it is one of the newest 10,000 of the repository.
    pub fn newest_of_commit(
        self,
        repo: &RepoName,
        commit: &ObjectId,
    ) -> Result<Option<Run>, StoreError> {
        let sql = format!(
            "SELECT {RUN_COLUMNS} FROM runs WHERE sha = ?2
             AND id IN (SELECT id FROM runs WHERE repo = ?1 ORDER BY id DESC LIMIT 10000) ORDER BY id DESC LIMIT 1"
        );
        self.store.read(|connection| {
            let repo = redirects::resolve(connection, repo)?;
            let values = [repo.as_str(), commit.as_str()];
            sql::first(
                connection,
                "find the run of a commit",
                &sql,
                values,
                row::run,
            )
        })
    }

    /// Returns the one run that a user named.
    pub fn resolve(self, selector: &RunSelector) -> Result<RunId, StoreError> {
        let mut found = self
            .store
            .read(|connection| candidates(connection, selector))?;
        match found.len() {
            0 => Err(StoreError::NoSuchRun(selector.to_string())),
            1 => Ok(found.remove(0).0),
            _ => Err(StoreError::AmbiguousRun {
                selector: selector.to_string(),
                candidates: found.into_iter().map(|(_, name)| name).collect(),
            }),
        }
    }

    /// Returns the names of these runs. Runs that have no row are left out.
    pub fn names(self, runs: &[RunId]) -> Result<BTreeMap<RunId, RunName>, StoreError> {
        let sql = "SELECT repo, number FROM runs WHERE id = ?1";
        self.store.read(|connection| {
            let mut names = BTreeMap::new();
            for run in runs {
                let name = sql::first(
                    connection,
                    "read the name of a run",
                    sql,
                    [run.to_string()],
                    |found| {
                        Ok(RunName {
                            repo: row::parsed_at(found, 0)?,
                            number: found.get(1)?,
                        })
                    },
                )?;
                names.extend(name.map(|name| (*run, name)));
            }
            Ok(names)
        })
    }

    /// Returns the newest run that retries this one.
    pub fn successor_of(self, run: RunId) -> Result<Option<RunId>, StoreError> {
        let sql = "SELECT id FROM runs WHERE retry_of = ?1 ORDER BY id DESC LIMIT 1";
        self.store.read(|connection| {
            sql::first(
                connection,
                "find a retry",
                sql,
                [run.to_string()],
                |found| row::parsed_at(found, 0),
            )
        })
    }

    pub fn counts(self) -> Result<RunCounts, StoreError> {
        self.store.read(|connection| {
            let mut counts = RunCounts {
                pending: count(
                    connection,
                    "SELECT count(*) FROM runs WHERE state = 'pending'",
                )?,
                active: count(
                    connection,
                    "SELECT count(*) FROM runs WHERE state = 'active'",
                )?,
                oldest_pending_ms: sql::first(
                    connection,
                    COUNT,
                    "SELECT min(queued_at_ms) FROM runs WHERE state = 'pending'",
                    [],
                    |found| found.get::<_, Option<i64>>(0),
                )?
                .flatten()
                .map(Millis),
                events: count(connection, "SELECT count(*) FROM events")?,
                by_outcome: Vec::new(),
            };
            for state in [RunState::Complete, RunState::Canceled, RunState::Superseded] {
                let sql = format!("SELECT count(*) FROM runs WHERE state = '{state}'");
                counts
                    .by_outcome
                    .push((state, None, count(connection, &sql)?));
            }
            let failed = sql::all(
                connection,
                COUNT,
                "SELECT failure_kind, count(*) FROM runs WHERE state = 'failed' GROUP BY failure_kind",
                [],
                |found| {
                    let kind: FailureKind = row::parsed_at(found, 0)?;
                    Ok((RunState::Failed, Some(kind), row::unsigned_at(found, 1)?))
                },
            )?;
            counts.by_outcome.extend(failed);
            Ok(counts)
        })
    }
}

/// How many runs an ambiguous selector is answered with.
const MAX_CANDIDATES: usize = 5;

/// The runs that a selector may mean, newest first, at most [`MAX_CANDIDATES`].
fn candidates(
    connection: &Connection,
    selector: &RunSelector,
) -> Result<Vec<(RunId, RunName)>, StoreError> {
    let repo = |repo: &RepoName| Ok(redirects::resolve(connection, repo)?.to_string());
    let (condition, values, limit): (&str, Vec<String>, usize) = match selector {
        RunSelector::Name(name) => (
            "repo = ?1 AND number = CAST(?2 AS INTEGER)",
            vec![repo(&name.repo)?, name.number.to_string()],
            1,
        ),
        RunSelector::Number(number) => (
            "number = CAST(?1 AS INTEGER)",
            vec![number.to_string()],
            MAX_CANDIDATES,
        ),
        RunSelector::Latest(None) => ("1", vec![], 1),
        RunSelector::Latest(Some(name)) => ("repo = ?1", vec![repo(name)?], 1),
        RunSelector::Ref(name, ref_name) => (
            "repo = ?1 AND ref_name = ?2",
            vec![repo(name)?, ref_name.to_string()],
            1,
        ),
        // `~` sorts after every character of an id, so the beginning is a range of the primary key.
        RunSelector::IdPart(part) => (
            "id >= ?1 AND id < ?1 || '~' OR substr(id, -length(?1)) = ?1",
            vec![part.clone()],
            MAX_CANDIDATES,
        ),
    };
    let sql = format!(
        "SELECT id, repo, number FROM runs WHERE {condition} ORDER BY id DESC LIMIT {limit}"
    );
    let values: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
    sql::all(connection, "find a run", &sql, values.as_slice(), |found| {
        let name = RunName {
            repo: row::parsed_at(found, 1)?,
            number: found.get(2)?,
        };
        Ok((row::parsed_at(found, 0)?, name))
    })
}

const COUNT: &str = "count runs";

fn count(connection: &Connection, sql: &str) -> Result<u64, StoreError> {
    let number = sql::first(connection, COUNT, sql, [], |found| {
        row::unsigned_at(found, 0)
    })?;
    Ok(number.unwrap_or(0))
}
