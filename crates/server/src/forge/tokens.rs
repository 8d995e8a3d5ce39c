//! Access tokens, with which programs read pages and git fetches over HTTP.

use super::access::Forge;
use super::error::ForgeError;
use super::operation_log::recorded;
use quire_store::{AccessToken, SessionOwner};
use quire_types::operation::Operation;
use quire_types::token::{TokenName, TokenScope, new_token};

/// Creates a token that belongs to `owner`. Only its hash is stored, so this is the only time that it is known.
pub fn create(
    forge: &Forge,
    name: TokenName,
    scope: TokenScope,
    owner: SessionOwner,
) -> Result<String, ForgeError> {
    let (token, hash) = new_token()?;
    let store = forge.store()?;
    let record = AccessToken {
        name,
        scope,
        owner,
        created_at: store.clock().now(),
        used_at: None,
    };
    let operation = Operation::TokenNew {
        name: record.name.to_string(),
        scope: record.scope.as_str().to_owned(),
    };
    recorded(forge, operation, |_| {
        if store.access_tokens().create(&hash, &record)? {
            Ok(token)
        } else {
            Err(ForgeError::TokenExists(record.name))
        }
    })
}

/// Lists all tokens.
pub fn list(forge: &Forge) -> Result<Vec<AccessToken>, ForgeError> {
    Ok(forge.store()?.access_tokens().list()?)
}

/// Ends a token.
pub fn revoke(forge: &Forge, name: &TokenName) -> Result<(), ForgeError> {
    let operation = Operation::TokenRevoke {
        name: name.to_string(),
    };
    recorded(forge, operation, |_| {
        if forge.store()?.access_tokens().revoke(name)? {
            Ok(())
        } else {
            Err(ForgeError::NoToken(name.clone()))
        }
    })
}
