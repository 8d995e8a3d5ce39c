//! The key by which this appliance is known to remotes over SSH. It is generated at its first use and never replaced.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use uuid::Uuid;

use super::error::GitError;
use super::git::Git;
use super::remote_ssh::HOST_ALIAS;
use quire_types::fsutil::sync_folder;

const VERB: &str = "ssh-keygen";

/// A file with the known key of one remote, which is removed when this is dropped.
#[derive(Debug)]
pub struct KnownHostsFile {
    path: PathBuf,
}

impl Drop for KnownHostsFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl KnownHostsFile {
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The type and the key, in base64, that the file has now.
    #[must_use]
    pub fn host_key(&self) -> Option<String> {
        let text = fs::read_to_string(&self.path).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(HOST_ALIAS))?;
        let mut words = line.split_ascii_whitespace();
        Some(format!("{} {}", words.next()?, words.next()?))
    }
}

impl Git {
    /// The private key for remotes, which is generated if there is none.
    pub fn remote_key(&self) -> Result<PathBuf, GitError> {
        let folder = self.paths.mirrors();
        let key = folder.join("id_ed25519");
        let failed = |source| GitError::Io {
            action: "create",
            path: key.clone(),
            source,
        };
        if key.exists() {
            return Ok(key);
        }
        fs::create_dir_all(&folder).map_err(failed)?;
        let draft = folder.join(format!("draft-{}", Uuid::now_v7()));
        let public = draft.with_extension("pub");
        let mut command = keygen();
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", "quire mirror", "-f"]);
        Self::run(command.arg(&draft), VERB)?;
        let _ = fs::remove_file(public);
        // Another process may have made one in between, and that one counts.
        let linked = fs::File::open(&draft)
            .and_then(|file| file.sync_all())
            .and_then(|()| match fs::hard_link(&draft, &key) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
                _ => sync_folder(&folder),
            });
        let _ = fs::remove_file(&draft);
        linked.map_err(failed)?;
        Ok(key)
    }

    /// The public half of the key for remotes, as a line of `authorized_keys`.
    pub fn remote_public_key(&self) -> Result<String, GitError> {
        let key = self.remote_key()?;
        let mut command = keygen();
        command.args(["-y", "-f"]).arg(key);
        let line = Self::run(&mut command, VERB)?;
        Ok(String::from_utf8_lossy(&line).trim().to_owned())
    }

    /// A file for ssh with this host key, or an empty one.
    pub fn known_hosts_file(&self, host_key: Option<&str>) -> Result<KnownHostsFile, GitError> {
        let folder = self.paths.mirrors();
        let path = folder.join(format!("draft-{}", Uuid::now_v7()));
        let line = host_key.map_or_else(String::new, |key| format!("{HOST_ALIAS} {key}\n"));
        let written: io::Result<()> =
            fs::create_dir_all(&folder).and_then(|()| fs::write(&path, line));
        let file = KnownHostsFile { path };
        written.map_err(|source| GitError::Io {
            action: "write",
            path: file.path.clone(),
            source,
        })?;
        Ok(file)
    }

    /// Removes what a crash left beside the key.
    pub fn remove_remote_leftovers(&self) {
        let entries = fs::read_dir(self.paths.mirrors()).into_iter().flatten();
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with("draft-") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that starts ssh-keygen"
)]
fn keygen() -> Command {
    let mut command = Command::new("ssh-keygen");
    command.stdin(Stdio::null());
    command
}
