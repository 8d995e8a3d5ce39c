//! A push to a repository that exists. Git runs as a child, so that this process can say what git does not say.
//!
//! A client compares the format of the ids that git advertises with that of its own repository. If they differ, it ends with an
//! error of its own and sends nothing, so the git of this side knows only that the connection ended.

use std::io;
use std::process::Command;

use quire_git::{Git, ObjectFormat};
use quire_runtime::process::exit_code;
use quire_types::names::RepoName;

/// The exit code of git after an error that it does not report to the client, such as the end of the connection.
const FATAL: i32 = 128;

/// Runs git to its end, and ends this process as git ended. Returns only if git cannot be started.
pub(super) fn run(mut command: Command, git: &Git, repo: &RepoName) -> io::Error {
    let status = match command.status() {
        Ok(status) => status,
        Err(error) => return error,
    };
    if status.code() == Some(FATAL)
        && let Ok(format) = git.object_format(repo)
    {
        eprintln!("quire: {}", explanation(repo, format));
    }
    std::process::exit(exit_code(status).unwrap_or(FATAL))
}

fn explanation(repo: &RepoName, format: ObjectFormat) -> String {
    let (own, other) = match format {
        ObjectFormat::Sha1 => ("SHA-1", "SHA-256"),
        ObjectFormat::Sha256 => ("SHA-256", "SHA-1"),
    };
    format!(
        "if git says that a hash algorithm is not supported: {repo} has {own} ids and your repository has {other} ids; push to a name \
         that does not exist yet, which creates a repository with {other} ids"
    )
}
