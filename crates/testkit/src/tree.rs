//! A working tree of a person who pushes.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::git::hermetic_git;
use crate::program::transcript;

/// A working tree of the owner's.
pub struct Tree {
    /// Home and ssh of the client.
    pub(crate) client: PathBuf,
    pub path: PathBuf,
}

impl Tree {
    /// A git client in the tree.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = hermetic_git(&self.path, &self.client, arguments);
        command.env("GIT_SSH", self.client.join("ssh"));
        command
    }

    /// Runs git.
    pub fn git(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs git, which must succeed; its standard output.
    #[track_caller]
    pub fn git_ok(&self, arguments: &[&str]) -> String {
        let output = self.git(arguments);
        assert!(
            output.status.success(),
            "git {arguments:?}: {}",
            transcript(&output)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Runs git with this on its standard input; it must succeed.
    #[track_caller]
    pub fn git_with(&self, arguments: &[&str], input: &[u8]) -> String {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "git {arguments:?}: {}",
            transcript(&output)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Writes a file of the tree.
    pub fn write(&self, name: &str, text: &str) {
        let file = self.path.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    /// Commits all there is; the commit's id.
    pub fn commit(&self, message: &str) -> String {
        self.git_ok(&["add", "-A"]);
        self.git_ok(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git_ok(&["rev-parse", "HEAD"])
    }

    /// Pushes with these arguments, which must succeed; what the pusher reads.
    #[track_caller]
    pub fn push(&self, arguments: &[&str]) -> String {
        let output = self.git(&[&["push", "origin"], arguments].concat());
        assert!(
            output.status.success(),
            "push {arguments:?}: {}",
            transcript(&output)
        );
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// One more commit on `main`, pushed; its id.
    #[track_caller]
    pub fn push_new(&self, message: &str) -> String {
        let commit = self.commit(message);
        self.push(&["main"]);
        commit
    }
}
