//! Mirrors: the remotes of the configuration in force and those of pull mirrors, and what is known of each of their refs. Of a pull
//! mirror, what the other side has is wanted, and what the repository here has takes the place of what the remote has.
//!
//! ```text
//! ref:     in sync ──wanted or remote value changes──► waiting ──pushed──► in sync
//!                                                       │    ▲
//!                                              rejected ▼    │ wanted or remote value changes, or a retry
//!                                                       failed
//! ```
//!
//! A ref waits exactly if what is wanted differs from what the remote has, as far as is known. So no push has to be
//! remembered: what is wanted is read from git again.

use rusqlite::types::Value;
use rusqlite::{Row, Transaction, params};

use super::error::StoreError;
use super::open::Store;
use super::redirects;
use super::row;
use super::sql;
use quire_types::clock::Millis;
use quire_types::mirror::{MirrorFailureKind, MirrorWord};
use quire_types::names::{ObjectId, RefName, RepoName};

/// A mirror of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NewMirror {
    /// Any name of the repository.
    pub repo: RepoName,
    pub name: String,
    /// Without any secret; `None` if its settings are wrong.
    pub url: Option<String>,
}

/// How a mirror is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorState {
    /// The repository's name now.
    pub repo: RepoName,
    pub name: String,
    pub url: String,
    /// The type and the key, in base64, that the other side showed first.
    pub host_key: Option<String>,
    /// When the remote was last found or made equal.
    pub in_sync_ms: Option<Millis>,
    pub failure: Option<MirrorFailure>,
    /// Why objects of Git LFS are not mirrored although no attempt failed.
    pub lfs_problem: Option<String>,
    /// Refs that are equal, that have to be pushed, and of the latter those that were rejected.
    pub equal: u64,
    pub waiting: u64,
    pub rejected: u64,
    /// Since when the ref that waits longest waits.
    pub waiting_since_ms: Option<Millis>,
    /// Whether a ref waits that was not rejected.
    pub has_new: bool,
    /// Whether the repository follows the remote.
    pub is_pull: bool,
}

/// Failed attempts in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorFailure {
    pub kind: MirrorFailureKind,
    /// Why the last one failed.
    pub problem: String,
    pub since_ms: Millis,
    pub attempts: u32,
    /// Before this time no attempt is made.
    pub next_attempt_ms: Option<Millis>,
}

/// A ref of a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorRef {
    pub ref_name: RefName,
    /// What it has to be; `None` if it has to be deleted.
    pub wanted: Option<ObjectId>,
    /// What it is on the remote, as far as is known; of a pull mirror what it is here.
    pub remote: Option<ObjectId>,
    pub waiting_since_ms: Option<Millis>,
    pub failed_since_ms: Option<Millis>,
    /// Why the other side did not accept it.
    pub problem: Option<String>,
}

/// A mirror, by the name of its repository now and its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorKey {
    pub repo: RepoName,
    pub name: String,
}

/// What the other side said to one ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirroredRef {
    pub ref_name: RefName,
    pub result: Result<(), String>,
}

/// Access to mirrors.
#[derive(Debug, Clone, Copy)]
pub struct Mirrors<'a> {
    store: &'a Store,
}

/// What is done, for messages.
const ACTION: &str = "record the state of a mirror";

impl Store {
    #[must_use]
    pub fn mirrors(&self) -> Mirrors<'_> {
        Mirrors { store: self }
    }
}

impl MirrorState {
    #[must_use]
    pub fn key(&self) -> MirrorKey {
        MirrorKey {
            repo: self.repo.clone(),
            name: self.name.clone(),
        }
    }

    #[must_use]
    pub fn word(&self) -> MirrorWord {
        match (&self.failure, self.waiting, self.in_sync_ms) {
            (Some(_), ..) => MirrorWord::Failing,
            (None, 0, Some(_)) => MirrorWord::InSync,
            _ => MirrorWord::Waiting,
        }
    }
}

