//! The outbox: runs that have ended, refs that were pushed and reports of findings, in their order, and how far each target of
//! `:notify` has come.
//!
//! ```text
//! run ends ──trigger, same transaction──► row of `outbox` ──every target has passed it──► no row
//! push, report ──same transaction────────────┘
//! target:  position ──delivered | not for it | given up──► next row
//! ```
//!
//! A target is a position, so targets hold up nothing but themselves, and one that is added now is told only of what
//! ends from now on. What is told of a run is read from its row at that time; retention leaves the runs of the outbox alone.

use std::time::Duration;

use rusqlite::{Connection, Row, Transaction, params};

use super::error::StoreError;
use super::health_findings::{HealthReport, next_reports};
use super::open::Store;
use super::retention::first_id_at;
use super::row::{self, RUN_COLUMNS};
use super::sql;
use quire_types::clock::Millis;
use quire_types::names::{EventId, ObjectId, RefName, RepoName};
use quire_types::run::{FailureKind, Run, RunState};

/// The sources of schedules begin with this.
const CRON: &str = "quire/cron/";
const DAY_MS: i64 = 24 * 3600 * 1000;

/// What is done while rows are read.
const READ: &str = "read the outbox";

/// The most failures in a row that are counted.
pub const MAX_FAILURE_STREAK: u32 = 100;

/// How far [`EndedRun::recent`] goes back.
pub const RECENT: Duration = Duration::from_secs(72 * 3600);
/// The most ends in it: one each minute.
const MAX_RECENT: u32 = 72 * 60;

/// Failures in a row of runs of the same repository, ref and source, directly before a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FailureStreak {
    /// How many, up to [`MAX_FAILURE_STREAK`].
    pub failures: u32,
    /// When the last of them ended.
    pub last_ended: Option<Millis>,
}

/// A run that has ended, and what has to be known to decide whether it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedRun {
    /// Its number in the outbox.
    pub seq: i64,
    pub run: Run,
    /// Whether quire queued it again, because it was orphaned.
    pub requeued: bool,
    pub streak: FailureStreak,
    /// Of a run of a schedule: the ends of its other runs, of the same repository and ref, in the [`RECENT`] before it. The newest
    /// comes first; canceled and superseded runs do not count.
    pub recent: Vec<RecentEnd>,
}

/// How a run ended, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecentEnd {
    pub failed: bool,
    pub at: Millis,
}

/// A ref that was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxPush {
    /// Its number in the outbox.
    pub seq: i64,
    pub event_id: EventId,
    /// Its place in the push.
    pub position: u32,
    pub repo: RepoName,
    pub ref_name: RefName,
    /// What it referred to; `None` if it did not exist.
    pub old_sha: Option<ObjectId>,
    /// What it refers to; `None` if it was deleted.
    pub new_sha: Option<ObjectId>,
    /// The name of the key that pushed.
    pub pusher: Option<String>,
    pub pushed_at_ms: Millis,
}

/// A row of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboxEntry {
    Ended(Box<EndedRun>),
    Pushed(OutboxPush),
    Reported { seq: i64, report: HealthReport },
}

impl OutboxEntry {
    #[must_use]
    pub fn seq(&self) -> i64 {
        match self {
            Self::Ended(ended) => ended.seq,
            Self::Pushed(pushed) => pushed.seq,
            Self::Reported { seq, .. } => *seq,
        }
    }

    /// When it happened. `None` only for a run that has not ended.
    #[must_use]
    pub fn time(&self) -> Option<Millis> {
        match self {
            Self::Ended(ended) => ended.run.finished_at_ms,
            Self::Pushed(pushed) => Some(pushed.pushed_at_ms),
            Self::Reported { report, .. } => Some(report.at_ms),
        }
    }
}

/// How far a target has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetProgress {
    pub name: String,
    /// How many rows of the outbox it has not passed.
    pub waiting: u64,
    /// Failed attempts in a row.
    pub failures: u32,
    /// Why the last attempt failed.
    pub problem: Option<String>,
    /// Before this time no attempt is made.
    pub next_attempt_ms: Option<Millis>,
    /// How many messages were given up.
    pub given_up: u64,
    pub delivered_ms: Option<Millis>,
}

