//! `:secrets` in the settings of a repository: which of the secrets that the owner lets it use it does use.

use std::collections::BTreeSet;

/// The secrets that a repository may use, of those that its owner lets it use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RepoSecrets {
    /// All of them.
    #[default]
    All,
    /// Those with these names.
    Only(BTreeSet<String>),
}

impl RepoSecrets {
    #[must_use]
    pub fn permits(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }
}
