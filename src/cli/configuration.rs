//! The configuration file, as commands need it.

use super::error::CommandError;
use quire_config::{Config, LoadedConfig, SettingsInForce};
use quire_types::paths::Paths;

/// Loads the file, or the last one that loaded if it is wrong; `None` if neither loads. Variables of the environment do not
/// count: a session of SSH has not those of the appliance.
pub(super) fn load_file(paths: &Paths) -> Option<LoadedConfig> {
    let loaded = Config::load(paths, |_| None).ok();
    loaded.or_else(|| Config::load_last_good(paths, |_| None).ok()?)
}

/// The names of the secrets that the configuration defines.
pub(super) fn secret_names(paths: &Paths) -> Result<Vec<String>, CommandError> {
    let loaded = load_file(paths).ok_or_else(|| {
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
