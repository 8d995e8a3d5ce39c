//! Removes a key from the volume.

use super::error::KeyError;
use super::list::{KeyEntry, find, list};
use super::stored::{StoredKeys, wait_until_merged};
use crate::forge::access::Forge;
use crate::forge::error::ForgeError;
use crate::forge::operation_log::recorded;
use quire_types::clock::Millis;
use quire_types::operation::Operation;
use quire_types::ssh_keys;

/// A key that was removed from the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedKey {
    pub entry: KeyEntry,
    /// Whether sshd does not accept it any more because of the volume.
    pub is_in_force: bool,
    /// From where the same key may connect all the same.
    pub still_from: Option<String>,
}

/// Removes a key by its name or fingerprint. It cannot connect any more when this returns, if quire is running.
///
/// `confirmed` says that the user knows if no key that may do everything is left.
pub fn remove(
    forge: &Forge,
    selector: &str,
    confirmed: bool,
    now: Millis,
) -> Result<RemovedKey, ForgeError> {
    let mut stored = StoredKeys::lock(&forge.paths)?;
    let entry = find(forge, selector)?;
    let (name, fingerprint) = (&entry.key.key.name, &entry.key.key.fingerprint);
    if !entry.is_stored {
        return Err(KeyError::FromElsewhere {
            name: name.clone(),
            source_name: entry.source_name().to_owned(),
        }
        .into());
    }
    let stays = |other: &KeyEntry| {
        other.key.key.fingerprint != *fingerprint
            && other.key.limits.is_full()
            && other.key.valid_until.is_none()
    };
    if entry.key.is_full_at(now) && !confirmed && !list(forge)?.iter().any(stays) {
        return Err(KeyError::LastFull(name.clone()).into());
    }
    let operation = Operation::KeyRm {
        name: name.clone(),
        fingerprint: fingerprint.clone(),
        lines: stored.file.remove(fingerprint),
    };
    recorded(forge, operation, |_| Ok(stored.write()?))?;
    ssh_keys::forget_use(&forge.paths, fingerprint);
    let volume = forge.paths.authorized_keys().display().to_string();
    let is_in_force = wait_until_merged(&forge.paths, |keys| {
        let is_merged = |source: Option<&str>| source.is_none_or(|source| source == volume);
        !keys
            .iter()
            .any(|key| key.key.fingerprint == *fingerprint && is_merged(key.source.as_deref()))
    });
    let same = |other: &&KeyEntry| other.key.key.fingerprint == *fingerprint;
    let left = list(forge)?.iter().find(same).cloned();
    Ok(RemovedKey {
        still_from: left.map(|other| other.source_name().to_owned()),
        is_in_force,
        entry,
    })
}
