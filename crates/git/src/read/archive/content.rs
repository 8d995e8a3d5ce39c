//! What an archive holds, and why it may not be complete.

use std::io::{self, Read};

use quire_types::names::ObjectId;

use super::super::error::ReadError;

/// The kinds of archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    TarGz,
    Zip,
}

impl ArchiveFormat {
    /// What the name of such a file ends with.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::TarGz => ".tar.gz",
            Self::Zip => ".zip",
        }
    }
}

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveContent {
    /// The commit.
    pub commit: ObjectId,
    /// The top folder, without a slash.
    pub folder: Vec<u8>,
}

/// Why an archive is not complete.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The repository could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The archive could not be written, or a large blob could not be read.
    #[error("cannot write the archive")]
    Write(#[from] io::Error),
}

/// Copies blobs that are too large to be held in memory.
pub trait LargeBlobs {
    /// Starts to read a blob of this size.
    fn open(&mut self, id: &ObjectId, size: u64) -> io::Result<Box<dyn Read + '_>>;
}
