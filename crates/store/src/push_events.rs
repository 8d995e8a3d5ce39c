//! Push events and the runs they make: one transaction each.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, Transaction, params};

use super::change_commits;
use super::error::StoreError;
use super::instance::advance;
use super::landings;
use super::new_run::{NewRun, insert_last};
use super::open::Store;
use super::operations;
use super::overwritten_refs;
use super::redirects;
use super::row;
use super::seen_refs::{RecordedRef, record_ref, recorded_ref};
use super::sql;
use super::supersede::{SupersedeDecision, enter_queue};
use quire_types::clock::Millis;
use quire_types::landing::LandingMethod;
use quire_types::names::{EventId, ObjectId, RefName, RepoName, RunId};
use quire_types::push_event::{EventType, PushEvent, RefUpdate, SKIP_OPTION};

/// The most tags of a push that targets are told of.
const MAX_TOLD_TAGS: usize = 3;

/// What git says that refs point to while an event is recorded; `None` for a deleted ref. A ref
/// that is not in it counts as pointing to what the event says.
pub type CurrentRefs = BTreeMap<RefName, Option<ObjectId>>;

/// An event with the runs that it makes.
#[derive(Debug, Clone)]
pub struct PlannedEvent {
    pub event: PushEvent,
    pub runs: Vec<NewRun>,
    pub current_refs: CurrentRefs,
    /// Those of its refs whose old objects git keeps.
    pub overwritten: Vec<RefUpdate>,
    /// How its commits land that were pushed for that.
    pub landing: LandingMethod,
    /// Its new commits that have change ids, with these.
    pub changes: Vec<(ObjectId, String)>,
}

/// What recording an event did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Whether the event was new. One that was recorded before changes nothing.
    pub is_new: bool,
    /// The event's runs, in the order of its refs.
    pub runs: Vec<(RunId, RefName)>,
    /// Runs that were superseded, or asked to stop.
    pub replaced: Vec<RunId>,
}

/// Access to push events.
#[derive(Debug, Clone, Copy)]
pub struct Events<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn events(&self) -> Events<'_> {
        Events { store: self }
    }
}

impl Events<'_> {
    /// Records an event with its runs, supersedes what `decide` says, and records what the refs now point to.
    /// An event that was recorded before changes nothing; its runs are returned.
    ///
    /// The events of two pushes to one ref can arrive in the wrong order. An event whose ref has moved on, and whose
    /// successor is recorded already, makes a run that is superseded from the start, and supersedes nothing.
    /// A push that was found by comparing refs before its event arrived makes no second run.
    pub fn record(
        self,
        event: &PushEvent,
        runs: &[NewRun],
        current_refs: &CurrentRefs,
        decide: SupersedeDecision,
    ) -> Result<RecordedEvent, StoreError> {
        let now = self.store.clock().now();
        let planned = PlannedEvent {
            event: event.clone(),
            runs: runs.to_vec(),
            current_refs: current_refs.clone(),
            overwritten: Vec::new(),
            landing: LandingMethod::default(),
            changes: Vec::new(),
        };
        self.store
            .write(|tx| record_in(tx, &planned, (now, decide)))
    }

    /// [`Events::record`] for several events in one transaction, oldest first.
    pub fn record_all(
        self,
        planned: &[PlannedEvent],
        decide: SupersedeDecision,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let now = self.store.clock().now();
        self.store.write(|tx| {
            let each = planned
                .iter()
                .map(|planned| record_in(tx, planned, (now, decide)));
            each.collect()
        })
    }

    /// The runs of an event, or `None` if the event is not recorded.
    pub fn runs_of(self, event: EventId) -> Result<Option<Vec<(RunId, RefName)>>, StoreError> {
        self.store.read(|connection| {
            let known = sql::first(
                connection,
                "find an event",
                "SELECT 1 FROM events WHERE id = ?1",
                [event.to_string()],
                |found| found.get::<_, i64>(0),
            )?;
            known.map(|_| runs_of(connection, event)).transpose()
        })
    }

    /// The repositories of events that are newer than this one, and the newest of these events.
    pub fn repos_since(
        self,
        event: Option<EventId>,
    ) -> Result<(Vec<RepoName>, Option<EventId>), StoreError> {
        let after = event.map_or_else(String::new, |event| event.to_string());
        let found = self.store.read(|connection| {
            sql::all(
                connection,
                "list the repositories of new events",
                "SELECT repo, max(id) FROM events WHERE id > ?1 GROUP BY repo ORDER BY 2",
                [after],
                |found| Ok((row::parsed_at(found, 0)?, row::parsed_at(found, 1)?)),
            )
        })?;
        let newest = found.last().map(|(_, event)| *event);
        Ok((found.into_iter().map(|(repo, _)| repo).collect(), newest))
    }

    /// The newest recorded event. As long as it stays the same, no ref has moved.
    pub fn newest(self) -> Result<Option<EventId>, StoreError> {
        let sql = "SELECT id FROM events ORDER BY id DESC LIMIT 1";
        self.store.read(|connection| {
            sql::first(connection, "find the newest event", sql, [], |found| {
                row::parsed_at(found, 0)
            })
        })
    }
}

