//! Landings: commits that were pushed to `refs/for-green/BRANCH`, and how far each has come.
//!
//! A landing begins in the transaction that records the ref of its commit, and ends as landed in the one that records the
//! move of its branch, whether the event is that of the move or a comparison of refs found it. So a branch that was moved is
//! never run a second time, wherever quire was killed. [`quire_types::landing`] has the states.

use rusqlite::{Connection, Row, Transaction, named_params, params};

use super::error::StoreError;
use super::open::Store;
use super::redirects;
use super::row::{self, RUN_COLUMNS};
use super::sql;
use quire_types::clock::Millis;
use quire_types::landing::{LandingMethod, LandingProblem, LandingRef, LandingState};
use quire_types::names::{EventId, ObjectId, RefName, RepoName, RunId};
use quire_types::push_event::{PushEvent, RefUpdate};
use quire_types::run::Run;

/// A commit that was pushed so that it lands on a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landing {
    pub id: i64,
    pub repo: RepoName,
    pub branch: RefName,
    pub method: LandingMethod,
    pub pusher: Option<String>,
    pub pushed_sha: ObjectId,
    /// The commit that is tested, and to which the branch moves.
    pub tested_sha: ObjectId,
    /// The event that records the ref of that commit. It may still have to be recorded.
    pub event_id: EventId,
    pub state: LandingState,
    /// What the branch refers to before it is moved.
    pub base_sha: Option<ObjectId>,
    /// The event of the move, from when the move begins.
    pub move_event_id: Option<EventId>,
    /// What it waits for, or why it did not land.
    pub message: Option<String>,
    pub created_at_ms: Millis,
    pub ended_at_ms: Option<Millis>,
}

impl Landing {
    /// The ref of a commit of this landing.
    #[must_use]
    pub fn ref_of(&self, commit: &ObjectId) -> Option<RefName> {
        let landing = LandingRef {
            branch: self.branch.clone(),
            commit: commit.clone(),
        };
        landing.name().ok()
    }
}

/// A landing that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenLanding {
    pub landing: Landing,
    /// Whether the event of the commit that is tested is recorded.
    pub is_recorded: bool,
    /// The newest run of that event.
    pub run: Option<Run>,
}

/// Access to landings.
#[derive(Debug, Clone, Copy)]
pub struct Landings<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn landings(&self) -> Landings<'_> {
        Landings { store: self }
    }
}

/// The refs of landings, as a condition. The index on them has the same one.
const IS_LANDING_REF: &str = "ref_name >= 'refs/for-green/' AND ref_name < 'refs/for-green0'";

const COLUMNS: &str = "id, repo, branch, method, pusher, pushed_sha, tested_sha, event_id, state, base_sha, move_event_id, message, created_at_ms, ended_at_ms";

