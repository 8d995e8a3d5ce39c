//! The command lines and environments of the two children: `sshd` and `quire serve`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};

use quire_types::paths::{DATA_VARIABLE, RUNTIME_VARIABLE};

use super::accounts::Account;
use super::config_files;
use super::error::InitError;
use super::settings::{InitSettings, SEARCH_PATH};
use super::spawn::{Credentials, Program};
use super::tool::{ToolRunner, find_program};
use super::volume::DataVolume;

/// Since OpenSSH 9.8, an address with failed log-ins is blocked for a while. Behind the gateway of
/// Docker all clients may have one address, so that a stranger could block the owner: private
/// addresses are exempt.
const PENALTY_EXEMPT: &str = "PerSourcePenaltyExemptList=127.0.0.0/8,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7,fe80::/10";

/// The SSH server, after `sshd -t` has accepted its configuration.
pub(super) fn sshd(
    settings: &InitSettings,
    account: &Account,
    tools: ToolRunner<'_>,
) -> Result<Program, InitError> {
    let failed = InitError::system("run sshd");
    if let Some(text) = &settings.scripts.sshd {
        let (path, arguments) = test_script(text);
        return Program::new(
            &path,
            arguments.iter().map(OsString::as_os_str),
            std::env::vars_os(),
        )
        .map_err(failed);
    }
    let path = find_program("sshd", "Debian package openssh-server")?;
    config_files::create_privilege_separation_dir()?;
    let config = settings.paths.sshd_config();
    let mut arguments = vec![OsStr::new("-e"), OsStr::new("-f"), config.as_os_str()];
    if settings.native && account.uid == 0 {
        // The template forbids root, but natively root may be the only user there is.
        arguments.extend(["-o", "PermitRootLogin=prohibit-password"].map(OsStr::new));
    }
    let test =
        |arguments: &[&OsStr]| tools.run("sshd", &path, &[&[OsStr::new("-t")], arguments].concat());
    let without_penalties = arguments.len();
    arguments.extend(["-o", PENALTY_EXEMPT].map(OsStr::new));
    let mut output = test(&arguments)?;
    if !output.success() {
        // OpenSSH before 9.8 has no penalties, and rejects the option.
        arguments.truncate(without_penalties);
        output = test(&arguments)?;
    }
    if !output.success() {
        return Err(InitError::SshdConfig {
            path: config.clone(),
            message: output.message(),
        });
    }
    let mut environment = vec![("PATH", SEARCH_PATH.into())];
    environment.extend(std::env::var_os("TZ").map(|zone| ("TZ", zone)));
    arguments.insert(0, OsStr::new("-D"));
    Program::new(&path, arguments, environment).map_err(failed)
}

/// What `serve` has to know of the engine before it reads its configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServeEngine {
    /// The group of the socket, if `serve` needs it.
    pub(super) group: Option<u32>,
    /// Whether the socket exists.
    pub(super) is_there: bool,
}

/// `quire serve`, in the container as the user `git` and in the group of the Docker socket.
pub(super) fn serve(
    settings: &InitSettings,
    account: &Account,
    binary: &Path,
    engine: ServeEngine,
    volume: &DataVolume,
) -> Result<Program, InitError> {
    let ((path, arguments), input) = match &settings.scripts.serve {
        Some(text) => (test_script(text), None),
        None => (
            (binary.to_owned(), vec!["serve".into()]),
            File::open(binary).ok(),
        ),
    };
    let program = Program::new(
        &path,
        arguments.iter().map(OsString::as_os_str),
        serve_environment(settings, account, engine.is_there, volume),
    )
    .map_err(InitError::system("run quire serve"))?
    // In the container its user may execute the program and not read it; `client` sends it to other machines.
    .reads(input);
    if settings.native {
        // It runs as this user already, whose runs may use sudo if the user may.
        return Ok(program);
    }
    let groups = std::iter::once(account.gid).chain(engine.group).collect();
    Ok(program.run_as(&Credentials {
        uid: account.uid,
        gid: account.gid,
        groups,
    }))
}

/// A script that replaces a child in tests.
fn test_script(text: &str) -> (PathBuf, Vec<OsString>) {
    ("/bin/sh".into(), vec!["-c".into(), text.into()])
}

/// The whole environment of `init`, because a secret may be in any variable, with changes.
fn serve_environment(
    settings: &InitSettings,
    account: &Account,
    has_engine: bool,
    volume: &DataVolume,
) -> Vec<(OsString, OsString)> {
    let mut set: Vec<(&str, OsString)> = vec![
        ("HOME", account.home.clone().into()),
        ("USER", account.name.clone().into()),
        ("LOGNAME", account.name.clone().into()),
        (DATA_VARIABLE, settings.paths.data().into()),
        (RUNTIME_VARIABLE, settings.paths.runtime().into()),
    ];
    if settings.native {
        set.push(("QUIRE_HTTP_LISTEN", settings.listen.to_string().into()));
        set.push(("QUIRE_HTTP_PORT", settings.http_port.to_string().into()));
        set.push(("QUIRE_SSH_PORT", settings.ssh_port.to_string().into()));
        set.push(("QUIRE_SSH_USER", account.name.clone().into()));
    }
    let is_unset = |name: &str| std::env::var_os(name).is_none_or(|value| value.is_empty());
    if settings.native && is_unset("QUIRE_CI_EXECUTOR") && !has_engine {
        set.push(("QUIRE_CI_EXECUTOR", "host".into()));
    }
    if is_unset("PATH") {
        set.push(("PATH", SEARCH_PATH.into()));
    }
    if volume.on_network && is_unset("QUIRE_SQLITE_JOURNAL") {
        set.push(("QUIRE_SQLITE_JOURNAL", "delete".into()));
    }
    let inherited = std::env::vars_os()
        .filter(|(name, _)| !set.iter().any(|(own, _)| name == own))
        .collect::<Vec<_>>();
    inherited
        .into_iter()
        .chain(set.into_iter().map(|(name, value)| (name.into(), value)))
        .collect()
}
