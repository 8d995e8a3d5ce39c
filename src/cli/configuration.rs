//! The configuration file, as commands need it.

use super::error::CommandError;
use quire_config::{Config, SettingsInForce};
use quire_types::paths::Paths;

/// The names of the secrets that the configuration defines.
pub(super) fn secret_names(paths: &Paths) -> Result<Vec<String>, CommandError> {
    let loaded = Config::load_for_command(paths).ok_or_else(|| {
        CommandError::failed(
            "the configuration does not load, so it is not known which secrets it defines",
        )
        .hint("correct the configuration file; the log of the server says what is wrong")
    })?;
    Ok(loaded.config.secrets.into_keys().collect())
}

/// The settings that the server has in force.
pub(super) fn settings_in_force(paths: &Paths) -> Result<SettingsInForce, CommandError> {
    match SettingsInForce::read(paths) {
        Ok(Some(settings)) => Ok(settings),
        Ok(None) => {
            Err(CommandError::failed("no configuration is in force yet")
                .hint("start the server first"))
        }
        Err(error) => Err(CommandError::failed(format!(
            "the settings in force cannot be read: {error}"
        ))),
    }
}
