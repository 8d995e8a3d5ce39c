//! Why the appliance cannot start. Each text says what is wrong and what to do, in one line.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::children::CONFIG_EXIT;

use crate::causes::with_causes;

/// Why preflight ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum BootError {
    #[error("it was asked to stop while starting")]
    Stopped,
    #[error(
        "quire init needs root in the container: take `user:` (or --user) away and name the user with PUID and PGID; without a container, use --native"
    )]
    NotRoot,
    #[error("the container lacks {missing}, which quire needs: add it under cap_add")]
    Capabilities { missing: String },
    #[error("{name}={value:?} is not {expected}")]
    Setting {
        name: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error("there is no folder to keep the data in: give one with --data DIR")]
    NoDataFolder,
    #[error("{} is not a usable path ({why}): choose another with {setting}", path.display())]
    Path {
        path: PathBuf,
        why: &'static str,
        setting: &'static str,
    },
    #[error("the image has no user `git` in {}: build it from image/Dockerfile", path.display())]
    NoGitUser { path: PathBuf },
    #[error("cannot tell the name of the user with id {uid}: sshd needs an entry in /etc/passwd")]
    NoName { uid: u32 },
    #[error("the volume {} is mounted read-only: mount it without `:ro`", path.display())]
    ReadOnly { path: PathBuf },
    #[error("{} is not a folder: move it away", path.display())]
    NotFolder { path: PathBuf },
    #[error(
        "user {uid} (group {gid}) may not write to {}, which belongs to user {owner} with mode {mode:o}: set PUID and PGID to its owner, or change its owner to {uid}:{gid}",
        path.display()
    )]
    NotWritable {
        path: PathBuf,
        uid: u32,
        gid: u32,
        owner: u32,
        mode: u32,
    },
    #[error("{} belongs to user {owner}, and this is user {uid}: run as its owner, or choose another folder with --data", path.display())]
    Owner { path: PathBuf, owner: u32, uid: u32 },
    #[error("another quire init is already running over {}: stop it first, or choose another folder", path.display())]
    Locked { path: PathBuf },
    #[error(
        "{what} cannot listen on {address}, which is in use: stop what uses it, or choose another port with {flag}"
    )]
    PortInUse {
        what: &'static str,
        address: SocketAddr,
        flag: &'static str,
    },
    #[error("{what} cannot listen on {address}: choose another with {flag} or --listen")]
    Port {
        what: &'static str,
        address: SocketAddr,
        flag: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(
        "the host key {} {problem}: bring it back from a backup; or, if every client may have to accept a new one, delete it and its .pub, and start again",
        path.display()
    )]
    HostKey { path: PathBuf, problem: String },
    #[error("{program} is missing: install it ({package})")]
    NoProgram {
        program: &'static str,
        package: &'static str,
    },
    #[error("{program} failed: {says}")]
    Tool { program: &'static str, says: String },
    #[error("sshd refuses its configuration {}: {says}", path.display())]
    SshdConfig { path: PathBuf, says: String },
    #[error("cannot {what} {}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot {what}")]
    System {
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

impl BootError {
    /// 78 where an edit by a person is what helps, else 1.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Stopped => 0,
            Self::Io { .. } | Self::System { .. } | Self::Tool { .. } => 1,
            _ => CONFIG_EXIT as u8,
        }
    }

    /// For `map_err`: an operation on a path that failed.
    pub(super) fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }

    /// For `map_err`: a system call that failed.
    pub(super) fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System {
            what,
            source: source.into(),
        }
    }
}

/// The error and what is behind it, as one line.
pub(super) fn one_line(error: &dyn std::error::Error) -> String {
    with_causes(error).replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_its_cause() {
        let error = BootError::io("write", "/x/y")(io::Error::from_raw_os_error(28));
        assert_eq!(
            one_line(&error),
            "cannot write /x/y: No space left on device (os error 28)"
        );
        assert_eq!(
            (
                error.code(),
                BootError::NotRoot.code(),
                BootError::Stopped.code()
            ),
            (1, 78, 0)
        );
    }
}
