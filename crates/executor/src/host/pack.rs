//! Files and folders of a workspace as a tar stream.

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cap_std::fs::{Dir, File, FileType, FileTypeExt, MetadataExt, OpenOptions, OpenOptionsExt};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use crate::tar_stream::TarStream;

/// How many chunks of an archive may wait for its reader.
const MAX_QUEUED_CHUNKS: usize = 8;
const CHUNK_BYTES: usize = 64 << 10;

/// What is packed.
pub(super) enum PackSource {
    File(File),
    Dir(Dir),
}

/// Packs a file or a folder under `name`. An error on the way ends the stream.
pub(super) fn pack(source: PackSource, name: PathBuf) -> TarStream {
    let (sender, mut receiver) = mpsc::channel(MAX_QUEUED_CHUNKS);
    tokio::task::spawn_blocking(move || {
        let mut archive = tar::Builder::new(ChunkWriter {
            sender: sender.clone(),
            buffer: Vec::new(),
        });
        let packed = match source {
            PackSource::Dir(dir) => pack_dir(&mut archive, &dir, &name),
            PackSource::File(file) => pack_file(&mut archive, file, &name),
        };
        // Nothing to do if the stream was dropped.
        if let Err(error) = packed.and_then(|()| archive.into_inner()?.flush()) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)).boxed()
}

/// Packs a folder with a list of the folders that are left, so that no depth overflows the stack.
fn pack_dir(archive: &mut tar::Builder<ChunkWriter>, root: &Dir, name: &Path) -> io::Result<()> {
    archive.append_data(
        &mut header(tar::EntryType::Directory, 0o755),
        name,
        io::empty(),
    )?;
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        let at = if dir.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &dir
        };
        for entry in root.read_dir(at)? {
            let path = dir.join(entry?.file_name());
            let metadata = root.symlink_metadata(&path)?;
            let entry_name = name.join(&path);
            if metadata.is_dir() {
                archive.append_data(
                    &mut header(tar::EntryType::Directory, metadata.mode()),
                    &entry_name,
                    io::empty(),
                )?;
                dirs.push(path);
            } else if metadata.is_symlink() {
                let target = root.read_link_contents(&path)?;
                archive.append_link(
                    &mut header(tar::EntryType::Symlink, 0o777),
                    &entry_name,
                    target,
                )?;
            } else if metadata.is_file() {
                let mut options = OpenOptions::new();
                options
                    .read(true)
                    .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW);
                pack_file(archive, root.open_with(&path, &options)?, &entry_name)?;
            } else if let Some(kind) = special_entry_type(metadata.file_type()) {
                archive.append_data(
                    &mut header(kind, metadata.mode()),
                    &entry_name,
                    io::empty(),
                )?;
            }
        }
    }
    Ok(())
}

/// The entry type of a pipe or a device; `None` for a socket, which an archive cannot hold.
fn special_entry_type(kind: FileType) -> Option<tar::EntryType> {
    match () {
        () if kind.is_fifo() => Some(tar::EntryType::Fifo),
        () if kind.is_char_device() => Some(tar::EntryType::Char),
        () if kind.is_block_device() => Some(tar::EntryType::Block),
        () => None,
    }
}

fn pack_file(archive: &mut tar::Builder<ChunkWriter>, file: File, name: &Path) -> io::Result<()> {
    let metadata = file.metadata()?;
    let mut header = header(tar::EntryType::Regular, metadata.mode());
    header.set_size(metadata.len());
    archive.append_data(
        &mut header,
        name,
        SizedReader {
            file,
            remaining: metadata.len(),
            name,
        },
    )
}

fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode & 0o777);
    header.set_size(0);
    header
}

/// Reads exactly as many bytes of a file as the archive has announced.
struct SizedReader<'a> {
    file: File,
    remaining: u64,
    name: &'a Path,
}

impl Read for SizedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let limit = limit.min(buffer.len());
        if limit == 0 {
            return Ok(0);
        }
        match self.file.read(&mut buffer[..limit])? {
            0 => Err(io::Error::other(format!(
                "`{}` became shorter while it was read",
                String::from_utf8_lossy(self.name.as_os_str().as_bytes())
            ))),
            read => {
                self.remaining -= read as u64;
                Ok(read)
            }
        }
    }
}

/// Sends an archive in chunks.
struct ChunkWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        if chunk.is_empty() {
            return Ok(());
        }
        self.sender
            .blocking_send(Ok(chunk))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
