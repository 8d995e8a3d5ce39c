//! The name of a secret, which runs may use it, and its text as it was given.

use std::fmt;
use std::str::FromStr;

use super::value::Secret;
use crate::name_pattern::matches_pattern;
use crate::names::{RefName, RepoName};

/// The longest name of a secret that is set by a command.
const MAX_NAME: usize = 100;

/// The name of a secret that is set by a command.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretName(String);

/// A text that is no name of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the name of a secret has 1 to {MAX_NAME} letters, digits, dots, underscores and hyphens, and does not begin with a hyphen"
)]
pub struct SecretNameError;

impl SecretName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SecretName {
    type Err = SecretNameError;

    fn from_str(text: &str) -> Result<Self, SecretNameError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let is_name = (1..=MAX_NAME).contains(&text.len())
            && !text.starts_with('-')
            && text.bytes().all(plain);
        is_name
            .then(|| Self(text.to_owned()))
            .ok_or(SecretNameError)
    }
}

/// Which runs may use a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretScope {
    /// Patterns of the repositories whose runs may use it. `None` for all.
    pub repos: Option<Vec<String>>,
    /// Patterns of the refs whose runs may use it. `None` for all.
    pub refs: Option<Vec<String>>,
}

impl SecretScope {
    /// Whether runs of this ref of this repository may use it.
    #[must_use]
    pub fn grants(&self, repo: &RepoName, ref_name: &RefName) -> bool {
        self.grants_some_of(repo) && matches_any(&self.refs, ref_name.as_str())
    }

    /// Whether runs of this repository may use it, at least at some refs.
    #[must_use]
    pub fn grants_some_of(&self, repo: &RepoName) -> bool {
        matches_any(&self.repos, repo.as_str())
    }
}

/// Whether a pattern matches a name; without patterns every name is matched.
fn matches_any(patterns: &Option<Vec<String>>, name: &str) -> bool {
    patterns.as_ref().is_none_or(|patterns| {
        let mut patterns = patterns.iter();
        patterns.any(|pattern| matches_pattern(pattern, name))
    })
}

/// What becomes of the newlines at the end of a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FinalNewline {
    /// They are removed; a text of several lines keeps one, and a key in PEM or OpenSSH form always ends with one.
    #[default]
    Trim,
    /// The text stays as it is, but for a key, which always ends with one.
    Keep,
}

/// The value of a secret from the text of a file.
#[must_use]
pub fn secret_from_text(text: &str, newline: FinalNewline) -> Secret {
    let kept = match newline {
        FinalNewline::Trim => without_trailing_newlines(text),
        FinalNewline::Keep => text,
    };
    let mut value = String::with_capacity(kept.len() + 1);
    value.push_str(kept);
    // OpenSSH does not read a private key without it.
    if kept.starts_with("-----BEGIN ") && !kept.ends_with('\n') {
        value.push('\n');
    }
    Secret::new(value)
}

/// A text without the newlines at its end. One of several lines keeps one of them: it is a file, such as a private key,
/// which programs read by lines.
fn without_trailing_newlines(text: &str) -> &str {
    let trimmed = text.trim_end_matches(['\n', '\r']);
    if !trimmed.contains('\n') {
        return trimmed;
    }
    let line_end = match &text[trimmed.len()..] {
        end if end.starts_with("\r\n") => 2,
        end => end.len().min(1),
    };
    &text[..trimmed.len() + line_end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets() {
        for good in ["npm-token", "KEY_2", "a.b", &"a".repeat(100)] {
            assert_eq!(good.parse::<SecretName>().unwrap().as_str(), good);
        }
        for bad in ["", "-x", "a b", "ü", "a/b", &"a".repeat(101)] {
            assert_eq!(bad.parse::<SecretName>(), Err(SecretNameError), "{bad:?}");
        }
    }

    #[test]
    fn the_last_newline_is_kept_by_choice_and_by_keys() {
        use FinalNewline::{Keep, Trim};
        for (text, trimmed, kept) in [
            ("token\n", "token", "token\n"),
            ("token\r\n\r\n", "token", "token\r\n\r\n"),
            ("token", "token", "token"),
            ("\n", "", "\n"),
            ("a\nb\n\n", "a\nb\n", "a\nb\n\n"),
            ("a\nb", "a\nb", "a\nb"),
            (
                "-----BEGIN X\nAA\n-----END X",
                "-----BEGIN X\nAA\n-----END X\n",
                "-----BEGIN X\nAA\n-----END X\n",
            ),
        ] {
            assert_eq!(secret_from_text(text, Trim).expose(), trimmed);
            assert_eq!(secret_from_text(text, Keep).expose(), kept);
        }
    }
}
