//! Push events and the runs they make: one transaction each.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use rusqlite::{OptionalExtension, Transaction, params};

use super::error::{Attempt, StoreError};
use super::former_names;
use super::open::Store;
use super::queue::{NewRun, SupersedeDecision, insert_next, settle};
use super::row;
use crate::clock::Millis;
use crate::names::{EventId, ObjectId, RefName, RepoName, RunId};
use crate::run::event::{EventType, PushEvent, RefUpdate};

/// Where git says that a ref stands while an event is recorded; none for one that is gone. A ref
/// that is not in it counts as standing where the event put it.
pub type RefsNow = BTreeMap<RefName, Option<ObjectId>>;

/// What recording an event did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Whether the event was new; a known one changes nothing.
    pub is_new: bool,
    /// The event's runs, in the order of its refs.
    pub runs: Vec<(RunId, RefName)>,
    /// Runs that were superseded at once or asked to stop.
    pub replaced: Vec<RunId>,
}

/// Where a ref stood when quire last looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRef {
    /// The ref.
    pub ref_name: RefName,
    /// The object.
    pub sha: ObjectId,
}

impl Store {
    /// Records an event with its runs, supersedes what `decide` says, and notes where the refs now stand.
    /// Taken a second time it changes nothing and gives the runs of the first.
    ///
    /// Two hooks of one ref can be heard in the wrong order. An event whose ref has moved on, and whose
    /// successor is recorded already, makes a run that is superseded from the start, and replaces nothing.
    /// A push that a comparison of refs was quicker to find makes no second run.
    ///
    /// # Errors
    /// The database refuses.
    pub fn record_event(
        &self,
        event: &PushEvent,
        runs: &[NewRun],
        refs_now: &RefsNow,
        decide: SupersedeDecision,
    ) -> Result<Recorded, StoreError> {
        let now = self.clock().now();
        self.write(|tx| {
            // The repository may have been renamed since the push, or since the plan.
            let repo = former_names::current(tx, &event.repo)?;
            let event = &PushEvent {
                repo: repo.clone(),
                ..event.clone()
            };
            let runs: Vec<NewRun> = runs
                .iter()
                .map(|run| NewRun {
                    repo: repo.clone(),
                    ..run.clone()
                })
                .collect();
            if !insert_event(tx, event, now)? {
                return Ok(Recorded {
                    runs: runs_of(tx, event.id)?,
                    ..Recorded::default()
                });
            }
            let mut recorded = Recorded {
                is_new: true,
                ..Recorded::default()
            };
            let by_ref: HashMap<&RefName, &NewRun> =
                runs.iter().map(|run| (&run.ref_name, run)).collect();
            for update in &event.refs {
                let seen = seen_ref(tx, &event.repo, &update.ref_name)?;
                let place = place(update, seen.as_ref(), refs_now, event.event_type);
                if let Some(run) = by_ref.get(&update.ref_name) {
                    let made = match place {
                        Place::Newest => {
                            let id = insert_next(tx, run, Some(event.id), now)?;
                            recorded.replaced.extend(settle(
                                tx,
                                &run.repo,
                                &run.ref_name,
                                None,
                                now,
                                decide,
                            )?);
                            Some(id)
                        }
                        Place::Behind => Some(insert_behind(tx, run, event.id, now)?),
                        Place::Known => made_by_comparison(tx, run)?,
                    };
                    recorded
                        .runs
                        .extend(made.map(|id| (id, run.ref_name.clone())));
                }
                if place != Place::Behind {
                    note_ref(
                        tx,
                        &event.repo,
                        update,
                        event.event_type == EventType::Reconcile,
                    )?;
                }
            }
            Ok(recorded)
        })
    }

    /// The runs of an event that is recorded; none when it is not.
    ///
    /// # Errors
    /// The database refuses.
    pub fn runs_of_event(
        &self,
        event: EventId,
    ) -> Result<Option<Vec<(RunId, RefName)>>, StoreError> {
        self.read(|connection| {
            let known: Option<i64> = connection
                .query_row(
                    "SELECT 1 FROM events WHERE id = ?1",
                    [event.to_string()],
                    |row| row.get(0),
                )
                .optional()
                .attempt("look an event up")?;
            known.map(|_| runs_of(connection, event)).transpose()
        })
    }

