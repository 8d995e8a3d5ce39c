//! One repository in the archive: what its refs name first, then its objects.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use quire_types::names::RepoName;

use super::archive_writer::{BackupArchive, read_sorted};
use super::error::BackupError;

/// How often the end of a running `git gc` is looked for.
const LOCK_POLL: Duration = Duration::from_millis(100);

/// How much of a repository is in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RepoCopy {
    Complete,
    /// A part of it could not be read; the problems of the archive say which.
    Incomplete,
    /// It was removed while it was copied.
    Removed,
}

/// What a repository points to, as it was before its objects were read.
struct RefFiles(Vec<(PathBuf, Vec<u8>)>);

impl<W: Write> BackupArchive<'_, W> {
    /// Adds a repository.
    ///
    /// The path of a repository that is renamed meanwhile stays valid, because its old name becomes a redirect.
    pub(super) fn add_repo(
        &mut self,
        data: &Path,
        folder: &Path,
        repo: &RepoName,
    ) -> Result<RepoCopy, BackupError> {
        let source = data.join(folder);
        let _lock = match lock_against_gc(&source) {
            Ok(lock) => lock,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(RepoCopy::Removed),
            Err(error) => {
                self.problems
                    .push(format!("the repository {repo} could not be read: {error}"));
                return Ok(RepoCopy::Incomplete);
            }
        };
        let refs = match RefFiles::read(&source) {
            Ok(refs) => refs,
            Err(error) => {
                self.problems
                    .push(format!("the refs of {repo} could not be read: {error}"));
                return Ok(RepoCopy::Incomplete);
            }
        };
        for (path, content) in &refs.0 {
            self.add_bytes(&folder.join(path), content, 0o644)?;
        }
        // Reflogs name objects as well.
        let mut complete = self.add_folder(&folder.join("logs"), &|_| false)?;
        let is_added = |path: &Path| {
            let within = path.strip_prefix(folder).unwrap_or(path);
            let first = within.components().next().map(|part| part.as_os_str());
            let is_ref = ["HEAD", "packed-refs", "refs", "logs"]
                .iter()
                .any(|name| first == Some(name.as_ref()));
            is_ref || is_temporary(path)
        };
        complete &= self.add_folder(folder, &is_added)?;
        // Git takes a folder for a repository only if it has this folder.
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        self.add_empty_folder(&folder.join("refs"), header)?;
        Ok(match (complete, source.join("objects").is_dir()) {
            (_, false) => RepoCopy::Removed,
            (true, true) => RepoCopy::Complete,
            (false, true) => RepoCopy::Incomplete,
        })
    }
}

/// What git and quire write before they give it its name.
fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("tmp_") || name.starts_with("incoming-") || name.ends_with(".lock")
}

/// A lock that `git gc` of this appliance respects. Waits until one that is running has ended.
fn lock_against_gc(repo: &Path) -> std::io::Result<File> {
    let objects = File::open(repo.join("objects"))?;
    loop {
        match objects.try_lock_shared() {
            Ok(()) => return Ok(objects),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_POLL),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

impl RefFiles {
    /// Reads loose refs before packed ones: a ref that git packs meanwhile is then found in one of them.
    fn read(repo: &Path) -> std::io::Result<Self> {
        let mut files = Vec::new();
        let mut folders = vec![PathBuf::from("refs")];
        while let Some(folder) = folders.pop() {
            let names = match read_sorted(&repo.join(&folder)) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                names => names?,
            };
            for name in names {
                let path = folder.join(name);
                if is_temporary(&path) {
                    continue;
                }
                match fs::symlink_metadata(repo.join(&path)) {
                    Ok(found) if found.is_dir() => folders.push(path),
                    Ok(_) => Self::read_one(repo, path, &mut files)?,
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Self::read_one(repo, "packed-refs".into(), &mut files)?;
        Self::read_one(repo, "HEAD".into(), &mut files)?;
        Ok(Self(files))
    }

    fn read_one(
        repo: &Path,
        path: PathBuf,
        files: &mut Vec<(PathBuf, Vec<u8>)>,
    ) -> std::io::Result<()> {
        match fs::read(repo.join(&path)) {
            Ok(content) => files.push((path, content)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