fn record_in(
    tx: &Transaction<'_>,
    planned: &PlannedEvent,
    (now, decide): (Millis, SupersedeDecision),
) -> Result<RecordedEvent, StoreError> {
    let (runs, current_refs) = (&planned.runs, &planned.current_refs);
    // The repository may have been renamed since the push, or since the runs were planned.
    let repo = redirects::resolve(tx, &planned.event.repo)?;
    let event = &PushEvent {
        repo: repo.clone(),
        ..planned.event.clone()
    };
    if !insert_event(tx, event, now)? {
        return Ok(RecordedEvent {
            runs: runs_of(tx, event.id)?,
            ..RecordedEvent::default()
        });
    }
    let by_ref: HashMap<&RefName, &NewRun> = runs.iter().map(|run| (&run.ref_name, run)).collect();
    advance(tx)?;
    overwritten_refs::record(tx, event, &planned.overwritten, now)?;
    change_commits::record(tx, event, &planned.changes)?;
    operations::record_event(tx, event, &planned.overwritten, now)?;
    let mut recorded = RecordedEvent {
        is_new: true,
        ..RecordedEvent::default()
    };
    for (position, update) in (0_i64..).zip(&event.refs) {
        let seen = recorded_ref(tx, &repo, &update.ref_name)?;
        let order = order_of(update, seen.as_ref(), current_refs, event.event_type);
        // The commit of a branch that was moved by a landing has had its run.
        let is_known = seen.as_ref().is_some_and(|seen| seen.sha == update.new_sha);
        let has_landed = landings::record_move(tx, (&repo, update), is_known, now)?;
        let run = by_ref.get(&update.ref_name).filter(|_| !has_landed);
        if let Some(run) = run {
            let run = NewRun {
                repo: repo.clone(),
                ..(*run).clone()
            };
            let id = match order {
                UpdateOrder::Newest => {
                    let (id, superseded) = enter_queue(tx, &run, Some(event.id), now, decide)?;
                    recorded.replaced.extend(superseded);
                    Some(id)
                }
                UpdateOrder::Outdated => Some(insert_superseded(tx, &run, event.id, now)?),
                UpdateOrder::FoundBefore => made_by_comparison(tx, &run)?,
            };
            recorded.runs.extend(id.map(|id| (id, run.ref_name)));
        }
        // What a comparison found before was told then.
        if order != UpdateOrder::FoundBefore {
            tell(tx, event, (position, update))?;
        }
        if order == UpdateOrder::Newest {
            let how = (planned.landing, run.is_some());
            landings::record_ref(tx, (event, update), how, now)?;
        }
        if order != UpdateOrder::Outdated {
            let compared = event.event_type == EventType::Reconcile;
            record_ref(tx, &repo, update, compared)?;
        }
    }
    Ok(recorded)
}

/// Adds a ref to the outbox, if targets may be told of it.
fn tell(
    tx: &Transaction<'_>,
    event: &PushEvent,
    (position, update): (i64, &RefUpdate),
) -> Result<(), StoreError> {
    if is_told(event, update) {
        let sql = "INSERT INTO outbox (event_id, ref_position) VALUES (?1, ?2)";
        let values = params![event.id.to_string(), position];
        sql::execute(tx, "record a ref that is told", sql, values)?;
    }
    Ok(())
}

