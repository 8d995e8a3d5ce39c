//! The objects of a repository in Git LFS. Everything blocks.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::pointer::{LfsOid, LfsPointer};
use crate::file_ages::files_with_age;
use crate::object_cache::RepoIdentity;
use crate::repo::stat;
use quire_types::clock::Millis;
use quire_types::failpoint;
use quire_types::fsutil::{rename_durably, sync_parent};
use quire_types::token::hex;

/// An upload that is younger may not have its lock yet, in milliseconds.
const MIN_UPLOAD_AGE_MS: u64 = 60 * 1000;

/// The objects of one repository.
#[derive(Debug, Clone)]
pub struct LfsStore {
    folder: PathBuf,
    /// The folder of the repository: device and inode.
    repo: Option<RepoIdentity>,
}

/// Why an upload was not stored. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("{received} bytes arrived instead of {expected}")]
    Size { expected: u64, received: u64 },
    #[error("the content has the SHA-256 {found} instead of {expected}")]
    Oid { expected: LfsOid, found: String },
    #[error("the repository was removed or renamed meanwhile")]
    Replaced,
    #[error("the disk is full")]
    DiskFull,
    #[error("the object cannot be stored")]
    Io(#[source] io::Error),
}

impl From<io::Error> for UploadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io(error),
        }
    }
}

impl LfsStore {
    /// The objects of the repository in this folder.
    #[must_use]
    pub fn of(repo: &Path) -> Self {
        Self {
            folder: repo.join("lfs"),
            repo: None,
        }
    }

    /// The same store, into which nothing is stored once another repository is in its place.
    ///
    /// # Errors
    /// There is no repository, or it cannot be looked at.
    pub fn pinned(self) -> Result<Self, UploadError> {
        let found = fs::metadata(self.repo())?;
        Ok(Self {
            repo: Some((found.dev(), found.ino())),
            ..self
        })
    }

    fn repo(&self) -> &Path {
        self.folder.parent().unwrap_or(&self.folder)
    }

    /// Whether what is stored arrives in the repository that was meant.
    fn check_place(&self) -> Result<(), UploadError> {
        let Some(meant) = self.repo else {
            return Ok(());
        };
        match stat(self.repo())? {
            Some(found) if (found.dev(), found.ino()) == meant => Ok(()),
            _ => Err(UploadError::Replaced),
        }
    }