    /// Where a repository's refs stood when quire last looked.
    ///
    /// # Errors
    /// The database refuses.
    pub fn seen_refs(&self, repo: &RepoName) -> Result<Vec<SeenRef>, StoreError> {
        self.read(|connection| {
            let repo = former_names::current(connection, repo)?;
            let mut statement = connection
                .prepare_cached("SELECT ref_name, sha FROM seen_refs WHERE repo = ?1")
                .attempt("read refs")?;
            let rows = statement
                .query_map([repo.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
                .attempt("read refs")?;
            let mut refs = Vec::new();
            for pair in rows {
                let (name, sha): (String, String) = pair.attempt("read refs")?;
                // A row that does not parse cannot be compared; the ref then counts as never seen.
                if let (Ok(ref_name), Ok(sha)) = (name.parse(), sha.parse()) {
                    refs.push(SeenRef { ref_name, sha });
                }
            }
            Ok(refs)
        })
    }
}

impl Store {
    /// The repositories of which it is known where refs stood.
    ///
    /// # Errors
    /// The database refuses.
    pub fn repos_with_seen_refs(&self) -> Result<Vec<RepoName>, StoreError> {
        self.read(|connection| {
            let attempt = "read which repositories were seen";
            let mut statement = connection
                .prepare_cached("SELECT DISTINCT repo FROM seen_refs")
                .attempt(attempt)?;
            let names = statement
                .query_map([], |row| row.get::<_, String>(0))
                .attempt(attempt)?;
            let names = names.collect::<Result<Vec<_>, _>>().attempt(attempt)?;
            Ok(names
                .into_iter()
                .filter_map(|name| name.parse().ok())
                .collect())
        })
    }

    /// Forgets where the refs of a repository that is gone were seen, so that one of the same name starts afresh.
    ///
    /// # Errors
    /// The database refuses.
    pub fn forget_seen_refs(&self, repo: &RepoName) -> Result<(), StoreError> {
        let now = self.clock().now();
        self.write(|tx| {
            if former_names::at_rest(tx, now)? {
                tx.execute("DELETE FROM seen_refs WHERE repo = ?1", [repo.as_str()])
                    .attempt("forget where refs were seen")?;
            }
            Ok(())
        })
    }
}

fn insert_event(tx: &Transaction<'_>, event: &PushEvent, now: Millis) -> Result<bool, StoreError> {
    let kind = match event.event_type {
        EventType::Push => "push",
        EventType::Reconcile => "reconcile",
    };
    let options = serde_json::Value::from(event.options.clone()).to_string();
    let inserted = tx
        .execute(
            "INSERT INTO events (id, type, repo, pusher, pushed_at_ms, received_at_ms, options) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (id) DO NOTHING",
            params![event.id.to_string(), kind, event.repo.as_str(), event.pusher, event.pushed_at.0, now.0, options],
        )
        .attempt("record an event")?;
    if inserted == 0 {
        return Ok(false);
    }
    let mut statement = tx
        .prepare_cached("INSERT INTO event_refs (event_id, position, ref_name, old_sha, new_sha) VALUES (?1, ?2, ?3, ?4, ?5)")
        .attempt("record an event")?;
    for (position, update) in (0_i64..).zip(&event.refs) {
        let id = |sha: &ObjectId| (!sha.is_zero()).then(|| sha.as_str().to_owned());
        statement
            .execute(params![
                event.id.to_string(),
                position,
                update.ref_name.as_str(),
                id(&update.old_sha),
                id(&update.new_sha)
            ])
            .attempt("record an event")?;
    }
    Ok(true)
}

/// Where an update stands among the recorded ones of its ref.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// After all of them.
    Newest,
    /// Before one that is recorded already.
    Behind,
    /// A comparison of refs found it before its own push was heard.
    Known,
}

/// Where a ref was seen, and whether a comparison saw it there.
struct Seen {
    sha: ObjectId,
    compared: bool,
}

fn place(
    update: &RefUpdate,
    seen: Option<&Seen>,
    refs_now: &RefsNow,
    event_type: EventType,
) -> Place {
    let new = (!update.new_sha.is_zero()).then_some(&update.new_sha);
    let now = refs_now.get(&update.ref_name).map_or(new, Option::as_ref);
    let compared = seen.is_some_and(|seen| seen.compared);
    let seen = seen.map(|seen| &seen.sha);
    if event_type == EventType::Push && compared && new.is_some() && seen == new {
        Place::Known
    } else if now != new && now == seen {
        Place::Behind
    } else {
        Place::Newest
    }
}

fn seen_ref(
    tx: &Transaction<'_>,
    repo: &RepoName,
    ref_name: &RefName,
) -> Result<Option<Seen>, StoreError> {
    let attempt = "read where a ref stands";
    let found: Option<(String, bool)> = tx
        .prepare_cached("SELECT sha, compared FROM seen_refs WHERE repo = ?1 AND ref_name = ?2")
        .and_then(|mut statement| {
            statement
                .query_row([repo.as_str(), ref_name.as_str()], |found| {
                    Ok((found.get(0)?, found.get(1)?))
                })
                .optional()
        })
        .attempt(attempt)?;
    let seen = found.map(|(sha, compared)| {
        sha.parse()
            .map(|sha| Seen { sha, compared })
            .map_err(|_| row_error(&sha))
    });
    seen.transpose().attempt(attempt)
}

/// The run that the comparison made for what this run would be of.
fn made_by_comparison(tx: &Transaction<'_>, run: &NewRun) -> Result<Option<RunId>, StoreError> {
    let found = tx.prepare_cached("SELECT id FROM runs WHERE repo = ?1 AND ref_name = ?2 AND sha = ?3 ORDER BY id DESC LIMIT 1").and_then(
        |mut statement| {
            let values = [run.repo.as_str(), run.ref_name.as_str(), run.sha.as_str()];
            row::first(statement.query_row(values, |found| found.get(0)))
        },
    );
    found.attempt("find the run of a ref")
}

fn note_ref(
    tx: &Transaction<'_>,
    repo: &RepoName,
    update: &RefUpdate,
    compared: bool,
) -> Result<(), StoreError> {
    if update.new_sha.is_zero() {
        tx.execute("DELETE FROM seen_refs WHERE repo = ?1 AND ref_name = ?2", [repo.as_str(), update.ref_name.as_str()])
    } else {
        tx.execute(
            "INSERT INTO seen_refs (repo, ref_name, sha, compared) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (repo, ref_name) DO UPDATE SET sha = excluded.sha, compared = excluded.compared",
            params![repo.as_str(), update.ref_name.as_str(), update.new_sha.as_str(), compared],
        )
    }
    .attempt("note where a ref stands")?;
    Ok(())
}

/// A run whose ref had moved on before it was recorded.
fn insert_behind(
    tx: &Transaction<'_>,
    run: &NewRun,
    event: EventId,
    now: Millis,
) -> Result<RunId, StoreError> {
    let id = insert_next(tx, run, Some(event), now)?;
    tx.execute(
        "UPDATE runs SET state = 'superseded', finished_at_ms = queued_at_ms, message = 'a newer push to the same ref was recorded first',
                superseded_by = (SELECT max(id) FROM runs WHERE repo = ?2 AND ref_name = ?3 AND id <> ?1)
         WHERE id = ?1 AND state = 'pending'",
        params![id.to_string(), run.repo.as_str(), run.ref_name.as_str()],
    )
    .attempt("supersede a run")?;
    Ok(id)
}

fn runs_of(
    connection: &rusqlite::Connection,
    event: EventId,
) -> Result<Vec<(RunId, RefName)>, StoreError> {
    // Ids sort in the order of their making, which is the order of its refs.
    let mut statement = connection
        .prepare_cached("SELECT id, ref_name FROM runs WHERE event_id = ?1 ORDER BY id")
        .attempt("read an event's runs")?;
    let convert = |text: String| row_error(&text);
    let rows = statement
        .query_map([event.to_string()], |row| {
            let (id, name): (String, String) = (row.get(0)?, row.get(1)?);
            Ok((
                RunId::from_str(&id).map_err(|_| convert(id))?,
                RefName::from_str(&name).map_err(|_| convert(name))?,
            ))
        })
        .attempt("read an event's runs")?;
    rows.collect::<rusqlite::Result<_>>()
        .attempt("read an event's runs")
}

fn row_error(text: &str) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnName(text.to_owned())
}