/// Whether targets may be told of a ref that was pushed: branches and tags, but for many tags at once, as GitHub does it, and for what
/// was taken as it stands.
fn is_told(event: &PushEvent, update: &RefUpdate) -> bool {
    let is_taken = event.event_type == EventType::Reconcile
        && event.options.iter().any(|option| option == SKIP_OPTION);
    let tags = || event.refs.iter().filter(|of| of.ref_name.tag().is_some());
    match update.ref_name.tag() {
        _ if is_taken => false,
        Some(_) => tags().count() <= MAX_TOLD_TAGS,
        None => update.ref_name.branch().is_some(),
    }
}

fn insert_event(tx: &Transaction<'_>, event: &PushEvent, now: Millis) -> Result<bool, StoreError> {
    let action = "record an event";
    let kind = match event.event_type {
        EventType::Push => "push",
        EventType::Reconcile => "reconcile",
    };
    let options = serde_json::Value::from(event.options.clone()).to_string();
    let inserted = sql::execute(
        tx,
        action,
        "INSERT INTO events (id, type, repo, pusher, pushed_at_ms, received_at_ms, options) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (id) DO NOTHING",
        params![event.id.to_string(), kind, event.repo.as_str(), event.pusher, event.pushed_at.0, now.0, options],
    )?;
    if inserted == 0 {
        return Ok(false);
    }
    for (position, update) in (0_i64..).zip(&event.refs) {
        let id = |sha: &ObjectId| (!sha.is_zero()).then(|| sha.as_str().to_owned());
        sql::execute(
            tx,
            action,
            "INSERT INTO event_refs (event_id, position, ref_name, old_sha, new_sha) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                event.id.to_string(),
                position,
                update.ref_name.as_str(),
                id(&update.old_sha),
                id(&update.new_sha)
            ],
        )?;
    }
    Ok(true)
}

/// How an update is ordered among the recorded updates of its ref.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UpdateOrder {
    /// After all of them.
    Newest,
    /// Before one that is recorded already.
    Outdated,
    /// A comparison of refs found it before its event arrived.
    FoundBefore,
}

fn order_of(
    update: &RefUpdate,
    seen: Option<&RecordedRef>,
    current_refs: &CurrentRefs,
    event_type: EventType,
) -> UpdateOrder {
    let new = (!update.new_sha.is_zero()).then_some(&update.new_sha);
    let now = current_refs
        .get(&update.ref_name)
        .map_or(new, Option::as_ref);
    let compared = seen.is_some_and(|seen| seen.compared);
    let seen = seen.map(|seen| &seen.sha);
    if event_type == EventType::Push && compared && new.is_some() && seen == new {
        UpdateOrder::FoundBefore
    } else if now != new && now == seen {
        UpdateOrder::Outdated
    } else {
        UpdateOrder::Newest
    }
}

/// The run that a comparison of refs made of the same commit.
fn made_by_comparison(tx: &Transaction<'_>, run: &NewRun) -> Result<Option<RunId>, StoreError> {
    sql::first(
        tx,
        "find the run of a ref",
        "SELECT id FROM runs WHERE repo = ?1 AND ref_name = ?2 AND sha = ?3 ORDER BY id DESC LIMIT 1",
        [run.repo.as_str(), run.ref_name.as_str(), run.sha.as_str()],
        |found| row::parsed_at(found, 0),
    )
}

/// Inserts a run whose ref had moved on before it was recorded.
fn insert_superseded(
    tx: &Transaction<'_>,
    run: &NewRun,
    event: EventId,
    now: Millis,
) -> Result<RunId, StoreError> {
    let id = insert_last(tx, run, Some(event), now)?;
    sql::execute(
        tx,
        "supersede a run",
        "UPDATE runs SET state = 'superseded', finished_at_ms = queued_at_ms, message = 'a newer push to the same ref was recorded first',
                superseded_by = (SELECT max(id) FROM runs WHERE repo = ?2 AND ref_name = ?3 AND id <> ?1)
         WHERE id = ?1 AND state = 'pending'",
        params![id.to_string(), run.repo.as_str(), run.ref_name.as_str()],
    )?;
    Ok(id)
}

fn runs_of(connection: &Connection, event: EventId) -> Result<Vec<(RunId, RefName)>, StoreError> {
    // Ids are in the order of insertion, which is the order of the event's refs.
    sql::all(
        connection,
        "list the runs of an event",
        "SELECT id, ref_name FROM runs WHERE event_id = ?1 ORDER BY id",
        [event.to_string()],
        |found| Ok((row::parsed_at(found, 0)?, row::parsed_at(found, 1)?)),
    )
}
