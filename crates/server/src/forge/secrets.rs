//! Secrets that are set by a command, and who used them.

use super::access::Forge;
use super::error::ForgeError;
use super::operation_log::recorded;
use crate::secrets::{SecretVault, StoredSecrets};
use quire_store::{SealedSecret, SecretUse};
use quire_types::error_chain;
use quire_types::operation::Operation;
use quire_types::secret::SecretName;

pub use crate::secrets::{MAX_STORED_SECRET, NewSecret, StoredSecretError};

/// A stored secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretEntry {
    pub secret: SealedSecret,
    /// Why its value cannot be read.
    pub problem: Option<String>,
}

/// Stores a value in place of the one that the name has. `configured` has the names that the configuration defines, which
/// cannot be set.
pub fn set(
    forge: &Forge,
    request: NewSecret,
    configured: &[String],
) -> Result<SealedSecret, ForgeError> {
    check_name(&request.name, configured)?;
    let store = forge.store()?;
    let operation = Operation::SecretSet {
        name: request.name.to_string(),
        version: 0,
        created_at_ms: None,
    };
    recorded(forge, operation, |operation| {
        let secret = SecretVault::lock(&forge.paths, &store)?.set(request)?;
        if let Operation::SecretSet {
            version,
            created_at_ms,
            ..
        } = operation
        {
            (*version, *created_at_ms) = (secret.version, Some(secret.created_at));
        }
        Ok(secret)
    })
}

/// Fails if the configuration defines the name: its value is the one that runs get.
pub fn check_name(name: &SecretName, configured: &[String]) -> Result<(), StoredSecretError> {
    match configured.iter().any(|known| known == name.as_str()) {
        true => Err(StoredSecretError::Configured(name.clone())),
        false => Ok(()),
    }
}

/// Lists the stored secrets, by name.
pub fn list(forge: &Forge) -> Result<Vec<SecretEntry>, ForgeError> {
    let store = forge.store()?;
    let stored = StoredSecrets::new(&forge.paths, store.clone());
    let entry = |secret: SealedSecret| SecretEntry {
        problem: stored
            .check(&secret)
            .err()
            .map(|error| error_chain::chain(&error)),
        secret,
    };
    Ok(store.secrets().list()?.into_iter().map(entry).collect())
}

/// Deletes a stored secret.
pub fn remove(forge: &Forge, name: &SecretName) -> Result<(), ForgeError> {
    let store = forge.store()?;
    if store.secrets().find(name.as_str())?.is_none() {
        return Err(StoredSecretError::NotFound(name.clone()).into());
    }
    let operation = Operation::SecretRm {
        name: name.to_string(),
    };
    recorded(forge, operation, |_| {
        Ok(SecretVault::lock(&forge.paths, &store)?.remove(name)?)
    })
}

/// The runs that used a stored secret, newest first.
pub fn uses(forge: &Forge, name: &SecretName) -> Result<Vec<SecretUse>, ForgeError> {
    let store = forge.store()?;
    match store.secrets().find(name.as_str())? {
        Some(_) => Ok(store.secrets().uses(name.as_str())?),
        None => Err(StoredSecretError::NotFound(name.clone()).into()),
    }
}

/// Encrypts all values with a new key. Returns how many there are.
pub fn rotate_key(forge: &Forge) -> Result<usize, ForgeError> {
    let store = forge.store()?;
    recorded(forge, Operation::SecretRotateKey, |_| {
        Ok(SecretVault::lock(&forge.paths, &store)?.rotate_key()?)
    })
}
