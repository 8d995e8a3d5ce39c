//! The settings that are in force, with their origins, as the server keeps them for commands. A session of SSH has not the
//! environment from which some of them come.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::load::{LoadedConfig, Origin};
use super::settings::SETTINGS;
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
    /// The value that is in force after a restart, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
}

/// A setting that a reload changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingChange {
    pub setting: String,
    /// Empty if it was not set.
    pub before: String,
    /// Empty if it is not set any more.
    pub after: String,
    /// Whether it is in force only after a restart.
    pub needs_restart: bool,
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
                pending: None,
            }
        });
        Self {
            file: loaded.file.clone(),
            settings: settings.collect(),
        }
    }
}

impl SettingsInForce {
    /// Replaces what needs no restart. What needs one keeps the value of the start, and has the other one as pending.
    #[must_use]
    pub fn reloaded(&self, loaded: &LoadedConfig) -> Self {
        let mut new = Self::from(loaded);
        for setting in &mut new.settings {
            let needs_restart = SETTINGS
                .iter()
                .any(|known| known.needs_restart && known.path() == setting.setting);
            let started = self.find(&setting.setting);
            if let Some(started) = started.filter(|_| needs_restart) {
                let pending = (setting.value != started.value).then(|| setting.value.clone());
                *setting = SettingInForce {
                    pending,
                    ..started.clone()
                };
            }
        }
        new
    }

    /// What is different in newer settings.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Vec<SettingChange> {
        let value = |found: Option<&SettingInForce>| {
            found.map_or_else(String::new, |one| {
                one.pending.clone().unwrap_or_else(|| one.value.clone())
            })
        };
        let removed = self
            .settings
            .iter()
            .filter(|old| new.find(&old.setting).is_none());
        let change = |name: &str| SettingChange {
            setting: name.to_owned(),
            before: value(self.find(name)),
            after: value(new.find(name)),
            needs_restart: new.find(name).is_some_and(|one| one.pending.is_some()),
        };
        new.settings
            .iter()
            .chain(removed)
            .map(|one| change(&one.setting))
            .filter(|change| change.before != change.after)
            .collect()
    }

    /// A setting by section and name, such as `http.port`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&SettingInForce> {
        self.settings.iter().find(|one| one.setting == name)
    }

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

    #[test]
    fn a_reload_changes_what_needs_no_restart() {
        let in_force = |text: &str| {
            let loaded = Config::check(text.to_owned(), quire_pipeline::Language::Fennel);
            loaded.unwrap()
        };
        let started = SettingsInForce::from(&in_force("{:http {:port 1} :ci {:pids 1}}"));
        let first = started.reloaded(&in_force("{:http {:port 2} :ci {:pids 2}}"));
        let found = |name: &str| {
            let found = first.find(name).unwrap();
            (found.value.clone(), found.pending.clone())
        };
        assert_eq!(found("http.port"), ("1".to_owned(), Some("2".to_owned())));
        assert_eq!(found("ci.pids"), ("2".to_owned(), None));
        let shown = |old: &SettingsInForce, new: &SettingsInForce| -> Vec<String> {
            let shown = |change: SettingChange| {
                let SettingChange {
                    setting,
                    before,
                    after,
                    needs_restart,
                } = change;
                format!("{setting} {before} {after} {needs_restart}")
            };
            old.changes(new).into_iter().map(shown).collect()
        };
        assert_eq!(
            shown(&started, &first),
            ["http.port 1 2 true", "ci.pids 1 2 false"]
        );
        // What is pending and set back is not pending any more, and an entry that is removed is a change.
        let with_secret = "{:http {:port 1} :secrets {:token {:env \"T\"}}}";
        let second = started.reloaded(&in_force(with_secret));
        assert_eq!(
            shown(&first, &second),
            [
                "http.port 2 1 false".to_owned(),
                format!("ci.pids 2 {} false", Config::default().ci.pids),
                "secrets.token  environment variable T false".to_owned()
            ]
        );
        let third = started.reloaded(&in_force("{:http {:port 1}}"));
        assert_eq!(
            shown(&second, &third),
            ["secrets.token environment variable T  false"]
        );
    }
}
