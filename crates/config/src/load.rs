//! Reads the configuration file and the environment variables that override single settings.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::config_error::ConfigError;
use super::data_values::{found, quoted, table};
use super::entries_shown::shown_entries;
use super::entry::ConfigEntry;
use super::entry_fields::ReadEntry;
use super::hook_reader::read_hook;
use super::mirror_reader::read_mirror;
use super::notify_target_reader::read_target;
use super::secrets::SecretGrant;
use super::sections::Config;
use super::settings::{HOOKS, MIRROR_REPOS, NOTIFY_TARGETS, SECRETS, SETTINGS, sections};
use super::suggest::closest_name;
use quire_pipeline::{Diagnostic, Language, SourceFile};
use quire_types::names::RepoName;
use quire_types::paths::Paths;
use quire_types::run::ExecutorName;
use quire_types::text::{excerpt_name, with_unix_line_ends};

/// The largest configuration file, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// A configuration, and where its values come from.
#[derive(Debug, Clone)]
pub struct LoadedConfig {
    pub config: Config,
    /// Unknown settings, which are ignored.
    pub warnings: Vec<Diagnostic>,
    /// The configuration file, if there is one.
    pub file: Option<PathBuf>,
    /// Its text.
    pub(super) text: Option<(Language, String)>,
    /// The origins of values other than defaults, by path (`http.port`, `secrets.npm-token`).
    origins: BTreeMap<String, Origin>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File,
    /// The environment variable of this name.
    Environment(String),
}

/// A value for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingValue {
    /// Section and name, such as `http.port`.
    pub path: String,
    /// The value as text, or empty if it is not set. For a secret: where its value is.
    pub value: String,
    pub origin: Origin,
}

impl LoadedConfig {
    /// Where the value of a setting comes from.
    #[must_use]
    pub fn origin(&self, path: &str) -> Origin {
        self.origins.get(path).cloned().unwrap_or(Origin::Default)
    }

    /// All values, in the order of the documentation.
    #[must_use]
    pub fn settings(&self) -> Vec<SettingValue> {
        let setting = |path: String, value| SettingValue {
            origin: self.origin(&path),
            path,
            value,
        };
        let secrets = self.config.secrets.iter().map(|(name, grant)| {
            let mut value = grant.source.to_string();
            for (what, list) in [
                ("repositories", &grant.scope.repos),
                ("refs", &grant.scope.refs),
            ] {
                value += &list
                    .as_ref()
                    .map_or_else(String::new, |list| format!(", {what} {}", list.join(" ")));
            }
            setting(format!("{SECRETS}.{name}"), value)
        });
        let entries = shown_entries(&self.config);
        let entries = entries.into_iter().map(|(path, value)| SettingValue {
            path,
            value,
            origin: Origin::File,
        });
        SETTINGS
            .iter()
            .map(|key| setting(key.path(), key.show(&self.config)))
            .chain(entries)
            .chain(secrets)
            .collect()
    }
}

/// Evaluates a file, given as text, name and language, to plain data.
pub(super) type Evaluate<'a> = &'a dyn Fn(&str, &str, Language) -> Result<Value, Diagnostic>;

/// The variable by which clients of Docker find the engine.
const DOCKER_HOST: &str = "DOCKER_HOST";

