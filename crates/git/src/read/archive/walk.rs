//! The entries of a tree, depth first, in git's order.

use std::io;

use gix::ObjectId as Id;
use gix::object::Kind;

use super::super::error::ReadError;
use super::super::reader::{Reader, gix_id, public_id};
use super::super::tree::{EntryMode, RawEntry};
use super::content::{ArchiveContent, ArchiveError, LargeBlobs};
use super::export_ignore::ExportIgnore;
use super::writer::{ArchiveWriter, FileEntry};

/// Blobs up to this size are read into memory.
const MAX_BLOB_IN_MEMORY: u64 = 1 << 20;
/// The longest target of a symbolic link.
const MAX_TARGET_BYTES: u64 = 64 << 10;
/// The largest `.gitattributes` that is obeyed.
const MAX_ATTRIBUTES_BYTES: u64 = 1 << 20;

/// A folder whose entries are being written.
struct OpenFolder {
    entries: std::vec::IntoIter<RawEntry>,
    /// Its path from the root of the tree; empty for the root.
    path: Vec<u8>,
    has_attributes: bool,
}

/// The writing of one archive.
pub(super) struct TreeArchiver<'a> {
    pub(super) reader: &'a Reader,
    pub(super) content: &'a ArchiveContent,
    pub(super) blobs: &'a mut dyn LargeBlobs,
}

impl TreeArchiver<'_> {
    pub(super) fn write(mut self, mut writer: impl ArchiveWriter) -> Result<(), ArchiveError> {
        let root = self.reader.root_tree(gix_id(&self.content.commit)?)?;
        let mut ignored = ExportIgnore::default();
        writer.folder(&self.content.folder)?;
        let mut open = vec![self.open(root, Vec::new(), &mut ignored)?];
        while let Some(folder) = open.last_mut() {
            let Some(entry) = folder.entries.next() else {
                if folder.has_attributes {
                    ignored.leave();
                }
                open.pop();
                continue;
            };
            let path = joined(&folder.path, &entry.name);
            if ignored.holds(&path, entry.mode == EntryMode::Folder) {
                continue;
            }
            self.write_entry(&entry, &path, &mut writer)?;
            if entry.mode == EntryMode::Folder {
                open.push(self.open(entry.id, path, &mut ignored)?);
            }
        }
        Ok(writer.finish()?)
    }

    fn open(
        &self,
        id: Id,
        path: Vec<u8>,
        ignored: &mut ExportIgnore,
    ) -> Result<OpenFolder, ReadError> {
        let entries = self.reader.raw_entries(id)?;
        let attributes = entries
            .iter()
            .find(|entry| entry.name == b".gitattributes" && is_file(entry.mode));
        let has_attributes = match attributes {
            Some(entry) => {
                let read = self
                    .reader
                    .object(entry.id, Kind::Blob, MAX_ATTRIBUTES_BYTES);
                match read {
                    Ok(text) => ignored.enter(&path, &text),
                    Err(ReadError::TooLarge { .. }) => false,
                    Err(error) => return Err(error),
                }
            }
            None => false,
        };
        Ok(OpenFolder {
            entries: entries.into_iter(),
            path,
            has_attributes,
        })
    }

    fn write_entry(
        &mut self,
        entry: &RawEntry,
        path: &[u8],
        writer: &mut impl ArchiveWriter,
    ) -> Result<(), ArchiveError> {
        let path = joined(&self.content.folder, path);
        match entry.mode {
            // What a submodule holds is in another repository.
            EntryMode::Folder | EntryMode::Submodule => writer.folder(&path)?,
            EntryMode::Symlink => {
                let target = self.reader.object(entry.id, Kind::Blob, MAX_TARGET_BYTES)?;
                writer.link(&path, &target)?;
            }
            EntryMode::File | EntryMode::Executable => {
                let size = self.reader.blob_size(entry.id)?;
                let file = FileEntry {
                    path: &path,
                    is_executable: entry.mode == EntryMode::Executable,
                    size,
                };
                if size > MAX_BLOB_IN_MEMORY {
                    let id = public_id(entry.id)?;
                    let mut content = self.blobs.open(&id, size)?;
                    writer.file(&file, &mut content)?;
                } else {
                    let content = self.reader.object(entry.id, Kind::Blob, size)?;
                    writer.file(&file, &mut io::Cursor::new(content))?;
                }
            }
        }
        Ok(())
    }
}

fn is_file(mode: EntryMode) -> bool {
    matches!(mode, EntryMode::File | EntryMode::Executable)
}

fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() {
        name.to_owned()
    } else {
        [folder, b"/", name].concat()
    }
}
