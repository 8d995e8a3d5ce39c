//! The settings of one repository: `.quire/config.fnl` or `.quire/config.lua` on its default branch.
//!
//! Everyone who can push writes this file, so it is not part of the owner's configuration. It is evaluated in a state without libraries,
//! within limits of time and memory. A file that is wrong makes nothing public.

use std::borrow::Cow;
use std::collections::BTreeMap;

use quire_pipeline::{Diagnostic, Language, SourceFile};
use serde_json::{Map, Value};

use super::data_values::{found, table};
use super::entry_fields::is_entry_name;
use super::repo_notify::{TargetChoice, read_choice};
use super::suggest::closest_name;
use quire_types::text::{excerpt, single_line};

/// The file in Fennel.
const FENNEL_FILE: &str = ".quire/config.fnl";
/// The file in Lua.
const LUA_FILE: &str = ".quire/config.lua";
/// The files that hold the settings of a repository, of which it has one at most.
pub const REPO_CONFIG_FILES: [&str; 2] = [FENNEL_FILE, LUA_FILE];
/// The largest file that is read, in bytes.
pub const MAX_REPO_CONFIG_BYTES: u64 = 64 << 10;

const PUBLIC: &str = "public";
const PUBLIC_RUNS: &str = "public-runs";
const DESCRIPTION: &str = "description";
const NOTIFY: &str = "notify";
const TARGETS: &str = "targets";
const KNOWN: [&str; 4] = [PUBLIC, PUBLIC_RUNS, DESCRIPTION, NOTIFY];
/// The longest description, in characters.
pub const MAX_DESCRIPTION: usize = 300;

/// What a repository shows to clients that are not signed in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum RepoVisibility {
    /// Nothing.
    #[default]
    Private,
    /// What has been pushed.
    Public,
    /// Its runs as well, with their logs and artifacts.
    PublicRuns,
}

/// The settings of a repository, and what is wrong with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepoSettings {
    pub visibility: RepoVisibility,
    /// What the repository is, in one line.
    pub description: Option<String>,
    /// When targets of the owner's configuration are told of its runs, by name.
    pub targets: BTreeMap<String, TargetChoice>,
    /// What is wrong with that; these are warnings too.
    pub notify_problems: Vec<String>,
    /// Settings that are ignored.
    pub warnings: Vec<String>,
}

impl RepoSettings {
    /// Reads the text of one of [`REPO_CONFIG_FILES`].
    ///
    /// # Errors
    /// Returns what is wrong with the file, and where.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostic> {
        let language = match file {
            LUA_FILE => Language::Lua,
            _ => Language::Fennel,
        };
        let source = SourceFile {
            file: file.to_owned(),
            text: text.to_owned(),
        };
        let data = quire_pipeline::fennel::eval_data(text, file, language)?;
        let settings = table(&data)
            .ok_or_else(|| at_key(&source, None, "the file must be one table of settings"))?;
        let flag = |name: &'static str| match settings.get(name) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => {
                let message = format!("`{name}` must be true or false, not {}", found(other));
                Err(at_key(&source, Some(name), message))
            }
        };
        let (public, public_runs) = (flag(PUBLIC)?, flag(PUBLIC_RUNS)?);
        let description = match settings.get(DESCRIPTION) {
            None => None,
            Some(Value::String(text)) => Some(excerpt(&single_line(text), MAX_DESCRIPTION)),
            Some(other) => {
                let message = format!("`{DESCRIPTION}` must be a text, not {}", found(other));
                return Err(at_key(&source, Some(DESCRIPTION), message));
            }
        };
        let mut warnings: Vec<String> = settings
            .keys()
            .filter(|name| !KNOWN.contains(&name.as_str()))
            .map(|name| unknown(&source, &[name], &KNOWN))
            .collect();
        if public_runs && !public {
            let message = "`public-runs` has no effect without `:public true`";
            warnings.push(at_key(&source, Some(PUBLIC_RUNS), message).to_string());
        }
        let mut reader = NotifyReader {
            source: &source,
            problems: Vec::new(),
        };
        let targets = settings.get(NOTIFY).map(|notify| reader.targets(notify));
        let notify_problems = reader.problems;
        warnings.extend(notify_problems.iter().cloned());
        Ok(Self {
            targets: targets.unwrap_or_default(),
            notify_problems,
            visibility: match (public, public_runs) {
                (false, _) => RepoVisibility::Private,
                (true, false) => RepoVisibility::Public,
                (true, true) => RepoVisibility::PublicRuns,
            },
            description: description.filter(|text| !text.is_empty()),
            warnings,
        })
    }
}

/// Reads what `:notify` says about each target. One that is wrong is left out.
struct NotifyReader<'a> {
    source: &'a SourceFile,
    problems: Vec<String>,
}

