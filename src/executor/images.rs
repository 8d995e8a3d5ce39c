//! Images that quire brought onto an engine, as far as they are removed again.

use crate::names::RepoName;

/// What an appliance has built on an engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Images {
    /// The engine's own id; empty where there is no engine.
    pub engine: String,
    /// The newest first, each under all its names.
    pub built: Vec<BuiltImage>,
}

/// An image built from a repository's `.quire/Dockerfile`, known by its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// Its name; its id where it has none.
    pub name: String,
    /// Its id.
    pub id: String,
    /// The repository.
    pub repo: RepoName,
}

/// An image without a name that a build stood on, as the build said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltLayer {
    /// The engine's own id.
    pub engine: String,
    /// The beginning of the image's id.
    pub id: String,
    /// The engine's time when the build began.
    pub since_ms: i64,
    /// The name of the image that was to become of it.
    pub built_for: String,
}

/// An image to remove, and what tells that it is still quire's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnImage {
    /// By a name, while it stands for this id.
    Named {
        /// The name.
        name: String,
        /// The id.
        id: String,
    },
    /// By its id, while it has no name and is not older than the build that spoke of it.
    Layer {
        /// The beginning of its id.
        id: String,
        /// The engine's time when that build began.
        since_ms: i64,
    },
}

impl OwnImage {
    /// What the engine knows it by.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Named { name, .. } => name,
            Self::Layer { id, .. } => id,
        }
    }
}

/// What became of an image that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFate {
    /// It has been removed.
    Gone,
    /// It was gone before.
    Missing,
    /// A container, a run, a build or another image needs it.
    InUse,
    /// It is not what it was: somebody else brought what bears its name now.
    SomebodyElses,
}