impl Landings<'_> {
    /// The repositories that have landings which have not ended, or refs of landings that have.
    pub fn busy_repos(self) -> Result<Vec<RepoName>, StoreError> {
        let sql = format!(
            "SELECT repo FROM landings WHERE state IN ('testing', 'moving')
             UNION SELECT repo FROM seen_refs WHERE {IS_LANDING_REF}"
        );
        self.store.read(|connection| {
            sql::all(
                connection,
                "list repositories with landings",
                &sql,
                [],
                |found| row::parsed_at(found, 0),
            )
        })
    }

    /// The landings of a repository that have not ended, in their order.
    pub fn open(self, repo: &RepoName) -> Result<Vec<OpenLanding>, StoreError> {
        let action = "list landings";
        let sql = format!(
            "SELECT {COLUMNS} FROM landings WHERE repo = ?1 AND state IN ('testing', 'moving') ORDER BY id"
        );
        let recorded = "SELECT 1 FROM events WHERE id = ?1";
        self.store.read(|connection| {
            let landings = sql::all(connection, action, &sql, [repo.as_str()], landing)?;
            let open = |landing: Landing| {
                let event = landing.event_id.to_string();
                let is_recorded =
                    sql::first(connection, action, recorded, [event], |_| Ok(()))?.is_some();
                let run = run_of(connection, &landing)?;
                Ok(OpenLanding {
                    landing,
                    is_recorded,
                    run,
                })
            };
            landings.into_iter().map(open).collect()
        })
    }

    /// The newest landing that has this ref.
    pub fn of_ref(
        self,
        repo: &RepoName,
        ref_name: &RefName,
    ) -> Result<Option<Landing>, StoreError> {
        let Some(of) = LandingRef::of(ref_name) else {
            return Ok(None);
        };
        let sql = format!(
            "SELECT {COLUMNS} FROM landings WHERE repo = ?1 AND branch = ?2 AND ?3 IN (pushed_sha, tested_sha) ORDER BY id DESC LIMIT 1"
        );
        self.store.read(|connection| {
            let repo = redirects::resolve(connection, repo)?;
            let values = params![repo.as_str(), of.branch.as_str(), of.commit.as_str()];
            sql::first(connection, "find a landing", &sql, values, landing)
        })
    }

    /// The newest run of the commit that a landing tests.
    pub fn run_of(self, landing: &Landing) -> Result<Option<RunId>, StoreError> {
        self.store
            .read(|connection| Ok(run_of(connection, landing)?.map(|run| run.id)))
    }

    /// Says what a landing waits for. Returns whether that changed.
    pub fn set_message(self, id: i64, message: Option<&str>) -> Result<bool, StoreError> {
        let sql = "UPDATE landings SET message = ?2 WHERE id = ?1 AND state IN ('testing', 'moving') AND message IS NOT ?2";
        self.change(sql, params![id, message])
    }

    /// Another commit is tested from now on. Its event still has to be recorded. Returns false if the landing has ended, or
    /// another commit is tested.
    pub fn retest(
        self,
        landing: &Landing,
        commit: &ObjectId,
        event: EventId,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE landings SET tested_sha = ?3, event_id = ?4, message = NULL WHERE id = ?1 AND state = 'testing' AND tested_sha = ?2";
        let event = event.to_string();
        let tested = landing.tested_sha.as_str();
        self.change(sql, params![landing.id, tested, commit.as_str(), event])
    }

    /// The branch is about to be moved. Returns false if the landing has ended.
    pub fn begin_move(
        self,
        landing: &Landing,
        base: Option<&ObjectId>,
        event: EventId,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE landings SET state = 'moving', base_sha = ?3, move_event_id = ?4, message = NULL WHERE id = ?1 AND state = 'testing' AND tested_sha = ?2";
        let base = base.map(ObjectId::as_str);
        let tested = landing.tested_sha.as_str();
        self.change(sql, params![landing.id, tested, base, event.to_string()])
    }

    /// The branch was not moved, since it refers to something else by now.
    pub fn abort_move(self, landing: &Landing) -> Result<bool, StoreError> {
        let sql = "UPDATE landings SET state = 'testing', base_sha = NULL, move_event_id = NULL WHERE id = ?1 AND state = 'moving' AND move_event_id = ?2";
        let event = landing.move_event_id.map(|event| event.to_string());
        self.change(sql, params![landing.id, event])
    }

    /// The branch has the commit without having been moved for this landing.
    pub fn landed(self, id: i64) -> Result<bool, StoreError> {
        self.end(id, LandingState::Landed, None)
    }

    /// The commit does not land. A branch that is being moved is not affected.
    pub fn failed(self, id: i64, problem: &LandingProblem) -> Result<bool, StoreError> {
        use quire_types::run::RunState;
        let state = match problem {
            LandingProblem::NotGreen(RunState::Canceled) => LandingState::Canceled,
            _ => LandingState::Failed,
        };
        self.end(id, state, Some(&problem.to_string()))
    }

    fn end(self, id: i64, state: LandingState, message: Option<&str>) -> Result<bool, StoreError> {
        let from = match state {
            LandingState::Landed => "'testing', 'moving'",
            _ => "'testing'",
        };
        let sql = format!(
            "UPDATE landings SET state = ?2, message = ?3, ended_at_ms = max(?4, created_at_ms) WHERE id = ?1 AND state IN ({from})"
        );
        let now = self.store.clock().now().0;
        self.change(&sql, params![id, state.as_str(), message, now])
    }

    /// The refs of landings that have ended.
    pub fn ended_refs(self, repo: &RepoName) -> Result<Vec<(RefName, ObjectId)>, StoreError> {
        let sql =
            format!("SELECT ref_name, sha FROM seen_refs WHERE repo = ?1 AND {IS_LANDING_REF}");
        let action = "list the refs of landings";
        self.store.read(|connection| {
            let refs: Vec<(RefName, ObjectId)> =
                sql::all(connection, action, &sql, [repo.as_str()], |found| {
                    Ok((row::parsed_at(found, 0)?, row::parsed_at(found, 1)?))
                })?;
            let mut ended = Vec::new();
            for (name, sha) in refs {
                let of = LandingRef::of(&name);
                let is_open = match &of {
                    Some(of) => open_of(connection, repo, of)?.is_some(),
                    None => false,
                };
                if !is_open {
                    ended.push((name, sha));
                }
            }
            Ok(ended)
        })
    }

    /// Deletes landings that have ended and whose runs are not kept any more.
    pub fn prune(self) -> Result<usize, StoreError> {
        let sql = "DELETE FROM landings WHERE state NOT IN ('testing', 'moving')
             AND NOT EXISTS (SELECT 1 FROM events WHERE events.id = landings.event_id)";
        self.store
            .write(|tx| sql::execute(tx, "delete old landings", sql, []))
    }

    fn change(self, sql: &str, values: impl rusqlite::Params) -> Result<bool, StoreError> {
        self.store
            .write(|tx| sql::execute(tx, "record the progress of a landing", sql, values))
            .map(|changed| changed > 0)
    }
}

