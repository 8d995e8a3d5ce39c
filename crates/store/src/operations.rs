//! The log of operations: who did what.
//!
//! ```text
//! begin ──► begun ──settle──► done | failed
//! push event ──record──────► done
//! ```
//! A row is written before its operation has any effect, so no effect is without a row. A row that stays `begun` says that
//! the process was killed, and that it is not known how far it came.

use rusqlite::{Connection, Row, Transaction, params};

use super::error::StoreError;
use super::open::Store;
use super::row::parsed_at;
use super::sql;
use quire_types::clock::Millis;
use quire_types::names::{EventId, LANDING_REFS, RepoName};
use quire_types::operation::{Actor, Channel, Operation, OperationId, RefChanges};
use quire_types::push_event::{EventType, PushEvent, RefUpdate};

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperationState {
    /// It is under way, or its process was killed.
    Begun,
    Done,
    /// Why.
    Failed(String),
}

/// An operation that begins.
#[derive(Debug, Clone)]
pub struct NewOperation<'a> {
    pub actor: &'a Actor,
    pub operation: &'a Operation,
    /// The operation that it takes back.
    pub undoes: Option<OperationId>,
    /// The push event by which it will be recorded.
    pub event: Option<EventId>,
}

/// An operation of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedOperation {
    pub id: OperationId,
    pub begun_at: Millis,
    pub actor: Actor,
    pub operation: Operation,
    pub state: OperationState,
    pub undoes: Option<OperationId>,
    /// The last operation that took it back, and was not taken back itself.
    pub undone_by: Option<OperationId>,
}

/// Access to the log of operations.
#[derive(Debug, Clone, Copy)]
pub struct Operations<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn operations(&self) -> Operations<'_> {
        Operations { store: self }
    }
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

const COLUMNS: &str =
    "id, begun_at_ms, actor, key_fingerprint, channel, operation, state, message, undoes";

impl Operations<'_> {
    /// Records an operation that is about to begin.
    pub fn begin(self, new: &NewOperation<'_>) -> Result<OperationId, StoreError> {
        let now = self.store.clock().now();
        self.store
            .write(|tx| insert(tx, new, (now, OperationState::Begun)))
    }

    /// Records how an operation ended, and what became known of it. Does nothing if that is recorded already.
    pub fn settle(
        self,
        id: OperationId,
        operation: &Operation,
        state: &OperationState,
    ) -> Result<(), StoreError> {
        let now = self.store.clock().now();
        let (name, message) = columns_of(state);
        self.store.write(|tx| {
            sql::execute(
                tx,
                "record the end of an operation",
                "UPDATE operations SET state = ?2, message = ?3, ended_at_ms = ?4, operation = ?5, repo = ?6
                 WHERE id = ?1 AND state = 'begun' AND ?2 <> 'begun'",
                params![
                    id.0,
                    name,
                    message,
                    now.0,
                    json(operation),
                    operation.repo().map(RepoName::as_str)
                ],
            )?;
            Ok(())
        })
    }

    /// Records an operation that has ended.
    pub fn record(
        self,
        new: &NewOperation<'_>,
        state: &OperationState,
    ) -> Result<OperationId, StoreError> {
        let now = self.store.clock().now();
        self.store.write(|tx| insert(tx, new, (now, state.clone())))
    }

    /// The newest operations, or those of a repository: under the given name, the name that it has now, and the names that
    /// redirect to it.
    pub fn list(
        self,
        repo: Option<&RepoName>,
        limit: u32,
    ) -> Result<Vec<LoggedOperation>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM operations WHERE ?1 IS NULL OR repo = ?1
               OR repo IN (SELECT repo FROM former_names WHERE name = ?1)
               OR repo IN (SELECT name FROM former_names WHERE repo = ?1
                           OR repo IN (SELECT repo FROM former_names WHERE name = ?1))
             ORDER BY id DESC LIMIT ?2"
        );
        self.store.read(|connection| {
            let parameters = params![repo.map(RepoName::as_str), limit];
            let found = sql::all(connection, "list operations", &sql, parameters, read)?;
            found
                .into_iter()
                .map(|one| with_undoing(connection, one))
                .collect()
        })
    }

    /// The operation of this number.
    pub fn find(self, id: OperationId) -> Result<Option<LoggedOperation>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM operations WHERE id = ?1");
        self.store.read(|connection| {
            let found = sql::first(connection, "find an operation", &sql, [id.0], read)?;
            found.map(|one| with_undoing(connection, one)).transpose()
        })
    }

    /// The last operation that took another one back.
    pub fn newest_undoing(self, id: OperationId) -> Result<Option<LoggedOperation>, StoreError> {
        let sql =
            format!("SELECT {COLUMNS} FROM operations WHERE undoes = ?1 ORDER BY id DESC LIMIT 1");
        self.store
            .read(|connection| sql::first(connection, "find an operation", &sql, [id.0], read))
    }

    /// Whether a push to a repository is recorded after this operation.
    pub fn has_later_push(self, id: OperationId, repo: &RepoName) -> Result<bool, StoreError> {
        self.store.read(|connection| {
            let found = sql::first(
                connection,
                "find later pushes",
                "SELECT 1 FROM operations WHERE repo = ?1 AND id > ?2 AND operation ->> 'kind' IN ('push', 'found-refs') LIMIT 1",
                params![repo.as_str(), id.0],
                |found| found.get::<_, i64>(0),
            )?;
            Ok(found.is_some())
        })
    }

    /// Deletes the operations that ended before this time, if one is given, and all but the newest `max`. One whose end is not
    /// recorded may be under way, and stays a day longer.
    pub fn expire(self, before: Option<Millis>, max: u32) -> Result<usize, StoreError> {
        self.store.write(|tx| {
            sql::execute(
                tx,
                "delete old operations",
                "DELETE FROM operations WHERE ended_at_ms < ?1 OR (ended_at_ms IS NULL AND begun_at_ms < ?1 - ?3)
                   OR id <= (SELECT id FROM operations ORDER BY id DESC LIMIT 1 OFFSET ?2)",
                params![before.map(|time| time.0), max, DAY_MS],
            )
        })
    }
}

