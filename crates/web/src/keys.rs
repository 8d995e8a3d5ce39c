//! Which keys may connect: a session ends with its key.

use std::io;
use std::sync::{Arc, Mutex};

use quire_types::file_stamp::FileStamp;
use quire_types::paths::Paths;
use quire_types::ssh_keys::{self, AuthorizedKeys};
use quire_types::sync::lock;

/// The keys, with the stamp of the file from which they were read.
type KnownKeys = (Option<FileStamp>, Arc<AuthorizedKeys>);

/// The keys. Their file is read again if its metadata has changed.
#[derive(Debug)]
pub(super) struct Keys {
    paths: Paths,
    known: Mutex<Option<KnownKeys>>,
}

impl Keys {
    pub(super) fn new(paths: Paths) -> Self {
        Self {
            paths,
            known: Mutex::default(),
        }
    }

    /// The keys that may connect now.
    ///
    /// # Errors
    /// The file cannot be read: then no key may be taken for a current one.
    pub(super) fn current(&self) -> io::Result<Arc<AuthorizedKeys>> {
        // The stamp before the content: a change during the read must be noticed the next time.
        let stamp = self.stamp()?;
        let mut known = lock(&self.known);
        if let Some((of, keys)) = known.as_ref()
            && *of == stamp
        {
            return Ok(keys.clone());
        }
        let keys = Arc::new(AuthorizedKeys::parse(&ssh_keys::read(&self.paths)?));
        *known = Some((stamp, keys.clone()));
        Ok(keys)
    }

    /// The stamp of the file that [`ssh_keys::read`] reads; `None` if there is none.
    fn stamp(&self) -> io::Result<Option<FileStamp>> {
        for path in [
            self.paths.merged_authorized_keys(),
            self.paths.authorized_keys(),
        ] {
            match FileStamp::of(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                stamp => return stamp.map(Some),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_types::clock::Millis;

    const A: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGq1N0L0J9vq4S8n3lF2bJtY1o6x7mYV0b2Qy7zq8kXw laptop";
    const B: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHq1N0L0J9vq4S8n3lF2bJtY1o6x7mYV0b2Qy7zq8kXw laptop";

    #[test]
    fn a_changed_file_counts_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path(), folder.path().join("run"));
        let has = |keys: &Keys, line: &str| {
            let fingerprint = &ssh_keys::parse_all(line)[0].fingerprint;
            let address = std::net::Ipv4Addr::LOCALHOST.into();
            let keys = keys.current().unwrap();
            keys.admit_fully(fingerprint, None, address, Millis(0))
                .is_ok()
        };
        let keys = Keys::new(paths.clone());
        assert!(!has(&keys, A));
        std::fs::create_dir(folder.path().join("run")).unwrap();
        // Replaced as `init` does it, and as an editor does; both keys have the same length and name.
        for (line, other) in [(A, B), (B, A), (A, B)] {
            let beside = folder.path().join("new");
            std::fs::write(&beside, line).unwrap();
            std::fs::rename(&beside, paths.merged_authorized_keys()).unwrap();
            assert!(has(&keys, line) && has(&keys, line) && !has(&keys, other));
        }
        std::fs::write(paths.merged_authorized_keys(), "# none\n").unwrap();
        assert!(!has(&keys, A));
        std::fs::remove_file(paths.merged_authorized_keys()).unwrap();
        std::fs::write(paths.authorized_keys(), B).unwrap();
        assert!(has(&keys, B));
        std::fs::remove_file(paths.authorized_keys()).unwrap();
        assert!(!has(&keys, B));
    }

    #[test]
    fn what_cannot_be_read_lets_nobody_in() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path(), folder.path());
        std::fs::create_dir(paths.merged_authorized_keys()).unwrap();
        assert!(Keys::new(paths).current().is_err());
    }
}
