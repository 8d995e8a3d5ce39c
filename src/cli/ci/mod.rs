//! `quire ci`: pipelines on the author's own machine.
//!
//! ```text
//! working tree or commit ([`tree`]) ─► driver ─► checked graph ─┬─► shown ([`show`], [`check`])
//!                                                               └─► played ([`run`], by the runner's own code)
//! ```
//! The driver, the checks, the schedule, the executors and the redaction are the appliance's; only
//! where the tree comes from and where progress goes to are this module's own. [`init`] writes a
//! first pipeline.

mod archive;
mod board;
mod check;
mod engine;
mod init;
mod interrupt;
mod push;
mod run;
mod screen;
mod show;
mod stage;
mod standing;
mod tree;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::report::{FAILED, USAGE};
use crate::driver::DriverError;
use crate::executor::ExecutorError;
use crate::git::GitError;
use crate::names::NameError;
use crate::pipeline::{Diagnostic, PipelineText, ScheduleError};

/// Pipelines on this machine.
#[derive(Debug, clap::Args)]
pub(super) struct CiArguments {
    #[command(subcommand)]
    command: CiCommand,
}

#[derive(Debug, Subcommand)]
enum CiCommand {
    /// Check the pipeline of this working tree, and print its graph or its errors
    Check(check::CheckArguments),
    /// Run the pipeline of this working tree, as the appliance would after a push
    Run(run::RunArguments),
    /// Write a first pipeline, .quire/ci.fnl, for the kind of project that is found here
    Init,
}

/// Why `ci` could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
enum CiError {
    /// No pipeline here.
    #[error(
        "there is no pipeline: neither .quire/ci.fnl nor .quire/ci.lua in {0}; `quire ci init` writes a first one"
    )]
    NoPipeline(String),
    /// A file could not be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// A file could not be written.
    #[error("cannot write {}", .0.display())]
    Write(PathBuf, #[source] std::io::Error),
    /// Too many or too large files.
    #[error("{path}: {why}")]
    TooMuch {
        /// The file or folder.
        path: String,
        /// In what way.
        why: &'static str,
    },
    /// The pipeline is wrong.
    #[error("the pipeline is wrong")]
    Wrong(Vec<Diagnostic>, Vec<PipelineText>),
    /// The driver failed.
    #[error(transparent)]
    Driver(DriverError),
    /// Git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// This program could not find or start itself.
    #[error("cannot start the pipeline's driver")]
    Start(#[source] std::io::Error),
    /// A commit was asked for where there is none.
    #[error("`{0}` names no commit here")]
    NoCommit(String),
    /// A commit was asked for outside of any checkout.
    #[error("{} is in no git checkout, so there is no commit to take", .0.display())]
    NoCheckout(PathBuf),
    /// There are no such jobs to run.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// A word on the command line is no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Two words on the command line contradict each other.
    #[error("{0}")]
    Usage(&'static str),
    /// There is no engine to run containers on.
    #[error("{0}; `--executor host` runs the commands on this machine instead")]
    Engine(ExecutorError),
    /// What happens could not be shown.
    #[error("the output cannot be written")]
    Show(#[source] std::io::Error),
    /// There is a pipeline already.
    #[error("{} is there already; nothing was written", .0.display())]
    Exists(PathBuf),
}

impl CiError {
    /// The error and its causes, in one line.
    fn words(&self) -> String {
        let mut words = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            let _ = write!(words, ": {cause}");
            source = cause.source();
        }
        words
    }

    /// Whether the mistake is on the command line.
    fn code(&self) -> u8 {
        match self {
            Self::NoCommit(_)
            | Self::NoCheckout(_)
            | Self::Schedule(_)
            | Self::Name(_)
            | Self::Usage(_) => USAGE,
            _ => FAILED,
        }
    }

    /// Says it on standard error and gives the exit code.
    fn print(&self) -> ExitCode {
        let text = match self {
            Self::Wrong(diagnostics, texts) => show::errors(diagnostics, texts),
            _ => format!("quire: {}\n", self.words()),
        };
        let _ = std::io::stderr().write_all(text.as_bytes());
        ExitCode::from(self.code())
    }
}

/// Runs `quire ci …`.
pub(super) fn run(arguments: CiArguments) -> ExitCode {
    match arguments.command {
        CiCommand::Check(arguments) => check::check(&arguments),
        CiCommand::Run(arguments) => run::run(&arguments),
        CiCommand::Init => init::init(),
    }
}
