//! Which keys there are.

use super::error::KeyError;
use super::stored;
use crate::forge::access::Forge;
use crate::forge::error::ForgeError;
use quire_types::clock::Millis;
use quire_types::ssh_keys::{self, FileKey, KeyFile};

/// A key that may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEntry {
    pub key: FileKey,
    /// Whether it is in the file of the volume, and so can be removed.
    pub is_stored: bool,
    /// When it opened a session last, if that is known.
    pub last_used_at: Option<Millis>,
}

impl KeyEntry {
    /// Where it comes from, for a sentence.
    #[must_use]
    pub fn source_name(&self) -> &str {
        let other = "another file than that of the volume";
        self.key.source.as_deref().unwrap_or(other)
    }
}

/// Lists the keys that may connect: those that sshd reads, and those of the volume that are not merged yet.
pub fn list(forge: &Forge) -> Result<Vec<KeyEntry>, ForgeError> {
    let paths = &forge.paths;
    let volume = paths.authorized_keys().display().to_string();
    let stored = stored::read(paths)?.keys();
    let is_stored = |key: &FileKey| {
        let same = |stored: &&FileKey| stored.key.fingerprint == key.key.fingerprint;
        stored.iter().any(|stored| same(&stored))
    };
    let text = ssh_keys::read(paths).map_err(ForgeError::Keys)?;
    let mut keys = KeyFile::new(text).keys();
    // What has just been removed may not have been merged yet.
    keys.retain(|key| key.source.as_deref() != Some(&volume) || is_stored(key));
    for key in &stored {
        let is_there = keys
            .iter()
            .any(|other| other.key.fingerprint == key.key.fingerprint);
        if !is_there {
            keys.push(key.clone());
        }
    }
    let entry = |mut key: FileKey| {
        let is_stored = is_stored(&key);
        if is_stored {
            key.source = Some(volume.clone());
        }
        KeyEntry {
            is_stored,
            last_used_at: ssh_keys::last_use(paths, &key.key.fingerprint),
            key,
        }
    };
    Ok(keys.into_iter().map(entry).collect())
}

/// The key with this name or fingerprint.
pub fn find(forge: &Forge, selector: &str) -> Result<KeyEntry, ForgeError> {
    let selector = selector.trim();
    let keys = list(forge)?;
    let by_fingerprint = keys.iter().find(|entry| {
        let fingerprint = &entry.key.key.fingerprint;
        fingerprint == selector || fingerprint.strip_prefix("SHA256:") == Some(selector)
    });
    if let Some(found) = by_fingerprint {
        return Ok(found.clone());
    }
    let mut named = keys
        .into_iter()
        .filter(|entry| entry.key.key.name == selector)
        .collect::<Vec<_>>();
    // The same key can have several lines.
    named.dedup_by(|a, b| a.key.key.fingerprint == b.key.key.fingerprint);
    match named.as_slice() {
        [] => Err(KeyError::NotFound(selector.to_owned()).into()),
        [_] => Ok(named.remove(0)),
        several => Err(KeyError::Ambiguous {
            name: selector.to_owned(),
            fingerprints: several
                .iter()
                .map(|entry| entry.key.key.fingerprint.clone())
                .collect(),
        }
        .into()),
    }
}