    /// Creates a folder of the store, and those it is in up to that of the repository, so that they survive a power failure.
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        if folder != self.folder
            && let Some(parent) = folder.parent()
        {
            self.create_folder(parent)?;
        }
        match fs::create_dir(folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            created => created.and_then(|()| sync_parent(folder)),
        }
    }

    /// The folder of the store.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Creates the folder of the store if it does not exist.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn create(&self) -> io::Result<()> {
        self.create_folder(&self.folder)
    }

    fn path(&self, oid: &LfsOid) -> PathBuf {
        let digits = oid.as_str();
        let folder = self.folder.join("objects");
        folder.join(&digits[..2]).join(&digits[2..4]).join(digits)
    }

    /// The size of an object, or `None` if it is not here.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn size(&self, oid: &LfsOid) -> io::Result<Option<u64>> {
        match fs::symlink_metadata(self.path(oid)) {
            Ok(found) => Ok(found.is_file().then_some(found.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether an object is here, with its size. One that cannot be looked at is not.
    #[must_use]
    pub fn has(&self, pointer: &LfsPointer) -> bool {
        matches!(self.size(&pointer.oid), Ok(Some(size)) if size == pointer.size)
    }

    /// Opens an object, with its size. Returns `None` if it is not here.
    ///
    /// # Errors
    /// The object cannot be opened.
    pub fn open(&self, oid: &LfsOid) -> io::Result<Option<(File, u64)>> {
        match File::open(self.path(oid)) {
            Ok(file) => {
                let size = file.metadata()?.len();
                Ok(Some((file, size)))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Begins to store an object of this size.
    ///
    /// # Errors
    /// No file can be created. A repository that does not exist is not created.
    pub fn upload(&self, oid: &LfsOid, size: u64) -> Result<LfsUpload, UploadError> {
        let folder = self.folder.join("tmp");
        self.check_place()?;
        self.create_folder(&folder)?;
        let path = folder.join(format!("{oid}-{}", Uuid::now_v7()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o444)
            .open(&path)?;
        let upload = LfsUpload {
            file,
            draft: Draft(path),
            store: self.clone(),
            oid: oid.clone(),
            size,
            received: 0,
            hash: Sha256::new(),
        };
        // Without the lock, maintenance removes the file when it is old: a file system without locks has no other way.
        let _ = upload.file.try_lock();
        Ok(upload)
    }

    /// Uploads whose process was killed.
    pub(crate) fn abandoned_uploads(&self, now: Millis) -> io::Result<Vec<PathBuf>> {
        let abandoned = |path: &PathBuf| {
            let locked = File::open(path).map(|file| file.try_lock());
            !matches!(locked, Ok(Err(TryLockError::WouldBlock)))
        };
        let found = files_with_age(&self.folder.join("tmp"), now)?.into_iter();
        let old = found.filter(|(_, age)| *age > MIN_UPLOAD_AGE_MS);
        Ok(old.map(|(path, _)| path).filter(abandoned).collect())
    }
}

/// A file that is removed when it is dropped.
#[derive(Debug)]
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// An object that is being stored. Dropping it removes what has been written.
#[derive(Debug)]
pub struct LfsUpload {
    file: File,
    draft: Draft,
    store: LfsStore,
    oid: LfsOid,
    size: u64,
    received: u64,
    hash: Sha256,
}

impl LfsUpload {
    /// Appends to the content.
    ///
    /// # Errors
    /// The object is larger than its size, or cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        self.received += bytes.len() as u64;
        self.check_size(self.received <= self.size)?;
        self.hash.update(bytes);
        Ok(self.file.write_all(bytes)?)
    }

    fn check_size(&self, is_right: bool) -> Result<(), UploadError> {
        if is_right {
            return Ok(());
        }
        Err(UploadError::Size {
            expected: self.size,
            received: self.received,
        })
    }

    /// Checks the content and moves it to its place. The object is on the disk then.
    ///
    /// # Errors
    /// The content is not that of the object, or it cannot be stored.
    pub fn finish(self) -> Result<(), UploadError> {
        self.check_size(self.received == self.size)?;
        let digest = self.hash.finalize();
        let found = hex(&digest);
        if found != self.oid.as_str() {
            return Err(UploadError::Oid {
                expected: self.oid,
                found,
            });
        }
        let target = self.store.path(&self.oid);
        self.store.check_place()?;
        if let Some(folder) = target.parent() {
            self.store.create_folder(folder)?;
        }
        failpoint::hit("lfs-before-rename");
        Ok(rename_durably(&self.draft.0, &target)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf hello | sha256sum`
    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn store(folder: &Path) -> (LfsStore, LfsOid) {
        (LfsStore::of(folder), HELLO.parse().unwrap())
    }

    fn uploads(store: &LfsStore) -> usize {
        fs::read_dir(store.folder().join("tmp")).map_or(0, Iterator::count)
    }

    #[test]
    fn an_object_is_seen_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let (store, oid) = store(folder.path());
        assert_eq!(store.size(&oid).unwrap(), None);
        assert!(store.open(&oid).unwrap().is_none());
        let mut first = store.upload(&oid, 5).unwrap();
        let mut second = store.upload(&oid, 5).unwrap();
        first.write(b"hel").unwrap();
        second.write(b"hello").unwrap();
        assert_eq!(store.size(&oid).unwrap(), None);
        second.finish().unwrap();
        assert_eq!(store.size(&oid).unwrap(), Some(5));
        first.write(b"lo").unwrap();
        first.finish().unwrap();
        assert_eq!((store.size(&oid).unwrap(), uploads(&store)), (Some(5), 0));
        let path = folder.path().join("lfs/objects/2c/f2").join(HELLO);
        assert_eq!(fs::read(path).unwrap(), b"hello");
    }

    #[test]
    fn what_is_not_the_object_is_not_stored() {
        let folder = tempfile::tempdir().unwrap();
        let (store, oid) = store(folder.path());
        let outcome = |size, parts: &[&str]| {
            let mut upload = store.upload(&oid, size).unwrap();
            for part in parts {
                upload.write(part.as_bytes())?;
            }
            upload.finish()
        };
        let error = outcome(5, &["hell"]).unwrap_err();
        assert_eq!(error.to_string(), "4 bytes arrived instead of 5");
        let error = outcome(5, &["hello", "!"]).unwrap_err();
        assert_eq!(error.to_string(), "6 bytes arrived instead of 5");
        let error = outcome(5, &["Hello"]).unwrap_err();
        assert!(error.to_string().contains("instead of 2cf24d"), "{error}");
        assert_eq!((store.size(&oid).unwrap(), uploads(&store)), (None, 0));
    }

    #[test]
    fn a_repository_that_was_removed_or_replaced_gets_no_object() {
        let folder = tempfile::tempdir().unwrap();
        let repo = folder.path().join("app.git");
        let (store, oid) = store(&repo);
        // A store does not create the repository.
        assert!(store.clone().pinned().is_err());
        assert!(store.upload(&oid, 5).is_err() && !repo.exists());
        fs::create_dir(&repo).unwrap();
        let store = store.pinned().unwrap();
        let mut upload = store.upload(&oid, 5).unwrap();
        upload.write(b"hello").unwrap();
        fs::rename(&repo, folder.path().join("former.git")).unwrap();
        let is_replaced = |error| matches!(error, UploadError::Replaced);
        assert!(is_replaced(store.upload(&oid, 5).unwrap_err()));
        fs::create_dir_all(repo.join("lfs/tmp")).unwrap();
        assert!(is_replaced(upload.finish().unwrap_err()));
        assert!(is_replaced(store.upload(&oid, 5).unwrap_err()));
        assert!(!repo.join("lfs/objects").exists() && uploads(&store) == 0);
    }

    #[test]
    fn only_the_uploads_of_killed_processes_are_abandoned() {
        let folder = tempfile::tempdir().unwrap();
        let (store, oid) = store(folder.path());
        let writing = store.upload(&oid, 5).unwrap();
        let left = folder.path().join("lfs/tmp/left");
        fs::write(&left, "hel").unwrap();
        let now = quire_types::clock::Clock::system().now();
        assert_eq!(store.abandoned_uploads(now).unwrap(), [] as [PathBuf; 0]);
        let later = now.plus(2 * 60 * 1000);
        assert_eq!(store.abandoned_uploads(later).unwrap(), [left]);
        drop(writing);
    }
}