impl Config {
    /// Reads the configuration of an appliance. `environment` returns the value of a variable. An
    /// empty variable counts as not set.
    pub fn load(
        paths: &Paths,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<LoadedConfig, ConfigError> {
        load(
            read(paths)?,
            &environment,
            &quire_pipeline::fennel::eval_data,
        )
    }
}

/// A configuration file: path, language and text.
pub(super) type ConfigFile = (PathBuf, Language, String);

pub(super) fn load(
    file: Option<ConfigFile>,
    environment: &dyn Fn(&str) -> Option<String>,
    evaluate: Evaluate<'_>,
) -> Result<LoadedConfig, ConfigError> {
    let mut loaded = LoadedConfig {
        config: Config::default(),
        warnings: Vec::new(),
        file: None,
        text: None,
        origins: BTreeMap::new(),
    };
    loaded.file = file.as_ref().map(|(path, ..)| path.clone());
    loaded.text = file
        .as_ref()
        .map(|(_, language, text)| (*language, text.clone()));
    if let Some((path, language, text)) = file {
        let source = SourceFile {
            file: path.display().to_string(),
            text: with_unix_line_ends(text),
        };
        // A file in which everything is commented out is like no file.
        if !source.is_blank() {
            apply_file(&mut loaded, &source, language, evaluate)?;
        }
    }
    apply_environment(&mut loaded, environment)?;
    apply_docker_host(&mut loaded, environment)?;
    let ci = &loaded.config.ci;
    if ci.executor == Some(ExecutorName::SWARM) && ci.callback.is_none() {
        return Err(ConfigError::NoCallback);
    }
    if ci.executor == Some(ExecutorName::SWARM) && !ci.network {
        return Err(ConfigError::SwarmWithoutNetwork);
    }
    Ok(loaded)
}

fn apply_file(
    loaded: &mut LoadedConfig,
    source: &SourceFile,
    language: Language,
    evaluate: Evaluate<'_>,
) -> Result<(), ConfigError> {
    let value = evaluate(&source.text, &source.file, language)
        .map_err(|diagnostic| ConfigError::Invalid(vec![diagnostic]))?;
    let mut reader = SettingsReader {
        source,
        loaded,
        errors: Vec::new(),
    };
    reader.file(&value);
    let mut errors = reader.errors;
    loaded.warnings.sort_by_key(by_location);
    if errors.is_empty() {
        return Ok(());
    }
    errors.sort_by_key(by_location);
    Err(ConfigError::Invalid(errors))
}

fn apply_environment(
    loaded: &mut LoadedConfig,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(), ConfigError> {
    for setting in SETTINGS {
        let variable = setting.variable();
        let Some(text) = environment(&variable).filter(|text| !text.is_empty()) else {
            continue;
        };
        if !(setting.read_text)(&mut loaded.config, text.trim()) {
            return Err(ConfigError::Environment {
                variable,
                expected: setting.expected,
                found: quoted(&text),
            });
        }
        loaded
            .origins
            .insert(setting.path(), Origin::Environment(variable));
    }
    Ok(())
}

/// The engine of `DOCKER_HOST`, as for every client of Docker, unless quire's own setting names one.
fn apply_docker_host(
    loaded: &mut LoadedConfig,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(), ConfigError> {
    const SETTING: &str = "ci.engine";
    let Some(host) = environment(DOCKER_HOST).filter(|host| !host.is_empty()) else {
        return Ok(());
    };
    if loaded.origins.contains_key(SETTING) {
        return Ok(());
    }
    // A path without a scheme is a socket.
    let address = if host.starts_with('/') {
        format!("unix://{host}")
    } else {
        host
    };
    let setting = SETTINGS.iter().find(|setting| setting.path() == SETTING);
    if !setting.is_some_and(|setting| (setting.read_text)(&mut loaded.config, address.trim())) {
        return Err(ConfigError::Environment {
            variable: DOCKER_HOST.to_owned(),
            expected: setting.map_or("an address", |setting| setting.expected),
            found: quoted(&address),
        });
    }
    let origin = Origin::Environment(DOCKER_HOST.to_owned());
    loaded.origins.insert(SETTING.to_owned(), origin);
    Ok(())
}

/// The order of the file. The entries of an evaluated table have none.
fn by_location(diagnostic: &Diagnostic) -> Option<(u32, u32)> {
    diagnostic
        .location
        .as_ref()
        .map(|location| (location.line, location.column))
}

/// Reads the configuration file, if there is one.
fn read(paths: &Paths) -> Result<Option<ConfigFile>, ConfigError> {
    read_either(paths.config_fennel(), paths.config_lua())
}

pub(super) fn read_either(
    fennel: PathBuf,
    lua: PathBuf,
) -> Result<Option<ConfigFile>, ConfigError> {
    match (read_file(&fennel)?, read_file(&lua)?) {
        (Some(_), Some(_)) => Err(ConfigError::Both { fennel, lua }),
        (Some(text), None) => Ok(Some((fennel, Language::Fennel, text))),
        (None, Some(text)) => Ok(Some((lua, Language::Lua, text))),
        (None, None) => Ok(None),
    }
}

fn read_file(path: &Path) -> Result<Option<String>, ConfigError> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?
            .take(MAX_CONFIG_BYTES + 1)
            .read_to_string(&mut text)?;
        if text.len() as u64 > MAX_CONFIG_BYTES {
            Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "it is larger than 1 MiB",
            ))
        } else {
            Ok(text)
        }
    };
    match read() {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Reads the settings from the value of a configuration file.
struct SettingsReader<'a> {
    source: &'a SourceFile,
    loaded: &'a mut LoadedConfig,
    errors: Vec<Diagnostic>,
}

