//! The file of keys in the volume. Only this module writes it.
//!
//! Invariants: one writer at a time; the file is replaced as a whole; lines that are not meant stay as they are.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::KeyError;
use quire_types::fsutil;
use quire_types::init_status::{InitPhase, InitStatus};
use quire_types::paths::Paths;
use quire_types::ssh_keys::{FileKey, KeyFile};

/// `quire init` reads no larger file.
const MAX_FILE_BYTES: usize = 1024 * 1024;
/// `quire init` looks for changes every second.
const MERGE_TIMEOUT: Duration = Duration::from_secs(5);
const MERGE_POLL: Duration = Duration::from_millis(20);
/// Nobody but the owner can change the file; public keys are no secret, but whose they are may be.
const NEW_FILE_MODE: u32 = 0o600;

/// The file, which nothing else changes meanwhile.
pub(super) struct StoredKeys<'a> {
    paths: &'a Paths,
    pub(super) file: KeyFile,
    mode: u32,
    _lock: File,
}

impl<'a> StoredKeys<'a> {
    pub(super) fn lock(paths: &'a Paths) -> Result<Self, KeyError> {
        let lock_path = paths.authorized_keys_lock();
        let lock = File::create(&lock_path).and_then(|file| file.lock().map(|()| file));
        let lock = lock.map_err(io_error("lock", &lock_path))?;
        let path = paths.authorized_keys();
        let (file, mode) = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() => (read(paths)?, found.permissions().mode() & 0o777),
            Ok(_) => return Err(KeyError::NotText(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (KeyFile::default(), NEW_FILE_MODE)
            }
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        Ok(Self {
            paths,
            file,
            mode,
            _lock: lock,
        })
    }

    /// Writes the file, durably.
    pub(super) fn write(self) -> Result<(), KeyError> {
        let path = self.paths.authorized_keys();
        let text = self.file.text();
        if text.len() > MAX_FILE_BYTES {
            return Err(KeyError::FileTooLarge {
                path,
                max: MAX_FILE_BYTES,
            });
        }
        fsutil::replace_file_durably(&path, text.as_bytes(), self.mode)
            .map_err(io_error("write", &path))
    }
}

/// The keys of the volume; none if there is no file.
pub(super) fn read(paths: &Paths) -> Result<KeyFile, KeyError> {
    let path = paths.authorized_keys();
    match fs::read_to_string(&path) {
        Ok(text) => Ok(KeyFile::new(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(KeyFile::default()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(KeyError::NotText(path)),
        Err(error) => Err(io_error("read", &path)(error)),
    }
}

/// Waits until the keys that sshd reads are as they should be, and returns whether they are. Without a running
/// `quire init` nothing merges them.
pub(super) fn wait_until_merged(paths: &Paths, is_done: impl Fn(&[FileKey]) -> bool) -> bool {
    let deadline = Instant::now() + MERGE_TIMEOUT;
    loop {
        let merged = fs::read_to_string(paths.merged_authorized_keys()).unwrap_or_default();
        let merges = InitStatus::read(&paths.init_status())
            .ok()
            .flatten()
            .is_some_and(|status| matches!(status.phase, InitPhase::Starting | InitPhase::Running));
        if merges && is_done(&KeyFile::new(merged).keys()) {
            return true;
        }
        if !merges || Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(MERGE_POLL);
    }
}

fn io_error(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.to_owned();
    move |source| KeyError::Io {
        attempt,
        path,
        source,
    }
}
