//! Names of artifacts: readable for people, one file name on disk.

use std::fmt;
use std::str::FromStr;

/// The longest name of a file that file systems take, in bytes.
const MAX_FILE_NAME: usize = 255;

/// A name that an artifact is kept under: parts with slashes between them, such as `target/release/app`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArtifactName(String);

/// Why a text is not the name of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArtifactNameError {
    /// Nothing is left of it.
    #[error("an artifact needs a name; give it one with {{:name \"…\"}}")]
    Empty,
    /// It leads elsewhere.
    #[error("the name of an artifact must be a relative path without `..`")]
    Path,
    /// Something in it cannot be shown or typed.
    #[error("the name of an artifact must not contain control characters")]
    Control,
    /// Too long for a file name.
    #[error("the name of the artifact is too long; give it a shorter one with {{:name \"…\"}}")]
    Long,
}

impl ArtifactName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name's last part: what a file that holds it would be called.
    #[must_use]
    pub fn last(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The name as one file name, another one for every name: `a/b` and the folder `a` do not meet on disk.
    pub(super) fn file_name(&self) -> String {
        self.0.replace('%', "%25").replace('/', "%2F")
    }
}

impl FromStr for ArtifactName {
    type Err = ArtifactNameError;

    fn from_str(text: &str) -> Result<Self, ArtifactNameError> {
        if text.starts_with('/') || text.split('/').any(|part| part == "..") {
            return Err(ArtifactNameError::Path);
        }
        if text.chars().any(quire_types::text::is_unprintable) {
            return Err(ArtifactNameError::Control);
        }
        let name = text
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .collect::<Vec<_>>()
            .join("/");
        let name = Self(name);
        match name.file_name().len() {
            0 => Err(ArtifactNameError::Empty),
            length if length > MAX_FILE_NAME => Err(ArtifactNameError::Long),
            _ => Ok(name),
        }
    }
}

impl fmt::Display for ArtifactName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_file_each() {
        let file = |text: &str| text.parse::<ArtifactName>().map(|name| name.file_name());
        assert_eq!(
            file("./target//release/app"),
            Ok("target%2Frelease%2Fapp".to_owned())
        );
        assert_eq!(file("a%2Fb"), Ok("a%252Fb".to_owned()));
        assert_eq!(file("."), Err(ArtifactNameError::Empty));
        assert_eq!(file(""), Err(ArtifactNameError::Empty));
        for text in ["../x", "a/../b", "..", "/etc"] {
            assert_eq!(file(text), Err(ArtifactNameError::Path), "{text}");
        }
        for text in ["a\nb", "a\0", "\u{1b}[31m", "a\u{202e}b"] {
            assert_eq!(file(text), Err(ArtifactNameError::Control), "{text:?}");
        }
        assert_eq!(file(&"x".repeat(256)), Err(ArtifactNameError::Long));
        assert_eq!("a/b/c.txt".parse::<ArtifactName>().unwrap().last(), "c.txt");
    }
}
