//! Login links and browser sessions. Only hashes of tokens are known here; whether the key behind
//! one may still connect is for the caller to say.

use rusqlite::{OptionalExtension, Row, params};

use super::error::{Attempt, StoreError};
use super::open::Store;
use crate::clock::Millis;

const HOUR_MS: i64 = 60 * 60 * 1000;
/// No link is good for longer. One that seems to be was made by a clock that ran ahead and has been set back.
const LONGEST_LINK_MS: i64 = HOUR_MS;
/// A session from further ahead than this was opened by a clock that was wrong: it would last as much longer.
const CLOCK_WAS_WRONG_MS: i64 = 48 * HOUR_MS;

/// Who a login link or a session is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignIn {
    /// The key's name, for people.
    pub key_name: String,
    /// The key itself: the session ends with it. None where the link was made at the machine, without a key.
    pub key_fingerprint: Option<String>,
}

impl SignIn {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            key_name: row.get("key_name")?,
            key_fingerprint: row.get("key_fingerprint")?,
        })
    }
}

impl Store {
    /// Records a one-time login link; expired ones go.
    ///
    /// # Errors
    /// The database refuses.
    pub fn create_login_link(
        &self,
        token_hash: &str,
        who: &SignIn,
        expires: Millis,
    ) -> Result<(), StoreError> {
        let now = self.clock().now().0;
        self.write(|tx| {
            tx.execute("DELETE FROM login_links WHERE expires_at_ms < ?1", [now]).attempt("drop expired links")?;
            tx.execute(
                "INSERT INTO login_links (token_hash, key_name, key_fingerprint, expires_at_ms) VALUES (?1, ?2, ?3, ?4)",
                params![token_hash, who.key_name, who.key_fingerprint, expires.0],
            )
            .attempt("record a login link")?;
            Ok(())
        })
    }

    /// Uses a login link up; says whose it was, where it was good.
    ///
    /// # Errors
    /// The database refuses.
    pub fn take_login_link(
        &self,
        token_hash: &str,
        now: Millis,
    ) -> Result<Option<SignIn>, StoreError> {
        self.write(|tx| {
            let sql = "DELETE FROM login_links WHERE token_hash = ?1 RETURNING key_name, key_fingerprint, expires_at_ms";
            let taken = tx.query_row(sql, [token_hash], |row| Ok((SignIn::of(row)?, row.get::<_, i64>("expires_at_ms")?)));
            let taken = taken.optional().attempt("use a login link")?;
            let good = now.0..=now.plus(LONGEST_LINK_MS).0;
            Ok(taken.and_then(|(who, expires)| good.contains(&expires).then_some(who)))
        })
    }

    /// Opens a browser session; expired ones go.
    ///
    /// # Errors
    /// The database refuses.
    pub fn create_session(
        &self,
        token_hash: &str,
        who: &SignIn,
        now: Millis,
        expires: Millis,
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute("DELETE FROM sessions WHERE expires_at_ms < ?1", [now.0]).attempt("drop expired sessions")?;
            tx.execute(
                "INSERT INTO sessions (token_hash, key_name, key_fingerprint, created_at_ms, expires_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![token_hash, who.key_name, who.key_fingerprint, now.0, expires.0],
            )
            .attempt("open a session")?;
            Ok(())
        })
    }

    /// Whose session this is, where it is open.
    ///
    /// # Errors
    /// The database refuses.
    pub fn session(&self, token_hash: &str, now: Millis) -> Result<Option<SignIn>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT key_name, key_fingerprint FROM sessions WHERE token_hash = ?1 AND expires_at_ms >= ?2 AND created_at_ms <= ?3",
                )
                .and_then(|mut statement| {
                    statement.query_row(params![token_hash, now.0, now.plus(CLOCK_WAS_WRONG_MS).0], SignIn::of).optional()
                })
                .attempt("look a session up")
        })
    }

    /// Closes a session.
    ///
    /// # Errors
    /// The database refuses.
    pub fn delete_session(&self, token_hash: &str) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute("DELETE FROM sessions WHERE token_hash = ?1", [token_hash])
                .attempt("close a session")?;
            Ok(())
        })
    }
}
