//! Reading the configuration: which file, what is in it, what the environment overrides.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::keys::{KEYS, Key, SECRETS, WITHOUT_EFFECT, sections};
use super::secrets::{SecretGrant, SecretSource};
use super::{Config, nearest, place};
use crate::paths::Paths;
use crate::pipeline::{Diagnostic, Language};

/// No configuration is larger.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// A configuration that was read.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What is in force.
    pub config: Config,
    /// What was not understood, and is left out.
    pub warnings: Vec<Diagnostic>,
    /// The file it was read from; none where there is none.
    pub file: Option<PathBuf>,
    /// What does not come from the defaults, by path (`http.port`, `secrets.npm-token`).
    origins: BTreeMap<String, Origin>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nothing was said.
    Default,
    /// The configuration file.
    File,
    /// This environment variable.
    Environment(String),
}

/// A value in force, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// `http.port`.
    pub path: String,
    /// The value as text; empty where it is not set. Of a secret, where it comes from.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

impl Loaded {
    /// Where the value of `path` comes from.
    #[must_use]
    pub fn origin(&self, path: &str) -> Origin {
        self.origins.get(path).cloned().unwrap_or(Origin::Default)
    }

    /// All values in force, in the order of the documentation.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        let setting = |path: String, value| Setting {
            origin: self.origin(&path),
            path,
            value,
        };
        let secrets = self.config.secrets.iter().map(|(name, grant)| {
            let mut value = match &grant.source {
                SecretSource::File(path) => format!("file {}", path.display()),
                SecretSource::Environment(variable) => format!("environment variable {variable}"),
            };
            for (what, list) in [("repositories", &grant.repos), ("refs", &grant.refs)] {
                value += &list
                    .as_ref()
                    .map_or_else(String::new, |list| format!(", {what} {}", list.join(" ")));
            }
            setting(format!("{SECRETS}.{name}"), value)
        });
        KEYS.iter()
            .map(|key| setting(key.path(), key.show(&self.config)))
            .chain(secrets)
            .collect()
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Two files.
    #[error("there are two configurations, {} and {}; remove one of them", fennel.display(), lua.display())]
    Both {
        /// One.
        fennel: PathBuf,
        /// The other.
        lua: PathBuf,
    },
    /// The file cannot be read.
    #[error("the configuration {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not evaluate, or values in it are wrong; at least one.
    #[error("{}", summary(.0))]
    Invalid(Vec<Diagnostic>),
    /// An environment variable holds something else than it has to.
    #[error("the environment variable {variable} must be {expected}, and is {found}")]
    Environment {
        /// The variable.
        variable: String,
        /// What it has to be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
}

impl ConfigError {
    /// What is wrong in the file, with its places; empty where it is not the file's content.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Self::Invalid(diagnostics) => diagnostics,
            _ => &[],
        }
    }
}

