//! Errors of git operations, and what they quote of git's output.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use quire_types::names::RepoName;
use quire_types::text;

/// How long `serve` waits for one answer of git. A disk or a network share that hangs must not block everything.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A failed git operation.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("`git {verb}` could not be started")]
    Start {
        verb: &'static str,
        #[source]
        source: io::Error,
    },
    /// Reading from git or writing to it failed.
    #[error("`git {verb}` was interrupted")]
    Pipe {
        verb: &'static str,
        #[source]
        source: io::Error,
    },
    /// Git did not answer in time; it was killed.
    #[error("`git {verb}` did not answer within {} seconds", ANSWER_TIMEOUT.as_secs())]
    TimedOut { verb: &'static str },
    /// Maintenance took too long; git was killed.
    #[error("`git {verb}` took longer than {minutes} minutes and was stopped")]
    MaintenanceTimedOut { verb: &'static str, minutes: u64 },
    #[error("`git {verb}` failed ({status}){}", stderr_suffix(.stderr))]
    Failed {
        verb: &'static str,
        status: ExitStatus,
        /// The last line of its standard error.
        stderr: String,
    },
    #[error("git {found} is too old: quire reads checkouts with git {needed} or newer")]
    OldGit { found: String, needed: String },
    #[error("`git {verb}` printed unexpected output: {output}")]
    Unexpected {
        verb: &'static str,
        /// An excerpt.
        output: String,
    },
    /// An object that must exist, because a ref or another object names it.
    #[error("the object {id} is missing or cannot be read{}", stderr_suffix(.reason))]
    UnreadableObject {
        id: String,
        /// The last line of git's standard error.
        reason: String,
    },
    #[error("the refs cannot be read completely: {0}")]
    UnreadableRefs(String),
    #[error("cannot {action} {}", .path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{0}` cannot be the name of a repository: a part of it looks like the id of a run")]
    LooksLikeRunId(RepoName),
    #[error("there is no repository `{0}`")]
    NoRepository(RepoName),
    #[error("`{repo}` has no branch `{branch}`")]
    NoBranch { repo: RepoName, branch: String },
    /// There is a link at the path of the repository: a rename is pending, or the link is dangling.
    #[error("`{0}` is being renamed or removed; try again in a moment")]
    Reserved(RepoName),
    #[error("the file system of {} does not support exchanging two names (RENAME_EXCHANGE), which a rename needs; nothing was changed", .0.display())]
    ExchangeUnsupported(PathBuf),
    /// The thread that executed the call panicked, or the runtime was shut down.
    #[error("an operation on a repository was interrupted")]
    Interrupted,
}

fn stderr_suffix(stderr: &str) -> String {
    if stderr.is_empty() {
        String::new()
    } else {
        format!(": {stderr}")
    }
}

/// The last line of what a program wrote to standard error.
pub(super) fn stderr_tail(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    excerpt(line)
}

/// The first line of what a program wrote.
pub(super) fn stderr_head(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    excerpt(text.trim_start().lines().next().unwrap_or_default())
}

/// Shortens output of git for a message.
pub(super) fn excerpt(output: &str) -> String {
    text::excerpt(output.trim(), 300)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn messages() {
        let io = || io::Error::from(io::ErrorKind::PermissionDenied);
        let verb = "gc";
        let failed = |stderr: &str| GitError::Failed {
            verb,
            status: ExitStatus::from_raw(128 << 8),
            stderr: stderr.into(),
        };
        let messages = [
            GitError::Start { verb, source: io() },
            GitError::Pipe { verb, source: io() },
            GitError::TimedOut { verb },
            GitError::MaintenanceTimedOut { verb, minutes: 120 },
            failed("fatal: not a git repository"),
            failed(""),
            GitError::OldGit {
                found: "2.30.2".into(),
                needed: "2.36".into(),
            },
            GitError::Unexpected {
                verb,
                output: "what".into(),
            },
            GitError::UnreadableObject {
                id: "12345678".into(),
                reason: "error: unable to open object pack directory".into(),
            },
            GitError::UnreadableRefs("warning: ignoring broken ref refs/heads/main".into()),
            GitError::Io {
                action: "remove",
                path: "/data/repos/app.git".into(),
                source: io(),
            },
            GitError::LooksLikeRunId("0197abcd".parse().unwrap()),
            GitError::NoRepository("app".parse().unwrap()),
            GitError::NoBranch {
                repo: "app".parse().unwrap(),
                branch: "topic".into(),
            },
            GitError::Reserved("app".parse().unwrap()),
            GitError::ExchangeUnsupported("/data/repos/.new".into()),
            GitError::Interrupted,
        ];
        let messages: Vec<String> = messages.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(messages.join("\n"), @"
        `git gc` could not be started
        `git gc` was interrupted
        `git gc` did not answer within 60 seconds
        `git gc` took longer than 120 minutes and was stopped
        `git gc` failed (exit status: 128): fatal: not a git repository
        `git gc` failed (exit status: 128)
        git 2.30.2 is too old: quire reads checkouts with git 2.36 or newer
        `git gc` printed unexpected output: what
        the object 12345678 is missing or cannot be read: error: unable to open object pack directory
        the refs cannot be read completely: warning: ignoring broken ref refs/heads/main
        cannot remove /data/repos/app.git
        `0197abcd` cannot be the name of a repository: a part of it looks like the id of a run
        there is no repository `app`
        `app` has no branch `topic`
        `app` is being renamed or removed; try again in a moment
        the file system of /data/repos/.new does not support exchanging two names (RENAME_EXCHANGE), which a rename needs; nothing was changed
        an operation on a repository was interrupted
        ");
    }
}
