//! Changes a single setting in the configuration file.
//!
//! Only the text of its value changes. The new text is loaded and compared with the old configuration before it is returned: it
//! has to differ in this setting and in nothing else.

use std::path::PathBuf;

use serde_json::Value;

use super::config_error::ConfigError;
use super::data_values::quoted;
use super::entry::ConfigEntry;
use super::load::{LoadedConfig, MAX_CONFIG_BYTES, load};
use super::sections::Config;
use super::settings::{SETTINGS, Setting};
use super::suggest::closest_name;
use quire_pipeline::{Language, SourceFile, data_edit};
use quire_types::paths::Paths;

/// What a setting is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewSetting<'a> {
    /// This value, as in a variable of the environment.
    Value(&'a str),
    /// A value as it is written in the file.
    Written(&'a str),
    /// None in the file, so that the default is in force.
    Default,
}

/// The configuration file with one setting changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingEdit {
    pub file: PathBuf,
    /// The new text of the file.
    pub text: String,
    /// What was written for the setting.
    pub before: Option<String>,
    /// What is written for it now.
    pub after: Option<String>,
    pub needs_restart: bool,
}

/// Why a setting was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error("`{setting}` is not a setting that a command can change")]
    Unknown {
        setting: String,
        closest: Option<String>,
    },
    #[error("`{setting}` must be {expected}, not {found}")]
    Value {
        setting: String,
        expected: &'static str,
        found: String,
    },
    #[error("`{setting}` is not set in {}", file.display())]
    NotSet { setting: String, file: PathBuf },
    #[error("{place} is written in a way that a command cannot change, so nothing was changed")]
    NotWrittenOut {
        /// The file, with line and column if they are known.
        place: String,
        /// What has to be written, and where.
        advice: String,
    },
    #[error("the configuration file would be larger than 1 MiB")]
    TooLarge,
    #[error("the configuration file does not load, so nothing was changed")]
    Config(#[from] ConfigError),
}

impl Config {
    /// Changes a setting in the configuration file of an appliance, and returns the new text.
    pub fn edit(
        paths: &Paths,
        setting: &str,
        new: NewSetting<'_>,
    ) -> Result<SettingEdit, EditError> {
        let known = SETTINGS.iter().find(|known| known.path() == setting);
        let Some(known) = known else {
            let names: Vec<String> = SETTINGS.iter().map(Setting::path).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            return Err(EditError::Unknown {
                closest: closest_name(setting, &names).map(str::to_owned),
                setting: setting.to_owned(),
            });
        };
        let old = Self::load(paths, |_| None)?;
        let file = old.file.clone().unwrap_or_else(|| paths.config_fennel());
        let (language, text) = old
            .text
            .clone()
            .unwrap_or((Language::Fennel, String::new()));
        let edit = Edit {
            setting: known,
            file,
            language,
            text,
        };
        edit.apply(&old, new)
    }
}

struct Edit<'a> {
    setting: &'a Setting,
    file: PathBuf,
    language: Language,
    text: String,
}

