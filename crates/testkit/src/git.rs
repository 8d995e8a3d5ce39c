//! A git that knows nothing of the machine's own settings.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::program::run_ok;

/// `git ARGUMENTS…` in a folder, with this home, no configuration of the machine's, and a person who commits.
pub fn hermetic_git(folder: &Path, home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", home)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_SSH_VARIANT", "ssh")
        .env("LC_ALL", "C");
    for role in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{role}_NAME"), "A Person")
            .env(format!("GIT_{role}_EMAIL"), "person@example.org");
    }
    command
}

/// Runs git in a repository of any owner, such as one of a server, and returns what it prints, without the last newlines.
pub fn git_in(folder: &Path, arguments: &[&str]) -> String {
    let safe = ["-c", "safe.directory=*"];
    let mut command = hermetic_git(folder, folder, &[&safe, arguments].concat());
    run_ok(&mut command).trim().to_owned()
}