fn summary(diagnostics: &[Diagnostic]) -> String {
    diagnostics
        .iter()
        .map(Diagnostic::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Evaluates a text to plain data.
pub(super) type Evaluate<'a> = &'a dyn Fn(&str, &str, Language) -> Result<Value, Diagnostic>;

pub(super) fn load(
    paths: &Paths,
    environment: &dyn Fn(&str) -> Option<String>,
    evaluate: Evaluate<'_>,
) -> Result<Loaded, ConfigError> {
    let mut loaded = Loaded {
        config: Config::default(),
        warnings: Vec::new(),
        file: None,
        origins: BTreeMap::new(),
    };
    let file = read(paths)?;
    loaded.file = file.as_ref().map(|(path, ..)| path.clone());
    // A file in which everything is commented out says as much as none.
    if let Some((path, language, text)) =
        file.filter(|(_, language, text)| !place::is_blank(text, *language))
    {
        let name = path.display().to_string();
        let value = evaluate(&text, &name, language)
            .map_err(|diagnostic| ConfigError::Invalid(vec![diagnostic]))?;
        let source = Source {
            text: &text,
            name: &name,
            language,
        };
        let mut reader = Reader {
            source,
            loaded: &mut loaded,
            errors: Vec::new(),
        };
        reader.file(&value);
        let mut errors = reader.errors;
        loaded.warnings.sort_by_key(by_place);
        if !errors.is_empty() {
            errors.sort_by_key(by_place);
            return Err(ConfigError::Invalid(errors));
        }
    }
    for key in KEYS {
        let variable = key.variable();
        let Some(text) = environment(&variable).filter(|text| !text.is_empty()) else {
            continue;
        };
        if !(key.read_text)(&mut loaded.config, text.trim()) {
            return Err(ConfigError::Environment {
                variable,
                expected: key.expected,
                found: quoted(&text),
            });
        }
        loaded
            .origins
            .insert(key.path(), Origin::Environment(variable));
    }
    Ok(loaded)
}

/// Tables forget the order they were written in; people read from top to bottom.
fn by_place(diagnostic: &Diagnostic) -> Option<(u32, u32)> {
    diagnostic
        .place
        .as_ref()
        .map(|place| (place.line, place.column))
}

/// The one file there is, if any.
fn read(paths: &Paths) -> Result<Option<(PathBuf, Language, String)>, ConfigError> {
    let (fennel, lua) = (paths.config_fennel(), paths.config_lua());
    match (read_file(&fennel)?, read_file(&lua)?) {
        (Some(_), Some(_)) => Err(ConfigError::Both { fennel, lua }),
        (Some(text), None) => Ok(Some((fennel, Language::Fennel, text))),
        (None, Some(text)) => Ok(Some((lua, Language::Lua, text))),
        (None, None) => Ok(None),
    }
}

fn read_file(path: &Path) -> Result<Option<String>, ConfigError> {
    let attempt = || -> io::Result<String> {
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
    match attempt() {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The text that values were evaluated from.
struct Source<'a> {
    text: &'a str,
    name: &'a str,
    language: Language,
}

/// Takes a configuration file's value apart.
struct Reader<'a> {
    source: Source<'a>,
    loaded: &'a mut Loaded,
    errors: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn file(&mut self, value: &Value) {
        let Some(fields) = table(value) else {
            self.errors
                .push(self.wrong(&[], "the configuration", "one table", value));
            return;
        };
        for (section, value) in fields.iter() {
            if WITHOUT_EFFECT.contains(&section.as_str()) {
                self.warn(&[section], format!("`{section}` has no effect yet"), None);
            } else if section == SECRETS {
                self.section(section, value, Self::secret);
            } else if KEYS.iter().any(|key| key.section == section) {
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
        let Some(key) = KEYS
            .iter()
            .find(|key| key.section == section && key.name == name)
        else {
            let known: Vec<&str> = KEYS
                .iter()
                .filter(|key| key.section == section)
                .map(|key: &Key| key.name)
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
            // Neither what was found nor its line: it may be the value itself.
            None => {
                let message = format!("`{section}.{name}` must be {}", SecretGrant::EXPECTED);
                let place = self.place(&[section, name]).map(|(place, _)| place);
                self.errors.push(Diagnostic {
                    message,
                    place,
                    source_line: None,
                    hint: None,
                });
            }
        }
    }

    fn unknown(&mut self, path: &[&str], known: &[&str]) {
        let hint = path
            .last()
            .and_then(|name| nearest(name, known))
            .map(|near| format!("did you mean `{near}`?"));
        let shown: String = path.join(".").chars().take(80).collect();
        self.warn(
            path,
            format!("`{shown}` is not a setting and is left out"),
            hint,
        );
    }

    fn warn(&mut self, path: &[&str], message: String, hint: Option<String>) {
        let (place, source_line) = self.place(path).unzip();
        self.loaded.warnings.push(Diagnostic {
            message,
            place,
            source_line,
            hint,
        });
    }

    fn wrong(&self, path: &[&str], what: &str, expected: &str, value: &Value) -> Diagnostic {
        let (place, source_line) = self.place(path).unzip();
        let file = if place.is_none() {
            format!("{}: ", self.source.name)
        } else {
            String::new()
        };
        Diagnostic {
            message: format!("{file}{what} must be {expected}, and is {}", found(value)),
            place,
            source_line,
            hint: None,
        }
    }

    fn place(&self, path: &[&str]) -> Option<(crate::pipeline::Place, String)> {
        place::of(
            self.source.text,
            self.source.name,
            self.source.language,
            path,
        )
    }
}

/// A table's fields; an empty table of Lua may also have become an empty list.
fn table(value: &Value) -> Option<std::borrow::Cow<'_, Map<String, Value>>> {
    match value {
        Value::Object(fields) => Some(std::borrow::Cow::Borrowed(fields)),
        Value::Array(items) if items.is_empty() => Some(std::borrow::Cow::Owned(Map::new())),
        _ => None,
    }
}

/// A value in a message.
fn found(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a table".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(40)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().count() > 40 {
        short.push('…');
    }
    format!("\"{short}\"")
}

#[cfg(test)]
mod tests;
