//! The two ends of the queue: what enters it and in which place, what leaves it, and what the runs
//! in it mean for each other.

use rusqlite::{OptionalExtension, Transaction, named_params, params};

use super::error::{Attempt, StoreError};
use super::former_names;
use super::open::Store;
use super::row::{self, RUN_COLUMNS};
use crate::clock::Millis;
use crate::names::{EventId, ObjectId, RefName, RepoName, RunId};
use crate::pipeline::{Group, Source};
use crate::policy::{Replace, Standing};
use crate::run::{ExecutorKind, Run, RunState, Trigger};

/// A run to be queued. It gets its id as it enters, after all that are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    /// The repository.
    pub repo: RepoName,
    /// The ref.
    pub ref_name: RefName,
    /// What it is of.
    pub sha: ObjectId,
    /// Where the ref stood before.
    pub previous_sha: Option<ObjectId>,
    /// What made it.
    pub trigger: Trigger,
    /// Pipeline source.
    pub source: String,
    /// Name of the key that pushed, or of who started it.
    pub pusher: Option<String>,
    /// Only this job and its ancestors.
    pub only_job: Option<String>,
    /// The run it repeats.
    pub retry_of: Option<RunId>,
    /// Whether only what failed of that is run again.
    pub only_failed: bool,
    /// What the person who starts it gives along, each a text.
    pub params: Option<serde_json::Map<String, serde_json::Value>>,
    /// Its group, where that is known, and whether a newer push takes its place.
    pub group_name: Option<String>,
    /// Whether a newer push takes its place.
    pub supersede: bool,
    /// Its pipeline may name a group: it has to be evaluated before the run is claimed or superseded.
    pub unexamined: bool,
    /// Whether its container is kept for a while when it fails.
    pub keep: bool,
    /// When the push was accepted, the person asked, or the schedule came due.
    pub pushed_at: Millis,
}

impl NewRun {
    /// The run of a push, of a pipeline that names no group.
    #[must_use]
    pub fn of_push(repo: RepoName, ref_name: RefName, sha: ObjectId, pushed_at: Millis) -> Self {
        Self {
            repo,
            ref_name,
            sha,
            previous_sha: None,
            trigger: Trigger::Push,
            source: Source::Push.to_string(),
            pusher: None,
            only_job: None,
            retry_of: None,
            only_failed: false,
            params: None,
            group_name: None,
            supersede: true,
            unexamined: false,
            keep: false,
            pushed_at,
        }
    }
}

/// Answers which of these runs give way to which.
pub type SupersedeDecision = fn(&[Standing]) -> Vec<Replace>;

/// Whether a pending run `p` may start: its group is known, no run of its ref is active, no
/// run before it in the queue is of its group, or may turn out to be, and its repository is not just being renamed.
const CLAIMABLE: &str = "p.state = 'pending' AND p.unexamined = 0
    AND NOT EXISTS (SELECT 1 FROM former_names f WHERE f.name = p.repo AND f.moving = 1)
    AND NOT EXISTS (SELECT 1 FROM runs a WHERE a.state = 'active' AND a.repo = p.repo AND a.ref_name = p.ref_name)
    AND NOT EXISTS (SELECT 1 FROM runs g WHERE g.state IN ('pending', 'active') AND g.repo = p.repo AND g.group_name = p.group_name
                    AND (g.queued_at_ms, g.id) < (p.queued_at_ms, p.id))
    AND NOT EXISTS (SELECT 1 FROM runs u WHERE u.state = 'pending' AND u.unexamined = 1 AND u.repo = p.repo
                    AND (u.queued_at_ms, u.id) < (p.queued_at_ms, p.id) AND (p.group_name IS NOT NULL OR u.ref_name = p.ref_name))";

/// So many waiting runs say for whom they wait: those that come next.
const NOTED: u32 = 100;

impl Store {
    /// Claims the oldest pending run that may start.
    ///
    /// # Errors
    /// The database refuses.
    pub fn claim_next(&self, executor: ExecutorKind) -> Result<Option<Run>, StoreError> {
        let now = self.clock().now();
        let sql = claim_sql();
        self.write(|tx| {
            tx.prepare_cached(&sql)
                .and_then(|mut statement| {
                    statement
                        .query_row(
                            named_params! { ":now": now.0, ":executor": executor.as_str() },
                            row::run,
                        )
                        .optional()
                })
                .attempt("claim a run")
        })
    }