/// Access to the outbox.
#[derive(Debug, Clone, Copy)]
pub struct Outbox<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn outbox(&self) -> Outbox<'_> {
        Outbox { store: self }
    }
}

impl Outbox<'_> {
    /// Makes these the targets. Those that are new begin at the end of the outbox; others are deleted.
    pub fn set_targets(self, names: &[&str]) -> Result<(), StoreError> {
        let action = "record the targets of notifications";
        let names = serde_json::Value::from(names).to_string();
        self.store.write(|tx| {
            let known = "DELETE FROM notify_targets WHERE name NOT IN (SELECT value FROM json_each(?1))";
            sql::execute(tx, action, known, [&names])?;
            sql::execute(
                tx,
                action,
                "INSERT OR IGNORE INTO notify_targets (name, position)
                 SELECT value, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), 0) FROM json_each(?1)",
                [&names],
            )?;
            Ok(())
        })
    }

    /// Allows the next attempt of each target at once: what made them fail may have been corrected.
    pub fn retry_now(self) -> Result<(), StoreError> {
        let sql =
            "UPDATE notify_targets SET next_attempt_ms = NULL WHERE next_attempt_ms IS NOT NULL";
        self.store
            .write(|tx| sql::execute(tx, "retry notifications", sql, []).map(drop))
    }

    /// All targets, by name.
    pub fn targets(self) -> Result<Vec<TargetProgress>, StoreError> {
        let sql = format!("SELECT {TARGET_COLUMNS} FROM notify_targets ORDER BY name");
        self.store.read(|connection| {
            sql::all(
                connection,
                "list the targets of notifications",
                &sql,
                [],
                target,
            )
        })
    }

    pub fn target(self, name: &str) -> Result<Option<TargetProgress>, StoreError> {
        let sql = format!("SELECT {TARGET_COLUMNS} FROM notify_targets WHERE name = ?1");
        self.store.read(|connection| {
            sql::first(
                connection,
                "find a target of notifications",
                &sql,
                [name],
                target,
            )
        })
    }

    /// The next rows that a target has not passed, in their order.
    pub fn next(self, target: &str, limit: u32) -> Result<Vec<OutboxEntry>, StoreError> {
        self.store.read(|connection| {
            let mut entries = next_ended(connection, target, limit)?;
            entries.extend(next_pushed(connection, target, limit)?);
            let reports = next_reports(connection, target, limit)?.into_iter();
            entries.extend(reports.map(|(seq, report)| OutboxEntry::Reported { seq, report }));
            entries.sort_by_key(OutboxEntry::seq);
            entries.truncate(limit as usize);
            Ok(entries)
        })
    }

    /// A message was delivered. Returns false if the target was removed, or has passed it.
    pub fn delivered(self, target: &str, seq: i64) -> Result<bool, StoreError> {
        let now = self.store.clock().now().0;
        let sql = "UPDATE notify_targets SET position = ?2, failures = 0, problem = NULL, next_attempt_ms = NULL, delivered_ms = ?3
                   WHERE name = ?1 AND position < ?2";
        self.change(sql, params![target, seq, now])
    }

    /// The rows up to this one are not told to the target. Returns false if the target was removed, or has passed them.
    pub fn skipped(self, target: &str, seq: i64) -> Result<bool, StoreError> {
        let sql = "UPDATE notify_targets SET position = ?2 WHERE name = ?1 AND position < ?2";
        self.change(sql, params![target, seq])
    }

    /// A message is not attempted any more. Returns false if the target was removed, or has passed it.
    pub fn given_up(self, target: &str, seq: i64) -> Result<bool, StoreError> {
        let sql = "UPDATE notify_targets SET position = ?2, given_up = given_up + 1 WHERE name = ?1 AND position < ?2";
        self.change(sql, params![target, seq])
    }

    /// The receiver refused a message for good, so it is not attempted any more, and the next one may be attempted at once.
    /// Returns false if the target was removed, or has passed it.
    pub fn refused(self, target: &str, seq: i64, problem: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE notify_targets SET position = ?2, given_up = given_up + 1, failures = failures + 1, problem = ?3, next_attempt_ms = NULL
                   WHERE name = ?1 AND position < ?2";
        self.change(sql, params![target, seq, problem])
    }

    /// An attempt failed; the next one may be made at this time. Returns false if the target was removed.
    pub fn failed(self, target: &str, problem: &str, next: Millis) -> Result<bool, StoreError> {
        let sql = "UPDATE notify_targets SET failures = failures + 1, problem = ?2, next_attempt_ms = ?3 WHERE name = ?1";
        self.change(sql, params![target, problem, next.0])
    }

    /// Deletes the rows that all targets have passed; without targets, all.
    pub fn prune(self) -> Result<usize, StoreError> {
        let sql = "DELETE FROM outbox WHERE seq <= coalesce((SELECT min(position) FROM notify_targets), 9223372036854775807)";
        self.store
            .write(|tx: &Transaction<'_>| sql::execute(tx, "prune the outbox", sql, []))
    }

    fn change(self, sql: &str, values: impl rusqlite::Params) -> Result<bool, StoreError> {
        // After a power cut the last messages are sent again, with the same ids.
        self.store
            .write_unsynced(|tx| sql::execute(tx, "record the progress of a target", sql, values))
            .map(|changed| changed > 0)
    }
}