/// Records the ref of a commit: it begins a landing, or is that of the commit which a landing tests from now on.
pub(super) fn record_ref(
    tx: &Transaction<'_>,
    (event, update): (&PushEvent, &RefUpdate),
    (method, has_run): (LandingMethod, bool),
    now: Millis,
) -> Result<(), StoreError> {
    let Some(of) = LandingRef::of(&update.ref_name).filter(|_| !update.new_sha.is_zero()) else {
        return Ok(());
    };
    let action = "record a landing";
    let ended = (!has_run).then(|| LandingProblem::NoRun.to_string());
    let values = named_params! {
        ":repo": event.repo.as_str(),
        ":branch": of.branch.as_str(),
        ":sha": of.commit.as_str(),
        ":event": event.id.to_string(),
        ":state": if has_run { LandingState::Testing } else { LandingState::Failed }.as_str(),
        ":message": ended,
        ":ended": (!has_run).then_some(now.0),
    };
    let known = sql::execute(
        tx,
        action,
        "UPDATE landings SET event_id = :event, state = :state, message = :message, ended_at_ms = max(:ended, created_at_ms)
         WHERE repo = :repo AND branch = :branch AND tested_sha = :sha AND state = 'testing'",
        values,
    )?;
    if known > 0 {
        return Ok(());
    }
    sql::execute(
        tx,
        action,
        "INSERT INTO landings (repo, branch, method, pusher, pushed_sha, tested_sha, event_id, state, message, created_at_ms, ended_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            event.repo.as_str(),
            of.branch.as_str(),
            method.as_str(),
            event.pusher,
            of.commit.as_str(),
            event.id.to_string(),
            if has_run { LandingState::Testing } else { LandingState::Failed }.as_str(),
            ended,
            now.0,
            (!has_run).then_some(now.0),
        ],
    )?;
    Ok(())
}

/// Records the move of a branch: the landing that moves it has landed. Returns whether there is one, now or before:
/// `is_known` says that the branch is recorded at the new commit already. Of a landing and a person who push the same commit at
/// the same moment, one moves the branch, and both have an event.
pub(super) fn record_move(
    tx: &Transaction<'_>,
    (repo, update): (&RepoName, &RefUpdate),
    is_known: bool,
    now: Millis,
) -> Result<bool, StoreError> {
    let sql =
        "UPDATE landings SET state = 'landed', message = NULL, ended_at_ms = max(?4, created_at_ms)
         WHERE repo = ?1 AND branch = ?2 AND tested_sha = ?3 AND state = 'moving'";
    let branch = update.ref_name.as_str();
    let values = params![repo.as_str(), branch, update.new_sha.as_str(), now.0];
    let action = "record that a commit has landed";
    if sql::execute(tx, action, sql, values)? > 0 {
        return Ok(true);
    }
    if !is_known {
        return Ok(false);
    }
    let old = (!update.old_sha.is_zero()).then_some(update.old_sha.as_str());
    let found = sql::first(
        tx,
        action,
        "SELECT 1 FROM landings WHERE repo = ?1 AND branch = ?2 AND tested_sha = ?3 AND state = 'landed'
           AND move_event_id IS NOT NULL AND base_sha IS ?4 LIMIT 1",
        params![repo.as_str(), branch, update.new_sha.as_str(), old],
        |_| Ok(()),
    )?;
    Ok(found.is_some())
}

