//! Which keys may connect, for sessions that last no longer than their key.

use std::collections::HashSet;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::paths::Paths;
use crate::public_keys;

/// What tells one state of a file from another.
type Mark = Option<(u64, u64, u64, [i64; 4])>;

/// The keys, read again when their file is another one: asking costs a look at the file, no reading.
#[derive(Debug)]
pub(super) struct Keys {
    paths: Paths,
    known: Mutex<Option<(Mark, Arc<HashSet<String>>)>>,
}

impl Keys {
    pub(super) fn new(paths: Paths) -> Self {
        Self {
            paths,
            known: Mutex::default(),
        }
    }

    /// Whether the key of this fingerprint may connect now.
    ///
    /// # Errors
    /// The file cannot be read: then nobody knows, and nobody should pass.
    pub(super) fn has(&self, fingerprint: &str) -> io::Result<bool> {
        Ok(self.fingerprints()?.contains(fingerprint))
    }

    fn fingerprints(&self) -> io::Result<Arc<HashSet<String>>> {
        // The mark first: a change while the file is read is seen the next time.
        let mark = self.mark()?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, fingerprints)) = known.as_ref()
            && *of == mark
        {
            return Ok(fingerprints.clone());
        }
        let keys = public_keys::parse_all(&public_keys::read(&self.paths)?);
        let fingerprints: Arc<HashSet<String>> =
            Arc::new(keys.into_iter().map(|key| key.fingerprint).collect());
        *known = Some((mark, fingerprints.clone()));
        Ok(fingerprints)
    }

    /// The state of the file that [`public_keys::read`] reads.
    fn mark(&self) -> io::Result<Mark> {
        let state = |m: &Metadata| {
            (
                m.dev(),
                m.ino(),
                m.len(),
                [m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()],
            )
        };
        for path in [self.paths.effective_keys(), self.paths.authorized_keys()] {
            match std::fs::metadata(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                found => return found.map(|found| Some(state(&found))),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGq1N0L0J9vq4S8n3lF2bJtY1o6x7mYV0b2Qy7zq8kXw laptop";
    const B: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHq1N0L0J9vq4S8n3lF2bJtY1o6x7mYV0b2Qy7zq8kXw laptop";

    #[test]
    fn a_changed_file_counts_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path(), folder.path().join("run"));
        let print = |line: &str| public_keys::parse_all(line)[0].fingerprint.clone();
        let keys = Keys::new(paths.clone());
        assert!(!keys.has(&print(A)).unwrap());
        std::fs::create_dir(folder.path().join("run")).unwrap();
        // Replaced as `init` does it, and as an editor does; both keys have the same length and name.
        for (line, other) in [(A, B), (B, A), (A, B)] {
            let beside = folder.path().join("new");
            std::fs::write(&beside, line).unwrap();
            std::fs::rename(&beside, paths.effective_keys()).unwrap();
            assert!(
                keys.has(&print(line)).unwrap()
                    && keys.has(&print(line)).unwrap()
                    && !keys.has(&print(other)).unwrap()
            );
        }
        std::fs::write(paths.effective_keys(), "# none\n").unwrap();
        assert!(!keys.has(&print(A)).unwrap());
        std::fs::remove_file(paths.effective_keys()).unwrap();
        std::fs::write(paths.authorized_keys(), B).unwrap();
        assert!(keys.has(&print(B)).unwrap());
        std::fs::remove_file(paths.authorized_keys()).unwrap();
        assert!(!keys.has(&print(B)).unwrap());
    }

    #[test]
    fn what_cannot_be_read_lets_nobody_in() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path(), folder.path());
        std::fs::create_dir(paths.effective_keys()).unwrap();
        assert!(Keys::new(paths).has("SHA256:x").is_err());
    }
}