const TARGET_COLUMNS: &str = "name, failures, problem, next_attempt_ms, given_up, delivered_ms,
     (SELECT count(*) FROM outbox WHERE seq > position) AS waiting";

fn target(found: &Row<'_>) -> rusqlite::Result<TargetProgress> {
    Ok(TargetProgress {
        name: found.get("name")?,
        waiting: found.get::<_, i64>("waiting")?.try_into().unwrap_or(0),
        failures: found.get("failures")?,
        problem: found.get("problem")?,
        next_attempt_ms: found.get::<_, Option<i64>>("next_attempt_ms")?.map(Millis),
        given_up: found.get::<_, i64>("given_up")?.try_into().unwrap_or(0),
        delivered_ms: found.get::<_, Option<i64>>("delivered_ms")?.map(Millis),
    })
}

fn next_ended(
    connection: &Connection,
    target: &str,
    limit: u32,
) -> Result<Vec<OutboxEntry>, StoreError> {
    let sql = format!(
        "SELECT outbox_seq, {RUN_COLUMNS} FROM runs
         JOIN (SELECT seq AS outbox_seq, run_id AS ended_id FROM outbox) ON ended_id = runs.id
         WHERE outbox_seq > (SELECT position FROM notify_targets WHERE name = ?1) ORDER BY outbox_seq LIMIT ?2"
    );
    let values = params![target, limit];
    let rows = sql::all(connection, READ, &sql, values, |found| {
        Ok((found.get("outbox_seq")?, row::run(found)?))
    })?;
    let entry = |(seq, run)| {
        Ok(OutboxEntry::Ended(Box::new(EndedRun {
            seq,
            requeued: is_requeued(connection, &run)?,
            streak: streak_before(connection, &run)?,
            recent: recent_before(connection, &run)?,
            run,
        })))
    };
    rows.into_iter().map(entry).collect()
}