/// Cancels the landing whose commit a run tests, if the run has ended already.
pub(super) fn withdraw(tx: &Transaction<'_>, run: RunId, now: i64) -> Result<bool, StoreError> {
    let sql = "UPDATE landings SET state = 'canceled', message = 'it was withdrawn', ended_at_ms = max(?2, created_at_ms)
         WHERE state = 'testing' AND EXISTS (
           SELECT 1 FROM runs WHERE runs.id = ?1 AND runs.event_id = landings.event_id AND runs.repo = landings.repo
             AND runs.state NOT IN ('pending', 'active')
             AND runs.ref_name = 'refs/for-green/' || substr(landings.branch, length('refs/heads/') + 1) || '/' || landings.tested_sha)";
    let withdrawn = sql::execute(tx, "withdraw a landing", sql, params![run.to_string(), now])?;
    Ok(withdrawn > 0)
}

/// Cancels the landings that waited in an older copy of the database: what they say of their branches is not true any more.
pub(super) fn cancel_held(tx: &Transaction<'_>, now: i64) -> Result<usize, StoreError> {
    let sql = "UPDATE landings SET state = 'canceled', ended_at_ms = max(?1, created_at_ms),
                    message = 'it waited in an older copy of the database, and may have landed since'
         WHERE state IN ('testing', 'moving') AND NOT EXISTS (
           SELECT 1 FROM runs JOIN instance ON instance.one = 1
           WHERE runs.event_id = landings.event_id AND runs.id > instance.held_run AND runs.\"trigger\" <> 'orphan')";
    sql::execute(tx, "cancel the landings that wait", sql, [now])
}

fn open_of(
    connection: &Connection,
    repo: &RepoName,
    of: &LandingRef,
) -> Result<Option<i64>, StoreError> {
    sql::first(
        connection,
        "find a landing",
        "SELECT id FROM landings WHERE repo = ?1 AND branch = ?2 AND ?3 IN (pushed_sha, tested_sha) AND state IN ('testing', 'moving') LIMIT 1",
        params![repo.as_str(), of.branch.as_str(), of.commit.as_str()],
        |found| found.get(0),
    )
}

fn run_of(connection: &Connection, landing: &Landing) -> Result<Option<Run>, StoreError> {
    let Some(ref_name) = landing.ref_of(&landing.tested_sha) else {
        return Ok(None);
    };
    let sql = format!(
        "SELECT {RUN_COLUMNS} FROM runs WHERE event_id = ?1 AND ref_name = ?2 ORDER BY id DESC LIMIT 1"
    );
    let values = params![landing.event_id.to_string(), ref_name.as_str()];
    sql::first(
        connection,
        "find the run of a landing",
        &sql,
        values,
        row::run,
    )
}

fn landing(found: &Row<'_>) -> rusqlite::Result<Landing> {
    Ok(Landing {
        id: found.get(0)?,
        repo: row::parsed_at(found, 1)?,
        branch: row::parsed_at(found, 2)?,
        method: row::parsed_at(found, 3)?,
        pusher: found.get(4)?,
        pushed_sha: row::parsed_at(found, 5)?,
        tested_sha: row::parsed_at(found, 6)?,
        event_id: row::parsed_at(found, 7)?,
        state: row::parsed_at(found, 8)?,
        base_sha: row::optional_at(found, 9)?,
        move_event_id: row::optional_at(found, 10)?,
        message: found.get(11)?,
        created_at_ms: Millis(found.get(12)?),
        ended_at_ms: found.get::<_, Option<i64>>(13)?.map(Millis),
    })
}
