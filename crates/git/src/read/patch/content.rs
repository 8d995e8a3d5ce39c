//! What a patch holds, and why it may not be complete.

use std::io;

use gix::ObjectId as Id;

use super::super::error::ReadError;

/// The kinds of patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchFormat {
    /// The difference alone, for `git apply`.
    Diff,
    /// A mail for each commit, for `git am`.
    Mail,
}

impl PatchFormat {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Diff, Self::Mail];

    /// What the address of one ends with.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Diff => ".diff",
            Self::Mail => ".patch",
        }
    }
}

/// What a patch holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchContent {
    pub(super) parts: Vec<PatchPart>,
}

/// Two trees to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PatchPart {
    /// The commit whose message stands before the difference.
    pub(super) commit: Option<Id>,
    pub(super) old: Option<Id>,
    pub(super) new: Id,
}

/// Why a patch is not complete.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The repository could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The patch could not be written.
    #[error("cannot write the patch")]
    Write(#[from] io::Error),
}
