//! The one lookup of secrets: those of the configuration, then those that were set by a command.

use std::sync::Arc;

use quire_config::{Config, SecretError};
use quire_server::mirror::SecretLookup;
use quire_server::runner::{RunSecretResolver, SecretUser};
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
