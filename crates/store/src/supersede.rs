//! Asks the supersede policy about the open runs of a ref and of a group, and does what it decides.

use rusqlite::{Row, Transaction, params};

use super::error::StoreError;
use super::new_run::{NewRun, insert_last};
use super::row;
use super::sql;
use quire_pipeline::Source;
use quire_types::clock::Millis;
use quire_types::names::{EventId, RefName, RepoName, RunId};
use quire_types::run::{RunState, Trigger};
use quire_types::supersede::{OpenRun, Superseded};

/// Decides which of these open runs are superseded, and by which.
pub type SupersedeDecision = fn(&[OpenRun]) -> Vec<Superseded>;

/// Inserts a pending run after all others of its repository, and supersedes what `decide` says. Returns its id and
/// the runs that were superseded. Every run enters the queue here, except an orphan, which keeps its place.
pub(super) fn enter_queue(
    tx: &Transaction<'_>,
    run: &NewRun,
    event: Option<EventId>,
    now: Millis,
    decide: SupersedeDecision,
) -> Result<(RunId, Vec<RunId>), StoreError> {
    let id = insert_last(tx, run, event, now)?;
    let group = run.group_name.as_deref();
    let superseded = apply_supersede(tx, &run.repo, &run.ref_name, group, now, decide)?;
    Ok((id, superseded))
}

/// Supersedes what `decide` says of the open runs of a ref and of a group; returns the runs that it changed.
pub(super) fn apply_supersede(
    tx: &Transaction<'_>,
    repo: &RepoName,
    ref_name: &RefName,
    group: Option<&str>,
    now: Millis,
    decide: SupersedeDecision,
) -> Result<Vec<RunId>, StoreError> {
    let mut changed = Vec::new();
    for Superseded { run, by, immediate } in decide(&open_runs(tx, repo, ref_name, group)?) {
        let sql = if immediate {
            "UPDATE runs SET state = 'superseded', superseded_by = ?2, finished_at_ms = max(?3, queued_at_ms), message = NULL
             WHERE id = ?1 AND state = 'pending'"
        } else {
            "UPDATE runs SET stop_requested = 'superseded', superseded_by = ?2
             WHERE id = ?1 AND state = 'active' AND stop_requested IS NULL AND ?3 = ?3"
        };
        let parameters = params![run.to_string(), by.to_string(), now.0];
        if sql::execute(tx, "supersede a run", sql, parameters)? == 0 {
            return Err(StoreError::IllegalTransition {
                run: run.to_string(),
                from: "unknown".into(),
                to: "superseded",
            });
        }
        changed.push(run);
    }
    Ok(changed)
}

pub(super) fn open_runs_sql() -> String {
    const COLUMNS: &str = "id, state, stop_requested, queued_at_ms, ref_name, group_name, supersede, unexamined, \"trigger\", source";
    format!(
        "SELECT {COLUMNS} FROM runs WHERE repo = ?1 AND ref_name = ?2 AND state = 'pending'
         UNION SELECT {COLUMNS} FROM runs WHERE repo = ?1 AND ref_name = ?2 AND state = 'active'
         UNION SELECT {COLUMNS} FROM runs WHERE repo = ?1 AND group_name = ?3 AND state IN ('pending', 'active')"
    )
}

fn open_runs(
    tx: &Transaction<'_>,
    repo: &RepoName,
    ref_name: &RefName,
    group: Option<&str>,
) -> Result<Vec<OpenRun>, StoreError> {
    sql::all(
        tx,
        "read the open runs of a ref",
        &open_runs_sql(),
        params![repo.as_str(), ref_name.as_str(), group],
        open_run,
    )
}

fn open_run(found: &Row<'_>) -> rusqlite::Result<OpenRun> {
    let trigger: Trigger = row::parsed_at(found, 8)?;
    let source: String = found.get(9)?;
    Ok(OpenRun {
        id: row::parsed_at(found, 0)?,
        state: row::parsed_at::<RunState>(found, 1)?,
        stopping: found.get::<_, Option<String>>(2)?.is_some(),
        queued_at: Millis(found.get(3)?),
        ref_name: row::parsed_at(found, 4)?,
        group: found.get(5)?,
        supersede: found.get(6)?,
        group_unknown: found.get(7)?,
        pushed_directly: trigger == Trigger::Push,
        push_origin: Source::from_name(&source) == Some(Source::Push),
    })
}