impl Edit<'_> {
    fn apply(self, old: &LoadedConfig, new: NewSetting<'_>) -> Result<SettingEdit, EditError> {
        let path = [self.setting.section, self.setting.name];
        let literal = self.literal(new)?;
        if self.language == Language::Lua {
            return Err(self.not_written_out(literal.as_deref()));
        }
        let before = data_edit::written_value(&self.text, path).map(str::to_owned);
        let text = match &literal {
            Some(literal) => data_edit::set_key(&self.text, path, literal),
            None if before.is_none() => {
                return Err(EditError::NotSet {
                    setting: self.setting.path(),
                    file: self.file,
                });
            }
            None => data_edit::remove_key(&self.text, path),
        };
        let text = text.filter(|text| self.changes_only_this(old, text, literal.as_deref()));
        let Some(text) = text else {
            return Err(self.not_written_out(literal.as_deref()));
        };
        if text.len() as u64 > MAX_CONFIG_BYTES {
            return Err(EditError::TooLarge);
        }
        Ok(SettingEdit {
            file: self.file,
            text,
            before,
            after: literal,
            needs_restart: self.setting.needs_restart,
        })
    }

    /// What is to be written for the value.
    fn literal(&self, new: NewSetting<'_>) -> Result<Option<String>, EditError> {
        let text = match new {
            NewSetting::Default => return Ok(None),
            NewSetting::Written(text) => return Ok(Some(text.to_owned())),
            NewSetting::Value(text) => text.trim(),
        };
        let mut wanted = Config::default();
        let is_valid = !text.is_empty()
            && !text.contains(char::is_control)
            && (self.setting.read_text)(&mut wanted, text);
        // A variable of the environment is always text; a file has numbers, truths and lists as well.
        let parts = text.split(',').map(|part| Value::from(part.trim()));
        let candidates = [
            serde_json::from_str(text).unwrap_or(Value::Null),
            Value::from(text),
            Value::Array(parts.collect()),
            Value::from(is_true(&wanted, self.setting)),
        ];
        let is_same = |value: &&Value| {
            let mut read = Config::default();
            (self.setting.read_data)(&mut read, value) && read == wanted
        };
        let value = candidates.iter().filter(|_| is_valid).find(is_same);
        value
            .and_then(written)
            .map(Some)
            .ok_or_else(|| EditError::Value {
                setting: self.setting.path(),
                expected: self.setting.expected,
                found: quoted(text),
            })
    }

    /// Whether the text is the same configuration, but for this setting.
    fn changes_only_this(&self, old: &LoadedConfig, text: &str, literal: Option<&str>) -> bool {
        let read = |text: String| {
            let file = (self.file.clone(), Language::Fennel, text);
            load(Some(file), &|_| None, &quire_pipeline::fennel::eval_data).ok()
        };
        let wanted = match literal {
            None => Some(Config::default()),
            Some(literal) => {
                let [section, name] = [self.setting.section, self.setting.name];
                let alone = read(format!("{{:{section} {{:{name} {literal}}}}}"));
                alone
                    .filter(|alone| alone.warnings.is_empty())
                    .map(|alone| alone.config)
            }
        };
        let (Some(new), Some(wanted)) = (read(text.to_owned()), wanted) else {
            return false;
        };
        let mut expected = without_places(old.config.clone());
        (self.setting.copy)(&wanted, &mut expected);
        expected == without_places(new.config) && old.warnings.len() == new.warnings.len()
    }

    fn not_written_out(&self, literal: Option<&str>) -> EditError {
        let [section, name] = [self.setting.section, self.setting.name];
        let source = SourceFile {
            file: self.file.display().to_string(),
            text: self.text.clone(),
        };
        let location = source.location_of_key_path(&[section, name]);
        let advice = match (literal, self.language) {
            (Some(literal), Language::Fennel) => {
                format!("write `:{name} {literal}` in the table `:{section}` there")
            }
            (Some(literal), Language::Lua) => {
                let literal = literal.replace('[', "{").replace(']', "}");
                format!("write `[\"{name}\"] = {literal}` in the table `{section}` there")
            }
            (None, _) => format!("remove `{name}` from the table `{section}` there"),
        };
        EditError::NotWrittenOut {
            place: location.map_or_else(|| source.file.clone(), |location| location.to_string()),
            advice,
        }
    }
}

/// Whether a setting that is a truth is true.
fn is_true(config: &Config, setting: &Setting) -> bool {
    setting.show(config) == "true"
}

/// The configuration without the places of entries in the file, which an edit may move.
fn without_places(mut config: Config) -> Config {
    fn clear<T>(entry: &mut ConfigEntry<T>) {
        entry.location = None;
    }
    config.notify.targets.values_mut().for_each(clear);
    config.hooks.values_mut().for_each(clear);
    let mirrors = config.mirrors.repos.values_mut();
    mirrors.for_each(|of_repo| of_repo.values_mut().for_each(clear));
    config
}

