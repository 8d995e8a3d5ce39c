//! A working tree as a tar stream for an executor.
//!
//! Modes are those of git: a file is executable or not. A file that becomes shorter while it is read
//! fails the stream, so a run never gets half a file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc;

use quire_executor::Tree;
use quire_git::WorkspaceRepo;

/// The size of a chunk of the stream, in bytes.
const CHUNK_BYTES: usize = 128 << 10;
/// The most chunks that wait for the reader.
const MAX_QUEUED_CHUNKS: usize = 4;

/// Files of a folder.
pub(super) struct FolderTree {
    /// The folder.
    pub(super) root: PathBuf,
    /// Sorted paths below it. Entries that are not files, folders or symbolic links are left out.
    pub(super) files: Arc<[PathBuf]>,
    /// Whether `.quire/Dockerfile` is one of them.
    pub(super) dockerfile: bool,
    /// The `.git` of the workspace, if it has one.
    pub(super) history: Option<WorkspaceRepo>,
}

impl Tree for FolderTree {
    fn archive(&self) -> BoxStream<'static, io::Result<Bytes>> {
        let (root, files) = (self.root.clone(), self.files.clone());
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_CHUNKS);
        tokio::task::spawn_blocking(move || {
            let mut pipe = ChannelWriter {
                sender: sender.clone(),
                bytes: Vec::with_capacity(CHUNK_BYTES),
            };
            if let Err(error) = write(&root, &files, &mut pipe).and_then(|()| pipe.flush()) {
                // The reader may be gone already.
                let _ = sender.blocking_send(Err(error));
            }
        });
        stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        })
        .boxed()
    }

    fn checkout(&self) -> BoxStream<'static, io::Result<Bytes>> {
        match &self.history {
            Some(repo) => repo.entries().chain(self.archive()).boxed(),
            None => self.archive(),
        }
    }

    fn has_dockerfile(&self) -> bool {
        self.dockerfile
    }
}

/// Writes to the stream from a blocking thread.
struct ChannelWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    bytes: Vec<u8>,
}

impl Write for ChannelWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let full = std::mem::replace(&mut self.bytes, Vec::with_capacity(CHUNK_BYTES));
        if full.is_empty() {
            return Ok(());
        }
        self.sender
            .blocking_send(Ok(full.into()))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

fn write(root: &Path, files: &[PathBuf], to: &mut impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(to);
    for name in files {
        append(&mut archive, &root.join(name), name).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!(
                    "cannot copy `{}` into the workspace: {error}",
                    name.display()
                ),
            )
        })?;
    }
    archive.finish()
}

fn append(archive: &mut tar::Builder<&mut impl Write>, path: &Path, name: &Path) -> io::Result<()> {
    let metadata = match path.symlink_metadata() {
        // The index may list a file that was removed, or whose folder was replaced by a file.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(());
        }
        other => other?,
    };
    let mut header = tar::Header::new_gnu();
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_size(0);
    header.set_mode(0o755);
    if metadata.is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        archive.append_link(&mut header, name, fs::read_link(path)?)
    } else if metadata.is_dir() {
        // A submodule is an empty folder, as in the output of `git archive`.
        header.set_entry_type(tar::EntryType::Directory);
        archive.append_data(&mut header, name, io::empty())
    } else if metadata.is_file() {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        header.set_size(size);
        header.set_mode(if metadata.permissions().mode() & 0o100 == 0 {
            0o644
        } else {
            0o755
        });
        archive.append_data(&mut header, name, SizedFile { file, left: size })
    } else {
        Ok(())
    }
}

/// Reads exactly as many bytes as the tar header announces: a shorter file is an error, added bytes are left out.
struct SizedFile {
    file: File,
    left: u64,
}

impl io::Read for SizedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = io::Read::take(&mut self.file, self.left).read(buffer)?;
        if read == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was read",
            ));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// Every file and symbolic link below a folder that is not in a checkout, as sorted relative paths.
/// Symbolic links are not followed.
pub(super) fn all_files(root: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|error| (folder.clone(), error))?;
        for entry in entries {
            let entry = entry.map_err(|error| (folder.clone(), error))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(|error| (entry.path(), error))?;
            if kind.is_dir() {
                folders.push(path);
            } else if let Ok(name) = path.strip_prefix(root) {
                files.push(name.to_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    async fn taken(root: &Path, files: Vec<PathBuf>) -> io::Result<Vec<(String, u32, String)>> {
        let tree = FolderTree {
            root: root.to_owned(),
            files: files.into(),
            dockerfile: false,
            history: None,
        };
        let chunks: Vec<io::Result<Bytes>> = tree.archive().collect().await;
        let bytes: Vec<u8> = chunks
            .into_iter()
            .collect::<io::Result<Vec<Bytes>>>()?
            .concat();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries()?.map(|entry| {
            let mut entry = entry?;
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            if let Some(link) = entry.link_name()? {
                text = format!("-> {}", link.display());
            }
            Ok((
                entry.path()?.display().to_string(),
                entry.header().mode()?,
                text,
            ))
        });
        entries.collect()
    }

    #[tokio::test]
    async fn files_links_and_modes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("d/e")).unwrap();
        let long = format!("d/{}", "n".repeat(180));
        for (name, text) in [
            ("plain", "a"),
            ("run", "b"),
            ("d/e/deep", &"x".repeat(300_000)),
            (&long, "l"),
        ] {
            fs::write(root.join(name), text).unwrap();
        }
        fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(root.join("plain"), fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("link")).unwrap();
        let mut files = all_files(root).unwrap();
        assert_eq!(files.len(), 5);
        files.extend(["gone".into(), "plain/below".into(), "d/e".into()]);
        let taken = taken(root, files).await.unwrap();
        let found = |name: &str| {
            taken
                .iter()
                .find(|(found, ..)| found == name)
                .map(|(_, mode, text)| (*mode, text.as_str()))
        };
        assert_eq!(found("plain"), Some((0o644, "a")));
        assert_eq!(found("run"), Some((0o755, "b")));
        assert_eq!(found("link"), Some((0o755, "-> nowhere")));
        assert_eq!(found(&long), Some((0o644, "l")));
        assert_eq!(found("d/e/deep").map(|(_, text)| text.len()), Some(300_000));
        assert!(found("d/e/").or(found("d/e")).is_some() && taken.len() == 6);
    }

    #[tokio::test]
    async fn a_file_that_became_shorter_fails_the_stream() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "a").unwrap();
        let mut file = SizedFile {
            file: File::open(folder.path().join("a")).unwrap(),
            left: 2,
        };
        assert_eq!(
            io::read_to_string(&mut file).unwrap_err().to_string(),
            "the file became shorter while it was read"
        );
        let mut grown = SizedFile {
            file: File::open(folder.path().join("a")).unwrap(),
            left: 0,
        };
        assert_eq!(io::read_to_string(&mut grown).unwrap(), "");
    }
}