impl Mirrors<'_> {
    /// Makes these the mirrors. What is known of others, and of one that has another address now, is deleted.
    pub fn set(self, mirrors: &[NewMirror]) -> Result<(), StoreError> {
        let action = "record the mirrors";
        self.store.write(|tx| {
            let mut configured = Vec::new();
            for mirror in mirrors {
                let repo = redirects::resolve(tx, &mirror.repo)?;
                configured.push(serde_json::json!([
                    repo.as_str(),
                    mirror.name,
                    mirror.url
                ]));
            }
            let configured = serde_json::Value::from(configured).to_string();
            sql::execute(
                tx,
                action,
                "DELETE FROM mirrors WHERE NOT EXISTS (
                   SELECT 1 FROM json_each(?1)
                   WHERE value ->> 0 = repo AND value ->> 1 = name AND coalesce(value ->> 2, url) = url)",
                [&configured],
            )?;
            sql::execute(
                tx,
                action,
                "INSERT OR IGNORE INTO mirrors (repo, name, url)
                 SELECT value ->> 0, value ->> 1, coalesce(value ->> 2, '') FROM json_each(?1)",
                [&configured],
            )?;
            Ok(())
        })
    }

    /// Adds a mirror to those that there are.
    pub fn begin(self, mirror: &NewMirror) -> Result<(), StoreError> {
        let url = mirror.url.as_deref().unwrap_or_default();
        self.store.write(|tx| {
            let repo = redirects::resolve(tx, &mirror.repo)?;
            let parameters = params![repo.as_str(), mirror.name, url];
            let sql = "DELETE FROM mirrors WHERE repo = ?1 AND name = ?2 AND url <> ?3";
            sql::execute(tx, ACTION, sql, parameters)?;
            let sql = "INSERT OR IGNORE INTO mirrors (repo, name, url) VALUES (?1, ?2, ?3)";
            sql::execute(tx, ACTION, sql, parameters)?;
            Ok(())
        })
    }

    /// The mirrors of a repository, or all, by repository and name.
    pub fn list(self, repo: Option<&RepoName>) -> Result<Vec<MirrorState>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM mirrors WHERE ?1 IS NULL OR repo = ?1 ORDER BY repo, name"
        );
        self.store.read(|connection| {
            let repo = repo
                .map(|repo| redirects::resolve(connection, repo))
                .transpose()?;
            let parameters = [repo.as_ref().map(RepoName::as_str)];
            sql::all(connection, "list mirrors", &sql, parameters, state)
        })
    }

    /// A mirror of a repository, given any name of it, if it has this address.
    pub fn find(self, mirror: &NewMirror) -> Result<Option<MirrorState>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM mirrors WHERE repo = ?1 AND name = ?2 AND url = coalesce(?3, url)"
        );
        self.store.read(|connection| {
            let repo = redirects::resolve(connection, &mirror.repo)?;
            let parameters = params![repo.as_str(), mirror.name, mirror.url];
            sql::first(connection, "find a mirror", &sql, parameters, state)
        })
    }

    /// Refs that differ, by name.
    pub fn waiting_refs(self, key: &MirrorKey, limit: u32) -> Result<Vec<MirrorRef>, StoreError> {
        self.store.read(|connection| {
            sql::all(
                connection,
                "list the refs of a mirror",
                "SELECT ref_name, wanted_sha, remote_sha, waiting_since_ms, failed_since_ms, problem FROM mirror_refs
                 WHERE repo = ?1 AND name = ?2 AND waiting_since_ms IS NOT NULL ORDER BY ref_name LIMIT ?3",
                params![key.repo.as_str(), key.name, limit],
                mirror_ref,
            )
        })
    }

    /// These are all refs that the remote has to have. If `delete` is not set, others may stay there. Returns how the mirror is
    /// then; `None` if it was removed.
    pub fn want(
        self,
        key: &MirrorKey,
        refs: &[(RefName, ObjectId)],
        delete: bool,
    ) -> Result<Option<MirrorState>, StoreError> {
        self.side(key, refs, delete, ("wanted_sha", "remote_sha"))
    }

    /// These are all refs that the remote has.
    pub fn compared(
        self,
        key: &MirrorKey,
        refs: &[(RefName, ObjectId)],
        delete: bool,
    ) -> Result<Option<MirrorState>, StoreError> {
        self.side(key, refs, delete, ("remote_sha", "wanted_sha"))
    }

    fn side(
        self,
        key: &MirrorKey,
        refs: &[(RefName, ObjectId)],
        delete: bool,
        (side, other): (&str, &str),
    ) -> Result<Option<MirrorState>, StoreError> {
        let pair = |(name, id): &(RefName, ObjectId)| {
            serde_json::Value::from(vec![name.as_str(), id.as_str()])
        };
        let refs = serde_json::Value::from(refs.iter().map(pair).collect::<Vec<_>>()).to_string();
        let now = self.store.clock().now().0;
        self.store.write(|tx| {
            if state_of(tx, key)?.is_none() {
                return Ok(None);
            }
            let parameters = params![key.repo.as_str(), key.name, refs, now];
            let missing = format!(
                "UPDATE mirror_refs SET {side} = NULL, problem = NULL,
                   waiting_since_ms = CASE WHEN {other} IS NULL THEN NULL ELSE coalesce(waiting_since_ms, ?4) END,
                   failed_since_ms = CASE WHEN {other} IS NULL THEN NULL ELSE failed_since_ms END
                 WHERE repo = ?1 AND name = ?2 AND {side} IS NOT NULL
                   AND ref_name NOT IN (SELECT value ->> 0 FROM json_each(?3))"
            );
            sql::execute(tx, ACTION, &missing, parameters)?;
            let found = format!(
                "INSERT INTO mirror_refs (repo, name, ref_name, {side}, waiting_since_ms)
                 SELECT ?1, ?2, value ->> 0, value ->> 1, ?4 FROM json_each(?3) WHERE true
                 ON CONFLICT DO UPDATE SET {side} = excluded.{side}, problem = NULL,
                   waiting_since_ms = CASE WHEN excluded.{side} IS {other} THEN NULL ELSE coalesce(waiting_since_ms, ?4) END,
                   failed_since_ms = CASE WHEN excluded.{side} IS {other} THEN NULL ELSE failed_since_ms END
                 WHERE {side} IS NOT excluded.{side}"
            );
            sql::execute(tx, ACTION, &found, parameters)?;
            forget_refs(tx, key, delete)?;
            state_of(tx, key)
        })
    }

    /// Records what the other side said to refs that were pushed as they are wanted.
    pub fn pushed(self, key: &MirrorKey, refs: &[MirroredRef]) -> Result<(), StoreError> {
        let now = self.store.clock().now().0;
        self.store.write(|tx| {
            for pushed in refs {
                let name = pushed.ref_name.as_str();
                match &pushed.result {
                    Ok(()) => sql::execute(
                        tx,
                        ACTION,
                        "UPDATE mirror_refs SET remote_sha = wanted_sha, waiting_since_ms = NULL, failed_since_ms = NULL, problem = NULL
                         WHERE repo = ?1 AND name = ?2 AND ref_name = ?3",
                        params![key.repo.as_str(), key.name, name],
                    )?,
                    Err(problem) => sql::execute(
                        tx,
                        ACTION,
                        "UPDATE mirror_refs SET failed_since_ms = coalesce(failed_since_ms, ?4), problem = ?5
                         WHERE repo = ?1 AND name = ?2 AND ref_name = ?3 AND waiting_since_ms IS NOT NULL",
                        params![key.repo.as_str(), key.name, name, now, problem],
                    )?,
                };
            }
            forget_refs(tx, key, true)
        })
    }

    /// The remote is equal now.
    pub fn succeeded(self, key: &MirrorKey) -> Result<(), StoreError> {
        let sql = "UPDATE mirrors SET in_sync_ms = ?3, failures = 0, failure_kind = NULL, problem = NULL, failing_since_ms = NULL,
                   next_attempt_ms = NULL WHERE repo = ?1 AND name = ?2";
        self.change(key, sql, [self.store.clock().now().0.into()])
    }

    /// An attempt failed; the next one may be made at `next`, or once something has changed.
    pub fn failed(
        self,
        key: &MirrorKey,
        (kind, problem): (MirrorFailureKind, &str),
        next: Option<Millis>,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE mirrors SET failures = failures + 1, failure_kind = ?3, problem = ?4,
                   failing_since_ms = coalesce(failing_since_ms, ?5), next_attempt_ms = ?6 WHERE repo = ?1 AND name = ?2";
        let now = self.store.clock().now().0;
        let next = next.map_or(Value::Null, |next| next.0.into());
        let (kind, problem) = (kind.as_str().to_owned(), problem.to_owned());
        self.change(key, sql, [kind.into(), problem.into(), now.into(), next])
    }

    /// The commits whose objects of Git LFS, and those of all commits before them, are on both sides.
    pub fn lfs_known(self, key: &MirrorKey) -> Result<Vec<ObjectId>, StoreError> {
        let sql = "SELECT DISTINCT lfs_sha FROM mirror_refs WHERE repo = ?1 AND name = ?2 AND lfs_sha IS NOT NULL";
        self.store.read(|connection| {
            let parameters = [key.repo.as_str(), &key.name];
            sql::all(connection, "list commits", sql, parameters, |found| {
                row::parsed_at(found, 0)
            })
        })
    }

    /// Records what is known of objects of Git LFS: those of these refs are on both sides, or why not.
    pub fn set_lfs(
        self,
        key: &MirrorKey,
        known: &[(RefName, ObjectId)],
        problem: Option<&str>,
    ) -> Result<(), StoreError> {
        self.store.write(|tx| {
            let sql = "UPDATE mirrors SET lfs_problem = ?3 WHERE repo = ?1 AND name = ?2";
            let parameters = params![key.repo.as_str(), key.name, problem];
            sql::execute(tx, ACTION, sql, parameters)?;
            for (ref_name, id) in known {
                let sql = "UPDATE mirror_refs SET lfs_sha = ?4 WHERE repo = ?1 AND name = ?2 AND ref_name = ?3";
                let parameters = params![key.repo.as_str(), key.name, ref_name.as_str(), id.as_str()];
                sql::execute(tx, ACTION, sql, parameters)?;
            }
            Ok(())
        })
    }

    /// The host key of the other side, if it is known.
    pub fn host_key(self, key: &MirrorKey) -> Result<Option<String>, StoreError> {
        let sql = "SELECT host_key FROM mirrors WHERE repo = ?1 AND name = ?2";
        let found = self.store.read(|connection| {
            let parameters = [key.repo.as_str(), &key.name];
            sql::first(connection, "find a host key", sql, parameters, |found| {
                found.get(0)
            })
        })?;
        Ok(found.flatten())
    }

    /// Records the host key of the other side, or forgets it.
    pub fn set_host_key(self, key: &MirrorKey, host_key: Option<&str>) -> Result<(), StoreError> {
        let sql = "UPDATE mirrors SET host_key = ?3 WHERE repo = ?1 AND name = ?2";
        let host_key = host_key.map_or(Value::Null, |text| text.to_owned().into());
        self.change(key, sql, [host_key])
    }

    /// Allows the next attempt of each mirror at once: what made them fail may have been corrected.
    pub fn retry_now(self) -> Result<(), StoreError> {
        let sql = "UPDATE mirrors SET next_attempt_ms = NULL WHERE next_attempt_ms IS NOT NULL";
        self.store
            .write(|tx| sql::execute(tx, "retry mirrors", sql, []).map(drop))
    }

    /// Allows the next attempt of one mirror at once.
    pub fn retry(self, key: &MirrorKey) -> Result<(), StoreError> {
        let sql = "UPDATE mirrors SET next_attempt_ms = NULL WHERE repo = ?1 AND name = ?2";
        self.change(key, sql, [])
    }

    fn change(
        self,
        key: &MirrorKey,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<(), StoreError> {
        let key = [key.repo.as_str().to_owned(), key.name.clone()].map(Value::from);
        let values = rusqlite::params_from_iter(key.into_iter().chain(values));
        self.store
            .write(|tx| sql::execute(tx, ACTION, sql, values).map(drop))
    }
}