impl NotifyReader<'_> {
    fn targets(&mut self, notify: &Value) -> BTreeMap<String, TargetChoice> {
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

    fn target(&mut self, name: &str, value: &Value) -> Option<TargetChoice> {
        let path = [NOTIFY, TARGETS, name];
        if !is_entry_name(name) {
            let message =
                "the name of a target consists of letters, digits, `-` and `_`, 64 at most";
            self.problem(&path, message);
            return None;
        }
        let entry = read_choice(value);
        for key in &entry.unknown {
            let problem = unknown(self.source, &[&path[..], &[key]].concat(), &entry.known);
            self.problems.push(problem);
        }
        match entry.settings {
            Ok(choice) => Some(TargetChoice {
                location: self
                    .source
                    .location_of_key_path(&path)
                    .map(|at| at.to_string()),
                ..choice
            }),
            Err(problem) => {
                let path = [&path[..], problem.key.as_slice()].concat();
                self.problem(&path, format!("target `{name}`: {}", problem.message));
                None
            }
        }
    }

    fn problem(&mut self, path: &[&str], message: impl Into<String>) {
        let problem = at_path(self.source, path, message).to_string();
        self.problems.push(problem);
    }
}

fn unknown(source: &SourceFile, path: &[&str], known: &[&str]) -> String {
    let shown: String = path.join(".").chars().take(80).collect();
    let near = path.last().and_then(|name| closest_name(name, known));
    let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    let message = format!("`{shown}` is not a setting and is ignored{near}");
    at_path(source, path, message).to_string()
}

fn at_key(source: &SourceFile, name: Option<&str>, message: impl Into<String>) -> Diagnostic {
    at_path(source, name.as_slice(), message)
}

fn at_path(source: &SourceFile, path: &[&str], message: impl Into<String>) -> Diagnostic {
    Diagnostic {
        message: message.into(),
        location: source.location_of_key_path(path),
        source_line: None,
        hint: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(file: &str, text: &str) -> String {
        match RepoSettings::parse(file, text) {
            Ok(settings) => {
                let mut lines = vec![format!("{:?}", settings.visibility)];
                lines.extend(
                    settings
                        .description
                        .map(|text| format!("description: {text}")),
                );
                let targets = settings.targets.iter();
                lines.extend(targets.map(|(name, choice)| format!("{name}: {choice:?}")));
                lines.extend(settings.warnings);
                lines.join("\n  ")
            }
            Err(problem) => problem.to_string(),
        }
    }

    #[test]
    fn files_and_what_they_say() {
        let texts = [
            "{}",
            "{:public true}",
            "{:public true :public-runs true}",
            "{:public true\n :public-runs false}",
            "{:public false :public-runs true}",
            "{:public-runs true}",
            "{:public true :publik-runs true}",
            "{:public \"yes\"}",
            "{:public nil}",
            "{:description \"Tools of\\n mine\"}",
            "{:description \"\"}",
            "{:description [1]}",
            "{:public true",
            "[1 2]",
            "",
            "(fn f [] (f)) (f)",
            "{:public (os.getenv \"HOME\")}",
        ];
        let read: Vec<String> = texts
            .iter()
            .map(|text| format!("{text:?}\n  {}", lines(FENNEL_FILE, text)))
            .collect();
        insta::assert_snapshot!(read.join("\n"));
        assert_eq!(lines(LUA_FILE, "return {public = true}"), "Public");
    }

    /// What is wrong with a target has no effect on others, nor on who may see the repository.
    #[test]
    fn choices_of_targets() {
        let texts = [
            "{:public true :notify {:targets {:ops {:on [:failed] :refs [\"refs/heads/main\"] :triggers :push :cron-failures 3 :cron-changes 9}\n :phone {:on :never}}}}",
            "{:public true :notify {:targets {:ops {:on [:red]}\n :phone {:on :never}}}}",
            "{:public true :notify {:targets {:ops {:on :every\n :refs [\"main\"]}}}}",
            "{:public true :notify {:targets {:ops {:url \"https://h/x\"\n :token {:env \"T\"} :type :webhook}}}}",
            "{:public true :notify {:targets {:ops {}\n \"o p\" {} :phone 5 :desk {:cron-failures 0}}}}",
            "{:public true :notify {:target {:ops {:on :never}}}}",
            "{:public true :notify {:targets [:ops]}}",
            "{:public true :notify :never}",
            "{:public true :notify {}}",
        ];
        let read: Vec<String> = texts
            .iter()
            .map(|text| format!("{text:?}\n  {}", lines(FENNEL_FILE, text)))
            .collect();
        insta::assert_snapshot!(read.join("\n"));
    }
}
