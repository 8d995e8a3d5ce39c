//! Login links and browser sessions. Only hashes of tokens are stored; whether the key behind
//! one may still connect, the caller has to check.

use rusqlite::{Row, params};

use super::error::StoreError;
use super::open::Store;
use super::sql;
use quire_types::clock::Millis;

const HOUR_MS: i64 = 60 * 60 * 1000;
/// No link is valid for longer. One that seems to be was made while the clock was ahead.
const MAX_LINK_LIFETIME_MS: i64 = HOUR_MS;
/// A session that was opened further in the future was opened while the clock was ahead, and would be valid for as much longer.
const MAX_CLOCK_SKEW_MS: i64 = 48 * HOUR_MS;

/// The key that a login link or a session belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOwner {
    /// The key's name.
    pub key_name: String,
    /// The key's fingerprint: the session ends when the key is removed. `None` if the link was made on the machine itself,
    /// without a key.
    pub key_fingerprint: Option<String>,
    /// The certificate in base64, if the key connected with one: the session ends with it. The fingerprint is that of the
    /// authority then.
    pub certificate: Option<String>,
}

impl SessionOwner {
    pub(super) fn read(found: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            key_name: found.get("key_name")?,
            key_fingerprint: found.get("key_fingerprint")?,
            certificate: found.get("certificate")?,
        })
    }
}

/// Access to login links and sessions.
#[derive(Debug, Clone, Copy)]
pub struct Sessions<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn sessions(&self) -> Sessions<'_> {
        Sessions { store: self }
    }
}

impl Sessions<'_> {
    /// Creates a one-time login link, and deletes expired ones.
    pub fn create_login_link(
        self,
        token_hash: &str,
        owner: &SessionOwner,
        expires: Millis,
    ) -> Result<(), StoreError> {
        let now = self.store.clock().now().0;
        self.store.write(|tx| {
            sql::execute(
                tx,
                "delete expired login links",
                "DELETE FROM login_links WHERE expires_at_ms < ?1",
                [now],
            )?;
            sql::execute(
                tx,
                "create a login link",
                "INSERT INTO login_links (token_hash, key_name, key_fingerprint, certificate, expires_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![token_hash, owner.key_name, owner.key_fingerprint, owner.certificate, expires.0],
            )?;
            Ok(())
        })
    }

    /// Deletes a login link; returns its owner if it was valid.
    pub fn consume_login_link(
        self,
        token_hash: &str,
        now: Millis,
    ) -> Result<Option<SessionOwner>, StoreError> {
        self.store.write(|tx| {
            let link = sql::first(
                tx,
                "use a login link",
                "DELETE FROM login_links WHERE token_hash = ?1 RETURNING key_name, key_fingerprint, certificate, expires_at_ms",
                [token_hash],
                |found| Ok((SessionOwner::read(found)?, found.get::<_, i64>("expires_at_ms")?)),
            )?;
            let valid = now.0..=now.plus(MAX_LINK_LIFETIME_MS).0;
            Ok(link.and_then(|(owner, expires)| valid.contains(&expires).then_some(owner)))
        })
    }

    /// Creates a browser session, and deletes expired ones.
    pub fn create(
        self,
        token_hash: &str,
        owner: &SessionOwner,
        now: Millis,
        expires: Millis,
    ) -> Result<(), StoreError> {
        self.store.write(|tx| {
            sql::execute(
                tx,
                "delete expired sessions",
                "DELETE FROM sessions WHERE expires_at_ms < ?1",
                [now.0],
            )?;
            sql::execute(
                tx,
                "create a session",
                "INSERT INTO sessions (token_hash, key_name, key_fingerprint, certificate, created_at_ms, expires_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![token_hash, owner.key_name, owner.key_fingerprint, owner.certificate, now.0, expires.0],
            )?;
            Ok(())
        })
    }

    /// The owner of a session, if the session is valid.
    pub fn get(self, token_hash: &str, now: Millis) -> Result<Option<SessionOwner>, StoreError> {
        self.store.read(|connection| {
            sql::first(
                connection,
                "find a session",
                "SELECT key_name, key_fingerprint, certificate FROM sessions WHERE token_hash = ?1 AND expires_at_ms >= ?2 AND created_at_ms <= ?3",
                params![token_hash, now.0, now.plus(MAX_CLOCK_SKEW_MS).0],
                SessionOwner::read,
            )
        })
    }

    pub fn delete(self, token_hash: &str) -> Result<(), StoreError> {
        self.store.write(|tx| {
            let sql = "DELETE FROM sessions WHERE token_hash = ?1";
            sql::execute(tx, "delete a session", sql, [token_hash])?;
            Ok(())
        })
    }
}