/// Deletes the refs that neither side has, and unless they are to be deleted there, those that only the remote has.
fn forget_refs(tx: &Transaction<'_>, key: &MirrorKey, delete: bool) -> Result<(), StoreError> {
    sql::execute(
        tx,
        ACTION,
        "DELETE FROM mirror_refs WHERE repo = ?1 AND name = ?2 AND wanted_sha IS NULL AND (remote_sha IS NULL OR NOT ?3)",
        params![key.repo.as_str(), key.name, delete],
    )?;
    Ok(())
}

fn state_of(tx: &Transaction<'_>, key: &MirrorKey) -> Result<Option<MirrorState>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM mirrors WHERE repo = ?1 AND name = ?2");
    sql::first(tx, ACTION, &sql, [key.repo.as_str(), &key.name], state)
}

const COLUMNS: &str = "repo, name, url, host_key, in_sync_ms, failures, failure_kind, problem, failing_since_ms, next_attempt_ms, lfs_problem,
     (SELECT count(*) FROM mirror_refs AS r WHERE r.repo = mirrors.repo AND r.name = mirrors.name AND r.waiting_since_ms IS NULL) AS equal,
     (SELECT count(*) FROM mirror_refs AS r WHERE r.repo = mirrors.repo AND r.name = mirrors.name AND r.waiting_since_ms IS NOT NULL) AS waiting,
     (SELECT count(*) FROM mirror_refs AS r WHERE r.repo = mirrors.repo AND r.name = mirrors.name AND r.problem IS NOT NULL) AS rejected,
     (SELECT min(waiting_since_ms) FROM mirror_refs AS r WHERE r.repo = mirrors.repo AND r.name = mirrors.name) AS waiting_since_ms,
     EXISTS (SELECT 1 FROM pull_mirrors AS p WHERE p.repo = mirrors.repo AND p.url = mirrors.url AND mirrors.name = 'origin') AS is_pull";

