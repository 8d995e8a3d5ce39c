//! Files of a workspace on disk: read, written and packed without ever leaving it.
//!
//! Commands may change the workspace at any moment, so no path is checked and then used: every
//! one is resolved by the kernel (or, where it is too old, part by part) beneath a folder that is
//! held open, and a link that leads out of it is an error at that moment. Caches are links to
//! folders elsewhere; a path that begins with one is resolved beneath that folder instead.

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, FileType, FileTypeExt, MetadataExt, OpenOptions, OpenOptionsExt};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::super::files::{MAX_READ, Refusal, path_of};
use super::super::{ExecutorError, TarStream};
use super::other;

/// How much of an archive waits for whoever takes it, in chunks.
const CHUNKS: usize = 8;
/// The size of a chunk.
const CHUNK: usize = 64 << 10;

/// The folders that paths of a workspace lead to.
pub(super) struct Ground {
    workspace: Dir,
    /// The caches in it: where each is seen from the workspace, and the folder itself.
    caches: Vec<(PathBuf, Dir)>,
    /// Where they lie, with no link on the way.
    roots: Vec<PathBuf>,
}

/// A path below a folder that is held open.
struct Spot<'a> {
    folder: &'a Dir,
    below: PathBuf,
    /// As the pipeline wrote it.
    shown: &'a str,
}

impl Ground {
    /// Of a workspace, and of the caches in it: where each is seen, and where it lies.
    pub(super) fn open(workspace: &Path, links: &[(PathBuf, PathBuf)]) -> io::Result<Self> {
        let open = |folder: &Path| Dir::open_ambient_dir(folder, ambient_authority());
        let caches = links
            .iter()
            .map(|(seen, lies)| Ok((seen.clone(), open(lies)?)))
            .collect::<io::Result<_>>()?;
        let roots = links
            .iter()
            .map(|(_, lies)| std::fs::canonicalize(lies))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            workspace: open(workspace)?,
            caches,
            roots,
        })
    }

    /// Whether a folder, with no link on its way, lies in the workspace at this path or in one of its caches.
    pub(super) fn holds(&self, workspace: &Path, folder: &Path) -> bool {
        folder.starts_with(workspace) || self.roots.iter().any(|root| folder.starts_with(root))
    }

    fn spot<'a>(&'a self, path: &'a str) -> Result<Spot<'a>, ExecutorError> {
        let asked = path_of(path)?;
        let cache = self
            .caches
            .iter()
            .filter(|(seen, _)| asked.starts_with(seen))
            .max_by_key(|(seen, _)| seen.as_os_str().len());
        let (folder, below) = match cache {
            Some((seen, folder)) => (
                folder,
                asked.strip_prefix(seen).unwrap_or(&asked).to_owned(),
            ),
            None => (&self.workspace, asked),
        };
        let below = if below.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            below
        };
        Ok(Spot {
            folder,
            below,
            shown: path,
        })
    }

    /// What a file holds.
    pub(super) fn read(&self, path: &str) -> Result<Vec<u8>, ExecutorError> {
        let spot = self.spot(path)?;
        let (file, size) = spot.open_file()?;
        if size > MAX_READ {
            return Err(Refusal::TooLarge.of(path));
        }
        let mut content = Vec::new();
        file.take(MAX_READ + 1)
            .read_to_end(&mut content)
            .map_err(|error| other("read a file of the workspace", &error))?;
        if content.len() as u64 > MAX_READ {
            Err(Refusal::TooLarge.of(path))
        } else {
            Ok(content)
        }
    }

    /// Gives a file this content.
    pub(super) fn write(&self, path: &str, content: &[u8]) -> Result<(), ExecutorError> {
        let spot = self.spot(path)?;
        if let Some(way) = spot
            .below
            .parent()
            .filter(|way| !way.as_os_str().is_empty())
        {
            spot.folder
                .create_dir_all(way)
                .map_err(|error| match error.kind() {
                    io::ErrorKind::AlreadyExists => Refusal::Way.of(path),
                    _ => spot.fault(&error),
                })?;
        }
        let mut options = OpenOptions::new();
        // Not cut before it is known to be a file; and a pipe without a reader must not wait for one.
        options
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(nix::libc::O_NONBLOCK);
        let mut file = spot
            .folder
            .open_with(&spot.below, &options)
            .map_err(|error| spot.fault(&error))?;
        spot.size_of(&file)?;
        let written = file.set_len(0).and_then(|()| file.write_all(content));
        written.map_err(|error| other("write a file of the workspace", &error))
    }

    /// Packs a file or folder; what goes wrong on the way ends the stream with an error.
    pub(super) fn pack(&self, path: &str) -> Result<TarStream, ExecutorError> {
        let spot = self.spot(path)?;
        let folder = match spot.folder.open_dir(&spot.below) {
            Ok(folder) => Some(folder),
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOTDIR) => None,
            Err(error) => return Err(spot.fault(&error)),
        };
        let name = spot
            .below
            .file_name()
            .map_or_else(|| PathBuf::from("work"), PathBuf::from);
        let file = if folder.is_some() {
            None
        } else {
            Some(spot.open_file()?.0)
        };
        let (sender, mut receiver) = mpsc::channel(CHUNKS);
        tokio::task::spawn_blocking(move || {
            let mut archive = tar::Builder::new(Chunks {
                sender: sender.clone(),
                buffer: Vec::new(),
            });
            let packed = match (folder, file) {
                (Some(folder), _) => pack_folder(&mut archive, &folder, &name),
                (None, Some(file)) => pack_file(&mut archive, file, &name),
                (None, None) => Ok(()),
            };
            // Where nobody takes it any more, there is nobody to tell.
            if let Err(error) = packed.and_then(|()| archive.into_inner()?.flush()) {
                let _ = sender.blocking_send(Err(error));
            }
        });
        Ok(futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)).boxed())
    }
}

