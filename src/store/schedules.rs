//! The schedules of repositories, and the commits that they were read from.

use rusqlite::{OptionalExtension, Transaction, params};

use super::error::{Attempt, StoreError};
use super::former_names::{at_rest, current};
use super::open::Store;
use super::queue::{NewRun, insert_next};
use super::row;
use crate::clock::Millis;
use crate::names::{EventId, ObjectId, RefName, RepoName};

/// A schedule of a repository's default branch.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ScheduleRow {
    /// The repository.
    pub repo: RepoName,
    /// Its name in the pipeline.
    pub name: String,
    /// The five fields of a crontab line.
    pub schedule: String,
    /// When it comes due next.
    pub next_at_ms: Millis,
    /// The branch whose pipeline registers it.
    pub ref_name: RefName,
    /// Why the newest commit's pipeline could not be read; the schedules are those of an older one.
    pub problem: Option<String>,
}

/// What a repository's schedules were read from, and where that ref stands now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleSource {
    /// Branch and commit of the last reading.
    pub read: Option<(RefName, ObjectId)>,
    /// Where the branch that was asked for stands; none where it has no commit.
    pub tip: Option<ObjectId>,
}

/// What a pipeline registers: name, schedule, and when that comes due next.
pub type NewSchedule = (String, String, Millis);

impl Store {
    /// The newest recorded event: where it changes, refs may have moved.
    ///
    /// # Errors
    /// The database refuses.
    pub fn newest_event(&self) -> Result<Option<EventId>, StoreError> {
        self.read(|connection| {
            let found = connection.query_row(
                "SELECT id FROM events ORDER BY id DESC LIMIT 1",
                [],
                |found| found.get(0),
            );
            row::first(found).attempt("find the newest event")
        })
    }

    /// What a repository's schedules were read from, and where a branch of it stands.
    ///
    /// # Errors
    /// The database refuses.
    pub fn schedule_source(
        &self,
        repo: &RepoName,
        branch: &RefName,
    ) -> Result<ScheduleSource, StoreError> {
        let attempt = "read what schedules were read from";
        self.read(|connection| {
            let repo = current(connection, repo)?;
            let read: Option<(String, String)> = connection
                .prepare_cached("SELECT ref_name, sha FROM schedule_sources WHERE repo = ?1")
                .and_then(|mut statement| {
                    statement
                        .query_row([repo.as_str()], |found| Ok((found.get(0)?, found.get(1)?)))
                        .optional()
                })
                .attempt(attempt)?;
            let tip = connection
                .prepare_cached("SELECT sha FROM seen_refs WHERE repo = ?1 AND ref_name = ?2")
                .and_then(|mut statement| {
                    row::first(
                        statement.query_row([repo.as_str(), branch.as_str()], |found| found.get(0)),
                    )
                })
                .attempt(attempt)?;
            // What does not parse was never read.
            let read = read.and_then(|(name, sha)| Some((name.parse().ok()?, sha.parse().ok()?)));
            Ok(ScheduleSource { read, tip })
        })
    }

    /// Notes what the pipeline of a commit registers. A schedule that stays the same keeps its next time.
    ///
    /// # Errors
    /// The database refuses.
    pub fn set_schedules(
        &self,
        repo: &RepoName,
        branch: &RefName,
        sha: &ObjectId,
        new: &[NewSchedule],
    ) -> Result<(), StoreError> {
        let attempt = "note schedules";
        let names = serde_json::Value::from(
            new.iter()
                .map(|(name, ..)| name.as_str())
                .collect::<Vec<_>>(),
        )
        .to_string();
        self.write(|tx| {
            let repo = &current(tx, repo)?;
            note_source(tx, repo, branch, sha, None)?;
            tx.execute("DELETE FROM schedules WHERE repo = ?1 AND name NOT IN (SELECT value FROM json_each(?2))", [repo.as_str(), &names])
                .attempt(attempt)?;
            for (name, schedule, next_at) in new {
                tx.execute(
                    "INSERT INTO schedules (repo, name, schedule, next_at_ms) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (repo, name) DO UPDATE SET schedule = excluded.schedule, next_at_ms = excluded.next_at_ms
                     WHERE schedule <> excluded.schedule",
                    params![repo.as_str(), name, schedule, next_at.0],
                )
                .attempt(attempt)?;
            }
            Ok(())
        })
    }

