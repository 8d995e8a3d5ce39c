//! Findings about the health of the appliance, as targets of notifications are told of them.

use std::fmt;
use std::str::FromStr;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingLevel {
    /// The part works, but not as it should.
    Degraded,
    /// The part does not work.
    Down,
}

/// What is told of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingPhase {
    /// It is new.
    Began,
    /// The part was degraded, and is down now.
    Worse,
    /// It has lasted for another day.
    Lasts,
    /// The part is as it should be again.
    Over,
}

/// A word that is no level or phase of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a level or phase of a finding")]
pub struct UnknownFindingWord;

impl FindingLevel {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Degraded, Self::Down];

    /// Its name in the database and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

impl FindingPhase {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Began, Self::Worse, Self::Lasts, Self::Over];

    /// Its name in the database and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Began => "began",
            Self::Worse => "worse",
            Self::Lasts => "lasts",
            Self::Over => "over",
        }
    }
}

impl FromStr for FindingLevel {
    type Err = UnknownFindingWord;

    fn from_str(text: &str) -> Result<Self, UnknownFindingWord> {
        let found = Self::ALL.into_iter().find(|word| word.as_str() == text);
        found.ok_or(UnknownFindingWord)
    }
}

impl FromStr for FindingPhase {
    type Err = UnknownFindingWord;

    fn from_str(text: &str) -> Result<Self, UnknownFindingWord> {
        let found = Self::ALL.into_iter().find(|word| word.as_str() == text);
        found.ok_or(UnknownFindingWord)
    }
}

impl fmt::Display for FindingLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for FindingPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
