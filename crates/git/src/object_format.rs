//! The format of object ids: SHA-1 or SHA-256.

use quire_types::names::ObjectId;

/// The format of the object ids of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectFormat {
    Sha1,
    Sha256,
}

impl ObjectFormat {
    /// The format of an id.
    #[must_use]
    pub fn of(id: &ObjectId) -> Self {
        match id.as_str().len() {
            64 => Self::Sha256,
            _ => Self::Sha1,
        }
    }

    /// Git's name of it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }
}
