//! Writes files and folders into the archive.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::BackupError;
use super::tolerant_file::TolerantFile;

/// zstd's own default: objects of git are compressed already, and logs become much smaller at any level.
const LEVEL: i32 = 3;

/// Which entries of a folder are left out.
pub(super) type LeftOut<'a> = &'a dyn Fn(&Path) -> bool;

/// The archive that is being written. Paths are relative to the data folder.
pub(super) struct BackupArchive<'a, W: Write> {
    data: &'a Path,
    tar: tar::Builder<zstd::Encoder<'static, W>>,
    /// The size of all files.
    pub(super) bytes: u64,
    /// What could not be read.
    pub(super) problems: Vec<String>,
}

impl<'a, W: Write> BackupArchive<'a, W> {
    pub(super) fn new(data: &'a Path, sink: W) -> Result<Self, BackupError> {
        let mut encoder = zstd::Encoder::new(sink, LEVEL).map_err(BackupError::Write)?;
        encoder.include_checksum(true).map_err(BackupError::Write)?;
        Ok(Self {
            data,
            tar: tar::Builder::new(encoder),
            bytes: 0,
            problems: Vec::new(),
        })
    }

    /// Adds an entry that is made from a value.
    pub(super) fn add_json(
        &mut self,
        name: &str,
        value: &impl Serialize,
    ) -> Result<(), BackupError> {
        let text = serde_json::to_vec(value).map_err(|error| BackupError::Write(error.into()))?;
        self.add_bytes(Path::new(name), &text, 0o600)
    }

    /// Adds a file with this content.
    pub(super) fn add_bytes(
        &mut self,
        path: &Path,
        content: &[u8],
        mode: u32,
    ) -> Result<(), BackupError> {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        self.bytes += content.len() as u64;
        self.tar
            .append_data(&mut header, path, content)
            .map_err(BackupError::Write)
    }

    /// Adds a file of the data folder, or the file at another path under a name in the data folder. Returns whether it was
    /// read completely. A file that does not exist any more is left out.
    pub(super) fn add_file(&mut self, path: &Path, source: &Path) -> Result<bool, BackupError> {
        let opened = File::open(source).and_then(|file| Ok((file.metadata()?, file)));
        let (found, file) = match opened {
            Ok(opened) => opened,
            Err(error) => return Ok(self.report_unreadable(path, &error)),
        };
        let mut header = header_of(&found);
        header.set_size(found.len());
        let mut reader = TolerantFile::new(file, found.len());
        self.tar
            .append_data(&mut header, path, &mut reader)
            .map_err(BackupError::Write)?;
        self.bytes += found.len();
        Ok(match reader.into_error() {
            None => true,
            Some(error) => self.report_unreadable(path, &error),
        })
    }

    /// Adds a folder of the data folder with everything below it that `filter` does not leave out. Returns whether all of it
    /// was read. What is removed meanwhile is left out; sockets and devices are as well.
    pub(super) fn add_folder(
        &mut self,
        folder: &Path,
        filter: LeftOut<'_>,
    ) -> Result<bool, BackupError> {
        let source = self.data.join(folder);
        let entries = match read_sorted(&source) {
            Ok(entries) => entries,
            Err(error) => return Ok(self.report_unreadable(folder, &error)),
        };
        if let Ok(found) = fs::metadata(&source) {
            self.add_empty_folder(folder, header_of(&found))?;
        }
        let mut complete = true;
        for name in entries {
            let path = folder.join(name);
            if !filter(&path) {
                complete &= self.add_entry(&path, filter)?;
            }
        }
        Ok(complete)
    }

    /// Adds a file, a symbolic link or a folder.
    pub(super) fn add_entry(
        &mut self,
        path: &Path,
        filter: LeftOut<'_>,
    ) -> Result<bool, BackupError> {
        let source = self.data.join(path);
        let found = match fs::symlink_metadata(&source) {
            Ok(found) => found,
            Err(error) => return Ok(self.report_unreadable(path, &error)),
        };
        if found.is_dir() {
            self.add_folder(path, filter)
        } else if found.is_file() {
            self.add_file(path, &source)
        } else if found.is_symlink() {
            match fs::read_link(&source) {
                Ok(target) => self.add_symlink(path, &target).map(|()| true),
                Err(error) => Ok(self.report_unreadable(path, &error)),
            }
        } else {
            Ok(true)
        }
    }

    /// Adds a symbolic link.
    pub(super) fn add_symlink(&mut self, path: &Path, target: &Path) -> Result<(), BackupError> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        self.tar
            .append_link(&mut header, path, target)
            .map_err(BackupError::Write)
    }

    /// Adds a folder without its content.
    pub(super) fn add_empty_folder(
        &mut self,
        path: &Path,
        mut header: tar::Header,
    ) -> Result<(), BackupError> {
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        self.tar
            .append_data(&mut header, path, io::empty())
            .map_err(BackupError::Write)
    }

    /// Records what cannot be read, unless it was removed meanwhile. Returns whether that was the case.
    fn report_unreadable(&mut self, path: &Path, error: &io::Error) -> bool {
        let was_removed = error.kind() == ErrorKind::NotFound;
        if !was_removed {
            self.problems
                .push(format!("{} could not be read: {error}", path.display()));
        }
        was_removed
    }

    /// Completes the archive.
    pub(super) fn finish(self) -> Result<(), BackupError> {
        let encoder = self.tar.into_inner().map_err(BackupError::Write)?;
        let mut sink = encoder.finish().map_err(BackupError::Write)?;
        sink.flush().map_err(BackupError::Write)
    }
}

fn header_of(found: &Metadata) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(found.permissions().mode() & 0o7777);
    header.set_mtime(u64::try_from(found.mtime()).unwrap_or(0));
    header
}

/// The names in a folder, in the same order each time.
pub(super) fn read_sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.file_name().into()))
        .collect::<io::Result<Vec<PathBuf>>>()?;
    names.sort_unstable();
    Ok(names)
}
