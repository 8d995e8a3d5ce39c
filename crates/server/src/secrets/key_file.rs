//! The keys with which values are encrypted: a file of lines, each with 32 bytes in base64. The first key encrypts; the others
//! only decrypt.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::error::StoredSecretError;
use quire_types::fsutil;
use quire_types::paths::Paths;
use quire_types::token::{hex, random_bytes};

/// Names the file of keys, if the operator keeps it.
pub const KEY_FILE_VARIABLE: &str = "QUIRE_SECRETS_KEY_FILE";
/// Enough for more than a thousand keys.
const MAX_FILE_BYTES: u64 = 64 * 1024;
const KEY_BYTES: usize = 32;

/// A key, and the name under which values refer to it.
#[derive(Clone)]
pub(super) struct SecretKey {
    pub(super) id: String,
    pub(super) bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl SecretKey {
    fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        // It says nothing about the key: that has 256 random bits.
        let digest = Sha256::digest(bytes.as_slice());
        Self {
            id: hex(&digest[..8]),
            bytes,
        }
    }
}

/// The keys of a file.
pub(super) struct SecretKeys {
    pub(super) path: PathBuf,
    /// Whether quire made the file, and may change it.
    pub(super) is_own: bool,
    keys: Vec<SecretKey>,
}

impl SecretKeys {
    /// Reads the keys; `None` if there is no file.
    fn read(paths: &Paths) -> Result<Option<Self>, StoredSecretError> {
        let (path, is_own) = location(paths);
        let failed = |source| StoredSecretError::Io {
            attempt: "read the keys of the stored secrets in",
            path: path.clone(),
            source,
        };
        let text = match read_text(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(StoredSecretError::KeyMalformed(path));
            }
            Err(error) => return Err(failed(error)),
        };
        let lines = text.lines().map(str::trim);
        let keys: Option<Vec<_>> = lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(parse_key)
            .collect();
        match keys {
            Some(keys) if !keys.is_empty() => Ok(Some(Self { path, is_own, keys })),
            _ => Err(StoredSecretError::KeyMalformed(path)),
        }
    }

    /// Reads the keys, which have to be there.
    pub(super) fn require(paths: &Paths) -> Result<Self, StoredSecretError> {
        let missing = || StoredSecretError::KeyMissing(location(paths).0);
        Self::read(paths)?.ok_or_else(missing)
    }

    /// Reads the keys. If there is no file where quire keeps it, one with a first key is made.
    pub(super) fn read_or_create(paths: &Paths) -> Result<Self, StoredSecretError> {
        let (path, is_own) = location(paths);
        if let Some(keys) = Self::read(paths)? {
            return Ok(keys);
        }
        if !is_own {
            return Err(StoredSecretError::KeyMissing(path));
        }
        let keys = Self {
            path,
            is_own,
            keys: vec![new_key()?],
        };
        keys.write()?;
        Ok(keys)
    }

    /// The key that encrypts; a file without keys is not read.
    pub(super) fn current(&self) -> Result<&SecretKey, StoredSecretError> {
        let missing = || StoredSecretError::KeyMissing(self.path.clone());
        self.keys.first().ok_or_else(missing)
    }

    pub(super) fn find(&self, id: &str) -> Option<&SecretKey> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// Puts a new key first, and writes the file with all keys.
    pub(super) fn add(&mut self) -> Result<(), StoredSecretError> {
        self.keys.insert(0, new_key()?);
        self.write()
    }

    /// Removes all keys but the first from the file.
    pub(super) fn keep_current(&mut self) -> Result<(), StoredSecretError> {
        self.keys.truncate(1);
        self.write()
    }

    fn write(&self) -> Result<(), StoredSecretError> {
        let mut text = Zeroizing::new(String::with_capacity(64 * (self.keys.len() + 4)));
        text.push_str("# The keys of the secrets that `secret set` stored. Without them the secrets are lost.\n");
        for key in &self.keys {
            text.push_str(&Zeroizing::new(STANDARD.encode(key.bytes.as_slice())));
            text.push('\n');
        }
        fsutil::replace_file_durably(&self.path, text.as_bytes(), 0o600).map_err(|source| {
            StoredSecretError::Io {
                attempt: "write the keys of the stored secrets to",
                path: self.path.clone(),
                source,
            }
        })
    }
}

/// Where the file is, and whether quire keeps it. Sessions of SSH do not have the variables of the appliance, so `serve`
/// writes where the file is.
fn location(paths: &Paths) -> (PathBuf, bool) {
    let variable = std::env::var_os(KEY_FILE_VARIABLE).map(PathBuf::from);
    let noted = || fs::read_to_string(paths.secrets_key_location()).ok();
    let elsewhere = variable
        .or_else(|| noted().map(PathBuf::from))
        .filter(|path| !path.as_os_str().is_empty());
    match elsewhere {
        Some(path) => (path, false),
        None => (paths.secrets_key(), true),
    }
}

fn read_text(path: &Path) -> io::Result<Zeroizing<String>> {
    if fs::metadata(path)?.len() > MAX_FILE_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    fs::read_to_string(path).map(Zeroizing::new)
}

fn parse_key(line: &str) -> Option<SecretKey> {
    let decoded = Zeroizing::new(STANDARD.decode(line).ok()?);
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    if decoded.len() != KEY_BYTES {
        return None;
    }
    bytes.copy_from_slice(&decoded);
    Some(SecretKey::new(bytes))
}

fn new_key() -> Result<SecretKey, StoredSecretError> {
    Ok(SecretKey::new(Zeroizing::new(random_bytes()?)))
}
