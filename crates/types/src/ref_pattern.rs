//! Patterns of refs that are protected.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::name_pattern::matches_pattern;
use crate::names::RefName;

/// The longest pattern, in bytes.
const MAX_LENGTH: usize = 255;

/// A pattern of whole names of refs, such as `refs/tags/v*`; `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefPattern(String);

/// A text that is no pattern of refs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no pattern of refs: a branch such as main or release/*, or a whole name such as refs/tags/v* is expected"
)]
pub struct RefPatternError(String);

impl RefPattern {
    /// Parses what a user writes: a pattern of branches, or one of whole names of any refs.
    pub fn from_user(text: &str) -> Result<Self, RefPatternError> {
        let whole = match text.starts_with("refs/") {
            true => text.to_owned(),
            false => format!("refs/heads/{text}"),
        };
        whole
            .parse()
            .map_err(|_| RefPatternError(text.escape_debug().to_string()))
    }

    /// The pattern of whole names.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this ref is one of those that are meant.
    #[must_use]
    pub fn matches(&self, name: &RefName) -> bool {
        matches_pattern(&self.0, name.as_str())
    }

    /// The pattern as users write it: without `refs/heads/`.
    #[must_use]
    pub fn short(&self) -> &str {
        let branch = self.0.strip_prefix("refs/heads/");
        branch
            .filter(|rest| !rest.starts_with("refs/"))
            .unwrap_or(&self.0)
    }

    /// The short form as a word of a command line: a shell would expand a star.
    #[must_use]
    pub fn shell_word(&self) -> Cow<'_, str> {
        shell_words::quote(self.short())
    }
}

impl FromStr for RefPattern {
    type Err = RefPatternError;

    /// Parses a pattern of whole names: with letters in place of its stars it is the name of a ref.
    fn from_str(text: &str) -> Result<Self, RefPatternError> {
        let could_be_name = text.replace('*', "x").parse::<RefName>().is_ok();
        (text.len() <= MAX_LENGTH && could_be_name)
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| RefPatternError(text.to_owned()))
    }
}

impl fmt::Display for RefPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_of_branches_unless_they_are_whole() {
        let pattern = |text: &str| RefPattern::from_user(text).unwrap();
        for (text, whole, short) in [
            ("main", "refs/heads/main", "main"),
            ("release/*", "refs/heads/release/*", "release/*"),
            ("*", "refs/heads/*", "*"),
            ("refs/tags/v*", "refs/tags/v*", "refs/tags/v*"),
            ("refs/*", "refs/*", "refs/*"),
            // A branch of this name is not what the short form would mean.
            (
                "refs/heads/refs/x",
                "refs/heads/refs/x",
                "refs/heads/refs/x",
            ),
        ] {
            let pattern = pattern(text);
            assert_eq!((pattern.as_str(), pattern.short()), (whole, short));
            let word = pattern.shell_word().into_owned();
            assert_eq!(word.starts_with('\''), text.contains('*'), "{word}");
            assert_eq!(RefPattern::from_user(pattern.short()), Ok(pattern));
        }
        let name = |text: &str| text.parse::<RefName>().unwrap();
        assert!(pattern("v*").matches(&name("refs/heads/v1")));
        assert!(!pattern("v*").matches(&name("refs/tags/v1")));
        assert!(!pattern("main").matches(&name("refs/heads/main2")));
    }

    #[test]
    fn what_no_ref_can_be_called_is_no_pattern() {
        let long = "x".repeat(300);
        for text in [
            "", "a b", "a..b", "/a", "a/", "-\n", "a?", "refs/", "a.lock", &long,
        ] {
            assert!(RefPattern::from_user(text).is_err(), "{text:?}");
        }
        let error = RefPattern::from_user("a\n").unwrap_err().to_string();
        assert!(error.starts_with("`a\\n` is no pattern"), "{error}");
    }
}
