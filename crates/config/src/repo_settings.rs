//! The settings of one repository: `.quire/config.fnl` or `.quire/config.lua` on its default branch.
//!
//! Everyone who can push writes this file, so it is not part of the owner's configuration. It is evaluated in a state without libraries,
//! within limits of time and memory. A file that is wrong makes nothing public.

use quire_pipeline::{Diagnostic, Language, SourceFile};
use serde_json::Value;

use super::data_values::{found, table};
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
const KNOWN: [&str; 3] = [PUBLIC, PUBLIC_RUNS, DESCRIPTION];
/// The longest description, in characters.
const MAX_DESCRIPTION: usize = 300;

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
            .map(|name| unknown(&source, name))
            .collect();
        if public_runs && !public {
            let message = "`public-runs` has no effect without `:public true`";
            warnings.push(at_key(&source, Some(PUBLIC_RUNS), message).to_string());
        }
        Ok(Self {
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

fn unknown(source: &SourceFile, name: &str) -> String {
    let shown: String = name.chars().take(80).collect();
    let near = closest_name(name, &KNOWN)
        .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    let message = format!("`{shown}` is not a setting and is ignored{near}");
    at_key(source, Some(name), message).to_string()
}

fn at_key(source: &SourceFile, name: Option<&str>, message: impl Into<String>) -> Diagnostic {
    let location = name.and_then(|name| source.location_of_key_path(&[name]));
    Diagnostic {
        message: message.into(),
        location,
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
}
