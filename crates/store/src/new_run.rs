//! Inserts runs into the queue: which fields a new run has, its position, and its id.

use rusqlite::{Transaction, named_params};

use super::error::StoreError;
use super::row;
use super::sql;
use quire_pipeline::Source;
use quire_types::clock::Millis;
use quire_types::names::{EventId, ObjectId, RefName, RepoName, RunId};
use quire_types::run::Trigger;

/// A run to be queued. It gets its id when it is inserted; ids are in the order of insertion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    pub repo: RepoName,
    pub ref_name: RefName,
    pub sha: ObjectId,
    /// The first line of the commit's message.
    pub subject: Option<String>,
    /// What the ref pointed to before; `None` for a new ref.
    pub previous_sha: Option<ObjectId>,
    pub trigger: Trigger,
    /// The pipeline source it starts from, such as `quire/push`.
    pub source: String,
    /// Name of the key of the user who pushed or started it.
    pub pusher: Option<String>,
    /// Only this job and its ancestors.
    pub only_job: Option<String>,
    /// The run that it retries.
    pub retry_of: Option<RunId>,
    /// Whether it retries only the jobs that failed, and those that depend on them.
    pub only_failed: bool,
    /// Parameters of a manual start; all values are strings.
    pub params: Option<serde_json::Map<String, serde_json::Value>>,
    /// Its group, if that is known.
    pub group_name: Option<String>,
    /// Whether a newer push supersedes it.
    pub supersede: bool,
    /// Whether its pipeline may declare a group: it must be evaluated before the run is claimed or superseded.
    pub group_unknown: bool,
    /// Whether its container is kept for a while if it fails.
    pub keep: bool,
    /// Whether its images are pulled and built afresh.
    pub rebuild: bool,
    /// When the push was accepted, the user started it, or the schedule was due.
    pub pushed_at: Millis,
}

impl NewRun {
    /// The run of a push whose pipeline declares no group.
    #[must_use]
    pub fn of_push(repo: RepoName, ref_name: RefName, sha: ObjectId, pushed_at: Millis) -> Self {
        Self {
            repo,
            ref_name,
            sha,
            subject: None,
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
            group_unknown: false,
            keep: false,
            rebuild: false,
            pushed_at,
        }
    }
}

/// When the newest open run of a repository was queued.
pub(super) const LAST_QUEUED: &str = "SELECT queued_at_ms FROM runs WHERE repo = ?1 AND state IN ('pending', 'active') ORDER BY queued_at_ms DESC LIMIT 1";

/// Inserts a pending run after all others of its repository; returns its id.
pub(super) fn insert_last(
    tx: &Transaction<'_>,
    run: &NewRun,
    event: Option<EventId>,
    now: Millis,
) -> Result<RunId, StoreError> {
    let last = sql::first(
        tx,
        "find a run's place in the queue",
        LAST_QUEUED,
        [run.repo.as_str()],
        |found| found.get(0),
    )?;
    // If the clock was set back since the last run was queued, the new one must still come after it.
    let queued_at = now.max(Millis(last.map_or(i64::MIN, |last: i64| last + 1)));
    insert_at(tx, run, event, queued_at, now)
}

/// Inserts a pending run at the given place in the queue; returns its id, which sorts after the ids of all other runs.
pub(super) fn insert_at(
    tx: &Transaction<'_>,
    run: &NewRun,
    event: Option<EventId>,
    queued_at: Millis,
    now: Millis,
) -> Result<RunId, StoreError> {
    let newest = sql::first(
        tx,
        "find the newest run",
        "SELECT id FROM runs ORDER BY id DESC LIMIT 1",
        [],
        |found| row::parsed_at(found, 0),
    )?;
    let id = RunId::after(newest, now);
    let number: Option<u32> = sql::first(
        tx,
        "number a run",
        "INSERT INTO run_numbers (repo, last) VALUES (?1, 1) ON CONFLICT (repo) DO UPDATE SET last = last + 1 RETURNING last",
        [run.repo.as_str()],
        |found| found.get(0),
    )?;
    let params = run
        .params
        .clone()
        .map(|params| serde_json::Value::Object(params).to_string());
    sql::execute(
        tx,
        "queue a run",
        "INSERT INTO runs (id, repo, number, ref_name, sha, subject, previous_sha, event_id, \"trigger\", source, pusher, only_job, retry_of, only_failed,
                           params, group_name, supersede, unexamined, keep, rebuild, state, pushed_at_ms, queued_at_ms)
         VALUES (:id, :repo, :number, :ref, :sha, :subject, :previous, :event, :trigger, :source, :pusher, :only, :retry, :only_failed,
                 :params, :group, :supersede, :unexamined, :keep, :rebuild, 'pending', :pushed, :queued)",
        named_params! {
            ":id": id.to_string(),
            ":repo": run.repo.as_str(),
            ":number": number,
            ":ref": run.ref_name.as_str(),
            ":sha": run.sha.as_str(),
            ":subject": run.subject,
            ":previous": run.previous_sha.as_ref().map(ObjectId::as_str),
            ":event": event.map(|id| id.to_string()),
            ":trigger": run.trigger.as_str(),
            ":source": run.source,
            ":pusher": run.pusher,
            ":only": run.only_job,
            ":retry": run.retry_of.map(|id| id.to_string()),
            ":only_failed": run.only_failed,
            ":params": params,
            ":group": run.group_name,
            ":supersede": run.supersede,
            ":unexamined": run.group_unknown,
            ":keep": run.keep,
            ":rebuild": run.rebuild,
            ":pushed": run.pushed_at.0,
            ":queued": queued_at.0,
        },
    )?;
    Ok(id)
}