    /// The repositories whose newest pipeline could not be read, and why.
    ///
    /// # Errors
    /// The database refuses.
    pub fn schedule_problems(&self) -> Result<Vec<(String, String)>, StoreError> {
        let attempt = "read which schedules are of an older commit";
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT repo, problem FROM schedule_sources WHERE problem IS NOT NULL ORDER BY repo")
                .attempt(attempt)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).attempt(attempt)?;
            rows.collect::<rusqlite::Result<_>>().attempt(attempt)
        })
    }

    /// Notes why the pipeline of a commit could not be read; the schedules stay.
    ///
    /// # Errors
    /// The database refuses.
    pub fn note_schedule_problem(
        &self,
        repo: &RepoName,
        branch: &RefName,
        sha: &ObjectId,
        problem: &str,
    ) -> Result<(), StoreError> {
        self.write(|tx| note_source(tx, &current(tx, repo)?, branch, sha, Some(problem)))
    }

    /// Forgets the schedules of a repository.
    ///
    /// # Errors
    /// The database refuses.
    pub fn forget_schedules(&self, repo: &RepoName) -> Result<(), StoreError> {
        self.write(|tx| forget(tx, &current(tx, repo)?))
    }

    /// Forgets the schedules of repositories that are gone.
    ///
    /// # Errors
    /// The database refuses.
    pub fn keep_schedules_of(&self, repos: &[RepoName]) -> Result<(), StoreError> {
        let names =
            serde_json::Value::from(repos.iter().map(ToString::to_string).collect::<Vec<_>>())
                .to_string();
        let now = self.clock().now();
        self.write(|tx| {
            if !at_rest(tx, now)? {
                return Ok(());
            }
            for table in ["schedules", "schedule_sources"] {
                tx.execute(
                    &format!(
                        "DELETE FROM {table} WHERE repo NOT IN (SELECT value FROM json_each(?1))"
                    ),
                    [&names],
                )
                .attempt("forget schedules")?;
            }
            Ok(())
        })
    }

    /// The schedules of one repository or of all, by repository and name.
    ///
    /// # Errors
    /// The database refuses.
    pub fn schedules(&self, repo: Option<&RepoName>) -> Result<Vec<ScheduleRow>, StoreError> {
        let repo = repo
            .map(|repo| self.read(|connection| current(connection, repo)))
            .transpose()?;
        self.list_schedules(
            "?1 IS NULL OR s.repo = ?1",
            repo.as_ref().map(RepoName::as_str),
        )
    }

    /// The schedules that come due at this time, or came before.
    ///
    /// # Errors
    /// The database refuses.
    pub fn due_schedules(&self, now: Millis) -> Result<Vec<ScheduleRow>, StoreError> {
        self.list_schedules("s.next_at_ms <= ?1", now.0)
    }

    fn list_schedules(
        &self,
        condition: &str,
        value: impl rusqlite::ToSql,
    ) -> Result<Vec<ScheduleRow>, StoreError> {
        let attempt = "list schedules";
        let sql = format!(
            "SELECT s.repo, s.name, s.schedule, s.next_at_ms, o.ref_name, o.problem
             FROM schedules s JOIN schedule_sources o ON o.repo = s.repo WHERE {condition} ORDER BY s.repo, s.name"
        );
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&sql).attempt(attempt)?;
            let missing = || rusqlite::Error::QueryReturnedNoRows;
            let rows = statement
                .query_map([value], |found| {
                    Ok(ScheduleRow {
                        repo: row::first(found.get(0))?.ok_or_else(missing)?,
                        name: found.get(1)?,
                        schedule: found.get(2)?,
                        next_at_ms: Millis(found.get(3)?),
                        ref_name: row::first(found.get(4))?.ok_or_else(missing)?,
                        problem: found.get(5)?,
                    })
                })
                .attempt(attempt)?;
            rows.collect::<rusqlite::Result<_>>().attempt(attempt)
        })
    }

    /// Moves a schedule on to its next time, and queues the run that it starts, in one step: a crash
    /// leaves it due or done. Where a run of it waits already there is no second one, and where
    /// somebody moved or removed it meanwhile there is none. Gives whether the run was queued.
    ///
    /// # Errors
    /// The database refuses.
    pub fn fire_schedule(
        &self,
        due: &ScheduleRow,
        next_at: Millis,
        run: Option<&NewRun>,
    ) -> Result<bool, StoreError> {
        let now = self.clock().now();
        let attempt = "move a schedule on";
        self.write(|tx| {
            let moved = tx
                .execute(
                    "UPDATE schedules SET next_at_ms = ?3 WHERE repo = ?1 AND name = ?2 AND next_at_ms = ?4",
                    params![due.repo.as_str(), due.name, next_at.0, due.next_at_ms.0],
                )
                .attempt(attempt)?;
            let Some(run) = run.filter(|_| moved == 1) else { return Ok(false) };
            let waits: bool = tx
                .query_row(
                    "SELECT EXISTS (SELECT 1 FROM runs WHERE repo = ?1 AND ref_name = ?2 AND state = 'pending' AND source = ?3)",
                    params![run.repo.as_str(), run.ref_name.as_str(), run.source],
                    |found| found.get(0),
                )
                .attempt(attempt)?;
            if !waits {
                insert_next(tx, run, None, now)?;
            }
            Ok(!waits)
        })
    }
}

fn note_source(
    tx: &Transaction<'_>,
    repo: &RepoName,
    branch: &RefName,
    sha: &ObjectId,
    problem: Option<&str>,
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO schedule_sources (repo, ref_name, sha, problem) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (repo) DO UPDATE SET ref_name = excluded.ref_name, sha = excluded.sha, problem = excluded.problem",
        params![repo.as_str(), branch.as_str(), sha.as_str(), problem],
    )
    .attempt("note what schedules were read from")?;
    Ok(())
}

/// Forgets a repository's schedules.
pub(super) fn forget(tx: &Transaction<'_>, repo: &RepoName) -> Result<(), StoreError> {
    for table in ["schedules", "schedule_sources"] {
        tx.execute(
            &format!("DELETE FROM {table} WHERE repo = ?1"),
            [repo.as_str()],
        )
        .attempt("forget schedules")?;
    }
    Ok(())
}
