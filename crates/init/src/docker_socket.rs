//! The Docker socket: which group owns it, so that `serve` alone can be added to that group. The
//! socket itself is never changed.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::accounts::Account;
use super::report::PreflightReport;
use super::settings::InitSettings;
use super::spawn::Credentials;
use super::tool::{ToolOutput, ToolRunner};

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// The address of the engine that `serve` will use: of the variables that it reads, else of its configuration file, which a
/// process of its user reads; `None` for the default one.
pub(super) fn engine(
    settings: &InitSettings,
    account: &Account,
    binary: &Path,
    tools: ToolRunner<'_>,
) -> Option<OsString> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(address) = variable("QUIRE_CI_ENGINE") {
        return Some(address);
    }
    let user = Credentials {
        uid: account.uid,
        gid: account.gid,
        groups: vec![account.gid],
    };
    let arguments = [OsStr::new("engine"), settings.paths.data().as_os_str()];
    // A configuration that cannot be read is reported by `serve`, which does not start with it.
    let found = tools
        .run_as(
            "quire engine",
            binary,
            &arguments,
            (!settings.native).then_some(&user),
        )
        .ok()
        .filter(ToolOutput::success)
        .map(|output| output.text.trim().to_owned())
        .filter(|address| !address.is_empty());
    found
        .map(OsString::from)
        .or_else(|| variable("DOCKER_HOST"))
}

/// The group that `serve` has to be in to use the Docker socket; `None` if it needs none.
pub(super) fn supplementary_group(
    account: &Account,
    native: bool,
    engine: Option<&OsStr>,
    report: &mut PreflightReport,
) -> Option<u32> {
    let socket = socket_path(engine)?;
    let found = match fs::metadata(&socket) {
        Ok(found) => found,
        Err(error) => {
            let why = if error.kind() == ErrorKind::NotFound {
                "it does not exist".to_owned()
            } else {
                error.to_string()
            };
            report.warn(format!(
                "no Docker socket at {} ({why}); runs will wait until there is one; mount it, name another engine by DOCKER_HOST or `:ci {{:engine …}}`, or use the host executor",
                socket.display()
            ));
            return None;
        }
    };
    if !found.file_type().is_socket() {
        report.warn(format!(
            "{} is not a socket; runs will wait until it is one; check that Docker is running on the host",
            socket.display()
        ));
        return None;
    }
    if native {
        if let Err(error) = access(&socket, AccessFlags::R_OK | AccessFlags::W_OK) {
            report.warn(format!(
                "user {} cannot use the Docker socket {} ({}); runs will wait until it can; add the user to the group of the socket, or use the host executor",
                account.name,
                socket.display(),
                error.desc()
            ));
        }
        return None;
    }
    let (mode, gid) = (found.mode(), found.gid());
    if mode & 0o002 != 0 {
        report.warn(format!(
            "everyone on this machine can write to the Docker socket {}, and so controls the machine; SSH sessions and runs on the host can, too; remove the permission (chmod o-rw)",
            socket.display()
        ));
    }
    if (found.uid() == account.uid && mode & 0o600 == 0o600) || mode & 0o006 == 0o006 {
        return None;
    }
    if mode & 0o060 != 0o060 {
        report.warn(format!(
            "the mode {1:o} of the Docker socket {0} does not let its group {gid} read and write; runs will wait until it does; grant the group both permissions",
            socket.display(),
            mode & 0o777
        ));
        return None;
    }
    if gid == account.gid {
        report.warn(format!(
            "the group {gid} of the Docker socket {} is the group of the user {}, so SSH sessions can use the engine, too; set PGID to another group",
            socket.display(),
            account.name
        ));
        return None;
    }
    if gid == 0 {
        report.info(format_args!(
            "serve, and nothing else, is added to group 0 (root), which owns the Docker socket {}",
            socket.display()
        ));
    } else {
        report.info(format_args!(
            "serve, and nothing else, is added to group {gid}, which owns the Docker socket {}",
            socket.display()
        ));
    }
    Some(gid)
}

/// Whether there is a Docker socket. Without one, a native appliance executes runs on the host.
pub(super) fn socket_exists(engine: Option<&OsStr>) -> bool {
    socket_path(engine).is_some_and(|path| path.exists())
}

/// The path of the Docker socket; `None` if the engine is not on this machine.
fn socket_path(docker_host: Option<&OsStr>) -> Option<PathBuf> {
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
    fn the_socket_path_follows_docker_host() {
        assert_eq!(socket_path(None), Some(DEFAULT_SOCKET.into()));
        assert_eq!(
            socket_path(Some(OsStr::new(""))),
            Some(DEFAULT_SOCKET.into())
        );
        assert_eq!(
            socket_path(Some(OsStr::new("unix:///x/d.sock"))),
            Some("/x/d.sock".into())
        );
        assert_eq!(
            socket_path(Some(OsStr::new("/x/d.sock"))),
            Some("/x/d.sock".into())
        );
        assert_eq!(socket_path(Some(OsStr::new("tcp://10.0.0.1:2375"))), None);
    }
}
