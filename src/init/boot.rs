//! Preflight: everything that is checked, made and decided before a child is started. Each
//! failure is one line that says what to do; what can be lived with is a warning.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::accounts::{self, Account};
use super::config_files;
use super::engine;
use super::error::BootError;
use super::host_keys;
use super::keys::Keys;
use super::output::Output;
use super::settings::{SEARCH_PATH, Settings};
use super::signals::Signals;
use super::spawn::{Identity, Program, Spawner};
use super::tool::{Tools, find};
use super::volume::{self, Volume};
use crate::paths::{DATA_VARIABLE, RUNTIME_VARIABLE};

/// Capabilities without which sshd cannot become a user or be stopped, and their bits.
const NEEDED: [(u32, &str); 4] = [
    (5, "KILL"),
    (6, "SETGID"),
    (7, "SETUID"),
    (18, "SYS_CHROOT"),
];
/// Capabilities without which some volumes and socket owners are out of reach.
const WANTED: [(u32, &str); 3] = [(0, "CHOWN"), (1, "DAC_OVERRIDE"), (3, "FOWNER")];

/// What preflight says, and the warnings that stay in the status file.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) output: Output,
    pub(super) warnings: Vec<String>,
}

impl Report {
    pub(super) fn say(&mut self, text: fmt::Arguments<'_>) {
        self.output.say(text);
    }

    pub(super) fn warn(&mut self, text: String) {
        self.output.say(format_args!("warning: {text}"));
        self.warnings.push(text);
    }
}

/// All that supervision needs.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) sshd: Program,
    pub(super) serve: Program,
    pub(super) keys: Keys,
    /// What to tell when both children are up.
    pub(super) greeting: String,
    /// Keeps other `init`s away.
    pub(super) _volume: Volume,
}

/// Does all of it.
pub(super) fn preflight(
    settings: &Settings,
    spawner: &Spawner,
    signals: &Signals,
    report: &mut Report,
) -> Result<Ready, BootError> {
    let account = accounts::decide(settings)?;
    if settings.native && account.uid == 0 {
        report.warn(
            "quire runs natively as root, and so do its runs; better use an ordinary user".into(),
        );
    }
    if !settings.native {
        check_capabilities(report)?;
    }
    let volume = volume::prepare(settings, &account, signals, report)?;
    make_runtime(settings)?;
    let binary = std::env::current_exe().map_err(BootError::system("find the quire binary"))?;
    let tools = Tools { spawner, signals };
    let scripted = settings.scripts.sshd.is_some();
    let host_keys = if scripted {
        Vec::new()
    } else {
        host_keys::prepare(settings, &account, tools, report)?
    };
    if !settings.native && !scripted {
        accounts::write(&account)?;
    }
    config_files::write(settings, &account, &binary, &host_keys)?;
    let mut keys = Keys::new(settings, &account);
    keys.renew()
        .map_err(BootError::io("write", settings.paths.effective_keys()))?;
    for problem in keys.problems() {
        report.output.say(format_args!("warning: {problem}"));
    }
    if settings.native {
        check_ports(settings)?;
    }
    let sshd = sshd(settings, &account, tools)?;
    let group = engine::group(
        &account,
        settings.native,
        std::env::var_os("DOCKER_HOST").as_deref(),
        report,
    );
    let serve = serve(settings, &account, &binary, group, &volume)?;
    if signals.stop_asked() {
        return Err(BootError::Stopped);
    }
    Ok(Ready {
        sshd,
        serve,
        keys,
        greeting: greeting(settings, &account),
        _volume: volume,
    })
}

fn check_capabilities(report: &mut Report) -> Result<(), BootError> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let missing = missing_capabilities(&status, &NEEDED);
    if !missing.is_empty() {
        return Err(BootError::Capabilities {
            missing: format!("the capabilities {missing}"),
        });
    }
    let missing = missing_capabilities(&status, &WANTED);
    if !missing.is_empty() {
        report.warn(format!(
            "the container lacks the capabilities {missing}: a volume of another owner may be out of reach; add them under cap_add"
        ));
    }
    Ok(())
}

fn missing_capabilities(status: &str, wanted: &[(u32, &str)]) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(has) = line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()) else {
        return String::new();
    };
    wanted
        .iter()
        .filter(|(bit, _)| has & (1 << bit) == 0)
        .map(|(_, name)| *name)
        .collect::<Vec<_>>()
        .join(", ")
}

fn make_runtime(settings: &Settings) -> Result<(), BootError> {
    config_files::make_runtime_folder(settings.paths.runtime())?;
    let status = settings.paths.status();
    match fs::remove_file(&status) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(BootError::io("replace", status)(error))
        }
        _ => Ok(()),
    }
}

/// A folder for its owner alone, whatever was there of it.
pub(super) fn make_private_folder(path: &Path) -> Result<(), BootError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other.map_err(BootError::io("make the folder", path)),
    }
}

/// Natively somebody else may have the port; in the container nobody can.
fn check_ports(settings: &Settings) -> Result<(), BootError> {
    let wanted = [
        (
            "sshd",
            settings.ssh_port,
            "--ssh-port",
            settings.scripts.sshd.is_none(),
        ),
        (
            "the web",
            settings.http_port,
            "--http-port",
            settings.scripts.serve.is_none(),
        ),
    ];
    for (what, port, flag, _) in wanted.into_iter().filter(|(.., real)| *real) {
        let address = SocketAddr::new(settings.listen, port);
        match TcpListener::bind(address) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                return Err(BootError::PortInUse {
                    what,
                    address,
                    flag,
                });
            }
            Err(source) => {
                return Err(BootError::Port {
                    what,
                    address,
                    flag,
                    source,
                });
            }
        }
    }
    if settings.ssh_port == settings.http_port && settings.scripts.sshd.is_none() {
        let address = SocketAddr::new(settings.listen, settings.http_port);
        return Err(BootError::PortInUse {
            what: "the web",
            address,
            flag: "--http-port",
        });
    }
    Ok(())
}

