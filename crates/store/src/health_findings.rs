//! What is wrong with the appliance and was told, and what is told of it through the outbox.
//!
//! ```text
//! (not told) ──began──► a row of `health_findings` ──over──► (no row)
//!                          └─ worse, lasts ─┘
//! ```
//! Each arrow is a report. The report, its row of the outbox and the change of the finding are one transaction, so a finding is told
//! once, whatever happens in between.

use rusqlite::{Connection, Row, Transaction, params};

use super::error::StoreError;
use super::open::Store;
use super::row;
use super::sql;
use quire_types::clock::Millis;
use quire_types::finding::{FindingLevel, FindingPhase};

/// What is wrong, as it was told last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldFinding {
    /// The part of the appliance.
    pub part: String,
    /// What of the part, such as a mirror; empty for the part itself.
    pub subject: String,
    pub level: FindingLevel,
    pub text: String,
    pub began_at_ms: Millis,
    pub told_at_ms: Millis,
}

/// What is told of a finding, as it was at that moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    /// The id of the message.
    pub id: String,
    pub part: String,
    pub subject: String,
    pub phase: FindingPhase,
    /// How bad it is, or was.
    pub level: FindingLevel,
    pub text: String,
    pub began_at_ms: Millis,
    pub at_ms: Millis,
}

/// Access to findings about the health of the appliance.
#[derive(Debug, Clone, Copy)]
pub struct HealthFindings<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn health_findings(&self) -> HealthFindings<'_> {
        HealthFindings { store: self }
    }
}

impl HealthFindings<'_> {
    /// Those that were told, and whose end was not.
    pub fn told(self) -> Result<Vec<ToldFinding>, StoreError> {
        let sql = "SELECT part, subject, level, text, began_at_ms, told_at_ms FROM health_findings ORDER BY part, subject";
        self.store
            .read(|connection| sql::all(connection, "list findings", sql, [], told_finding))
    }

    /// Adds reports to the outbox, in this order.
    pub fn tell(self, reports: &[HealthReport]) -> Result<(), StoreError> {
        self.store.write(|tx| {
            for report in reports {
                tell(tx, report)?;
            }
            Ok(())
        })
    }
}

fn told_finding(found: &Row<'_>) -> rusqlite::Result<ToldFinding> {
    Ok(ToldFinding {
        part: found.get(0)?,
        subject: found.get(1)?,
        level: row::parsed_at(found, 2)?,
        text: found.get(3)?,
        began_at_ms: Millis(found.get(4)?),
        told_at_ms: Millis(found.get(5)?),
    })
}

fn tell(tx: &Transaction<'_>, report: &HealthReport) -> Result<(), StoreError> {
    let HealthReport {
        id,
        part,
        subject,
        phase,
        level,
        text,
        began_at_ms,
        at_ms,
    } = report;
    let action = "record what is told of a finding";
    match phase {
        FindingPhase::Over => {
            let sql = "DELETE FROM health_findings WHERE part = ?1 AND subject = ?2";
            sql::execute(tx, action, sql, [part, subject])?;
        }
        FindingPhase::Began | FindingPhase::Worse | FindingPhase::Lasts => {
            let sql = "INSERT INTO health_findings (part, subject, level, text, began_at_ms, told_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (part, subject) DO UPDATE SET level = excluded.level, text = excluded.text, told_at_ms = excluded.told_at_ms";
            let values = params![part, subject, level.as_str(), text, began_at_ms.0, at_ms.0];
            sql::execute(tx, action, sql, values)?;
        }
    }
    let sql = "INSERT INTO health_reports (id, part, subject, phase, level, text, began_at_ms, at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let values = params![
        id,
        part,
        subject,
        phase.as_str(),
        level.as_str(),
        text,
        began_at_ms.0,
        at_ms.0
    ];
    sql::execute(tx, action, sql, values)?;
    sql::execute(
        tx,
        action,
        "INSERT INTO outbox (report_id) VALUES (?1)",
        [id],
    )?;
    Ok(())
}

/// The next reports that a target has not passed, with their numbers in the outbox.
pub(super) fn next_reports(
    connection: &Connection,
    target: &str,
    limit: u32,
) -> Result<Vec<(i64, HealthReport)>, StoreError> {
    let sql = "SELECT seq, id, part, subject, phase, level, text, began_at_ms, at_ms FROM outbox
         JOIN health_reports ON health_reports.id = outbox.report_id
         WHERE seq > (SELECT position FROM notify_targets WHERE name = ?1) ORDER BY seq LIMIT ?2";
    let values = params![target, limit];
    sql::all(connection, "read the outbox", sql, values, |found| {
        let report = HealthReport {
            id: found.get(1)?,
            part: found.get(2)?,
            subject: found.get(3)?,
            phase: row::parsed_at(found, 4)?,
            level: row::parsed_at(found, 5)?,
            text: found.get(6)?,
            began_at_ms: Millis(found.get(7)?),
            at_ms: Millis(found.get(8)?),
        };
        Ok((found.get(0)?, report))
    })
}
