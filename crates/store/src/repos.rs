//! Repositories, as far as the database knows them: by their events and runs.

use rusqlite::Transaction;

use super::error::StoreError;
use super::open::Store;
use super::redirects;
use super::row::{self, RUN_COLUMNS};
use super::schedules;
use super::sql;
use quire_types::clock::Millis;
use quire_types::names::{RefName, RepoName, RunId};
use quire_types::run::{Run, RunState};

/// A repository that was pushed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoSummary {
    pub repo: RepoName,
    pub last_push_ms: Option<Millis>,
    pub newest_run: Option<Run>,
}

/// The runs of one branch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BranchRuns {
    pub newest: Option<Run>,
    /// The newest ones, the newest first.
    pub recent: Vec<RecentRun>,
}

/// What a list shows of a run that is not the newest of its branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentRun {
    pub id: RunId,
    pub number: u32,
    pub state: RunState,
}

/// Access to repositories.
#[derive(Debug, Clone, Copy)]
pub struct Repos<'a> {
    pub(super) store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn repos(&self) -> Repos<'_> {
        Repos { store: self }
    }
}

impl Repos<'_> {
    /// Every repository that was ever pushed to, by name.
    pub fn summaries(self) -> Result<Vec<RepoSummary>, StoreError> {
        let action = "list repositories";
        let newest = newest_run();
        self.store.read(|connection| {
            // A loose index scan: one seek per repository, however many events it has.
            let pushed: Vec<(RepoName, Option<Millis>)> = sql::all(
                connection,
                action,
                "WITH RECURSIVE names (repo) AS (
                   SELECT min(repo) FROM events
                   UNION ALL
                   SELECT (SELECT min(repo) FROM events WHERE repo > names.repo) FROM names WHERE names.repo IS NOT NULL)
                 SELECT repo, (SELECT max(pushed_at_ms) FROM events e WHERE e.repo = names.repo) FROM names WHERE repo IS NOT NULL",
                [],
                |found| Ok((row::parsed_at(found, 0)?, found.get::<_, Option<i64>>(1)?.map(Millis))),
            )?;
            let mut summaries = Vec::with_capacity(pushed.len());
            for (repo, last_push_ms) in pushed {
                let newest_run = sql::first(connection, action, &newest, [repo.as_str()], row::run)?;
                summaries.push(RepoSummary { repo, last_push_ms, newest_run });
            }
            Ok(summaries)
        })
    }

    /// When a repository was pushed to last, and its newest run.
    pub fn summary(self, repo: &RepoName) -> Result<RepoSummary, StoreError> {
        let action = "read a repository";
        self.store.read(|connection| {
            let repo = redirects::resolve(connection, repo)?;
            let pushed = sql::first(
                connection,
                action,
                "SELECT max(pushed_at_ms) FROM events WHERE repo = ?1",
                [repo.as_str()],
                |found| found.get::<_, Option<i64>>(0),
            )?;
            let newest = newest_run();
            Ok(RepoSummary {
                newest_run: sql::first(connection, action, &newest, [repo.as_str()], row::run)?,
                last_push_ms: pushed.flatten().map(Millis),
                repo,
            })
        })
    }

    /// The runs of a branch: the newest one, and the states of at most this many.
    pub fn runs_of_branch(
        self,
        repo: &RepoName,
        branch: &RefName,
        limit: u32,
    ) -> Result<BranchRuns, StoreError> {
        let action = "list the runs of a branch";
        let select = |columns: &str, limit: u32| {
            format!(
                "SELECT {columns} FROM runs WHERE repo = ?1 AND ref_name = ?2 ORDER BY id DESC LIMIT {limit}"
            )
        };
        let (newest, recent) = (select(RUN_COLUMNS, 1), select("id, number, state", limit));
        let of_branch = [repo.as_str(), branch.as_str()];
        self.store.read(|connection| {
            Ok(BranchRuns {
                newest: sql::first(connection, action, &newest, of_branch, row::run)?,
                recent: sql::all(connection, action, &recent, of_branch, |found| {
                    Ok(RecentRun {
                        id: row::parsed_at(found, 0)?,
                        number: found.get(1)?,
                        state: row::parsed_at(found, 2)?,
                    })
                })?,
            })
        })
    }

    /// The repositories that have runs, by name.
    pub fn with_runs(self) -> Result<Vec<RepoName>, StoreError> {
        // A loose index scan: one seek per repository.
        let sql = "WITH RECURSIVE names (repo) AS (
               SELECT min(repo) FROM runs
               UNION ALL
               SELECT (SELECT min(repo) FROM runs WHERE repo > names.repo) FROM names WHERE names.repo IS NOT NULL)
             SELECT repo FROM names WHERE repo IS NOT NULL";
        self.store.read(|connection| {
            sql::all(connection, "list repositories", sql, [], |found| {
                row::parsed_at(found, 0)
            })
        })
    }

    /// Forgets a repository: its active runs are asked to stop, all other runs and its other rows are deleted.
    pub fn forget(self, repo: &RepoName) -> Result<(), StoreError> {
        self.store.write(|tx| forget(tx, repo))
    }
}

/// The statement that reads the newest run of a repository.
fn newest_run() -> String {
    format!("SELECT {RUN_COLUMNS} FROM runs WHERE repo = ?1 ORDER BY id DESC LIMIT 1")
}

/// Deletes the rows of a repository, except its active runs, which are asked to stop, and its last number of a run, which is
/// never used again.
pub(super) fn forget(tx: &Transaction<'_>, repo: &RepoName) -> Result<(), StoreError> {
    schedules::forget(tx, repo)?;
    redirects::forget_all_of(tx, repo)?;
    for sql in [
        "UPDATE runs SET stop_requested = 'canceled' WHERE repo = ?1 AND state = 'active' AND stop_requested IS NULL",
        "DELETE FROM runs WHERE repo = ?1 AND state <> 'active'",
        "DELETE FROM events WHERE repo = ?1 AND NOT EXISTS (SELECT 1 FROM runs WHERE event_id = events.id)",
        "DELETE FROM landings WHERE repo = ?1",
        "DELETE FROM seen_refs WHERE repo = ?1",
        "DELETE FROM overwritten_refs WHERE repo = ?1",
        "DELETE FROM change_commits WHERE repo = ?1",
        "DELETE FROM mirrors WHERE repo = ?1 AND (name, url) IN (SELECT 'origin', url FROM pull_mirrors WHERE repo = ?1)",
        "DELETE FROM pull_mirrors WHERE repo = ?1",
        "DELETE FROM maintenance WHERE repo = ?1",
        "DELETE FROM cache_uses WHERE repo = ?1",
    ] {
        sql::execute(tx, "forget a repository", sql, [repo.as_str()])?;
    }
    Ok(())
}
