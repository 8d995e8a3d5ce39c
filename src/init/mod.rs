//! PID 1: preflight, then supervision of `sshd` and `quire serve`, then an orderly end.
//!
//! ```text
//! settings ─► boot (accounts, volume, host keys, configuration, keys, engine) ─► supervise
//!                │ one line and exit 78                                             │
//!                ▼                                             signals · reap · children · output · status
//! ```
//!
//! One thread, no async runtime, level 0 only: what keeps the appliance alive stays small.
//! `children` and `shutdown` are pure state machines; `supervise` is the one loop that acts on them.

use std::process::ExitCode;

use nix::sys::prctl;
use nix::unistd::getpid;

mod accounts;
mod boot;
mod children;
mod config_files;
mod engine;
mod error;
mod host_keys;
mod key_line;
mod keys;
mod memory;
mod output;
mod processes;
mod reap;
mod settings;
mod shutdown;
mod signals;
mod spawn;
pub mod status;
mod supervise;
mod tool;
mod volume;

use boot::Report;
use error::{BootError, one_line};
use output::Output;
pub use settings::Options;
use settings::Settings;
use signals::Signals;
use spawn::Spawner;
use supervise::Supervisor;

/// Runs `quire init` until it is told to stop.
#[must_use]
pub fn main(options: Options) -> ExitCode {
    let Ok(output) = Output::standard_error() else {
        return ExitCode::FAILURE;
    };
    let mut report = Report {
        output,
        warnings: Vec::new(),
    };
    match run(options, &mut report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ BootError::Stopped) => {
            report.say(format_args!("{error}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            report.say(format_args!("error: {}", one_line(&error)));
            ExitCode::from(error.code())
        }
    }
}

fn run(options: Options, report: &mut Report) -> Result<(), BootError> {
    // Before anything else: as PID 1 a TERM without a handler is nothing at all.
    let signals = Signals::listen().map_err(BootError::system("listen to signals"))?;
    let settings = Settings::new(options, |name| std::env::var_os(name))?;
    if getpid().as_raw() != 1 {
        prctl::set_child_subreaper(true).map_err(BootError::system("adopt orphaned processes"))?;
    }
    let spawner = Spawner::new().map_err(BootError::io("open", "/dev/null"))?;
    let ready = boot::preflight(&settings, &spawner, &signals, report)?;
    let supervisor = Supervisor::new(&settings, &signals, &spawner, ready, report)?;
    memory::give_back();
    supervisor.run();
    Ok(())
}
