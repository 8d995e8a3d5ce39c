//! What the settings file on the default branch of a repository says.
//!
//! Finding the file reads a few objects. Evaluating it may take seconds, until it has reached its limit, so the two are apart. A file that is
//! wrong makes nothing public.

use quire_config::{MAX_REPO_CONFIG_BYTES, REPO_CONFIG_FILES, RepoSettings, RepoVisibility};
use quire_git::read::{EntryMode, ReadError, Reader, TreePath};
use quire_types::names::ObjectId;

/// What a repository shows, and what is wrong with its settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepoShown {
    pub visibility: RepoVisibility,
    /// What the repository is, in one line.
    pub description: Option<String>,
    /// For those who may change the settings.
    pub problems: Vec<String>,
}

impl RepoShown {
    fn wrong(problem: String) -> Self {
        Self {
            problems: vec![format!("{problem}. The repository is private.")],
            ..Self::default()
        }
    }

    /// Evaluates the text of a settings file.
    #[must_use]
    pub fn evaluate(file: &str, text: &str) -> Self {
        match RepoSettings::parse(file, text) {
            Ok(settings) => Self {
                visibility: settings.visibility,
                description: settings.description,
                problems: settings.warnings,
            },
            Err(problem) => Self::wrong(problem.to_string()),
        }
    }

    /// Reads what a repository shows now.
    pub fn read(reader: &Reader) -> Result<Self, ReadError> {
        let Some(head) = reader.head()? else {
            return Ok(Self::default());
        };
        Ok(match SettingsOfCommit::find(reader, &head.commit)? {
            SettingsOfCommit::Plain(shown) => shown,
            SettingsOfCommit::File { key, text } => Self::evaluate(key.1, &text),
        })
    }
}

/// A file of settings, by its blob and its name, which says in which language it is.
pub type SettingsFileKey = (ObjectId, &'static str);

/// The settings that a commit has.
#[derive(Debug)]
pub enum SettingsOfCommit {
    /// The commit says this without any evaluation.
    Plain(RepoShown),
    File {
        key: SettingsFileKey,
        text: String,
    },
}

impl SettingsOfCommit {
    /// Finds the settings file of a commit.
    pub fn find(reader: &Reader, commit: &ObjectId) -> Result<Self, ReadError> {
        let mut files = Vec::new();
        for name in REPO_CONFIG_FILES {
            let path = TreePath::parse(name.as_bytes()).ok_or(ReadError::NoPath)?;
            match reader.entry(commit, &path) {
                Ok(entry) => files.push((name, entry)),
                Err(ReadError::NoPath) => {}
                Err(error) => return Err(error),
            }
        }
        let wrong = |problem| Ok(Self::Plain(RepoShown::wrong(problem)));
        let (name, entry) = match files.len() {
            0 => return Ok(Self::Plain(RepoShown::default())),
            1 => files.remove(0),
            _ => {
                return wrong(format!(
                    "There are both {}",
                    REPO_CONFIG_FILES.join(" and ")
                ));
            }
        };
        if !matches!(entry.mode, EntryMode::File | EntryMode::Executable) {
            return wrong(format!("{name} is not a regular file"));
        }
        let data = match reader.blob(&entry.id, MAX_REPO_CONFIG_BYTES) {
            Ok(content) => content.data,
            Err(ReadError::TooLarge { .. }) => {
                let limit = MAX_REPO_CONFIG_BYTES >> 10;
                return wrong(format!("{name} is larger than {limit} KiB"));
            }
            Err(error) => return Err(error),
        };
        match String::from_utf8(data) {
            Ok(text) => Ok(Self::File {
                key: (entry.id, name),
                text,
            }),
            Err(_) => wrong(format!("{name} is not valid UTF-8")),
        }
    }
}
