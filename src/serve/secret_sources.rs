//! The one lookup of secrets: those of the configuration, then those that were set by a command.

use std::sync::Arc;

use quire_config::{Config, SecretError};
use quire_server::mirror::{GrantedSecretLookup, SecretLookup};
use quire_server::runner::{RunSecretResolver, SecretNames, SecretUser};
use quire_server::secrets::StoredSecrets;
use quire_types::error_chain;
use quire_types::secret::Secret;
use quire_types::text::excerpt_name;

use super::wiring::variable;

/// Returns the values of secrets to runs.
pub(super) fn resolver(config: &Config, stored: &StoredSecrets) -> RunSecretResolver {
    let (config, stored) = (config.clone(), stored.clone());
    Arc::new(move |user, name| find(&config, &stored, user, name))
}

/// Returns the values of secrets for imports. What limits a secret limits runs only.
pub(super) fn any_secret(config: &Config, stored: &StoredSecrets) -> SecretLookup {
    let (configured, stored) = (config.secrets.clone(), stored.clone());
    Arc::new(move |name| match configured.get(name) {
        Some(grant) => grant
            .source
            .read(name, variable)
            .map_err(|error| error_chain::chain(&error)),
        None => match stored.value(name) {
            Ok(Some(secret)) => Ok(secret),
            Ok(None) => Err(format!(
                "there is no secret `{}`; `secret list` shows all secrets",
                excerpt_name(name)
            )),
            Err(error) => Err(error_chain::chain(&error)),
        },
    })
}

/// Returns the values of secrets to mirrors that repositories have by their own settings. A text that is no name of a secret may be a
/// token that was written into a file, so no message has it.
pub(super) fn granted_secret(config: &Config, stored: &StoredSecrets) -> GrantedSecretLookup {
    let (config, stored) = (config.clone(), stored.clone());
    Arc::new(move |repo, ref_name, name| {
        match config.secret(name, (repo, ref_name), variable) {
            Err(SecretError::Unknown { .. }) => {}
            found => return found.map_err(|error| error_chain::chain(&error)),
        }
        match stored.granted(name, repo, ref_name) {
            Ok(Some(secret)) => Ok(secret),
            Ok(None) => Err(
                "`token` must be the name of a secret; `secret list` shows all secrets".to_owned(),
            ),
            Err(error) => Err(error_chain::chain(&error)),
        }
    })
}

/// Returns the names of the secrets that runs of a repository may use, at least at some refs.
pub(super) fn names_of_repo(config: &Config, stored: &StoredSecrets) -> SecretNames {
    let (configured, stored) = (config.secrets.clone(), stored.clone());
    Arc::new(move |repo| {
        let mut names: Vec<String> = configured
            .iter()
            .filter(|(_, grant)| grant.scope.grants_some_of(repo))
            .map(|(name, _)| name.clone())
            .collect();
        // A name that the configuration defines is its own.
        let others = stored.names_of_repo(repo).into_iter();
        names.extend(others.filter(|name| !configured.contains_key(name)));
        names
    })
}

/// The value of a secret for a run. A name that the configuration defines is its own, also where it grants the run
/// nothing. The error is a message for the author of the pipeline.
fn find(
    config: &Config,
    stored: &StoredSecrets,
    user: &SecretUser,
    name: &str,
) -> Result<Secret, String> {
    let of_run = (&user.repo, &user.ref_name);
    match config.secret(name, of_run, variable) {
        Err(SecretError::Unknown { .. }) => {}
        found => return found.map_err(|error| error.to_string()),
    }
    match stored.resolve(name, user) {
        Ok(Some(secret)) => Ok(secret),
        Ok(None) => {
            let names = stored.names_for(user);
            Err(config.unknown_secret(name, of_run, &names).to_string())
        }
        Err(error) => Err(error_chain::chain(&error)),
    }
}