/// A value as Fennel.
fn written(value: &Value) -> Option<String> {
    match value {
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::String(text) => {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
            Some(format!("\"{escaped}\""))
        }
        Value::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(written).collect();
            Some(format!("[{}]", items?.join(" ")))
        }
        Value::Null | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn edited(text: Option<&str>, setting: &str, new: NewSetting<'_>) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path(), folder.path());
        if let Some(text) = text {
            fs::write(paths.config_fennel(), text).unwrap();
        }
        let edit = Config::edit(&paths, setting, new);
        let folder = format!("{}/", folder.path().display());
        match edit {
            Ok(edit) => Ok(edit.text),
            Err(EditError::NotWrittenOut { place, advice }) => {
                Err(format!("{place}: {advice}").replace(&folder, ""))
            }
            Err(error) => Err(quire_types::error_chain::chain(&error).replace(&folder, "")),
        }
    }

    #[test]
    fn each_kind_of_value_is_written_as_a_file_has_it() {
        for (setting, text, written) in [
            ("ci.concurrent-runs", "2", "{:ci {:concurrent-runs 2}}\n"),
            ("ci.memory", "4g", "{:ci {:memory \"4g\"}}\n"),
            ("ci.network", "off", "{:ci {:network false}}\n"),
            ("ci.cpus", "1.5", "{:ci {:cpus 1.5}}\n"),
            ("http.auth", "proxy", "{:http {:auth \"proxy\"}}\n"),
            ("keep.trash", "0", "{:keep {:trash 0}}\n"),
            (
                "http.trusted-proxies",
                "10.0.0.0/8, 172.16.0.0/12",
                "{:http {:trusted-proxies [\"10.0.0.0/8\" \"172.16.0.0/12\"]}}\n",
            ),
        ] {
            let new = NewSetting::Value(text);
            assert_eq!(edited(None, setting, new).as_deref(), Ok(written));
        }
    }

    /// Every setting can be set to the value that it shows, or is not set by default.
    #[test]
    fn every_setting_is_set_by_the_text_that_shows_it() {
        for setting in SETTINGS {
            let shown = setting.show(&Config::default());
            if shown.is_empty() {
                continue;
            }
            let edited = edited(None, &setting.path(), NewSetting::Value(&shown));
            assert!(edited.is_ok(), "{}: {edited:?}", setting.path());
        }
    }

    #[test]
    fn the_rest_of_the_file_stays_as_it_is() {
        let file = "; mine\n{:ci {:pids 77 ; few\n      }\n :hooks {:h {:repo \"app\" :secret {:env \"X\"}}}}\n";
        let set = |new| edited(Some(file), "ci.pids", new);
        assert_eq!(set(NewSetting::Value("78")), Ok(file.replace("77", "78")));
        assert_eq!(
            set(NewSetting::Default),
            Ok(file.replace(":pids 77 ;", ";"))
        );
        assert_eq!(
            set(NewSetting::Written("(+ 70 9)")),
            Ok(file.replace("77", "(+ 70 9)"))
        );
        // An entry whose place in the file moves is the same entry.
        let added = edited(Some(file), "http.port", NewSetting::Value("4000"));
        assert!(added.unwrap().contains(":http {:port 4000}"));
    }

    #[test]
    fn what_cannot_be_changed_is_said_with_the_line_to_write() {
        let set = |file: &str, setting: &str, text: &str| {
            edited(Some(file), setting, NewSetting::Value(text)).unwrap_err()
        };
        let mut errors = vec![
            set("(let [n 2]\n  {:ci {:pids n}})", "ci.pids", "3"),
            set("(local ci {:pids 1})\n{: ci}", "ci.memory", "2g"),
            set("{:ci {:pids 1}", "ci.pids", "3"),
            set("{}", "ci.pids", "many"),
            set("{}", "ci.pids", ""),
            set("{}", "ci.pdis", "1"),
            set("{}", "notify.targets", "1"),
        ];
        errors.push(edited(Some("{}"), "ci.pids", NewSetting::Default).unwrap_err());
        // A key that is there twice: which one counts is not for this to decide.
        errors.push(set("{:ci {:pids 1 :pids 2}}", "ci.pids", "3"));
        insta::assert_snapshot!(errors.join("\n"));
    }

    #[test]
    fn a_file_of_lua_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path(), folder.path());
        fs::write(paths.config_lua(), "return {\n  ci = { pids = 1 } }\n").unwrap();
        let error = Config::edit(&paths, "ci.pids", NewSetting::Value("2")).unwrap_err();
        let EditError::NotWrittenOut { place, advice } = error else {
            panic!("{error}")
        };
        assert!(place.ends_with("config.lua:2:10"), "{place}");
        assert_eq!(advice, "write `[\"pids\"] = 2` in the table `ci` there");
    }
}
