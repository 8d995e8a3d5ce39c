//! When each key was used last: the time of an empty file that is named after its fingerprint.
//!
//! A session of git writes it, so it may cost nothing: no database, and no sync.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use crate::clock::Millis;
use crate::paths::Paths;

/// Notes that a key has opened a session. A disk that is full or cannot be written is no reason to refuse one.
pub fn record_use(paths: &Paths, fingerprint: &str, now: Millis) {
    let path = path_of(paths, fingerprint);
    let time = UNIX_EPOCH + Duration::from_millis(now.since(Millis(0)));
    let touch = || File::create(&path)?.set_modified(time);
    if let Err(error) = touch()
        && error.kind() == io::ErrorKind::NotFound
        && fs::create_dir_all(paths.key_uses()).is_ok()
    {
        let _ = touch();
    }
}

/// When a key opened a session last, if it is known.
#[must_use]
pub fn last_use(paths: &Paths, fingerprint: &str) -> Option<Millis> {
    let modified = fs::metadata(path_of(paths, fingerprint)).ok()?.modified();
    let since = modified.ok()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(Millis)
}

/// Forgets the uses of a key.
pub fn forget_use(paths: &Paths, fingerprint: &str) {
    let _ = fs::remove_file(path_of(paths, fingerprint));
}

fn path_of(paths: &Paths, fingerprint: &str) -> PathBuf {
    let digest = fingerprint.strip_prefix("SHA256:").unwrap_or(fingerprint);
    // The alphabet of base64 for file names.
    paths
        .key_uses()
        .join(digest.replace('+', "-").replace('/', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_known_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path().join("data"), folder.path().join("run"));
        let key = "SHA256:ab/c+d";
        assert_eq!(last_use(&paths, key), None);
        for now in [1_785_000_000_001, 1_785_000_000_002].map(Millis) {
            record_use(&paths, key, now);
            assert_eq!(last_use(&paths, key), Some(now));
        }
        assert!(paths.key_uses().join("ab_c-d").exists());
        forget_use(&paths, key);
        assert_eq!(last_use(&paths, key), None);
    }
}