impl Spot<'_> {
    fn open_file(&self) -> Result<(File, u64), ExecutorError> {
        let mut options = OpenOptions::new();
        // A pipe must not wait for a writer.
        options.read(true).custom_flags(nix::libc::O_NONBLOCK);
        let file = self
            .folder
            .open_with(&self.below, &options)
            .map_err(|error| self.fault(&error))?;
        let size = self.size_of(&file)?;
        Ok((file, size))
    }

    /// Makes sure that it is a file.
    fn size_of(&self, file: &File) -> Result<u64, ExecutorError> {
        let metadata = file.metadata().map_err(|error| self.fault(&error))?;
        match () {
            () if metadata.is_file() => Ok(metadata.len()),
            () if metadata.is_dir() => Err(Refusal::Folder.of(self.shown)),
            () => Err(Refusal::Special.of(self.shown)),
        }
    }

    fn fault(&self, error: &io::Error) -> ExecutorError {
        let refusal = match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::NotFound, _) => Refusal::Missing,
            // Not the system's word but the library's: the path led out.
            (io::ErrorKind::PermissionDenied, None) => Refusal::Leaves,
            (io::ErrorKind::PermissionDenied, Some(_)) => Refusal::Forbidden,
            (io::ErrorKind::IsADirectory, _) => Refusal::Folder,
            (io::ErrorKind::NotADirectory, _) => Refusal::Way,
            (_, Some(nix::libc::ENXIO)) => Refusal::Special,
            _ => return other("open a file of the workspace", error),
        };
        refusal.of(self.shown)
    }
}

type Archive = tar::Builder<Chunks>;

/// Packs a folder, one level after the other: however deep it goes, it takes no more than a list of names.
fn pack_folder(archive: &mut Archive, root: &Dir, name: &Path) -> io::Result<()> {
    archive.append_data(
        &mut header(tar::EntryType::Directory, 0o755),
        name,
        io::empty(),
    )?;
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let at = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &folder
        };
        for entry in root.read_dir(at)? {
            let below = folder.join(entry?.file_name());
            let metadata = root.symlink_metadata(&below)?;
            let shown = name.join(&below);
            if metadata.is_dir() {
                archive.append_data(
                    &mut header(tar::EntryType::Directory, metadata.mode()),
                    &shown,
                    io::empty(),
                )?;
                folders.push(below);
            } else if metadata.is_symlink() {
                let target = root.read_link_contents(&below)?;
                archive.append_link(&mut header(tar::EntryType::Symlink, 0o777), &shown, target)?;
            } else if metadata.is_file() {
                let mut options = OpenOptions::new();
                options
                    .read(true)
                    .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW);
                pack_file(archive, root.open_with(&below, &options)?, &shown)?;
            } else if let Some(kind) = special(metadata.file_type()) {
                archive.append_data(&mut header(kind, metadata.mode()), &shown, io::empty())?;
            }
        }
    }
    Ok(())
}

/// How an archive names what is neither file, folder nor link. A socket it cannot hold.
fn special(kind: FileType) -> Option<tar::EntryType> {
    match () {
        () if kind.is_fifo() => Some(tar::EntryType::Fifo),
        () if kind.is_char_device() => Some(tar::EntryType::Char),
        () if kind.is_block_device() => Some(tar::EntryType::Block),
        () => None,
    }
}

fn pack_file(archive: &mut Archive, file: File, name: &Path) -> io::Result<()> {
    let metadata = file.metadata()?;
    let mut header = header(tar::EntryType::Regular, metadata.mode());
    header.set_size(metadata.len());
    archive.append_data(
        &mut header,
        name,
        Exactly {
            file,
            left: metadata.len(),
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

/// A file's content in the size that the archive has announced.
struct Exactly<'a> {
    file: File,
    left: u64,
    name: &'a Path,
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if most == 0 {
            return Ok(0);
        }
        match self.file.read(&mut buffer[..most])? {
            0 => Err(io::Error::other(format!(
                "`{}` became shorter while it was read",
                String::from_utf8_lossy(self.name.as_os_str().as_bytes())
            ))),
            read => {
                self.left -= read as u64;
                Ok(read)
            }
        }
    }
}

/// Hands an archive on in chunks.
struct Chunks {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
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