    /// Whether [`Store::claim_next`] would find a run.
    ///
    /// # Errors
    /// The database refuses.
    pub fn has_claimable(&self) -> Result<bool, StoreError> {
        let sql = claimable_sql();
        self.read(|connection| {
            connection
                .prepare_cached(&sql)
                .and_then(|mut statement| statement.query_row([], |found| found.get(0)))
                .attempt("look for a pending run")
        })
    }

    /// Notes on all pending runs why they wait; `None` takes the note away.
    ///
    /// # Errors
    /// The database refuses.
    pub fn note_waiting(&self, why: Option<&str>) -> Result<Vec<RunId>, StoreError> {
        let sql = "UPDATE runs SET message = ?1 WHERE state = 'pending' AND message IS NOT ?1 RETURNING id";
        self.write(|tx| changed_runs(tx, sql, &[&why]))
    }

    /// Notes on those pending runs that come next for which run of their ref or group each waits,
    /// and `otherwise` where it waits for none of these.
    ///
    /// # Errors
    /// The database refuses.
    pub fn note_blocked(&self, otherwise: Option<&str>) -> Result<Vec<RunId>, StoreError> {
        let sql = blocked_sql();
        self.write(|tx| changed_runs(tx, &sql, &[&otherwise]))
    }

    /// Pending runs whose group is not known yet, oldest first; at most so many.
    ///
    /// # Errors
    /// The database refuses.
    pub fn unexamined_runs(&self, limit: u32) -> Result<Vec<Run>, StoreError> {
        let sql = unexamined_sql(limit);
        self.read(|connection| {
            let attempt = "list runs whose group is not known";
            let mut statement = connection.prepare_cached(&sql).attempt(attempt)?;
            let rows = statement.query_map([], row::run).attempt(attempt)?;
            rows.collect::<rusqlite::Result<_>>().attempt(attempt)
        })
    }

    /// Notes a pending run's group, and does to it and its like what `decide` says; gives the runs
    /// that changed. One that has been ended meanwhile stays as it is.
    ///
    /// # Errors
    /// The database refuses.
    pub fn examined(
        &self,
        run: &Run,
        group: Option<&Group>,
        decide: SupersedeDecision,
    ) -> Result<Vec<RunId>, StoreError> {
        let now = self.clock().now();
        let (name, supersede) = group.map_or((None, true), |group| {
            (Some(group.name.as_str()), group.supersede)
        });
        self.write(|tx| {
            let changed = tx
                .execute(
                    "UPDATE runs SET unexamined = 0, group_name = ?2, supersede = ?3, message = NULL
                     WHERE id = ?1 AND state = 'pending' AND unexamined = 1",
                    params![run.id.to_string(), name, supersede],
                )
                .attempt("note a run's group")?;
            if changed == 0 {
                return Ok(Vec::new());
            }
            // It may have been renamed since the run was read.
            let repo = former_names::current(tx, &run.repo)?;
            let mut touched = settle(tx, &repo, &run.ref_name, name, now, decide)?;
            touched.push(run.id);
            Ok(touched)
        })
    }

    /// Notes why a pending run's group is not known yet.
    ///
    /// # Errors
    /// The database refuses.
    pub fn note_unexamined(&self, run: RunId, why: &str) -> Result<Vec<RunId>, StoreError> {
        let sql = "UPDATE runs SET message = ?2 WHERE id = ?1 AND state = 'pending' AND message IS NOT ?2 RETURNING id";
        self.write(|tx| changed_runs(tx, sql, &[&run.to_string(), &why]))
    }

    /// Queues a run that no push made; gives its id.
    ///
    /// # Errors
    /// The database refuses.
    pub fn start_run(&self, run: &NewRun) -> Result<RunId, StoreError> {
        let now = self.clock().now();
        self.write(|tx| {
            let run = NewRun {
                repo: former_names::current(tx, &run.repo)?,
                ..run.clone()
            };
            insert_next(tx, &run, None, now)
        })
    }
}

/// Every question that is asked of the table again and again, for a look at how it is answered.
#[cfg(test)]
pub(super) fn asked() -> Vec<String> {
    vec![
        claim_sql(),
        claimable_sql(),
        blocked_sql(),
        unexamined_sql(100),
        LAST_PLACE.to_owned(),
        standing_sql(),
    ]
}

fn claimable_sql() -> String {
    format!("SELECT EXISTS (SELECT 1 FROM runs p WHERE {CLAIMABLE})")
}

