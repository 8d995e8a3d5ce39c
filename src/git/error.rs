//! What can go wrong around git.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::names::RepoName;

/// How long git may take for one answer that `serve` waits for. A disk or a share that hangs must not hold everything.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A failed git operation.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The program could not be started.
    #[error("`git {verb}` could not be started")]
    Start {
        /// The subcommand.
        verb: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Talking to the program failed.
    #[error("`git {verb}` was cut off")]
    Talk {
        /// The subcommand.
        verb: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program did not answer in time; it was ended.
    #[error("`git {verb}` did not answer within {} seconds", PATIENCE.as_secs())]
    TimedOut {
        /// The subcommand.
        verb: &'static str,
    },
    /// Maintenance took too long; it was ended.
    #[error("`git {verb}` was ended after {minutes} minutes")]
    TooLong {
        /// The subcommand.
        verb: &'static str,
        /// The limit.
        minutes: u64,
    },
    /// The program failed.
    #[error("`git {verb}` failed ({status}){}", said(.stderr))]
    Failed {
        /// The subcommand.
        verb: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// Its last words.
        stderr: String,
    },
    /// The program said something that cannot be understood.
    #[error("`git {verb}` answered something unexpected: {answer}")]
    Unexpected {
        /// The subcommand.
        verb: &'static str,
        /// An excerpt of what it said.
        answer: String,
    },
    /// A file operation on a repository failed.
    #[error("cannot {attempt} {}", .path.display())]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No repository is made by such a name.
    #[error("`{0}` cannot be the name of a repository: a part of it reads as the id of a run")]
    NameOfRun(RepoName),
    /// There is no such repository.
    #[error("there is no repository `{0}`")]
    NoRepository(RepoName),
    /// A link lies at the place of the repository.
    #[error(
        "the name `{0}` is just being given to a repository, or taken from one; try again in a moment"
    )]
    Reserved(RepoName),
    /// The file system cannot do what a rename needs.
    #[error("the file system of {} cannot exchange two names at once, so no repository can be renamed; nothing was changed", .0.display())]
    NoExchange(PathBuf),
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() {
        String::new()
    } else {
        format!(": {stderr}")
    }
}

/// The end of what a program wrote to standard error, fit for one line.
pub(super) fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    excerpt(line)
}

/// At most 300 printable characters.
pub(super) fn excerpt(text: &str) -> String {
    text.trim()
        .chars()
        .take(300)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
