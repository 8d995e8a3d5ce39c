//! Git, through the git program; nothing else in quire starts it.
//!
//! Owns: how a git process is started ([`Git::command`]: a clean environment, the appliance's
//! configuration, no prompts), bare repositories on disk, and the few questions quire asks of
//! them. Everything takes typed names, so nothing that came from outside can be read as an
//! option. Synchronous where only `quire exec` and commands call it, async where `serve` does.
//! A person's own checkout ([`Checkout`]) is read with that person's configuration instead.

mod archive;
mod checkout;
mod command;
mod error;
mod former;
mod history;
mod leftovers;
mod objects;
mod refs;
mod repo;
mod upkeep;

use std::path::PathBuf;

pub use checkout::Checkout;
pub use error::GitError;
pub use former::{Place, move_leaving_link, relative};
pub use objects::{CommitFacts, PipelineFile, PipelineFiles, PushFacts, has_word};
pub use refs::Refs;
pub use repo::nearest;
pub use upkeep::{PushMark, Upkeep};

use crate::paths::Paths;

/// How this appliance's repositories are reached. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Git {
    paths: Paths,
}

impl Git {
    /// Git on the repositories below these paths.
    #[must_use]
    pub fn new(paths: &Paths) -> Self {
        Self {
            paths: paths.clone(),
        }
    }

    /// An empty repository through which other repositories' objects are read without the
    /// attributes that change what an archive holds (see [`Git::archive`]).
    fn plain(&self) -> PathBuf {
        self.paths.repos().join(".plain")
    }
}

#[cfg(test)]
mod tests;
