//! Returns the values of stored secrets to runs.

use super::error::StoredSecretError;
use super::key_file::SecretKeys;
use super::seal;
use crate::runner::SecretUser;
use quire_store::{SealedSecret, Store};
use quire_types::names::{RefName, RepoName};
use quire_types::paths::Paths;
use quire_types::secret::{Secret, SecretScope};

/// The stored secrets, for runs. Cheap to clone.
#[derive(Clone)]
pub struct StoredSecrets {
    paths: Paths,
    store: Store,
}

impl StoredSecrets {
    #[must_use]
    pub fn new(paths: &Paths, store: Store) -> Self {
        Self {
            paths: paths.clone(),
            store,
        }
    }

    /// The value of a secret for a run, whose use is recorded; `None` if no secret has this name.
    pub fn resolve(
        &self,
        name: &str,
        user: &SecretUser,
    ) -> Result<Option<Secret>, StoredSecretError> {
        let value = self.granted(name, &user.repo, &user.ref_name)?;
        if value.is_some() {
            let now = self.store.clock().now();
            self.store.secrets().record_use(name, user.run, now)?;
        }
        Ok(value)
    }

    /// The value of a secret that runs of this ref of this repository may use; `None` if no secret has this name.
    pub fn granted(
        &self,
        name: &str,
        repo: &RepoName,
        ref_name: &RefName,
    ) -> Result<Option<Secret>, StoredSecretError> {
        let Some(secret) = self.store.secrets().find(name)? else {
            return Ok(None);
        };
        if !secret.scope.grants(repo, ref_name) {
            return Err(StoredSecretError::NotGranted {
                name: secret.name,
                repo: repo.clone(),
                ref_name: ref_name.clone(),
            });
        }
        Ok(Some(seal::open(&self.keys()?, &secret)?))
    }

    /// The value of a secret for what is no run; `None` if no secret has this name.
    pub fn value(&self, name: &str) -> Result<Option<Secret>, StoredSecretError> {
        match self.store.secrets().find(name)? {
            Some(secret) => Ok(Some(seal::open(&self.keys()?, &secret)?)),
            None => Ok(None),
        }
    }

    /// Why the value of a secret cannot be read, if so.
    pub fn check(&self, secret: &SealedSecret) -> Result<(), StoredSecretError> {
        seal::open(&self.keys()?, secret).map(|_| ())
    }

    /// The names of the secrets that a run may use.
    #[must_use]
    pub fn names_for(&self, user: &SecretUser) -> Vec<String> {
        self.names(|scope| scope.grants(&user.repo, &user.ref_name))
    }

    /// The names of those that runs of a repository may use, at least at some refs.
    #[must_use]
    pub fn names_of_repo(&self, repo: &RepoName) -> Vec<String> {
        self.names(|scope| scope.grants_some_of(repo))
    }

    fn names(&self, is_granted: impl Fn(&SecretScope) -> bool) -> Vec<String> {
        let secrets = self.store.secrets().list().unwrap_or_default();
        let granted = secrets
            .into_iter()
            .filter(|secret| is_granted(&secret.scope));
        granted
            .map(|secret| secret.name.as_str().to_owned())
            .collect()
    }

    /// All values that can be decrypted, by name, to be redacted.
    #[must_use]
    pub fn values(&self) -> Vec<(String, Secret)> {
        let secrets = self.store.secrets().list().unwrap_or_default();
        if secrets.is_empty() {
            return Vec::new();
        }
        let Ok(keys) = self.keys() else {
            return Vec::new();
        };
        let value = |secret: &SealedSecret| {
            let value = seal::open(&keys, secret).ok()?;
            Some((secret.name.as_str().to_owned(), value))
        };
        secrets.iter().filter_map(value).collect()
    }

    fn keys(&self) -> Result<SecretKeys, StoredSecretError> {
        SecretKeys::require(&self.paths)
    }
}
