//! Preflight: everything that is checked, created and decided before a child is started.
//!
//! Each failure is one line that says what to do. A problem that quire can live with is a warning.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;

use super::accounts::{self, Account};
use super::authorized_keys::MergedKeys;
use super::capabilities;
use super::config_files;
use super::docker_socket;
use super::error::InitError;
use super::host_keys;
use super::ports;
use super::programs::{self, ServeEngine};
use super::report::PreflightReport;
use super::settings::InitSettings;
use super::signals::Signals;
use super::spawn::{Program, Spawner};
use super::tool::ToolRunner;
use super::volume::{self, DataVolume};

/// Everything that supervision needs.
#[derive(Debug)]
pub(super) struct PreparedAppliance {
    pub(super) sshd: Program,
    pub(super) serve: Program,
    pub(super) keys: MergedKeys,
    /// Logged when both children run.
    pub(super) ready_message: String,
    /// Logged after it if no key can connect.
    pub(super) no_keys_hint: String,
    pub(super) volume: DataVolume,
}

pub(super) fn preflight(
    settings: &InitSettings,
    spawner: &Spawner,
    signals: &Signals,
    report: &mut PreflightReport,
) -> Result<PreparedAppliance, InitError> {
    let account = accounts::choose(settings)?;
    if settings.native && account.uid == 0 {
        report.warn(
            "quire runs natively as root, and so do its runs; start it as an ordinary user".into(),
        );
    }
    if !settings.native {
        capabilities::check(report)?;
    }
    let volume = volume::prepare(settings, &account, signals, report)?;
    config_files::create_runtime_dir(settings.paths.runtime())?;
    remove_old_status(settings)?;
    let binary = std::env::current_exe().map_err(InitError::system("find the quire binary"))?;
    let tools = ToolRunner { spawner, signals };
    let real_sshd = settings.scripts.sshd.is_none();
    let host_keys = if real_sshd {
        host_keys::prepare(settings, &account, tools, report)?
    } else {
        Vec::new()
    };
    if !settings.native && real_sshd {
        accounts::write_ids(&account)?;
    }
    config_files::write(settings, &account, &binary, &host_keys)?;
    let mut keys = MergedKeys::new(settings, &account);
    keys.rebuild().map_err(InitError::io(
        "write",
        settings.paths.merged_authorized_keys(),
    ))?;
    for problem in keys.problems() {
        // Not a warning of preflight: the problems of keys come and go.
        report.log.write(format_args!("warning: {problem}"));
    }
    if settings.native {
        ports::check(settings)?;
    }
    let sshd = programs::sshd(settings, &account, tools)?;
    let engine = if settings.scripts.serve.is_none() {
        docker_socket::engine(settings, &account, &binary, tools)
    } else {
        std::env::var_os("DOCKER_HOST")
    };
    let docker_group =
        docker_socket::supplementary_group(&account, settings.native, engine.as_deref(), report);
    let has_engine = docker_socket::socket_exists(engine.as_deref());
    let serve = programs::serve(
        settings,
        &account,
        &binary,
        ServeEngine {
            group: docker_group,
            is_there: has_engine,
        },
        &volume,
    )?;
    if signals.stop_requested() {
        return Err(InitError::Stopped);
    }
    Ok(PreparedAppliance {
        sshd,
        serve,
        keys,
        ready_message: ready_message(settings, &account),
        no_keys_hint: no_keys_hint(settings),
        volume,
    })
}

/// Removes the status file of the last start, so that it is not taken for this one's.
fn remove_old_status(settings: &InitSettings) -> Result<(), InitError> {
    let status = settings.paths.init_status();
    match fs::remove_file(&status) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(InitError::io("replace", status)(error))
        }
        _ => Ok(()),
    }
}

fn ready_message(settings: &InitSettings, account: &Account) -> String {
    if settings.native {
        format!(
            "ready: ssh -p {} {}@{}, web on http://{}/, data in {}",
            settings.ssh_port,
            account.name,
            settings.listen,
            SocketAddr::new(settings.listen, settings.http_port),
            settings.paths.data().display()
        )
    } else {
        format!(
            "ready: SSH for user {} on port {}, web on port {} of this container",
            account.name, settings.ssh_port, settings.http_port
        )
    }
}

fn no_keys_hint(settings: &InitSettings) -> String {
    let alternative = if settings.native {
        "--keys FILE"
    } else {
        "/etc/quire/authorized_keys"
    };
    format!(
        "no key can connect yet; add a public key to {} (or use {alternative} or QUIRE_AUTHORIZED_KEYS); it takes effect within a second",
        settings.paths.authorized_keys().display()
    )
}

#[cfg(test)]
mod tests {
    use super::super::settings::InitOptions;
    use super::*;

    #[test]
    fn the_first_lines_say_how_to_connect() {
        let account = Account {
            name: "git".into(),
            uid: 1000,
            gid: 1000,
            home: "/".into(),
        };
        let lines = |options| {
            let settings = InitSettings::new(options, |_| None).unwrap();
            format!(
                "{}\n{}\n",
                ready_message(&settings, &account),
                no_keys_hint(&settings)
            )
        };
        let native = InitOptions {
            native: true,
            data: Some("/home/me/quire".into()),
            ..InitOptions::default()
        };
        insta::assert_snapshot!(lines(InitOptions::default()) + &lines(native));
    }
}
