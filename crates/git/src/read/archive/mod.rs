//! The files of a commit as one file for download: `.tar.gz` or `.zip`.
//!
//! The bytes depend only on the commit, the format and the name of the top folder: entries come in git's order, and all have
//! the time of the commit. They are written while the tree is read, and memory does not grow with its size: large blobs are
//! copied from a [`LargeBlobs`]. Entries with the attribute `export-ignore` are left out. Everything else about attributes is
//! ignored: files have the bytes that git stores, without `export-subst`, conversion of line ends, or filters.

mod content;
mod export_ignore;
mod tar_gz;
mod walk;
mod writer;
mod zip;
mod zip_records;

use std::io::Write;

use super::reader::Reader;
use tar_gz::TarGzWriter;
use walk::TreeArchiver;
use zip::ZipWriter;

pub use content::{ArchiveContent, ArchiveError, ArchiveFormat, LargeBlobs};

impl Reader {
    /// Writes the archive of a commit to `out`. Ends with the first error of `out`.
    pub fn write_archive(
        &self,
        content: &ArchiveContent,
        format: ArchiveFormat,
        blobs: &mut dyn LargeBlobs,
        out: impl Write,
    ) -> Result<(), ArchiveError> {
        let seconds = self.commit(&content.commit)?.summary.committer.seconds;
        let archiver = TreeArchiver {
            reader: self,
            content,
            blobs,
        };
        match format {
            ArchiveFormat::TarGz => archiver.write(TarGzWriter::begin(out, content, seconds)?),
            ArchiveFormat::Zip => archiver.write(ZipWriter::new(out, content, seconds)),
        }
    }
}

#[cfg(test)]
mod tests;