impl SettingsReader<'_> {
    fn file(&mut self, value: &Value) {
        let Some(fields) = table(value) else {
            self.errors
                .push(self.wrong(&[], "the configuration", "one table", value));
            return;
        };
        for (section, value) in fields.iter() {
            if section == HOOKS {
                self.section(section, value, Self::hook);
            } else if section == SECRETS {
                self.section(section, value, Self::secret);
            } else if SETTINGS.iter().any(|key| key.section == section) {
                self.section(section, value, Self::setting);
            } else {
                self.unknown(&[section], &sections());
            }
        }
    }

    fn section(&mut self, section: &str, value: &Value, each: fn(&mut Self, &str, &str, &Value)) {
        match table(value) {
            Some(fields) => fields
                .iter()
                .for_each(|(name, value)| each(self, section, name, value)),
            None => {
                self.errors
                    .push(self.wrong(&[section], &format!("`{section}`"), "a table", value))
            }
        }
    }

    fn setting(&mut self, section: &str, name: &str, value: &Value) {
        if (section, name) == NOTIFY_TARGETS {
            return self.section(&format!("{section}.{name}"), value, Self::notify_target);
        }
        if (section, name) == MIRROR_REPOS {
            return self.section(&format!("{section}.{name}"), value, Self::mirrors_of_repo);
        }
        let Some(key) = SETTINGS
            .iter()
            .find(|key| key.section == section && key.name == name)
        else {
            let known: Vec<&str> = SETTINGS
                .iter()
                .filter(|key| key.section == section)
                .map(|key| key.name)
                .collect();
            self.unknown(&[section, name], &known);
            return;
        };
        if (key.read_data)(&mut self.loaded.config, value) {
            self.loaded.origins.insert(key.path(), Origin::File);
        } else {
            self.errors.push(self.wrong(
                &[section, name],
                &format!("`{}`", key.path()),
                key.expected,
                value,
            ));
        }
    }

    fn secret(&mut self, section: &str, name: &str, value: &Value) {
        match SecretGrant::from_data(value) {
            Some(grant) => {
                self.loaded.config.secrets.insert(name.to_owned(), grant);
                self.loaded
                    .origins
                    .insert(format!("{section}.{name}"), Origin::File);
            }
            None => {
                let message = format!("`{section}.{name}` must be {}", SecretGrant::EXPECTED);
                // The message must not quote the line: it may contain the secret itself.
                let location = self.source.location_of_key_path(&[section, name]);
                self.errors.push(Diagnostic {
                    message,
                    location,
                    source_line: None,
                    hint: None,
                });
            }
        }
    }

    fn notify_target(&mut self, _: &str, name: &str, value: &Value) {
        let path = [NOTIFY_TARGETS.0, NOTIFY_TARGETS.1, name];
        let (location, settings) = self.entry(&path, read_target(name, value));
        let target = ConfigEntry { location, settings };
        let targets = &mut self.loaded.config.notify.targets;
        targets.insert(name.to_owned(), target);
    }

    fn hook(&mut self, section: &str, name: &str, value: &Value) {
        let (location, settings) = self.entry(&[section, name], read_hook(name, value));
        let hook = ConfigEntry { location, settings };
        self.loaded.config.hooks.insert(name.to_owned(), hook);
    }

    fn mirrors_of_repo(&mut self, section: &str, name: &str, value: &Value) {
        let path = [MIRROR_REPOS.0, MIRROR_REPOS.1, name];
        let (Ok(repo), Some(mirrors)) = (name.parse::<RepoName>(), table(value)) else {
            let what = format!("`{}`", excerpt_name(&format!("{section}.{name}")));
            let expected = "the name of a repository with a table of its mirrors";
            let wrong = self.wrong(&path, &what, expected, value);
            return self.errors.push(wrong);
        };
        for (name, value) in mirrors.iter() {
            let path = [path[0], path[1], path[2], name];
            let (location, settings) = self.entry(&path, read_mirror(name, value));
            let mirror = ConfigEntry { location, settings };
            let repos = &mut self.loaded.config.mirrors.repos;
            repos
                .entry(repo.clone())
                .or_default()
                .insert(name.clone(), mirror);
        }
    }

    /// The place of an entry in the file, and its settings or what is wrong with them.
    fn entry<T>(
        &mut self,
        path: &[&str],
        entry: ReadEntry<T>,
    ) -> (Option<String>, Result<T, String>) {
        for key in &entry.unknown {
            self.unknown(&[path, &[key]].concat(), &entry.known);
        }
        let at = |path: &[&str]| Some(self.source.location_of_key_path(path)?.to_string());
        let location = match &entry.settings {
            Err(problem) => at(&[path, problem.key.as_slice()].concat()),
            Ok(_) => at(path),
        };
        (location, entry.settings.map_err(|problem| problem.message))
    }

    fn unknown(&mut self, path: &[&str], known: &[&str]) {
        let hint = path
            .last()
            .and_then(|name| closest_name(name, known))
            .map(|near| format!("did you mean `{near}`?"));
        let shown: String = path.join(".").chars().take(80).collect();
        self.warn(
            path,
            format!("`{shown}` is not a setting and is ignored"),
            hint,
        );
    }

    fn warn(&mut self, path: &[&str], message: String, hint: Option<String>) {
        let diagnostic = self.diagnostic(path, message);
        self.loaded.warnings.push(Diagnostic { hint, ..diagnostic });
    }

    fn wrong(&self, path: &[&str], what: &str, expected: &str, value: &Value) -> Diagnostic {
        let message = format!("{what} must be {expected}, not {}", found(value));
        let mut diagnostic = self.diagnostic(path, message);
        if value.is_object() {
            // The line may contain a secret where one is wrongly written.
            diagnostic.source_line = None;
        }
        if diagnostic.location.is_none() {
            diagnostic.message = format!("{}: {}", self.source.file, diagnostic.message);
        }
        diagnostic
    }

    /// A diagnostic at the innermost key of `path` that can be found in the file.
    fn diagnostic(&self, path: &[&str], message: String) -> Diagnostic {
        match self.source.location_of_key_path(path) {
            Some(location) => self.source.diagnostic_at(message, location),
            None => Diagnostic {
                message,
                location: None,
                source_line: None,
                hint: None,
            },
        }
    }
}

#[cfg(test)]
mod tests;
