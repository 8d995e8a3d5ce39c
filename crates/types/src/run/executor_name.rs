//! The name of an executor.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name, in bytes.
const MAX_BYTES: usize = 32;

/// The name of an executor, as rows, JSON and pages have it: lower-case letters, digits and dashes,
/// with a letter first.
///
/// It is text and no closed set: a row may name an executor that this version does not have.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExecutorName(Cow<'static, str>);

impl ExecutorName {
    /// Runs are containers of a Docker engine.
    pub const DOCKER: Self = Self(Cow::Borrowed("docker"));
    /// Runs are child processes of quire, without isolation.
    pub const HOST: Self = Self(Cow::Borrowed("host"));

    /// Runs are tasks of a Docker swarm.
    pub const SWARM: Self = Self(Cow::Borrowed("swarm"));

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Text that cannot be the name of an executor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not the name of an executor: use 1 to {MAX_BYTES} lower-case letters, digits and dashes, with a letter first"
)]
pub struct InvalidExecutorName(String);

impl FromStr for ExecutorName {
    type Err = InvalidExecutorName;

    fn from_str(text: &str) -> Result<Self, InvalidExecutorName> {
        let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let starts_with_letter = text.starts_with(|c: char| c.is_ascii_lowercase());
        if starts_with_letter && text.len() <= MAX_BYTES && text.bytes().all(is_allowed) {
            Ok(Self(Cow::Owned(text.to_owned())))
        } else {
            Err(InvalidExecutorName(text.chars().take(40).collect()))
        }
    }
}

impl TryFrom<String> for ExecutorName {
    type Error = InvalidExecutorName;

    fn try_from(text: String) -> Result<Self, InvalidExecutorName> {
        text.parse()
    }
}

impl From<ExecutorName> for String {
    fn from(name: ExecutorName) -> Self {
        name.0.into_owned()
    }
}

impl fmt::Display for ExecutorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for name in ["docker", "host", "docker-swarm", "k8s"] {
            assert_eq!(name.parse::<ExecutorName>().unwrap().as_str(), name);
        }
        assert_eq!("docker".parse(), Ok(ExecutorName::DOCKER));
        let long = "a".repeat(MAX_BYTES + 1);
        for text in ["", "Docker", "2nd", "-a", "a b", "a_b", "ä", &long] {
            assert!(text.parse::<ExecutorName>().is_err(), "{text}");
        }
        insta::assert_snapshot!("A B".parse::<ExecutorName>().unwrap_err(), @"`A B` is not the name of an executor: use 1 to 32 lower-case letters, digits and dashes, with a letter first");
    }

    #[test]
    fn names_are_strings_in_json() {
        let json = serde_json::to_string(&ExecutorName::HOST).unwrap();
        assert_eq!(json, r#""host""#);
        assert_eq!(
            serde_json::from_str::<ExecutorName>(&json).unwrap(),
            ExecutorName::HOST
        );
        assert!(serde_json::from_str::<ExecutorName>(r#""A B""#).is_err());
    }
}
