//! The schedules of repositories, and the commits that they were read from.

use rusqlite::{Row, ToSql, Transaction, params};

use super::error::StoreError;
use super::new_run::NewRun;
use super::open::Store;
use super::redirects::{no_pending_rename, resolve};
use super::row;
use super::sql;
use super::supersede::{SupersedeDecision, enter_queue};
use quire_types::clock::Millis;
use quire_types::names::{ObjectId, RefName, RepoName};

/// A schedule of a repository's default branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoSchedule {
    pub repo: RepoName,
    /// Its name in the pipeline.
    pub name: String,
    /// The five fields of a crontab line.
    pub schedule: String,
    /// When it is due next.
    pub next_at_ms: Millis,
    /// The branch whose pipeline registers it.
    pub ref_name: RefName,
    /// Why the newest commit's pipeline could not be read; the schedules are those of an older commit.
    pub problem: Option<String>,
}

/// What the schedules of a repository were read from, and what that branch points to now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleSource {
    /// Branch and commit of the last reading.
    pub read: Option<(RefName, ObjectId)>,
    /// What the branch points to now; `None` if it has no commit.
    pub tip: Option<ObjectId>,
}

/// A schedule that a pipeline registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSchedule {
    pub name: String,
    /// The five fields of a crontab line.
    pub schedule: String,
    pub next_at: Millis,
}

/// Access to schedules.
#[derive(Debug, Clone, Copy)]
pub struct Schedules<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn schedules(&self) -> Schedules<'_> {
        Schedules { store: self }
    }
}

