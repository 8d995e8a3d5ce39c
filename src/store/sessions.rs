//! Login links and browser sessions. Only hashes of tokens are known here.

use rusqlite::{OptionalExtension, params};

use super::error::{Attempt, StoreError};
use super::open::Store;
use crate::clock::Millis;

impl Store {
    /// Records a one-time login link; expired ones go.
    ///
    /// # Errors
    /// The database refuses.
    pub fn create_login_link(&self, token_hash: &str, key_name: &str, expires: Millis) -> Result<(), StoreError> {
        let now = self.clock().now().0;
        self.write(|tx| {
            tx.execute("DELETE FROM login_links WHERE expires_at_ms < ?1", [now]).attempt("drop expired links")?;
            tx.execute(
                "INSERT INTO login_links (token_hash, key_name, expires_at_ms) VALUES (?1, ?2, ?3)",
                params![token_hash, key_name, expires.0],
            )
            .attempt("record a login link")?;
            Ok(())
        })
    }

    /// Uses a login link up; gives the key's name, where the link was good.
    ///
    /// # Errors
    /// The database refuses.
    pub fn take_login_link(&self, token_hash: &str, now: Millis) -> Result<Option<String>, StoreError> {
        self.write(|tx| {
            tx.query_row("DELETE FROM login_links WHERE token_hash = ?1 RETURNING key_name, expires_at_ms", [token_hash], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
            })
            .optional()
            .attempt("use a login link")
            .map(|found| found.and_then(|(name, expires)| (expires >= now.0).then_some(name)))
        })
    }

    /// Opens a browser session; expired ones go.
    ///
    /// # Errors
    /// The database refuses.
    pub fn create_session(&self, token_hash: &str, key_name: &str, now: Millis, expires: Millis) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute("DELETE FROM sessions WHERE expires_at_ms < ?1", [now.0]).attempt("drop expired sessions")?;
            tx.execute(
                "INSERT INTO sessions (token_hash, key_name, created_at_ms, expires_at_ms) VALUES (?1, ?2, ?3, ?4)",
                params![token_hash, key_name, now.0, expires.0],
            )
            .attempt("open a session")?;
            Ok(())
        })
    }

    /// The key's name behind a session that is open.
    ///
    /// # Errors
    /// The database refuses.
    pub fn session(&self, token_hash: &str, now: Millis) -> Result<Option<String>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT key_name FROM sessions WHERE token_hash = ?1 AND expires_at_ms >= ?2")
                .and_then(|mut statement| statement.query_row(params![token_hash, now.0], |row| row.get(0)).optional())
                .attempt("look a session up")
        })
    }

    /// Closes a session.
    ///
    /// # Errors
    /// The database refuses.
    pub fn delete_session(&self, token_hash: &str) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute("DELETE FROM sessions WHERE token_hash = ?1", [token_hash]).attempt("close a session")?;
            Ok(())
        })
    }
}