fn next_pushed(
    connection: &Connection,
    target: &str,
    limit: u32,
) -> Result<Vec<OutboxEntry>, StoreError> {
    let sql = "SELECT seq, events.id, position, repo, ref_name, old_sha, new_sha, pusher, pushed_at_ms FROM outbox
         JOIN events ON events.id = outbox.event_id
         JOIN event_refs ON event_refs.event_id = outbox.event_id AND event_refs.position = outbox.ref_position
         WHERE seq > (SELECT position FROM notify_targets WHERE name = ?1) ORDER BY seq LIMIT ?2";
    let values = params![target, limit];
    sql::all(connection, READ, sql, values, |found| {
        let id = |at: usize| -> rusqlite::Result<Option<ObjectId>> {
            let id: Option<String> = found.get(at)?;
            id.map(|_| row::parsed_at(found, at)).transpose()
        };
        Ok(OutboxEntry::Pushed(OutboxPush {
            seq: found.get(0)?,
            event_id: row::parsed_at(found, 1)?,
            position: found.get(2)?,
            repo: row::parsed_at(found, 3)?,
            ref_name: row::parsed_at(found, 4)?,
            old_sha: id(5)?,
            new_sha: id(6)?,
            pusher: found.get(7)?,
            pushed_at_ms: Millis(found.get(8)?),
        }))
    })
}

/// A run that continues run `?1`, which was orphaned.
const CONTINUED: &str =
    "SELECT 1 FROM runs AS next WHERE next.retry_of = ?1 AND next.\"trigger\" = 'orphan'";

fn is_requeued(connection: &Connection, run: &Run) -> Result<bool, StoreError> {
    if run.failure_kind != Some(FailureKind::Orphaned) {
        return Ok(false);
    }
    let found = sql::first(
        connection,
        "find the run that continues another",
        CONTINUED,
        [run.id.to_string()],
        |found| found.get::<_, i64>(0),
    )?;
    Ok(found.is_some())
}

/// The failures in a row directly before a run. A run that was requeued counts as the one that continues it; canceled and
/// superseded runs do not count.
fn streak_before(connection: &Connection, run: &Run) -> Result<FailureStreak, StoreError> {
    let sql = format!(
        "SELECT state, finished_at_ms FROM runs
         WHERE repo = ?1 AND ref_name = ?2 AND id < ?3 AND source = ?4 AND state IN ('complete', 'failed')
           AND (failure_kind IS NOT 'orphaned' OR NOT EXISTS ({}))
         ORDER BY id DESC LIMIT {MAX_FAILURE_STREAK}",
        CONTINUED.replace("?1", "runs.id")
    );
    let before = sql::all(
        connection,
        "count failures in a row",
        &sql,
        params![
            run.repo.as_str(),
            run.ref_name.as_str(),
            run.id.to_string(),
            run.source
        ],
        |found| {
            let state: RunState = row::parsed_at(found, 0)?;
            Ok((state, found.get::<_, Option<i64>>(1)?.map(Millis)))
        },
    )?;
    let failed = before
        .iter()
        .take_while(|(state, _)| *state == RunState::Failed);
    Ok(FailureStreak {
        failures: u32::try_from(failed.count()).unwrap_or(MAX_FAILURE_STREAK),
        last_ended: before
            .first()
            .filter(|(state, _)| *state == RunState::Failed)
            .and_then(|(_, ended)| *ended),
    })
}

fn recent_before(connection: &Connection, run: &Run) -> Result<Vec<RecentEnd>, StoreError> {
    let (true, Some(ended)) = (run.source.starts_with(CRON), run.finished_at_ms) else {
        return Ok(Vec::new());
    };
    let since = ended.plus(-i64::try_from(RECENT.as_millis()).unwrap_or(0));
    let sql = format!(
        "SELECT state = 'failed', finished_at_ms FROM runs
         WHERE repo = ?1 AND ref_name = ?2 AND id < ?3 AND id >= ?4 AND source = ?5 AND state IN ('complete', 'failed')
           AND finished_at_ms > ?6 AND (failure_kind IS NOT 'orphaned' OR NOT EXISTS ({}))
         ORDER BY id DESC LIMIT {MAX_RECENT}",
        CONTINUED.replace("?1", "runs.id")
    );
    let values = params![
        run.repo.as_str(),
        run.ref_name.as_str(),
        run.id.to_string(),
        // A run is queued before it ends; most take less than a day.
        first_id_at(since.plus(-DAY_MS)),
        run.source,
        since.0
    ];
    sql::all(connection, READ, &sql, values, |found| {
        Ok(RecentEnd {
            failed: found.get(0)?,
            at: Millis(found.get(1)?),
        })
    })
}
