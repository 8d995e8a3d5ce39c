//! The sections of the settings of a repository that are read entry by entry: what is wrong is left out, and the rest counts.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use quire_pipeline::{Diagnostic, SourceFile};
use serde_json::{Map, Value};

use super::data_values::{found, table};
use super::entry::ConfigEntry;
use super::entry_fields::{ReadEntry, is_entry_name};
use super::mirror_reader::{MIRROR_NAME, read_repo_mirror};
use super::mirrors::MirrorRemote;
use super::repo_limits::{REPO_LIMITS, RepoLimits};
use super::repo_notify::{TargetChoice, read_choice};
use super::repo_secrets::RepoSecrets;
use super::suggest::closest_name;

pub(super) const NOTIFY: &str = "notify";
pub(super) const CI: &str = "ci";
pub(super) const SECRETS: &str = "secrets";
pub(super) const MIRRORS: &str = "mirrors";
const TARGETS: &str = "targets";
/// The most mirrors of one repository.
const MAX_MIRRORS: usize = 8;

/// Reads sections, and keeps what is wrong with them.
pub(super) struct RepoSectionReader<'a> {
    pub(super) source: &'a SourceFile,
    pub(super) problems: Vec<String>,
}

impl RepoSectionReader<'_> {
    /// `:notify`.
    pub(super) fn targets(&mut self, notify: &Value) -> BTreeMap<String, TargetChoice> {
        let Some(fields) = self.table(&[NOTIFY], notify) else {
            return BTreeMap::new();
        };
        for name in fields.keys().filter(|name| *name != TARGETS) {
            let problem = unknown(self.source, &[NOTIFY, name], &[TARGETS]);
            self.problems.push(problem);
        }
        let named = fields
            .get(TARGETS)
            .map(|value| self.table(&[NOTIFY, TARGETS], value));
        let mut targets = BTreeMap::new();
        for (name, value) in named.flatten().iter().flat_map(|named| named.iter()) {
            if let Some(choice) = self.target(name, value) {
                targets.insert(name.clone(), choice);
            }
        }
        targets
    }

    fn target(&mut self, name: &str, value: &Value) -> Option<TargetChoice> {
        let path = [NOTIFY, TARGETS, name];
        if !is_entry_name(name) {
            let message =
                "the name of a target consists of letters, digits, `-` and `_`, 64 at most";
            self.problem(&path, message);
            return None;
        }
        let entry = self.known(&path, read_choice(value));
        match entry {
            Ok(choice) => Some(TargetChoice {
                location: self.location(&path),
                ..choice
            }),
            Err((path, message)) => {
                self.problem(&path, format!("target `{name}`: {message}"));
                None
            }
        }
    }

    /// `:ci`.
    pub(super) fn limits(&mut self, ci: &Value) -> RepoLimits {
        let mut limits = RepoLimits::default();
        let Some(fields) = self.table(&[CI], ci) else {
            return limits;
        };
        for (name, value) in fields.iter() {
            let path = [CI, name];
            if !REPO_LIMITS.contains(&name.as_str()) {
                let problem = unknown(self.source, &path, REPO_LIMITS);
                self.problems.push(problem);
                continue;
            }
            if let Err(expected) = limits.set(name, value, self.location(&path)) {
                let found = found(value);
                let message =
                    format!("`ci.{name}` must be {expected}, not {found}, and is ignored");
                self.problem(&path, message);
            }
        }
        limits
    }

    /// `:secrets`. A list that is wrong permits none: it was meant to take something away.
    pub(super) fn secrets(&mut self, names: &Value) -> RepoSecrets {
        let list: &[Value] = match names {
            Value::Array(list) => list,
            // Lua's empty table may have become an empty table of fields.
            Value::Object(fields) if fields.is_empty() => &[],
            _ => {
                let found = found(names);
                let message = format!(
                    "`{SECRETS}` must be a list of names of secrets, not {found}, so runs may use none"
                );
                self.problem(&[SECRETS], message);
                return RepoSecrets::Only(BTreeSet::new());
            }
        };
        let mut named = BTreeSet::new();
        for item in list {
            match item.as_str() {
                Some(name) => drop(named.insert(name.to_owned())),
                None => {
                    let found = found(item);
                    let message = format!(
                        "`{SECRETS}` has {found}, which is no name of a secret and is ignored"
                    );
                    self.problem(&[SECRETS], message);
                }
            }
        }
        RepoSecrets::Only(named)
    }

    /// `:mirrors`.
    pub(super) fn mirrors(
        &mut self,
        mirrors: &Value,
    ) -> BTreeMap<String, ConfigEntry<MirrorRemote<String>>> {
        let Some(fields) = self.table(&[MIRRORS], mirrors) else {
            return BTreeMap::new();
        };
        let mut read = BTreeMap::new();
        for (name, value) in fields.iter() {
            let path = [MIRRORS, name];
            if !is_entry_name(name) {
                self.problem(&path, MIRROR_NAME);
                continue;
            }
            if read.len() == MAX_MIRRORS {
                let message = format!(
                    "a repository has at most {MAX_MIRRORS} mirrors, so this one and those after it are ignored"
                );
                self.problem(&path, message);
                break;
            }
            let (location, settings) = match self.known(&path, read_repo_mirror(name, value)) {
                Ok(remote) => (self.location(&path), Ok(remote)),
                Err((path, message)) => (self.location(&path), Err(message)),
            };
            read.insert(name.clone(), ConfigEntry { location, settings });
        }
        read
    }

    /// The settings of an entry, or the path of what is wrong with it and why. Keys that are not known are problems.
    fn known<'p, T>(
        &mut self,
        path: &[&'p str],
        entry: ReadEntry<T>,
    ) -> Result<T, (Vec<&'p str>, String)> {
        for key in &entry.unknown {
            let problem = unknown(self.source, &[path, &[key]].concat(), &entry.known);
            self.problems.push(problem);
        }
        entry
            .settings
            .map_err(|problem| ([path, problem.key.as_slice()].concat(), problem.message))
    }

    fn table<'v>(
        &mut self,
        path: &[&str],
        value: &'v Value,
    ) -> Option<Cow<'v, Map<String, Value>>> {
        let fields = table(value);
        if fields.is_none() {
            let name = path.join(".");
            let message = format!(
                "`{name}` must be a table, not {}, and is ignored",
                found(value)
            );
            self.problem(path, message);
        }
        fields
    }

    fn location(&self, path: &[&str]) -> Option<String> {
        let location = self.source.location_of_key_path(path)?;
        Some(location.to_string())
    }

    fn problem(&mut self, path: &[&str], message: impl Into<String>) {
        let problem = at_path(self.source, path, message).to_string();
        self.problems.push(problem);
    }
}

/// The warning about a key that no such table has.
pub(super) fn unknown(source: &SourceFile, path: &[&str], known: &[&str]) -> String {
    let shown: String = path.join(".").chars().take(80).collect();
    let near = path.last().and_then(|name| closest_name(name, known));
    let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    let message = format!("`{shown}` is not a setting and is ignored{near}");
    at_path(source, path, message).to_string()
}

pub(super) fn at_path(
    source: &SourceFile,
    path: &[&str],
    message: impl Into<String>,
) -> Diagnostic {
    Diagnostic {
        message: message.into(),
        location: source.location_of_key_path(path),
        source_line: None,
        hint: None,
    }
}
