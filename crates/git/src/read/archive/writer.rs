//! What the formats of archives have in common.

use std::io::{self, Read};

/// Writes the entries of an archive, in the order in which they come. Paths have no slash at either end.
pub(super) trait ArchiveWriter {
    /// A folder, before what is in it.
    fn folder(&mut self, path: &[u8]) -> io::Result<()>;

    fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()>;

    /// A file whose content has exactly the size of `entry`.
    fn file(&mut self, entry: &FileEntry<'_>, content: &mut dyn Read) -> io::Result<()>;

    /// Writes what ends the archive.
    fn finish(self) -> io::Result<()>;
}

/// A file of an archive.
pub(super) struct FileEntry<'a> {
    pub(super) path: &'a [u8],
    pub(super) is_executable: bool,
    pub(super) size: u64,
}