/// Records a push event. An operation that announced this event is done.
pub(super) fn record_event(
    tx: &Transaction<'_>,
    event: &PushEvent,
    overwritten: &[RefUpdate],
    now: Millis,
) -> Result<(), StoreError> {
    let settled = sql::execute(
        tx,
        "record the end of an operation",
        "UPDATE operations SET state = 'done', ended_at_ms = ?2 WHERE event_id = ?1 AND state = 'begun'",
        params![event.id.to_string(), now.0],
    )?;
    let is_known = settled > 0
        || sql::first(
            tx,
            "find an operation",
            "SELECT 1 FROM operations WHERE event_id = ?1",
            [event.id.to_string()],
            |found| found.get::<_, i64>(0),
        )?
        .is_some();
    if is_known {
        return Ok(());
    }
    // The refs of commits that wait to land are quire's own. The move of the branch is an operation.
    let is_own = |update: &&RefUpdate| update.ref_name.as_str().starts_with(LANDING_REFS);
    let refs: Vec<RefUpdate> = event
        .refs
        .iter()
        .filter(|one| !is_own(one))
        .cloned()
        .collect();
    if refs.is_empty() && !event.refs.is_empty() {
        return Ok(());
    }
    let (repo, changes) = (
        event.repo.clone(),
        RefChanges::of_updates(&refs, overwritten),
    );
    let (actor, operation) = match event.event_type {
        EventType::Push => {
            let actor = Actor {
                name: event.pusher.clone(),
                key_fingerprint: None,
                channel: Channel::Push,
            };
            (actor, Operation::Push { repo, changes })
        }
        EventType::Reconcile => (Actor::server(), Operation::FoundRefs { repo, changes }),
    };
    let new = NewOperation {
        actor: &actor,
        operation: &operation,
        undoes: None,
        event: Some(event.id),
    };
    insert(tx, &new, (now, OperationState::Done)).map(drop)
}

fn insert(
    tx: &Transaction<'_>,
    new: &NewOperation<'_>,
    (now, state): (Millis, OperationState),
) -> Result<OperationId, StoreError> {
    let (name, message) = columns_of(&state);
    let ended = (state != OperationState::Begun).then_some(now.0);
    sql::execute(
        tx,
        "record an operation",
        "INSERT INTO operations (begun_at_ms, ended_at_ms, actor, key_fingerprint, channel, repo, operation, state, message, undoes, event_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            now.0,
            ended,
            new.actor.name,
            new.actor.key_fingerprint,
            new.actor.channel.as_str(),
            new.operation.repo().map(RepoName::as_str),
            json(new.operation),
            name,
            message,
            new.undoes.map(|id| id.0),
            new.event.map(|event| event.to_string()),
        ],
    )?;
    Ok(OperationId(tx.last_insert_rowid()))
}

fn columns_of(state: &OperationState) -> (&'static str, Option<&str>) {
    match state {
        OperationState::Begun => ("begun", None),
        OperationState::Done => ("done", None),
        OperationState::Failed(message) => ("failed", Some(message)),
    }
}

/// An operation as JSON. It has no maps whose keys are not text, so this does not fail.
fn json(operation: &Operation) -> String {
    serde_json::to_string(operation).unwrap_or_default()
}

fn read(found: &Row<'_>) -> rusqlite::Result<LoggedOperation> {
    let text: String = found.get("operation")?;
    let operation = serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
    })?;
    let state: String = found.get("state")?;
    let message: Option<String> = found.get("message")?;
    Ok(LoggedOperation {
        id: OperationId(found.get("id")?),
        begun_at: Millis(found.get("begun_at_ms")?),
        actor: Actor {
            name: found.get("actor")?,
            key_fingerprint: found.get("key_fingerprint")?,
            channel: parsed_at(found, 4)?,
        },
        operation,
        state: match state.as_str() {
            "begun" => OperationState::Begun,
            "done" => OperationState::Done,
            _ => OperationState::Failed(message.unwrap_or_default()),
        },
        undoes: found.get::<_, Option<i64>>("undoes")?.map(OperationId),
        undone_by: None,
    })
}

/// Adds which operation took one back. Of an operation and its undo, the undo of that one, and so on, each is in effect if
/// the next one is not.
fn with_undoing(
    connection: &Connection,
    operation: LoggedOperation,
) -> Result<LoggedOperation, StoreError> {
    Ok(LoggedOperation {
        undone_by: undone_by(connection, operation.id)?,
        ..operation
    })
}

fn undone_by(connection: &Connection, id: OperationId) -> Result<Option<OperationId>, StoreError> {
    let undoing = sql::all(
        connection,
        "find the undo of an operation",
        "SELECT id FROM operations WHERE undoes = ?1 AND state = 'done' ORDER BY id DESC",
        [id.0],
        |found| found.get::<_, i64>(0).map(OperationId),
    )?;
    for candidate in undoing {
        // Its number is higher, so this ends.
        if undone_by(connection, candidate)?.is_none() {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}
