//! Errors of `quire ci`, as text for a person and as exit codes.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use super::super::error::{FAILED, USAGE};
use super::show;
use quire_executor::ExecutorError;
use quire_git::{GitError, Misnamed, UnusableFile};
use quire_pipeline::driver::DriverError;
use quire_pipeline::{Diagnostic, JobSelectionError, SourceFile};
use quire_types::names::NameError;

/// Why a `quire ci` command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CiError {
    #[error(
        "no pipeline found: there is no .quire/ci.fnl or .quire/ci.lua in {0}; `quire ci init` writes a starter pipeline"
    )]
    NoPipeline(String),
    #[error("no pipeline found: {0}")]
    Misnamed(Misnamed),
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    #[error("cannot write {}", .0.display())]
    Write(PathBuf, #[source] std::io::Error),
    #[error(transparent)]
    File(UnusableFile),
    #[error("the pipeline has errors")]
    Invalid(Vec<Diagnostic>, Vec<SourceFile>),
    #[error(transparent)]
    Driver(DriverError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("cannot start the pipeline driver")]
    Start(#[source] std::io::Error),
    #[error("`{0}` does not name a commit of this repository")]
    NoCommit(String),
    #[error("{} is not in a git checkout, so --sha cannot be used", .0.display())]
    NoCheckout(PathBuf),
    #[error(transparent)]
    JobSelection(#[from] JobSelectionError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("the pipeline asks for more than an ordinary container; `--grant {0}` allows it")]
    NotGranted(&'static str),
    #[error("{0}")]
    Usage(&'static str),
    #[error("{0}; `--executor host` runs the commands on this machine instead")]
    Engine(ExecutorError),
    #[error("the output cannot be written")]
    Output(#[source] std::io::Error),
    #[error("{} already exists; nothing was written", .0.display())]
    Exists(PathBuf),
}

impl CiError {
    /// The error and its causes, in one line.
    pub(super) fn message(&self) -> String {
        let mut words = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            let _ = write!(words, ": {cause}");
            source = cause.source();
        }
        words
    }

    /// The exit code: a usage error if the mistake is on the command line.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::NoCommit(_)
            | Self::NoCheckout(_)
            | Self::JobSelection(_)
            | Self::Name(_)
            | Self::Usage(_) => USAGE,
            _ => FAILED,
        }
    }

    /// Prints the error to standard error and returns the exit code.
    pub(super) fn print(&self) -> ExitCode {
        let text = match self {
            Self::Invalid(diagnostics, texts) => show::render_errors(diagnostics, texts),
            _ => format!("quire: {}\n", self.message()),
        };
        let _ = std::io::stderr().write_all(text.as_bytes());
        ExitCode::from(self.code())
    }
}
