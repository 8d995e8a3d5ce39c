//! The settings of one repository: `.quire/config.fnl` or `.quire/config.lua` on its default branch.
//!
//! Everyone who can push writes this file, so it is not part of the owner's configuration. It is evaluated in a state without libraries,
//! within limits of time and memory. A file that is wrong makes nothing public.

use std::collections::BTreeMap;

use quire_pipeline::{Diagnostic, Language, SourceFile};
use serde_json::Value;

use super::data_values::{found, table};
use super::entry::ConfigEntry;
use super::mirrors::MirrorRemote;
use super::repo_limits::RepoLimits;
use super::repo_notify::TargetChoice;
use super::repo_secrets::RepoSecrets;
use super::repo_sections::{CI, MIRRORS, NOTIFY, RepoSectionReader, SECRETS, at_path, unknown};
use quire_types::text::{excerpt, single_line};

/// The file in Fennel.
const FENNEL_FILE: &str = ".quire/config.fnl";
/// The file in Lua.
const LUA_FILE: &str = ".quire/config.lua";
/// The files that hold the settings of a repository, of which it has one at most.
pub const REPO_CONFIG_FILES: [&str; 2] = [FENNEL_FILE, LUA_FILE];
/// The most values that a file may have: what is wrong with each is searched in the text.
const MAX_VALUES: usize = 500;
/// The largest file that is read, in bytes.
pub const MAX_REPO_CONFIG_BYTES: u64 = 64 << 10;

const PUBLIC: &str = "public";
const PUBLIC_RUNS: &str = "public-runs";
const DESCRIPTION: &str = "description";
const KNOWN: [&str; 7] = [
    PUBLIC,
    PUBLIC_RUNS,
    DESCRIPTION,
    NOTIFY,
    SECRETS,
    CI,
    MIRRORS,
];
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
    /// The secrets that its runs and its mirrors may use.
    pub secrets: RepoSecrets,
    /// The limits of its runs.
    pub limits: RepoLimits,
    /// Remotes to which it is pushed, by name. Tokens are names of secrets.
    pub mirrors: BTreeMap<String, ConfigEntry<MirrorRemote<String>>>,
    /// What is wrong with the four, except with single mirrors; these are warnings too.
    pub problems: Vec<String>,
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
        if values_of(&data) > MAX_VALUES {
            let message = format!("the file must have at most {MAX_VALUES} values");
            return Err(at_key(&source, None, message));
        }
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
        let mut reader = RepoSectionReader {
            source: &source,
            problems: Vec::new(),
        };
        let section = |name| settings.get(name);
        let targets = section(NOTIFY).map(|notify| reader.targets(notify));
        let secrets = section(SECRETS).map(|names| reader.secrets(names));
        let limits = section(CI).map(|ci| reader.limits(ci));
        let mirrors = section(MIRRORS).map(|mirrors| reader.mirrors(mirrors));
        let problems = reader.problems;
        warnings.extend(problems.iter().cloned());
        Ok(Self {
            targets: targets.unwrap_or_default(),
            secrets: secrets.unwrap_or_default(),
            limits: limits.unwrap_or_default(),
            mirrors: mirrors.unwrap_or_default(),
            problems,
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

/// The number of a value's values at all depths, with itself.
fn values_of(value: &Value) -> usize {
    let below: usize = match value {
        Value::Array(items) => items.iter().map(values_of).sum(),
        Value::Object(fields) => fields.values().map(values_of).sum(),
        _ => 0,
    };
    below + 1
}

fn at_key(source: &SourceFile, name: Option<&str>, message: impl Into<String>) -> Diagnostic {
    at_path(source, name.as_slice(), message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::repo_limits::RunLimits;

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
                if settings.secrets != RepoSecrets::All {
                    lines.push(format!("{:?}", settings.secrets));
                }
                if settings.limits != RepoLimits::default() {
                    lines.push(format!("{:?}", settings.limits.tighten(&owner())));
                    lines.extend(settings.limits.without_effect(&owner()));
                }
                let mirrors = settings.mirrors.iter();
                lines.extend(mirrors.map(|(name, mirror)| format!("{name}: {mirror:?}")));
                lines.extend(settings.warnings);
                lines.join("\n  ")
            }
            Err(problem) => problem.to_string(),
        }
    }

    fn owner() -> RunLimits {
        RunLimits {
            timeout: Duration::from_secs(3600),
            memory: 4 << 30,
            cpus: 2000,
            pids: 4096,
            network: true,
            max_log: 256 << 20,
            max_artifacts: 1 << 30,
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
        let many = "t = {} for i = 1, 500 do t[i] = i end return {public = true, secrets = t}";
        let problem = "the file must have at most 500 values";
        assert_eq!(lines(LUA_FILE, many), problem);
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

    /// A value that is wrong has no effect on others; a list of secrets that is wrong permits none.
    #[test]
    fn limits_secrets_and_mirrors() {
        let texts = [
            "{:ci {:timeout \"10m\" :memory \"8g\" :cpus 0.5 :pids 100\n :network false :max-log \"1m\" :max-artifacts \"2g\"}}",
            "{:ci {:memory \"1m\"\n :timeout 5 :pids 9 :image \"x\" :memroy \"2g\"}}",
            "{:ci [1]\n :secrets [\"a\" \"b\"]}",
            "{:ci {:network true} :secrets []}",
            "{:secrets {}}",
            "{:secrets \"a\"\n :ci {:pids 7}}",
            "{:secrets [\"a\" 5 [\"b\"]]}",
            "{:mirrors {:hub {:url \"https://h.example/me/app.git\" :token \"hub\" :user \"me\" :refs [\"refs/heads/main\"] :delete false :force false}}}",
            "{:mirrors {:nas {:url \"git@h.example:app.git\"}\n :bare {:url \"https://h.example/app.git\"}\n :env {:url \"https://h.example/app.git\" :token {:env \"T\"}}\n :file {:url \"file:///etc\" :token \"t\"}\n \"o p\" {}\n :origin {:url \"https://h.example/app.git\" :token \"t\"}}}",
            "{:mirrors {:hub {:url \"https://h.example/app.git\" :token \"t\" :tokn 5}}}",
            "{:mirrors {:a {} :b {} :c {} :d {} :e {} :f {} :g {} :h {} :i {}}}",
            "{:mirrors :all}",
        ];
        let read: Vec<String> = texts
            .iter()
            .map(|text| format!("{text:?}\n  {}", lines(FENNEL_FILE, text)))
            .collect();
        insta::assert_snapshot!(read.join("\n"));
    }
}
