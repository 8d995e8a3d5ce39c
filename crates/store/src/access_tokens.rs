//! Access tokens. Only their hashes are stored; whether the key behind one may still connect, the caller has to check.

use rusqlite::{Row, params};

use super::error::StoreError;
use super::open::Store;
use super::row::parsed;
use super::sessions::SessionOwner;
use super::sql;
use quire_types::clock::Millis;
use quire_types::token::{TokenName, TokenScope};

/// How exactly the time of the last use is recorded.
const USE_PRECISION_MS: i64 = 60_000;

/// A token, without itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// Its name, which no other token has.
    pub name: TokenName,
    /// What it allows.
    pub scope: TokenScope,
    /// Whose it is.
    pub owner: SessionOwner,
    /// When it was made.
    pub created_at: Millis,
    /// When it was used last, to the minute.
    pub used_at: Option<Millis>,
}

impl AccessToken {
    fn read(found: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            name: parsed(found, "name")?,
            scope: parsed(found, "scope")?,
            owner: SessionOwner::read(found)?,
            created_at: Millis(found.get("created_at_ms")?),
            used_at: found.get::<_, Option<i64>>("used_at_ms")?.map(Millis),
        })
    }

    /// Whether the recorded time of the last use is too old at `now`.
    #[must_use]
    pub fn needs_record(&self, now: Millis) -> bool {
        self.used_at
            .is_none_or(|used| now.0.abs_diff(used.0) >= USE_PRECISION_MS.unsigned_abs())
    }
}

/// Access to access tokens.
#[derive(Debug, Clone, Copy)]
pub struct AccessTokens<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn access_tokens(&self) -> AccessTokens<'_> {
        AccessTokens { store: self }
    }
}

impl AccessTokens<'_> {
    /// Records a token. Returns whether its name was free.
    pub fn create(self, token_hash: &str, token: &AccessToken) -> Result<bool, StoreError> {
        self.store.write(|tx| {
            let rows = sql::execute(
                tx,
                "create an access token",
                "INSERT INTO access_tokens (token_hash, name, scope, key_name, key_fingerprint, certificate, created_at_ms) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (name) DO NOTHING",
                params![
                    token_hash,
                    token.name.as_str(),
                    token.scope.as_str(),
                    token.owner.key_name,
                    token.owner.key_fingerprint,
                    token.owner.certificate,
                    token.created_at.0
                ],
            )?;
            Ok(rows == 1)
        })
    }

    /// All tokens, by name.
    pub fn list(self) -> Result<Vec<AccessToken>, StoreError> {
        self.store.read(|connection| {
            sql::all(
                connection,
                "list the access tokens",
                "SELECT name, scope, key_name, key_fingerprint, certificate, created_at_ms, used_at_ms FROM access_tokens ORDER BY name",
                [],
                AccessToken::read,
            )
        })
    }

    /// Deletes a token. Returns whether there was one of this name.
    pub fn revoke(self, name: &TokenName) -> Result<bool, StoreError> {
        self.store.write(|tx| {
            let sql = "DELETE FROM access_tokens WHERE name = ?1";
            let rows = sql::execute(tx, "revoke an access token", sql, [name.as_str()])?;
            Ok(rows == 1)
        })
    }

    /// The token that has this hash.
    pub fn find(self, token_hash: &str) -> Result<Option<AccessToken>, StoreError> {
        self.store.read(|connection| {
            sql::first(
                connection,
                "find an access token",
                "SELECT name, scope, key_name, key_fingerprint, certificate, created_at_ms, used_at_ms FROM access_tokens WHERE token_hash = ?1",
                [token_hash],
                AccessToken::read,
            )
        })
    }

    /// Records that a token was used.
    pub fn record_use(self, token_hash: &str, now: Millis) -> Result<(), StoreError> {
        self.store.write(|tx| {
            let sql = "UPDATE access_tokens SET used_at_ms = ?2 WHERE token_hash = ?1";
            let parameters = params![token_hash, now.0];
            sql::execute(tx, "record the use of an access token", sql, parameters)?;
            Ok(())
        })
    }
}
