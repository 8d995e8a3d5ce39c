//! Why the appliance cannot start. Each text is one line that says what is wrong and what to do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use quire_types::error_chain;

/// `EX_CONFIG` of sysexits(3): only an edit of the configuration can help.
pub(super) const EX_CONFIG: i32 = 78;

#[derive(Debug, thiserror::Error)]
pub(super) enum InitError {
    #[error("stopped before the start was complete")]
    Stopped,
    #[error(
        "`quire init` must start as root in the container; remove `user:` (or --user) and set PUID and PGID to choose the user; outside a container, use --native"
    )]
    NotRoot,
    #[error(
        "the container lacks the capabilities {missing}, which quire needs; add them under cap_add"
    )]
    Capabilities { missing: String },
    #[error("{name}={value:?} is not valid; it must be {expected}")]
    Setting {
        name: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error(
        "there is no default data folder, because HOME is not set; name a folder with --data DIR"
    )]
    NoDataFolder,
    #[error("{} cannot be used ({why}); choose another path with {setting}", path.display())]
    Path {
        path: PathBuf,
        why: &'static str,
        setting: &'static str,
    },
    #[error("the image has no user `git` in {}; build it from image/Dockerfile", path.display())]
    NoGitUser { path: PathBuf },
    #[error("user {uid} has no entry in /etc/passwd, which sshd needs; add one")]
    NoName { uid: u32 },
    #[error("the volume {} is mounted read-only; mount it without `:ro`", path.display())]
    ReadOnly { path: PathBuf },
    #[error(
        "a restore into this volume was interrupted; run `quire restore` again with the same backup, or remove {} to start without it",
        path.display()
    )]
    InterruptedRestore { path: PathBuf },
    #[error("{} is not a folder; move it away and start again", path.display())]
    NotFolder { path: PathBuf },
    #[error(
        "user {uid} (group {gid}) cannot write to {}, which belongs to user {owner} and has mode {mode:o}; set PUID and PGID to its owner, or change its owner to {uid}:{gid}",
        path.display()
    )]
    NotWritable {
        path: PathBuf,
        uid: u32,
        gid: u32,
        owner: u32,
        mode: u32,
    },
    #[error(
        "{} belongs to user {owner}, but this process runs as user {uid}; run it as the owner, or choose another folder with --data",
        path.display()
    )]
    Owner { path: PathBuf, owner: u32, uid: u32 },
    #[error(
        "another `quire init` is already running with the data folder {}; stop it first, or choose another folder with --data",
        path.display()
    )]
    Locked { path: PathBuf },
    #[error(
        "{server} cannot listen on {address}, which is in use; stop the program that uses it, or choose another port with {flag}"
    )]
    PortInUse {
        server: &'static str,
        address: SocketAddr,
        flag: &'static str,
    },
    #[error(
        "{server} cannot listen on {address}; choose another port with {flag} or another address with --listen"
    )]
    Port {
        server: &'static str,
        address: SocketAddr,
        flag: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(
        "the host key {} {problem}; restore it from a backup; if there is no backup, delete it and its .pub file and start again: a new key is generated, which every client has to accept",
        path.display()
    )]
    HostKey { path: PathBuf, problem: String },
    #[error("{program} is not installed; install the {package}")]
    NoProgram {
        program: &'static str,
        package: &'static str,
    },
    #[error("{program} failed: {message}")]
    Tool {
        program: &'static str,
        message: String,
    },
    #[error("sshd rejects its configuration {}: {message}", path.display())]
    SshdConfig { path: PathBuf, message: String },
    #[error("cannot {attempt} {}", path.display())]
    Io {
        attempt: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot {attempt}")]
    System {
        attempt: &'static str,
        #[source]
        source: io::Error,
    },
}

impl InitError {
    /// The exit code: 78 if only an edit by the user helps, 1 if a retry may help.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Stopped => 0,
            Self::Io { .. } | Self::System { .. } | Self::Tool { .. } => 1,
            _ => EX_CONFIG as u8,
        }
    }

    /// For `map_err`: an operation on a path that failed.
    pub(super) fn io(
        attempt: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            attempt,
            path,
            source,
        }
    }

    /// For `map_err`: a system call that failed.
    pub(super) fn system<E: Into<io::Error>>(attempt: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System {
            attempt,
            source: source.into(),
        }
    }
}

/// The error and its causes, as one line.
pub(super) fn one_line(error: &dyn std::error::Error) -> String {
    error_chain::chain(error).replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_space() -> io::Error {
        io::Error::from_raw_os_error(28)
    }

    #[test]
    fn every_message_says_what_is_wrong_and_what_to_do() {
        let path = || PathBuf::from("/var/quire");
        let address = || SocketAddr::from(([127, 0, 0, 1], 2222));
        let errors = [
            InitError::Stopped,
            InitError::NotRoot,
            InitError::Capabilities {
                missing: "KILL, SETUID".into(),
            },
            InitError::Setting {
                name: "PUID",
                value: "root".into(),
                expected: "the numeric id of a user other than root",
            },
            InitError::NoDataFolder,
            InitError::Path {
                path: path(),
                why: "it is not UTF-8",
                setting: "--data",
            },
            InitError::NoGitUser {
                path: "/etc/passwd".into(),
            },
            InitError::NoName { uid: 1000 },
            InitError::ReadOnly { path: path() },
            InitError::InterruptedRestore { path: path() },
            InitError::NotFolder { path: path() },
            InitError::NotWritable {
                path: path(),
                uid: 1000,
                gid: 1000,
                owner: 0,
                mode: 0o755,
            },
            InitError::Owner {
                path: path(),
                owner: 1000,
                uid: 1001,
            },
            InitError::Locked { path: path() },
            InitError::PortInUse {
                server: "sshd",
                address: address(),
                flag: "--ssh-port",
            },
            InitError::Port {
                server: "the web server",
                address: address(),
                flag: "--http-port",
                source: io::Error::from_raw_os_error(13),
            },
            InitError::HostKey {
                path: "/var/quire/ssh/ssh_host_ed25519_key".into(),
                problem: "is empty".into(),
            },
            InitError::NoProgram {
                program: "sshd",
                package: "Debian package openssh-server",
            },
            InitError::Tool {
                program: "ssh-keygen",
                message: "exit code 1".into(),
            },
            InitError::SshdConfig {
                path: "/run/quire/sshd_config".into(),
                message: "line 3: Bad configuration option: Prt".into(),
            },
            InitError::io("write", "/x/y")(no_space()),
            InitError::system("start a process")(no_space()),
        ];
        let text: String = errors
            .iter()
            .map(|error| format!("{}: {}\n", error.exit_code(), one_line(error)))
            .collect();
        insta::assert_snapshot!(text);
    }
}
