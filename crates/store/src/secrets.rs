//! Secrets that were set by a command, encrypted. What the bytes mean, the caller knows.

use rusqlite::{Row, Transaction, params};

use super::error::StoreError;
use super::open::Store;
use super::row::{optional_at, parsed_at};
use super::sql;
use quire_types::clock::Millis;
use quire_types::names::{RefName, RepoName, RunId};
use quire_types::secret::{SecretName, SecretScope};

/// How many uses of a secret are kept.
const MAX_USES: u32 = 1000;

/// An encrypted value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedValue {
    /// Which key encrypts it.
    pub key_id: String,
    pub nonce: [u8; 12],
    pub ciphertext: Vec<u8>,
}

/// A secret, with its value encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecret {
    pub name: SecretName,
    pub scope: SecretScope,
    /// Counts the values that it has had.
    pub version: u32,
    pub value: SealedValue,
    pub created_at: Millis,
    pub updated_at: Millis,
    /// The name of the key whose user set it last.
    pub updated_by: String,
    /// When a run used it last.
    pub used_at: Option<Millis>,
}

/// A run that used a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretUse {
    pub run: RunId,
    pub used_at: Millis,
    /// The repository and the ref of the run; `None` if its row is deleted.
    pub of: Option<(RepoName, RefName)>,
}

/// Access to secrets.
#[derive(Debug, Clone, Copy)]
pub struct Secrets<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn secrets(&self) -> Secrets<'_> {
        Secrets { store: self }
    }
}

const COLUMNS: &str = "name, repos, refs, version, key_id, nonce, ciphertext, created_at_ms, updated_at_ms, updated_by, used_at_ms";

fn read(found: &Row<'_>) -> rusqlite::Result<SealedSecret> {
    let patterns = |column: &str| -> rusqlite::Result<Option<Vec<String>>> {
        let text: Option<String> = found.get(column)?;
        let parse = |text: String| {
            serde_json::from_str(&text).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(
                    0,
                    rusqlite::types::Type::Text,
                    error.into(),
                )
            })
        };
        text.map(parse).transpose()
    };
    Ok(SealedSecret {
        name: parsed_at(found, 0)?,
        scope: SecretScope {
            repos: patterns("repos")?,
            refs: patterns("refs")?,
        },
        version: found.get("version")?,
        value: SealedValue {
            key_id: found.get("key_id")?,
            nonce: found.get("nonce")?,
            ciphertext: found.get("ciphertext")?,
        },
        created_at: Millis(found.get("created_at_ms")?),
        updated_at: Millis(found.get("updated_at_ms")?),
        updated_by: found.get("updated_by")?,
        used_at: found.get::<_, Option<i64>>("used_at_ms")?.map(Millis),
    })
}

impl Secrets<'_> {
    /// All secrets, by name.
    pub fn list(self) -> Result<Vec<SealedSecret>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM secrets ORDER BY name");
        self.store
            .read(|connection| sql::all(connection, "list secrets", &sql, [], read))
    }

    /// The secret of this name.
    pub fn find(self, name: &str) -> Result<Option<SealedSecret>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM secrets WHERE name = ?1");
        self.store
            .read(|connection| sql::first(connection, "find a secret", &sql, [name], read))
    }

    /// Writes a secret in place of the one of the same name.
    pub fn put(self, secret: &SealedSecret) -> Result<(), StoreError> {
        self.store.write(|tx| put(tx, secret))
    }

    /// Writes the values of several secrets, all of them or none.
    pub fn replace_values(self, secrets: &[SealedSecret]) -> Result<(), StoreError> {
        self.store
            .write(|tx| secrets.iter().try_for_each(|secret| put(tx, secret)))
    }

    /// Deletes a secret and its uses. Returns whether there was one of this name.
    pub fn remove(self, name: &str) -> Result<bool, StoreError> {
        self.store.write(|tx| {
            let sql = "DELETE FROM secrets WHERE name = ?1";
            Ok(sql::execute(tx, "delete a secret", sql, [name])? == 1)
        })
    }

    /// Records that a run used a secret.
    pub fn record_use(self, name: &str, run: RunId, now: Millis) -> Result<(), StoreError> {
        const ACTION: &str = "record the use of a secret";
        self.store.write(|tx| {
            let used = "UPDATE secrets SET used_at_ms = ?2 WHERE name = ?1";
            if sql::execute(tx, ACTION, used, params![name, now.0])? == 0 {
                // It was deleted meanwhile.
                return Ok(());
            }
            sql::execute(
                tx,
                ACTION,
                "INSERT INTO secret_uses (secret, run_id, used_at_ms) VALUES (?1, ?2, ?3) \
                 ON CONFLICT DO UPDATE SET used_at_ms = excluded.used_at_ms",
                params![name, run.to_string(), now.0],
            )?;
            sql::execute(
                tx,
                ACTION,
                "DELETE FROM secret_uses WHERE secret = ?1 AND run_id IN \
                 (SELECT run_id FROM secret_uses WHERE secret = ?1 ORDER BY used_at_ms DESC LIMIT -1 OFFSET ?2)",
                params![name, MAX_USES],
            )?;
            Ok(())
        })
    }

    /// The runs that used a secret, newest first.
    pub fn uses(self, name: &str) -> Result<Vec<SecretUse>, StoreError> {
        self.store.read(|connection| {
            sql::all(
                connection,
                "list the uses of a secret",
                "SELECT run_id, repo, ref_name, used_at_ms FROM secret_uses LEFT JOIN runs ON runs.id = run_id \
                 WHERE secret = ?1 ORDER BY used_at_ms DESC, run_id DESC",
                [name],
                |found| {
                    Ok(SecretUse {
                        run: parsed_at(found, 0)?,
                        of: optional_at(found, 1)?.zip(optional_at(found, 2)?),
                        used_at: Millis(found.get(3)?),
                    })
                },
            )
        })
    }
}

fn put(tx: &Transaction<'_>, secret: &SealedSecret) -> Result<(), StoreError> {
    let json = |patterns: &Option<Vec<String>>| {
        patterns
            .as_ref()
            .map(|patterns| serde_json::Value::from(patterns.clone()).to_string())
    };
    sql::execute(
        tx,
        "write a secret",
        // Not REPLACE: it would delete the uses.
        "INSERT INTO secrets (name, repos, refs, version, key_id, nonce, ciphertext, created_at_ms, updated_at_ms, updated_by) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (name) DO UPDATE SET repos = excluded.repos, \
         refs = excluded.refs, version = excluded.version, key_id = excluded.key_id, nonce = excluded.nonce, \
         ciphertext = excluded.ciphertext, updated_at_ms = excluded.updated_at_ms, updated_by = excluded.updated_by",
        params![
            secret.name.as_str(),
            json(&secret.scope.repos),
            json(&secret.scope.refs),
            secret.version,
            secret.value.key_id,
            secret.value.nonce.as_slice(),
            secret.value.ciphertext,
            secret.created_at.0,
            secret.updated_at.0,
            secret.updated_by
        ],
    )?;
    Ok(())
}