/// A script in the place of a child, for tests.
fn script(text: &str) -> (PathBuf, Vec<OsString>) {
    ("/bin/sh".into(), vec!["-c".into(), text.into()])
}

/// Since OpenSSH 9.8 failed log-ins get an address shut out for a while. Behind Docker's gateway all
/// clients may have one address, and a stranger would shut out the owner: private ones are exempt.
const PENALTY_EXEMPT: &str = "PerSourcePenaltyExemptList=127.0.0.0/8,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7,fe80::/10";

fn sshd(settings: &Settings, account: &Account, tools: Tools<'_>) -> Result<Program, BootError> {
    let run = BootError::system("run sshd");
    if let Some(text) = &settings.scripts.sshd {
        let (path, arguments) = script(text);
        return Program::new(
            &path,
            arguments.iter().map(OsString::as_os_str),
            std::env::vars_os(),
        )
        .map_err(run);
    }
    let path = find("sshd", "Debian package openssh-server")?;
    config_files::make_privilege_separation_folder()?;
    let config = settings.paths.sshd_config();
    let mut arguments = vec![OsStr::new("-e"), OsStr::new("-f"), config.as_os_str()];
    if settings.native && account.uid == 0 {
        // The template says no; natively root may be the only user there is.
        arguments.extend(["-o", "PermitRootLogin=prohibit-password"].map(OsStr::new));
    }
    let accepted =
        |arguments: &[&OsStr]| tools.run("sshd", &path, &[&[OsStr::new("-t")], arguments].concat());
    let plain = arguments.len();
    arguments.extend(["-o", PENALTY_EXEMPT].map(OsStr::new));
    let mut said = accepted(&arguments)?;
    if !said.worked() {
        // Before 9.8 there are no penalties, and no such option.
        arguments.truncate(plain);
        said = accepted(&arguments)?;
    }
    if !said.worked() {
        return Err(BootError::SshdConfig {
            path: config.clone(),
            says: said.words(),
        });
    }
    let mut environment = vec![("PATH", SEARCH_PATH.into())];
    environment.extend(std::env::var_os("TZ").map(|zone| ("TZ", zone)));
    arguments.insert(0, OsStr::new("-D"));
    Program::new(&path, arguments, environment).map_err(run)
}

fn serve(
    settings: &Settings,
    account: &Account,
    binary: &Path,
    group: Option<u32>,
    volume: &Volume,
) -> Result<Program, BootError> {
    let (path, arguments) = match &settings.scripts.serve {
        Some(text) => script(text),
        None => (binary.to_owned(), vec!["serve".into()]),
    };
    let environment = serve_environment(settings, account, volume);
    let program = Program::new(
        &path,
        arguments.iter().map(OsString::as_os_str),
        environment,
    )
    .map_err(BootError::system("run quire serve"))?;
    if settings.native {
        // It is this very user already, whose runs may use sudo as the user may.
        return Ok(program);
    }
    let groups = std::iter::once(account.gid).chain(group).collect();
    Ok(program.run_as(&Identity {
        uid: account.uid,
        gid: account.gid,
        groups,
    }))
}

/// The whole of ours (a secret may be named after any variable), with what `init` knows better.
fn serve_environment(
    settings: &Settings,
    account: &Account,
    volume: &Volume,
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
    let unset = |name: &str| std::env::var_os(name).is_none_or(|value| value.is_empty());
    if settings.native
        && unset("QUIRE_CI_EXECUTOR")
        && !engine::is_there(std::env::var_os("DOCKER_HOST").as_deref())
    {
        set.push(("QUIRE_CI_EXECUTOR", "host".into()));
    }
    if unset("PATH") {
        set.push(("PATH", SEARCH_PATH.into()));
    }
    if volume.on_network && unset("QUIRE_SQLITE_JOURNAL") {
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

fn greeting(settings: &Settings, account: &Account) -> String {
    if settings.native {
        let (host, web) = (
            settings.listen,
            SocketAddr::new(settings.listen, settings.http_port),
        );
        format!(
            "ready: ssh -p {} {}@{host}, web on http://{web}/, data in {}",
            settings.ssh_port,
            account.name,
            settings.paths.data().display()
        )
    } else {
        format!(
            "ready: SSH for user {} on port {}, web on port {} of this container",
            account.name, settings.ssh_port, settings.http_port
        )
    }
}

/// Where a person puts a first key.
pub(super) fn key_hint(settings: &Settings) -> (PathBuf, &'static str) {
    (
        settings.paths.authorized_keys(),
        if settings.native {
            "--keys FILE"
        } else {
            "/etc/quire/authorized_keys"
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        assert_eq!(
            missing_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n", &NEEDED),
            ""
        );
        assert_eq!(
            missing_capabilities("CapEff:\t00000000000000c0\n", &NEEDED),
            "KILL, SYS_CHROOT"
        );
        assert_eq!(
            missing_capabilities("", &NEEDED),
            "",
            "a kernel that does not say is not a refusal"
        );
    }
}
