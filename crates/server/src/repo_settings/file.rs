//! Finding the settings file of a commit. It reads a few objects, and evaluates nothing: that may take seconds, until a file has reached its limit.

use quire_config::{MAX_REPO_CONFIG_BYTES, REPO_CONFIG_FILES};
use quire_git::read::{EntryMode, ReadError, Reader, TreePath};
use quire_types::names::ObjectId;

/// A file of settings, by its blob and its name, which says in which language it is.
pub type SettingsFileKey = (ObjectId, &'static str);

/// The settings that a commit has.
#[derive(Debug)]
pub enum SettingsOfCommit {
    /// The commit has no such file.
    None,
    /// What is wrong, so that nothing can be evaluated.
    Wrong(String),
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
        let wrong = |problem| Ok(Self::Wrong(problem));
        let (name, entry) = match files.len() {
            0 => return Ok(Self::None),
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
