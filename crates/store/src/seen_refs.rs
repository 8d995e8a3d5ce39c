//! What each ref pointed to when quire last looked. Compared with git at every start, to find pushes whose event
//! was lost.

use rusqlite::{Transaction, params};

use super::error::StoreError;
use super::open::Store;
use super::redirects;
use super::row;
use super::sql;
use quire_types::names::{ObjectId, RefName, RepoName};
use quire_types::push_event::RefUpdate;

/// What a ref pointed to when quire last looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRef {
    pub ref_name: RefName,
    pub sha: ObjectId,
}

/// Access to the refs that were seen.
#[derive(Debug, Clone, Copy)]
pub struct SeenRefs<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn seen_refs(&self) -> SeenRefs<'_> {
        SeenRefs { store: self }
    }
}

impl SeenRefs<'_> {
    /// What the refs of a repository pointed to when quire last looked.
    pub fn list(self, repo: &RepoName) -> Result<Vec<SeenRef>, StoreError> {
        self.store.read(|connection| {
            let repo = redirects::resolve(connection, repo)?;
            let rows: Vec<(String, String)> = sql::all(
                connection,
                "read refs",
                "SELECT ref_name, sha FROM seen_refs WHERE repo = ?1",
                [repo.as_str()],
                |found| Ok((found.get(0)?, found.get(1)?)),
            )?;
            // A row that does not parse cannot be compared, so the ref counts as never seen.
            let seen = rows.into_iter().filter_map(|(name, sha)| {
                Some(SeenRef {
                    ref_name: name.parse().ok()?,
                    sha: sha.parse().ok()?,
                })
            });
            Ok(seen.collect())
        })
    }

    /// The repositories that have refs which were seen.
    pub fn repos(self) -> Result<Vec<RepoName>, StoreError> {
        let names: Vec<String> = self.store.read(|connection| {
            sql::all(
                connection,
                "list repositories with refs",
                "SELECT DISTINCT repo FROM seen_refs",
                [],
                |found| found.get(0),
            )
        })?;
        Ok(names
            .into_iter()
            .filter_map(|name| name.parse().ok())
            .collect())
    }

    /// Forgets the refs of a deleted repository, so that a new one of the same name is not compared with it.
    pub fn forget(self, repo: &RepoName) -> Result<(), StoreError> {
        let now = self.store.clock().now();
        self.store.write(|tx| {
            if redirects::no_pending_rename(tx, now)? {
                let sql = "DELETE FROM seen_refs WHERE repo = ?1";
                sql::execute(tx, "forget the refs of a repository", sql, [repo.as_str()])?;
            }
            Ok(())
        })
    }
}

/// What a ref pointed to, and whether it was a comparison of refs that found it there.
pub(super) struct RecordedRef {
    pub(super) sha: ObjectId,
    pub(super) compared: bool,
}

pub(super) fn recorded_ref(
    tx: &Transaction<'_>,
    repo: &RepoName,
    ref_name: &RefName,
) -> Result<Option<RecordedRef>, StoreError> {
    sql::first(
        tx,
        "read a ref",
        "SELECT sha, compared FROM seen_refs WHERE repo = ?1 AND ref_name = ?2",
        [repo.as_str(), ref_name.as_str()],
        |found| {
            Ok(RecordedRef {
                sha: row::parsed_at(found, 0)?,
                compared: found.get(1)?,
            })
        },
    )
}

pub(super) fn record_ref(
    tx: &Transaction<'_>,
    repo: &RepoName,
    update: &RefUpdate,
    compared: bool,
) -> Result<(), StoreError> {
    let action = "record a ref";
    if update.new_sha.is_zero() {
        sql::execute(
            tx,
            action,
            "DELETE FROM seen_refs WHERE repo = ?1 AND ref_name = ?2",
            [repo.as_str(), update.ref_name.as_str()],
        )?;
    } else {
        sql::execute(
            tx,
            action,
            "INSERT INTO seen_refs (repo, ref_name, sha, compared) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (repo, ref_name) DO UPDATE SET sha = excluded.sha, compared = excluded.compared",
            params![
                repo.as_str(),
                update.ref_name.as_str(),
                update.new_sha.as_str(),
                compared
            ],
        )?;
    }
    Ok(())
}
