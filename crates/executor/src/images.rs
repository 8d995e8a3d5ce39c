//! The images that quire brought onto an engine, as far as it removes them again.

/// An image that was built from a repository's `.quire/Dockerfile`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// The engine's own id.
    pub engine: String,
    /// The tag that quire computed for it.
    pub tag: String,
    pub id: String,
}

/// An image to remove, with what proves that it is still quire's own. Labels of images prove nothing,
/// because an image inherits those of its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnedImage {
    /// A tag that quire computed and built for, as long as it stands for this id. Without an id
    /// the build was interrupted: as long as the image says that it was built for this very tag.
    Built { tag: String, id: Option<String> },
    /// An image that a later build for the same tag replaced, as long as it has no other name.
    Replaced { id: String },
    /// A name that quire pulled, as long as it stands for this id.
    Pulled { name: String, id: String },
    /// What a build of a version before 0.2 left: by its id, as long as it has no name and is not older than the build
    /// that reported it.
    Layer {
        /// The beginning of its id.
        id: String,
        /// The engine's time when that build began.
        since_ms: i64,
    },
}

impl OwnedImage {
    /// What the engine knows it by.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Built { tag: name, .. } | Self::Pulled { name, .. } => name,
            Self::Replaced { id } | Self::Layer { id, .. } => id,
        }
    }
}

/// The result of removing an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageRemoval {
    Removed,
    /// It was gone before.
    Missing,
    /// A container, a run, a build or another image uses it.
    InUse,
    /// It is another image by now, or a person has given it a name of their own.
    NotOurs,
}
