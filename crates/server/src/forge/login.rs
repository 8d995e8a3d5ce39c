//! Links that sign a browser in.

use super::access::Forge;
use super::error::ForgeError;
use super::operation_log::recorded;
use quire_store::SessionOwner;
use quire_types::clock::Millis;
use quire_types::operation::Operation;
use quire_types::token::new_token;

/// How long a link is valid, in milliseconds.
const LINK_LIFETIME_MS: i64 = 5 * 60 * 1000;

/// A link that works once. The database holds only the hash of the token.
#[derive(Debug)]
pub struct LoginLink {
    pub token: String,
    pub expires_at: Millis,
}

/// Creates a link whose session belongs to `owner`.
pub fn create_link(forge: &Forge, owner: &SessionOwner) -> Result<LoginLink, ForgeError> {
    let (token, hash) = new_token()?;
    let store = forge.store()?;
    let expires_at = store.clock().now().plus(LINK_LIFETIME_MS);
    recorded(forge, Operation::Login, |_| {
        Ok(store
            .sessions()
            .create_login_link(&hash, owner, expires_at)?)
    })?;
    Ok(LoginLink { token, expires_at })
}
