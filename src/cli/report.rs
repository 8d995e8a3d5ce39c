//! Errors as words and exit codes: one sentence of what went wrong, one of what to do.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::causes::with_causes;
use crate::git::GitError;
use crate::names::NameError;
use crate::renaming::RenameError;
use crate::serve::ServeError;
use crate::ssh::command::Refusal;
use crate::ssh::session::SessionError;
use crate::store::StoreError;

/// It was tried and failed.
pub(super) const FAILED: u8 = 1;
/// It was asked for wrongly.
pub(super) const USAGE: u8 = 2;
/// What it is about does not exist.
pub(super) const NOT_FOUND: u8 = 3;
/// A person has to mend something first (EX_CONFIG of sysexits.h).
const CONFIGURATION: u8 = 78;
/// It may not be done this way.
pub(super) const REFUSED: u8 = 128;

/// A command that did not end well.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The exit code.
    pub(super) code: u8,
    /// What went wrong; empty where the reader is gone or has been told.
    message: String,
    /// What to do about it.
    hint: Option<String>,
}

impl Failure {
    fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(FAILED, message)
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(NOT_FOUND, message)
    }

    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self::new(REFUSED, message)
    }

    /// An exit code about which everything is said.
    pub(super) fn silent(code: u8) -> Self {
        Self::new(code, "")
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An error with its causes, as one sentence.
    fn of(code: u8, error: &dyn Error) -> Self {
        Self::new(code, with_causes(error))
    }

    /// The text for standard error.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if !self.message.is_empty() {
            text = format!("quire: {}\n", printable(&self.message));
        }
        if let Some(hint) = &self.hint {
            text += &format!("quire: {}\n", printable(hint));
        }
        text
    }

    /// Says it on standard error and gives the exit code.
    pub(super) fn print(&self) -> ExitCode {
        let _ = io::stderr().write_all(self.text().as_bytes());
        ExitCode::from(self.code)
    }
}

fn printable(text: &str) -> String {
    text.trim_end()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Why `quire serve` ended. Exit code 78 (EX_CONFIG) tells init to try again slowly: a person has to act first.
pub(super) fn serve(error: &ServeError) -> ExitCode {
    let failure = match error {
        ServeError::Config(config) => {
            for diagnostic in config.diagnostics() {
                let hint = diagnostic.hint.as_deref().map(|hint| format!(" ({hint})")).unwrap_or_default();
                let _ = io::stderr().write_all(format!("quire: {}{}\n", printable(&diagnostic.to_string()), printable(&hint)).as_bytes());
            }
            Failure::of(CONFIGURATION, error).hint("mend it; the server is started again by itself")
        }
        ServeError::Store(StoreError::Damaged { last_backup, .. }) => Failure::of(CONFIGURATION, error).hint(match last_backup {
            Some(backup) => format!(
                "nothing was changed, and git goes on working; the newest sound copy of the database is {}: put it in its place, or restore a backup",
                backup.display()
            ),
            None => "nothing was changed, and git goes on working; restore a backup, or move the file away to begin with an empty history of runs".to_owned(),
        }),
        ServeError::Store(StoreError::Newer { snapshot, .. }) => Failure::of(CONFIGURATION, error).hint(match snapshot {
            Some(snapshot) => format!("run that newer quire again; the copy made before its migration is {}", snapshot.display()),
            None => "run that newer quire again, or restore a backup".to_owned(),
        }),
        ServeError::Store(_) | ServeError::System { .. } => Failure::of(FAILED, error),
    };
    failure.print()
}

impl From<GitError> for Failure {
    fn from(error: GitError) -> Self {
        match error {
            GitError::NoRepository(_) => {
                Self::of(NOT_FOUND, &error).hint("`repo list` shows the repositories there are")
            }
            GitError::NameOfRun(_) => Self::of(USAGE, &error).hint("give it another name"),
            GitError::Start { .. } => {
                Self::of(FAILED, &error).hint("is git installed and in PATH?")
            }
            GitError::Talk { .. }
            | GitError::TimedOut { .. }
            | GitError::TooLong { .. }
            | GitError::Failed { .. }
            | GitError::Unexpected { .. }
            | GitError::Io { .. }
            | GitError::Reserved(_)
            | GitError::NoExchange(_) => Self::of(FAILED, &error),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchRun(_) => {
                Self::of(NOT_FOUND, &error).hint("`run list` shows the runs there are")
            }
            StoreError::AmbiguousRun(_) => Self::of(USAGE, &error)
                .hint("give more digits of the id; `run list` shows it whole"),
            StoreError::NotEnded { .. } => {
                Self::of(FAILED, &error).hint("`run cancel` ends it, `run wait` waits for it")
            }
            StoreError::Newer { .. } => {
                Self::of(FAILED, &error).hint("use the quire that wrote it, or a newer one")
            }
            _ => Self::of(FAILED, &error),
        }
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let code = match error {
            SessionError::Unknown { .. } | SessionError::NoCreate(_) => NOT_FOUND,
            SessionError::NoSpace { .. } => REFUSED,
            SessionError::Git(_) | SessionError::Exec(_) => FAILED,
        };
        let failure = Self::of(code, &error);
        match error {
            SessionError::Unknown { .. } => failure.hint("`repo list` shows the repositories there are"),
            SessionError::NoSpace { .. } => {
                failure.hint("make room: `quire gc` removes what `:keep` does not ask for, `repo rm` a repository; fetching works")
            }
            _ => failure,
        }
    }
}

impl From<RenameError> for Failure {
    fn from(error: RenameError) -> Self {
        let code = if matches!(error, RenameError::Unknown(_)) {
            NOT_FOUND
        } else {
            FAILED
        };
        let failure = Self::of(code, &error);
        match error {
            RenameError::Git(error) => error.into(),
            RenameError::Store(error) => error.into(),
            RenameError::Leftovers(name) => {
                failure.hint(format!("`repo rm {name} --yes` removes them"))
            }
            RenameError::Busy => failure.hint("try again in a moment"),
            RenameError::Former { repo, .. } => failure.hint(format!("say `{repo}`")),
            _ => failure,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::of(REFUSED, &refusal)
    }
}

impl From<NameError> for Failure {
    fn from(error: NameError) -> Self {
        Self::of(USAGE, &error)
    }
}

impl From<io::Error> for Failure {
    /// Of writing to the person, which is all that commands do with bare I/O.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(FAILED),
            _ => Self::failed(format!("the output cannot be written: {error}")),
        }
    }
}