fn blocked_sql() -> String {
    format!(
        "WITH next AS (SELECT id, repo, ref_name, group_name, queued_at_ms FROM runs p INDEXED BY runs_pending
                       WHERE state = 'pending' AND unexamined = 0 ORDER BY queued_at_ms, id LIMIT {NOTED}),
              noted AS (SELECT id, coalesce(
           (SELECT 'waits until its repository is renamed to ' || f.repo FROM former_names f WHERE f.name = p.repo AND f.moving = 1),
           (SELECT 'waits for run ' || a.id || ' of the same ref' FROM runs a
            WHERE a.state = 'active' AND a.repo = p.repo AND a.ref_name = p.ref_name),
           (SELECT 'waits for run ' || g.id || ' of the same group, ' || g.group_name FROM runs g
            WHERE g.state IN ('pending', 'active') AND g.repo = p.repo AND g.group_name = p.group_name
              AND (g.queued_at_ms, g.id) < (p.queued_at_ms, p.id)
            ORDER BY g.queued_at_ms DESC, g.id DESC LIMIT 1), ?1) AS why FROM next p)
         UPDATE runs SET message = noted.why FROM noted
         WHERE runs.id = noted.id AND runs.state = 'pending' AND runs.message IS NOT noted.why RETURNING runs.id"
    )
}

fn unexamined_sql(limit: u32) -> String {
    format!(
        "SELECT {RUN_COLUMNS} FROM runs INDEXED BY runs_unexamined
         WHERE state = 'pending' AND unexamined = 1 ORDER BY queued_at_ms, id LIMIT {limit}"
    )
}

/// Where the newest run of a repository that has not ended stands in the queue.
const LAST_PLACE: &str = "SELECT queued_at_ms FROM runs WHERE repo = ?1 AND state IN ('pending', 'active') ORDER BY queued_at_ms DESC LIMIT 1";

fn standing_sql() -> String {
    const COLUMNS: &str = "id, state, stop_requested, queued_at_ms, ref_name, group_name, supersede, unexamined, \"trigger\", source";
    format!(
        "SELECT {COLUMNS} FROM runs WHERE repo = ?1 AND ref_name = ?2 AND state = 'pending'
         UNION SELECT {COLUMNS} FROM runs WHERE repo = ?1 AND ref_name = ?2 AND state = 'active'
         UNION SELECT {COLUMNS} FROM runs WHERE repo = ?1 AND group_name = ?3 AND state IN ('pending', 'active')"
    )
}

fn claim_sql() -> String {
    format!(
        "UPDATE runs SET state = 'active', started_at_ms = max(:now, queued_at_ms), executor = :executor, message = NULL
         WHERE state = 'pending' AND id = (
           SELECT p.id FROM runs p INDEXED BY runs_pending WHERE {CLAIMABLE} ORDER BY p.queued_at_ms, p.id LIMIT 1)
         RETURNING {RUN_COLUMNS}"
    )
}

/// Runs a statement that gives the ids of the runs it changed.
fn changed_runs(
    tx: &Transaction<'_>,
    sql: &str,
    values: &[&dyn rusqlite::ToSql],
) -> Result<Vec<RunId>, StoreError> {
    let attempt = "note why runs wait";
    let mut statement = tx.prepare_cached(sql).attempt(attempt)?;
    let rows = statement
        .query_map(values, |found| row::first::<RunId>(found.get(0)))
        .attempt(attempt)?;
    Ok(rows
        .collect::<rusqlite::Result<Vec<_>>>()
        .attempt(attempt)?
        .into_iter()
        .flatten()
        .collect())
}

/// Inserts a pending run as the last of its repository; gives its id.
///
/// The clock may have been set back since the one before it was queued; its place must not come
/// before that one's all the same.
pub(super) fn insert_next(
    tx: &Transaction<'_>,
    run: &NewRun,
    event: Option<EventId>,
    now: Millis,
) -> Result<RunId, StoreError> {
    let last: Option<i64> = tx
        .prepare_cached(LAST_PLACE)
        .and_then(|mut statement| {
            statement
                .query_row([run.repo.as_str()], |found| found.get(0))
                .optional()
        })
        .attempt("find a run's place")?;
    insert_at(
        tx,
        run,
        event,
        now.max(Millis(last.map_or(i64::MIN, |last| last + 1))),
        now,
    )
}

