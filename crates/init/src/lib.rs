//! PID 1: preflight, then supervision of `sshd` and `quire serve`, then an orderly end.
//!
//! ```text
//! settings ─► preflight (accounts, volume, host keys, configuration, keys, socket) ─► supervise
//!                │ one line and exit 78                                                 │
//!                ▼                                           signals · reap · child · output · status_file
//! ```
//!
//! One thread and no async runtime: the process that keeps the appliance alive stays small.
//! `restart` and `shutdown` are pure state machines; `supervise` is the one loop that acts on them.

use std::process::ExitCode;

use nix::sys::prctl;
use nix::unistd::getpid;
use quire_types::memory_protection::protect_memory;

mod accounts;
mod authorized_keys;
mod capabilities;
mod child;
mod config_files;
mod docker_socket;
mod error;
mod files;
mod host_keys;
mod memory;
mod output;
mod ports;
mod preflight;
mod privileges;
mod probe;
mod processes;
mod programs;
mod reap;
mod report;
mod restart;
mod settings;
mod shutdown;
mod signals;
mod spawn;
mod status_file;
mod supervise;
mod tool;
mod volume;

use error::{InitError, one_line};
use output::StderrLog;
use report::PreflightReport;
pub use settings::InitOptions;
use settings::InitSettings;
use signals::Signals;
use spawn::Spawner;
use supervise::Supervisor;

/// Runs `quire init` until a stop is requested.
#[must_use]
pub fn main(options: InitOptions) -> ExitCode {
    let Ok(log) = StderrLog::open() else {
        return ExitCode::FAILURE;
    };
    let mut report = PreflightReport {
        log,
        warnings: Vec::new(),
    };
    match run(options, &mut report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ InitError::Stopped) => {
            report.info(format_args!("{error}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            report.info(format_args!("error: {}", one_line(&error)));
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(options: InitOptions, report: &mut PreflightReport) -> Result<(), InitError> {
    // Natively it runs as the user whose sessions it starts, and its environment may hold secrets.
    protect_memory().map_err(InitError::system("forbid to be traced"))?;
    // Before all else that takes time: PID 1 ignores a TERM for which it has no handler.
    let signals = Signals::install().map_err(InitError::system("install signal handlers"))?;
    let settings = InitSettings::new(options, |name| std::env::var_os(name))?;
    if getpid().as_raw() != 1 {
        prctl::set_child_subreaper(true).map_err(InitError::system("adopt orphaned processes"))?;
    }
    let spawner = Spawner::new().map_err(InitError::io("open", "/dev/null"))?;
    let prepared = preflight::preflight(&settings, &spawner, &signals, report)?;
    let supervisor = Supervisor::new(&settings, &signals, &spawner, prepared, report)?;
    memory::release_boot_memory();
    supervisor.run();
    Ok(())
}
