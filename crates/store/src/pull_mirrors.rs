//! Pull mirrors: repositories that follow one on another machine. Made by an import, and ended by a command.
//!
//! The repository itself has a mark with the same address, which refuses pushes. The mark is made after the row and removed
//! before it, so a row without its mark is one that a crash left, and counts as none.

use std::time::Duration;

use rusqlite::{Row, params};

use super::error::StoreError;
use super::mirrors::NewMirror;
use super::open::Store;
use super::redirects;
use super::row;
use super::sql;
use quire_types::names::RepoName;

/// The name of each pull mirror among the mirrors of its repository.
pub const PULL_MIRROR: &str = "origin";

/// A repository that follows one on another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullMirror {
    /// The repository's name now.
    pub repo: RepoName,
    /// The address, without any secret.
    pub url: String,
    /// For HTTPS: the user, and the name of the secret that is the token.
    pub login: Option<(String, String)>,
    /// How often it is fetched.
    pub every: Duration,
    /// Whether what is fetched has runs.
    pub has_runs: bool,
}

impl PullMirror {
    /// The mirror whose state it is.
    #[must_use]
    pub fn mirror(&self) -> NewMirror {
        NewMirror {
            repo: self.repo.clone(),
            name: PULL_MIRROR.to_owned(),
            url: Some(self.url.clone()),
        }
    }
}

/// Access to pull mirrors.
#[derive(Debug, Clone, Copy)]
pub struct PullMirrors<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn pull_mirrors(&self) -> PullMirrors<'_> {
        PullMirrors { store: self }
    }
}

const COLUMNS: &str = "repo, url, login_user, secret, every_ms, has_runs";

impl PullMirrors<'_> {
    /// Records a pull mirror in place of the one that its repository has.
    pub fn put(self, mirror: &PullMirror) -> Result<(), StoreError> {
        let login = mirror.login.as_ref();
        let (user, secret) = (login.map(|login| &login.0), login.map(|login| &login.1));
        let every = i64::try_from(mirror.every.as_millis()).unwrap_or(i64::MAX);
        self.store.write(|tx| {
            sql::execute(
                tx,
                "record a pull mirror",
                "INSERT OR REPLACE INTO pull_mirrors (repo, url, login_user, secret, every_ms, has_runs)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![mirror.repo.as_str(), mirror.url, user, secret, every, mirror.has_runs],
            )
            .map(drop)
        })
    }

    /// Changes how a repository follows the same address, and allows the next attempt at once. Returns whether it still follows it.
    pub fn change(self, mirror: &PullMirror) -> Result<bool, StoreError> {
        let action = "change a pull mirror";
        let (repo, url) = (mirror.repo.as_str(), mirror.url.as_str());
        let login = mirror.login.as_ref();
        let (user, secret) = (login.map(|login| &login.0), login.map(|login| &login.1));
        let every = i64::try_from(mirror.every.as_millis()).unwrap_or(i64::MAX);
        self.store.write(|tx| {
            let changed = sql::execute(
                tx,
                action,
                "UPDATE pull_mirrors SET login_user = ?3, secret = ?4, every_ms = ?5, has_runs = ?6 WHERE repo = ?1 AND url = ?2",
                params![repo, url, user, secret, every, mirror.has_runs],
            )?;
            let sql = "UPDATE mirrors SET next_attempt_ms = NULL WHERE repo = ?1 AND name = ?2 AND url = ?3";
            sql::execute(tx, action, sql, [repo, PULL_MIRROR, url])?;
            Ok(changed > 0)
        })
    }

    /// All pull mirrors, by repository.
    pub fn list(self) -> Result<Vec<PullMirror>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM pull_mirrors ORDER BY repo");
        self.store
            .read(|connection| sql::all(connection, "list pull mirrors", &sql, [], read))
    }

    /// The pull mirror of a repository, given any name of it.
    pub fn find(self, repo: &RepoName) -> Result<Option<PullMirror>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM pull_mirrors WHERE repo = ?1");
        self.store.read(|connection| {
            let repo = redirects::resolve(connection, repo)?;
            sql::first(
                connection,
                "find a pull mirror",
                &sql,
                [repo.as_str()],
                read,
            )
        })
    }

    /// Deletes a pull mirror with its state, if it is still this one.
    pub fn remove(self, mirror: &PullMirror) -> Result<(), StoreError> {
        let action = "delete a pull mirror";
        let (repo, url) = (mirror.repo.as_str(), mirror.url.as_str());
        self.store.write(|tx| {
            let sql = "DELETE FROM pull_mirrors WHERE repo = ?1 AND url = ?2";
            sql::execute(tx, action, sql, [repo, url])?;
            let sql = "DELETE FROM mirrors WHERE repo = ?1 AND name = ?2 AND url = ?3";
            sql::execute(tx, action, sql, [repo, PULL_MIRROR, url])?;
            Ok(())
        })
    }
}

fn read(found: &Row<'_>) -> rusqlite::Result<PullMirror> {
    let every: i64 = found.get("every_ms")?;
    let user: Option<String> = found.get("login_user")?;
    Ok(PullMirror {
        repo: row::parsed(found, "repo")?,
        url: found.get("url")?,
        login: user.zip(found.get("secret")?),
        every: Duration::from_millis(every.unsigned_abs()),
        has_runs: found.get("has_runs")?,
    })
}