fn state(found: &Row<'_>) -> rusqlite::Result<MirrorState> {
    let time = |name| found.get::<_, Option<i64>>(name).map(|ms| ms.map(Millis));
    let count = |name| found.get::<_, i64>(name).map(i64::unsigned_abs);
    let kind: Option<String> = found.get("failure_kind")?;
    let failure = match kind {
        None => None,
        Some(_) => Some(MirrorFailure {
            kind: row::parsed(found, "failure_kind")?,
            problem: found.get("problem")?,
            since_ms: Millis(found.get("failing_since_ms")?),
            attempts: found.get("failures")?,
            next_attempt_ms: time("next_attempt_ms")?,
        }),
    };
    let (waiting, rejected) = (count("waiting")?, count("rejected")?);
    Ok(MirrorState {
        repo: row::parsed(found, "repo")?,
        name: found.get("name")?,
        url: found.get("url")?,
        host_key: found.get("host_key")?,
        in_sync_ms: time("in_sync_ms")?,
        failure,
        lfs_problem: found.get("lfs_problem")?,
        equal: count("equal")?,
        waiting,
        rejected,
        waiting_since_ms: time("waiting_since_ms")?,
        has_new: waiting > rejected,
        is_pull: found.get("is_pull")?,
    })
}

fn mirror_ref(found: &Row<'_>) -> rusqlite::Result<MirrorRef> {
    Ok(MirrorRef {
        ref_name: row::parsed_at(found, 0)?,
        wanted: row::optional_at(found, 1)?,
        remote: row::optional_at(found, 2)?,
        waiting_since_ms: found.get::<_, Option<i64>>(3)?.map(Millis),
        failed_since_ms: found.get::<_, Option<i64>>(4)?.map(Millis),
        problem: found.get(5)?,
    })
}
