//! The settings that are in force, with their origins, as the server keeps them for commands. A session of SSH has not the
//! environment from which some of them come.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::load::{LoadedConfig, Origin};
use quire_types::fsutil;
use quire_types::paths::Paths;

/// Only the owner of the volume reads it, as the configuration may say where secrets are.
const MODE: u32 = 0o600;

/// All settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsInForce {
    /// The configuration file, if there is one.
    pub file: Option<PathBuf>,
    /// In the order of the documentation.
    pub settings: Vec<SettingInForce>,
}

/// A setting. Of a secret the value is where its value is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingInForce {
    /// Section and name, such as `http.port`.
    pub setting: String,
    /// As text; empty if it is not set.
    pub value: String,
    /// `default`, `file` or `environment`.
    pub origin: String,
    /// The variable of the environment, if it comes from there.
    pub variable: Option<String>,
}

impl From<&LoadedConfig> for SettingsInForce {
    fn from(loaded: &LoadedConfig) -> Self {
        let settings = loaded.settings().into_iter().map(|setting| {
            let (origin, variable) = match setting.origin {
                Origin::Default => ("default", None),
                Origin::File => ("file", None),
                Origin::Environment(variable) => ("environment", Some(variable)),
            };
            SettingInForce {
                setting: setting.path,
                value: setting.value,
                origin: origin.to_owned(),
                variable,
            }
        });
        Self {
            file: loaded.file.clone(),
            settings: settings.collect(),
        }
    }
}

impl SettingsInForce {
    /// Keeps them for commands.
    pub fn write(&self, paths: &Paths) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        let path = paths.settings_in_force();
        // A full disk must not prevent the server from starting.
        if fs::read(&path).is_ok_and(|found| found == text) {
            return Ok(());
        }
        fsutil::replace_file(&path, &text, MODE)
    }

    /// Reads what the server kept; `None` if it has not started yet.
    pub fn read(paths: &Paths) -> io::Result<Option<Self>> {
        match fs::read(paths.settings_in_force()) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn what_is_kept_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path(), folder.path());
        assert_eq!(SettingsInForce::read(&paths).unwrap(), None);
        let text = "{:ci {:pids 77} :secrets {:token {:file \"/run/token\"}}}";
        fs::write(paths.config_fennel(), text).unwrap();
        let environment = |name: &str| (name == "QUIRE_CI_MEMORY").then(|| "2g".to_owned());
        let loaded = Config::load(&paths, environment).unwrap();
        SettingsInForce::from(&loaded).write(&paths).unwrap();
        let found = SettingsInForce::read(&paths).unwrap().unwrap();
        assert_eq!(found.file, Some(paths.config_fennel()));
        let setting = |name: &str| {
            let found = found.settings.iter().find(|found| found.setting == name);
            let found = found.unwrap();
            format!(
                "{} {} {:?}",
                found.value,
                found.origin,
                found.variable.as_deref()
            )
        };
        assert_eq!(setting("ci.pids"), "77 file None");
        assert!(setting("ci.memory").ends_with(" environment Some(\"QUIRE_CI_MEMORY\")"));
        assert!(setting("http.port").ends_with(" default None"));
        assert_eq!(setting("secrets.token"), "file /run/token file None");
    }
}
