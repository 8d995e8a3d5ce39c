//! The name that people use for a run.

use std::fmt;

use crate::names::RepoName;

/// A repository and the number of a run in it, such as `tally#14`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunName {
    /// The repository.
    pub repo: RepoName,
    /// The number of the run in it, from 1.
    pub number: u32,
}

impl fmt::Display for RunName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.repo, self.number)
    }
}
