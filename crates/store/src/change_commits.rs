//! The commits that each change had, as pushes brought them.

use rusqlite::{Row, Transaction, params};

use super::error::StoreError;
use super::open::Store;
use super::redirects;
use super::row;
use super::sql;
use quire_types::clock::Millis;
use quire_types::names::{ObjectId, RepoName};
use quire_types::push_event::PushEvent;

/// A commit of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeCommit {
    pub change_id: String,
    pub sha: ObjectId,
    /// When the first push brought it.
    pub pushed_at: Millis,
    /// The name of the key that pushed.
    pub pusher: Option<String>,
}

/// Access to the commits of changes.
#[derive(Debug, Clone, Copy)]
pub struct ChangeCommits<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn change_commits(&self) -> ChangeCommits<'_> {
        ChangeCommits { store: self }
    }
}

impl ChangeCommits<'_> {
    /// The commits of a change, the newest first. A change is named by its id or the beginning of it; `None` if several changes
    /// begin so.
    pub fn of_change(
        self,
        repo: &RepoName,
        change: &str,
        limit: u32,
    ) -> Result<Option<Vec<ChangeCommit>>, StoreError> {
        let found = self.store.read(|connection| {
            let repo = redirects::resolve(connection, repo)?;
            sql::all(
                connection,
                "list the commits of a change",
                "SELECT change_id, sha, pushed_at_ms, pusher FROM change_commits
                 WHERE repo = ?1 AND change_id >= ?2 AND change_id < ?2 || '~' ORDER BY event_id DESC, sha LIMIT ?3",
                params![repo.as_str(), change, limit],
                change_commit,
            )
        })?;
        let is_one = found
            .windows(2)
            .all(|pair| pair[0].change_id == pair[1].change_id);
        Ok(is_one.then_some(found))
    }

    /// The change of a commit.
    pub fn of_commit(
        self,
        repo: &RepoName,
        commit: &ObjectId,
    ) -> Result<Option<ChangeCommit>, StoreError> {
        self.store.read(|connection| {
            let repo = redirects::resolve(connection, repo)?;
            sql::first(
                connection,
                "find the change of a commit",
                "SELECT change_id, sha, pushed_at_ms, pusher FROM change_commits WHERE repo = ?1 AND sha = ?2 LIMIT 1",
                [repo.as_str(), commit.as_str()],
                change_commit,
            )
        })
    }
}

/// Records the commits with change ids that a push brought. Of a commit that is known the first push stays.
pub(super) fn record(
    tx: &Transaction<'_>,
    event: &PushEvent,
    commits: &[(ObjectId, String)],
) -> Result<(), StoreError> {
    for (sha, change_id) in commits {
        sql::execute(
            tx,
            "record the commit of a change",
            "INSERT INTO change_commits (repo, change_id, sha, event_id, pushed_at_ms, pusher) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO NOTHING",
            params![
                event.repo.as_str(),
                change_id,
                sha.as_str(),
                event.id.to_string(),
                event.pushed_at.0,
                event.pusher
            ],
        )?;
    }
    Ok(())
}

fn change_commit(found: &Row<'_>) -> rusqlite::Result<ChangeCommit> {
    Ok(ChangeCommit {
        change_id: found.get(0)?,
        sha: row::parsed_at(found, 1)?,
        pushed_at: Millis(found.get(2)?),
        pusher: found.get(3)?,
    })
}