impl Schedules<'_> {
    /// The schedules of one repository or of all, by repository and name.
    pub fn list(self, repo: Option<&RepoName>) -> Result<Vec<RepoSchedule>, StoreError> {
        let repo = repo
            .map(|repo| self.store.read(|connection| resolve(connection, repo)))
            .transpose()?;
        self.select(
            "?1 IS NULL OR s.repo = ?1",
            repo.as_ref().map(RepoName::as_str),
        )
    }

    /// The schedules that are due.
    pub fn due(self, now: Millis) -> Result<Vec<RepoSchedule>, StoreError> {
        self.select("s.next_at_ms <= ?1", now.0)
    }

    fn select(self, condition: &str, value: impl ToSql) -> Result<Vec<RepoSchedule>, StoreError> {
        let sql = format!(
            "SELECT s.repo, s.name, s.schedule, s.next_at_ms, o.ref_name, o.problem
             FROM schedules s JOIN schedule_sources o ON o.repo = s.repo WHERE {condition} ORDER BY s.repo, s.name"
        );
        self.store
            .read(|connection| sql::all(connection, "list schedules", &sql, [value], schedule))
    }

    /// What the schedules of a repository were read from, and what a branch of it points to now.
    pub fn source(self, repo: &RepoName, branch: &RefName) -> Result<ScheduleSource, StoreError> {
        let action = "read the source of schedules";
        self.store.read(|connection| {
            let repo = resolve(connection, repo)?;
            let read: Option<(String, String)> = sql::first(
                connection,
                action,
                "SELECT ref_name, sha FROM schedule_sources WHERE repo = ?1",
                [repo.as_str()],
                |found| Ok((found.get(0)?, found.get(1)?)),
            )?;
            let tip = sql::first(
                connection,
                action,
                "SELECT sha FROM seen_refs WHERE repo = ?1 AND ref_name = ?2",
                [repo.as_str(), branch.as_str()],
                |found| row::parsed_at(found, 0),
            )?;
            // A source that does not parse counts as never read.
            let read = read.and_then(|(name, sha)| Some((name.parse().ok()?, sha.parse().ok()?)));
            Ok(ScheduleSource { read, tip })
        })
    }

    /// Replaces the schedules of a repository with those that the pipeline of a commit registers. A schedule that
    /// stays the same keeps its next time.
    pub fn replace(
        self,
        repo: &RepoName,
        branch: &RefName,
        sha: &ObjectId,
        new: &[NewSchedule],
    ) -> Result<(), StoreError> {
        let action = "record schedules";
        let names: Vec<&str> = new.iter().map(|new| new.name.as_str()).collect();
        let names = serde_json::Value::from(names).to_string();
        self.store.write(|tx| {
            let repo = &resolve(tx, repo)?;
            set_source(tx, repo, branch, sha, None)?;
            sql::execute(
                tx,
                action,
                "DELETE FROM schedules WHERE repo = ?1 AND name NOT IN (SELECT value FROM json_each(?2))",
                [repo.as_str(), &names],
            )?;
            for NewSchedule { name, schedule, next_at } in new {
                sql::execute(
                    tx,
                    action,
                    "INSERT INTO schedules (repo, name, schedule, next_at_ms) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (repo, name) DO UPDATE SET schedule = excluded.schedule, next_at_ms = excluded.next_at_ms
                     WHERE schedule <> excluded.schedule",
                    params![repo.as_str(), name, schedule, next_at.0],
                )?;
            }
            Ok(())
        })
    }

    /// Records why the pipeline of a commit could not be read; the schedules stay.
    pub fn set_problem(
        self,
        repo: &RepoName,
        branch: &RefName,
        sha: &ObjectId,
        problem: &str,
    ) -> Result<(), StoreError> {
        self.store
            .write(|tx| set_source(tx, &resolve(tx, repo)?, branch, sha, Some(problem)))
    }

    /// The repositories whose newest pipeline could not be read, and why.
    pub fn problems(self) -> Result<Vec<(String, String)>, StoreError> {
        self.store.read(|connection| {
            sql::all(
                connection,
                "list the problems of schedules",
                "SELECT repo, problem FROM schedule_sources WHERE problem IS NOT NULL ORDER BY repo",
                [],
                |found| Ok((found.get(0)?, found.get(1)?)),
            )
        })
    }

    /// Forgets the schedules of a repository.
    pub fn forget(self, repo: &RepoName) -> Result<(), StoreError> {
        self.store.write(|tx| forget(tx, &resolve(tx, repo)?))
    }

    /// Forgets the schedules of all repositories but these.
    pub fn forget_all_but(self, repos: &[RepoName], unreadable: &[&str]) -> Result<(), StoreError> {
        let names: Vec<&str> = repos.iter().map(RepoName::as_str).collect();
        let names = serde_json::Value::from(names).to_string();
        let unreadable = serde_json::Value::from(unreadable).to_string();
        let now = self.store.clock().now();
        self.store.write(|tx| {
            if !no_pending_rename(tx, now)? {
                return Ok(());
            }
            for table in ["schedules", "schedule_sources"] {
                let sql = format!(
                    "DELETE FROM {table} WHERE repo NOT IN (SELECT value FROM json_each(?1))
                     AND NOT EXISTS (SELECT 1 FROM json_each(?2) u
                                     WHERE repo = u.value OR substr(repo, 1, length(u.value) + 1) = u.value || '/')"
                );
                sql::execute(tx, "forget schedules", &sql, [&names, &unreadable])?;
            }
            Ok(())
        })
    }

    /// Sets the next time of a schedule that is due, and queues the run that it starts, in one transaction: after
    /// a crash the schedule is either still due or done. No run is queued if one of this schedule is pending already, or if
    /// the schedule was changed or deleted meanwhile. Returns whether the run was queued.
    pub fn fire(
        self,
        due: &RepoSchedule,
        next_at: Millis,
        run: Option<&NewRun>,
        decide: SupersedeDecision,
    ) -> Result<bool, StoreError> {
        let action = "start the run of a schedule";
        let now = self.store.clock().now();
        self.store.write(|tx| {
            let moved = sql::execute(
                tx,
                action,
                "UPDATE schedules SET next_at_ms = ?3 WHERE repo = ?1 AND name = ?2 AND next_at_ms = ?4",
                params![due.repo.as_str(), due.name, next_at.0, due.next_at_ms.0],
            )?;
            let Some(run) = run.filter(|_| moved == 1) else {
                return Ok(false);
            };
            let pending = sql::first(
                tx,
                action,
                "SELECT 1 FROM runs WHERE repo = ?1 AND ref_name = ?2 AND state = 'pending' AND source = ?3 LIMIT 1",
                params![run.repo.as_str(), run.ref_name.as_str(), run.source],
                |found| found.get::<_, i64>(0),
            )?;
            if pending.is_none() {
                enter_queue(tx, run, None, now, decide)?;
            }
            Ok(pending.is_none())
        })
    }
}

fn schedule(found: &Row<'_>) -> rusqlite::Result<RepoSchedule> {
    Ok(RepoSchedule {
        repo: row::parsed_at(found, 0)?,
        name: found.get(1)?,
        schedule: found.get(2)?,
        next_at_ms: Millis(found.get(3)?),
        ref_name: row::parsed_at(found, 4)?,
        problem: found.get(5)?,
    })
}

fn set_source(
    tx: &Transaction<'_>,
    repo: &RepoName,
    branch: &RefName,
    sha: &ObjectId,
    problem: Option<&str>,
) -> Result<(), StoreError> {
    sql::execute(
        tx,
        "record the source of schedules",
        "INSERT INTO schedule_sources (repo, ref_name, sha, problem) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (repo) DO UPDATE SET ref_name = excluded.ref_name, sha = excluded.sha, problem = excluded.problem",
        params![repo.as_str(), branch.as_str(), sha.as_str(), problem],
    )?;
    Ok(())
}

/// Forgets the schedules of a repository.
pub(super) fn forget(tx: &Transaction<'_>, repo: &RepoName) -> Result<(), StoreError> {
    for table in ["schedules", "schedule_sources"] {
        let sql = format!("DELETE FROM {table} WHERE repo = ?1");
        sql::execute(tx, "forget schedules", &sql, [repo.as_str()])?;
    }
    Ok(())
}