/// Inserts a pending run in the given place; gives its id, which sorts after that of every other run.
pub(super) fn insert_at(
    tx: &Transaction<'_>,
    run: &NewRun,
    event: Option<EventId>,
    queued_at: Millis,
    now: Millis,
) -> Result<RunId, StoreError> {
    let newest = tx.prepare_cached("SELECT id FROM runs ORDER BY id DESC LIMIT 1");
    let newest =
        newest.and_then(|mut statement| row::first(statement.query_row([], |found| found.get(0))));
    let id = RunId::after(newest.attempt("find the newest run")?, now);
    let params = run
        .params
        .clone()
        .map(|params| serde_json::Value::Object(params).to_string());
    tx.prepare_cached(
        "INSERT INTO runs (id, repo, ref_name, sha, previous_sha, event_id, \"trigger\", source, pusher, only_job, retry_of, only_failed,
                           params, group_name, supersede, unexamined, keep, state, pushed_at_ms, queued_at_ms)
         VALUES (:id, :repo, :ref, :sha, :previous, :event, :trigger, :source, :pusher, :only, :retry, :only_failed,
                 :params, :group, :supersede, :unexamined, :keep, 'pending', :pushed, :queued)",
    )
    .and_then(|mut statement| {
        statement.execute(named_params! {
            ":id": id.to_string(), ":repo": run.repo.as_str(), ":ref": run.ref_name.as_str(), ":sha": run.sha.as_str(),
            ":previous": run.previous_sha.as_ref().map(ObjectId::as_str),
            ":event": event.map(|id| id.to_string()), ":trigger": run.trigger.as_str(), ":source": run.source,
            ":pusher": run.pusher, ":only": run.only_job, ":retry": run.retry_of.map(|id| id.to_string()),
            ":only_failed": run.only_failed, ":params": params, ":group": run.group_name, ":supersede": run.supersede,
            ":unexamined": run.unexamined, ":keep": run.keep, ":pushed": run.pushed_at.0, ":queued": queued_at.0,
        })
    })
    .attempt("queue a run")?;
    Ok(id)
}

/// Does to the standing runs of a ref and of a group what `decide` says; gives those it touched.
pub(super) fn settle(
    tx: &Transaction<'_>,
    repo: &RepoName,
    ref_name: &RefName,
    group: Option<&str>,
    now: Millis,
    decide: SupersedeDecision,
) -> Result<Vec<RunId>, StoreError> {
    let mut touched = Vec::new();
    for Replace { run, by, at_once } in decide(&standing(tx, repo, ref_name, group)?) {
        let sql = if at_once {
            "UPDATE runs SET state = 'superseded', superseded_by = ?2, finished_at_ms = max(?3, queued_at_ms), message = NULL
             WHERE id = ?1 AND state = 'pending'"
        } else {
            "UPDATE runs SET stop_requested = 'superseded', superseded_by = ?2
             WHERE id = ?1 AND state = 'active' AND stop_requested IS NULL AND ?3 = ?3"
        };
        let changed = tx
            .execute(sql, params![run.to_string(), by.to_string(), now.0])
            .attempt("supersede a run")?;
        if changed == 0 {
            return Err(StoreError::IllegalTransition {
                run: run.to_string(),
                from: "unknown".into(),
                to: "superseded",
            });
        }
        touched.push(run);
    }
    Ok(touched)
}

fn standing(
    tx: &Transaction<'_>,
    repo: &RepoName,
    ref_name: &RefName,
    group: Option<&str>,
) -> Result<Vec<Standing>, StoreError> {
    let attempt = "read the standing runs of a ref";
    let sql = standing_sql();
    let mut statement = tx.prepare_cached(&sql).attempt(attempt)?;
    let rows = statement
        .query_map(params![repo.as_str(), ref_name.as_str(), group], |found| {
            let state: String = found.get(1)?;
            let (trigger, source): (String, String) = (found.get(8)?, found.get(9)?);
            Ok(Standing {
                id: row::first(found.get(0))?.ok_or(rusqlite::Error::QueryReturnedNoRows)?,
                state: if state == RunState::Active.as_str() {
                    RunState::Active
                } else {
                    RunState::Pending
                },
                stopping: found.get::<_, Option<String>>(2)?.is_some(),
                queued_at: Millis(found.get(3)?),
                ref_name: row::first(found.get(4))?.ok_or(rusqlite::Error::QueryReturnedNoRows)?,
                group: found.get(5)?,
                supersede: found.get(6)?,
                unexamined: found.get(7)?,
                by_push: trigger == Trigger::Push.as_str(),
                of_push: Source::from_name(&source) == Some(Source::Push),
            })
        })
        .attempt(attempt)?;
    rows.collect::<rusqlite::Result<_>>().attempt(attempt)
}
