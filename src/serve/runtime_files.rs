//! The small files that `serve` writes for programs that load no configuration: git, the push path
//! and commands.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use quire_config::Config;
use quire_server::secrets::KEY_FILE_VARIABLE;
use quire_types::base_url::BaseUrl;
use quire_types::fsutil::replace_file;
use quire_types::paths::Paths;
use serde_json::json;

use super::wiring;

/// Creates the folders of the volume that are missing. `quire init` has created them if it runs.
pub(super) fn create_folders(paths: &Paths) -> Result<(), (PathBuf, io::Error)> {
    for folder in [
        paths.repos(),
        paths.spool(),
        paths.backups(),
        paths.data().join("runs"),
    ] {
        std::fs::create_dir_all(&folder).map_err(|error| (folder, error))?;
    }
    Ok(())
}

/// Writes the settings of the push path and of commands: a file with the largest push, one with the minimum of free
/// space, one with the times for which removed things are kept, and a marker file that forbids to create repositories by a
/// push.
pub(super) fn write_push_limits(paths: &Paths, config: &Config) -> io::Result<()> {
    replace(&paths.git_limits(), &config.git.max_push.to_string())?;
    replace(&paths.min_free(), &config.keep.min_free.to_string())?;
    let keep_times =
        serde_json::to_string(&wiring::keep_times(config)).map_err(io::Error::other)?;
    replace(&paths.keep_times(), &keep_times)?;
    let marker = paths.no_push_to_create();
    if !config.git.push_to_create {
        return std::fs::write(marker, "");
    }
    match std::fs::remove_file(marker) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes where the operator keeps the keys of secrets, for commands of SSH sessions, which do not have this environment.
pub(super) fn write_secrets_key_location(paths: &Paths) -> io::Result<()> {
    let file = paths.secrets_key_location();
    match wiring::variable(KEY_FILE_VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => replace(&file, &std::path::absolute(path)?.to_string_lossy()),
        None => match std::fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    }
}

/// Writes the id of this instance, with which new repositories are marked.
pub(super) fn write_instance(paths: &Paths, instance: &str) -> io::Result<()> {
    replace(&paths.instance(), instance)
}

/// Writes where the server listens and the URL that users type.
pub(super) fn write_server_address(
    paths: &Paths,
    listen: SocketAddr,
    base: &BaseUrl,
) -> io::Result<()> {
    let text = json!({ "listen": reachable(listen), "url": base.url, "host": base.host });
    replace(&paths.server_address(), &text.to_string())
}

/// The address by which this machine itself reaches a server that listens on `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Replaces a file atomically. A file that has this content already is not written: a full disk must
/// not prevent the server from starting.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    if std::fs::read(file).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(());
    }
    replace_file(file, text.as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_is_reached_by_the_loopback_address() {
        for (listen, reached) in [
            ("0.0.0.0:3000", "127.0.0.1:3000"),
            ("[::]:3000", "[::1]:3000"),
            ("192.168.1.4:80", "192.168.1.4:80"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), reached);
        }
    }
}
