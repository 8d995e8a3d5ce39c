//! Files of a workspace on disk: read, written and packed without ever leaving it.
//!
//! Commands may change the workspace at any moment, so no path is checked first and used then. Each
//! is resolved by the kernel (or, if it is too old for that, part by part) below a folder that is
//! held open, and a link that leads out of the folder is an error at that moment. Caches are links
//! to folders elsewhere; a path that begins with one is resolved below that folder instead.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt};

use super::cache_links::CacheLink;
use super::pack::{PackSource, pack};
use crate::error::{ExecutorError, FileProblem};
use crate::file_path::{self, MAX_READ, file_error, too_large};
use crate::tar_stream::TarStream;

/// The folders that the paths of a workspace are resolved in.
pub(super) struct WorkspaceRoot {
    workspace: Dir,
    caches: Vec<CacheRoot>,
}

/// A cache in the workspace.
struct CacheRoot {
    /// Its link, relative to the workspace.
    location: PathBuf,
    dir: Dir,
    /// Its path, without links.
    real_path: PathBuf,
}

/// A path below a folder that is held open.
struct ResolvedPath<'a> {
    dir: &'a Dir,
    relative: PathBuf,
    /// As the pipeline wrote it.
    shown: &'a str,
}

impl WorkspaceRoot {
    pub(super) fn open(workspace: &Path, links: &[CacheLink]) -> io::Result<Self> {
        let open = |dir: &Path| Dir::open_ambient_dir(dir, ambient_authority());
        let cache = |link: &CacheLink| {
            Ok(CacheRoot {
                location: link.location.clone(),
                dir: open(&link.target)?,
                real_path: std::fs::canonicalize(&link.target)?,
            })
        };
        Ok(Self {
            workspace: open(workspace)?,
            caches: links.iter().map(cache).collect::<io::Result<_>>()?,
        })
    }

    /// Whether a path without links is in the workspace at `workspace`, or in one of its caches.
    pub(super) fn contains(&self, workspace: &Path, path: &Path) -> bool {
        path.starts_with(workspace)
            || self
                .caches
                .iter()
                .any(|cache| path.starts_with(&cache.real_path))
    }

    fn resolve<'a>(&'a self, path: &'a str) -> Result<ResolvedPath<'a>, ExecutorError> {
        let relative = file_path::parse(path)?;
        let cache = self
            .caches
            .iter()
            .filter(|cache| relative.starts_with(&cache.location))
            .max_by_key(|cache| cache.location.as_os_str().len());
        let (dir, relative) = match cache {
            Some(cache) => {
                let below = relative.strip_prefix(&cache.location);
                (&cache.dir, below.unwrap_or(&relative).to_owned())
            }
            None => (&self.workspace, relative),
        };
        let relative = if relative.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            relative
        };
        Ok(ResolvedPath {
            dir,
            relative,
            shown: path,
        })
    }

    /// Returns the content of a file.
    pub(super) fn read(&self, path: &str) -> Result<Vec<u8>, ExecutorError> {
        let resolved = self.resolve(path)?;
        let (file, size) = resolved.open_file()?;
        if size > MAX_READ {
            return Err(too_large(path));
        }
        let mut content = Vec::new();
        // The file may have grown since its size was read.
        file.take(MAX_READ + 1)
            .read_to_end(&mut content)
            .map_err(|error| ExecutorError::caused_by("read a file of the workspace", &error))?;
        if content.len() as u64 > MAX_READ {
            Err(too_large(path))
        } else {
            Ok(content)
        }
    }

    /// Replaces the content of a file.
    pub(super) fn write(&self, path: &str, content: &[u8]) -> Result<(), ExecutorError> {
        let resolved = self.resolve(path)?;
        resolved.create_parent()?;
        let mut options = OpenOptions::new();
        // Not truncated before it is known to be a file; and not blocking, because a pipe without a
        // reader would wait for one.
        options
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(nix::libc::O_NONBLOCK);
        let mut file = resolved
            .dir
            .open_with(&resolved.relative, &options)
            .map_err(|error| resolved.error(&error))?;
        resolved.file_size(&file)?;
        file.set_len(0)
            .and_then(|()| file.write_all(content))
            .map_err(|error| ExecutorError::caused_by("write a file of the workspace", &error))
    }

    /// Packs a file or a folder. An error on the way ends the stream.
    pub(super) fn pack(&self, path: &str) -> Result<TarStream, ExecutorError> {
        let resolved = self.resolve(path)?;
        let source = match resolved.dir.open_dir(&resolved.relative) {
            Ok(dir) => PackSource::Dir(dir),
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOTDIR) => {
                PackSource::File(resolved.open_file()?.0)
            }
            Err(error) => return Err(resolved.error(&error)),
        };
        let name = resolved.relative.file_name();
        let name = name.map_or_else(|| PathBuf::from("work"), PathBuf::from);
        Ok(pack(source, name))
    }
}

impl ResolvedPath<'_> {
    /// Opens a file and returns its size.
    fn open_file(&self) -> Result<(File, u64), ExecutorError> {
        let mut options = OpenOptions::new();
        // A pipe without a writer would wait for one.
        options.read(true).custom_flags(nix::libc::O_NONBLOCK);
        let file = self
            .dir
            .open_with(&self.relative, &options)
            .map_err(|error| self.error(&error))?;
        let size = self.file_size(&file)?;
        Ok((file, size))
    }

    /// Returns the size of a file; fails if it is something else.
    fn file_size(&self, file: &File) -> Result<u64, ExecutorError> {
        let metadata = file.metadata().map_err(|error| self.error(&error))?;
        if metadata.is_file() {
            Ok(metadata.len())
        } else if metadata.is_dir() {
            Err(file_error(self.shown, FileProblem::Directory))
        } else {
            Err(file_error(self.shown, FileProblem::Special))
        }
    }

    fn create_parent(&self) -> Result<(), ExecutorError> {
        let Some(parent) = self.relative.parent() else {
            return Ok(());
        };
        if parent.as_os_str().is_empty() {
            return Ok(());
        }
        let created = self.dir.create_dir_all(parent);
        created.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => file_error(self.shown, FileProblem::NotADirectory),
            _ => self.error(&error),
        })
    }

    fn error(&self, error: &io::Error) -> ExecutorError {
        let problem = match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::NotFound, _) => FileProblem::Missing,
            // Not the kernel's error but that of cap-std: the path leads out.
            (io::ErrorKind::PermissionDenied, None) => FileProblem::Escapes,
            (io::ErrorKind::PermissionDenied, Some(_)) => FileProblem::PermissionDenied,
            (io::ErrorKind::IsADirectory, _) => FileProblem::Directory,
            (io::ErrorKind::NotADirectory, _) => FileProblem::NotADirectory,
            (_, Some(nix::libc::ENXIO)) => FileProblem::Special,
            _ => return ExecutorError::caused_by("open a file of the workspace", error),
        };
        file_error(self.shown, problem)
    }
}
