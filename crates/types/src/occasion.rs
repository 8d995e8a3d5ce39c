//! The occasions on which a target of notifications is told of a run that has ended.

use std::fmt;

/// An occasion, as the configuration names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// A run has failed.
    Failed,
    /// A run is complete, and the one before it, of the same repository, ref and source, had failed.
    Fixed,
    /// Every end of a run.
    Every,
    /// None.
    Never,
}

impl Occasion {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Failed, Self::Fixed, Self::Every, Self::Never];

    /// The word of the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Fixed => "fixed",
            Self::Every => "every",
            Self::Never => "never",
        }
    }

    /// The occasion of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == word)
    }
}

impl fmt::Display for Occasion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
