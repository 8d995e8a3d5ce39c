//! The Docker socket: whose group it is, and that `serve` alone gets that group. The socket
//! itself is never changed.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::accounts::Account;
use super::boot::Report;

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// The group that `serve` needs for the engine, if it needs one.
pub(super) fn group(
    account: &Account,
    native: bool,
    docker_host: Option<&OsStr>,
    report: &mut Report,
) -> Option<u32> {
    let socket = socket(docker_host)?;
    let found = match fs::metadata(&socket) {
        Ok(found) => found,
        Err(error) => {
            let why = if error.kind() == ErrorKind::NotFound {
                "there is none".to_owned()
            } else {
                error.to_string()
            };
            report.warn(format!(
                "no Docker socket at {} ({why}): runs will wait; mount it, set DOCKER_HOST, or choose the host executor",
                socket.display()
            ));
            return None;
        }
    };
    if !found.file_type().is_socket() {
        report.warn(format!(
            "{} is not a socket: runs will wait; is Docker running on the host?",
            socket.display()
        ));
        return None;
    }
    if native {
        if let Err(error) = access(&socket, AccessFlags::R_OK | AccessFlags::W_OK) {
            report.warn(format!(
                "the Docker socket {} is closed to {} ({}): runs will wait; join its group, or choose the host executor",
                socket.display(),
                account.name,
                error.desc()
            ));
        }
        return None;
    }
    let (mode, gid) = (found.mode(), found.gid());
    if (found.uid() == account.uid && mode & 0o600 == 0o600) || mode & 0o006 == 0o006 {
        return None;
    }
    if mode & 0o060 != 0o060 {
        report.warn(format!(
            "the Docker socket {} is closed to its group (mode {:o}): runs will wait; let its group {gid} read and write it",
            socket.display(),
            mode & 0o777
        ));
        return None;
    }
    if gid == account.gid {
        return None;
    }
    if gid == 0 {
        report.say(format_args!("the Docker socket belongs to root's group (0): serve gets that group, nothing else does"));
    } else {
        report.say(format_args!(
            "serve gets group {gid}, that of the Docker socket {}",
            socket.display()
        ));
    }
    Some(gid)
}

/// Whether an engine's socket is there. Natively runs are executed on the host where it is not.
pub(super) fn is_there(docker_host: Option<&OsStr>) -> bool {
    socket(docker_host).is_some_and(|path| path.exists())
}

/// The socket in question; none where the engine is somewhere else.
fn socket(docker_host: Option<&OsStr>) -> Option<PathBuf> {
    match docker_host.filter(|host| !host.is_empty()) {
        None => Some(DEFAULT_SOCKET.into()),
        Some(host) => match host.to_str()?.strip_prefix("unix://") {
            Some(path) => Some(path.into()),
            None => host
                .to_str()?
                .starts_with('/')
                .then(|| Path::new(host).to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_engine_is() {
        assert_eq!(socket(None), Some(DEFAULT_SOCKET.into()));
        assert_eq!(socket(Some(OsStr::new(""))), Some(DEFAULT_SOCKET.into()));
        assert_eq!(
            socket(Some(OsStr::new("unix:///x/d.sock"))),
            Some("/x/d.sock".into())
        );
        assert_eq!(
            socket(Some(OsStr::new("/x/d.sock"))),
            Some("/x/d.sock".into())
        );
        assert_eq!(socket(Some(OsStr::new("tcp://10.0.0.1:2375"))), None);
    }
}
