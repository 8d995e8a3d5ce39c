//! Changes stored secrets and their keys.

use std::fs::File;

use super::error::StoredSecretError;
use super::key_file::SecretKeys;
use super::seal::{self, SecretContext};
use quire_store::{SealedSecret, Store};
use quire_types::failpoint;
use quire_types::paths::Paths;
use quire_types::secret::{FinalNewline, Secret, SecretName, SecretScope, secret_from_text};

/// The largest value, in bytes.
pub const MAX_STORED_SECRET: usize = 1 << 20;

/// A secret that is to be stored.
#[derive(Debug)]
pub struct NewSecret {
    pub name: SecretName,
    pub value: Secret,
    pub newline: FinalNewline,
    /// Patterns of the repositories that may use it; `None` leaves those that it has.
    pub repos: Option<Vec<String>>,
    /// Patterns of the refs that may use it; `None` leaves those that it has.
    pub refs: Option<Vec<String>>,
    /// The name of the user's key.
    pub set_by: String,
}

/// Changes stored secrets.
pub struct SecretVault<'a> {
    paths: &'a Paths,
    store: &'a Store,
    _lock: File,
}

impl<'a> SecretVault<'a> {
    /// Waits until no other process changes secrets.
    pub fn lock(paths: &'a Paths, store: &'a Store) -> Result<Self, StoredSecretError> {
        let path = paths.secrets_lock();
        let lock = File::create(&path).and_then(|file| file.lock().map(|()| file));
        Ok(Self {
            paths,
            store,
            _lock: lock.map_err(|source| StoredSecretError::Io {
                attempt: "lock",
                path,
                source,
            })?,
        })
    }

    /// Stores a value in place of the one that the name has.
    pub fn set(&self, new: NewSecret) -> Result<SealedSecret, StoredSecretError> {
        if new.value.expose().len() > MAX_STORED_SECRET {
            return Err(StoredSecretError::TooLarge);
        }
        let value = secret_from_text(new.value.expose(), new.newline);
        if value.expose().is_empty() {
            return Err(StoredSecretError::Empty);
        }
        let known = self.store.secrets().find(new.name.as_str())?;
        let now = self.store.clock().now();
        let keys = self.keys(self.store.secrets().list()?.is_empty())?;
        failpoint::hit("secret-key-ready");
        let before = known.as_ref().map(|secret| secret.scope.clone());
        let before = before.unwrap_or_default();
        let scope = SecretScope {
            repos: new.repos.or(before.repos),
            refs: new.refs.or(before.refs),
        };
        let context = SecretContext {
            name: &new.name,
            scope: &scope,
            version: known
                .as_ref()
                .map_or(1, |secret| secret.version.saturating_add(1)),
        };
        let sealed = SealedSecret {
            value: seal::seal(keys.current()?, &context, &value)?,
            version: context.version,
            created_at: known.as_ref().map_or(now, |secret| secret.created_at),
            updated_at: now,
            updated_by: new.set_by,
            used_at: known.and_then(|secret| secret.used_at),
            name: new.name.clone(),
            scope: scope.clone(),
        };
        self.store.secrets().put(&sealed)?;
        failpoint::hit("secret-stored");
        Ok(sealed)
    }

    /// Deletes a secret and the record of its uses.
    pub fn remove(&self, name: &SecretName) -> Result<(), StoredSecretError> {
        if self.store.secrets().remove(name.as_str())? {
            Ok(())
        } else {
            Err(StoredSecretError::NotFound(name.clone()))
        }
    }

    /// Encrypts all values with a new key, which takes the place of the old ones. If the operator keeps the file of keys, its
    /// first key is the new one. Returns how many values there are.
    pub fn rotate_key(&self) -> Result<usize, StoredSecretError> {
        let mut secrets = self.store.secrets().list()?;
        let mut keys = self.keys(secrets.is_empty())?;
        let values: Vec<Secret> = secrets
            .iter()
            .map(|secret| seal::open(&keys, secret))
            .collect::<Result<_, _>>()?;
        // The file has both keys until no value needs the old one.
        if keys.is_own {
            keys.add()?;
        }
        failpoint::hit("secret-key-added");
        for (secret, value) in secrets.iter_mut().zip(&values) {
            secret.value = seal::seal(keys.current()?, &SecretContext::from(&*secret), value)?;
        }
        self.store.secrets().replace_values(&secrets)?;
        failpoint::hit("secret-values-rotated");
        if keys.is_own {
            keys.keep_current()?;
        }
        Ok(secrets.len())
    }

    /// The keys. They are made only while there are no values: a new key would hide that the one of the values is lost.
    fn keys(&self, may_create: bool) -> Result<SecretKeys, StoredSecretError> {
        match may_create {
            true => SecretKeys::read_or_create(self.paths),
            false => SecretKeys::require(self.paths),
        }
    }
}
