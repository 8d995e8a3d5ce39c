//! A person with a key: real ssh and git, hermetic, and the repositories they push.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use quire_testkit::{
    HostKeys, WAIT_TIMEOUT, generate_key, hermetic_git, run, run_ok, ssh_options, text, wait_until,
};
use serde_json::Value;

use crate::appliance::Appliance;

/// Somebody who connects.
pub(crate) struct Client {
    folder: PathBuf,
    key: PathBuf,
    port: u16,
}

/// A run as `run list --json` shows it.
#[derive(Debug, Clone, serde::Deserialize)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) sha: String,
    pub(crate) ref_name: String,
    pub(crate) state: String,
    pub(crate) failure_kind: Option<String>,
}

impl Run {
    /// Whether nothing more will become of it.
    pub(crate) fn ended(&self) -> bool {
        !matches!(self.state.as_str(), "pending" | "active")
    }
}

impl Client {
    /// Makes a key pair with this comment.
    pub(crate) fn new(appliance: &Appliance, name: &str) -> Self {
        let folder = appliance.folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        let key = folder.join("key");
        generate_key(&key, name);
        Self {
            folder,
            key,
            port: appliance.ssh_port(),
        }
    }

    /// The public half, one line.
    pub(crate) fn public_key(&self) -> String {
        fs::read_to_string(self.key.with_extension("pub"))
            .unwrap()
            .trim()
            .to_owned()
    }

    fn ssh_words(&self) -> Vec<String> {
        let mut words = vec!["ssh".to_owned()];
        words.extend(ssh_options(
            &self.key,
            HostKeys::AcceptNew(&self.folder.join("known_hosts")),
        ));
        words
    }

    /// `ssh git@appliance …`, not yet started.
    pub(crate) fn ssh_command(&self, arguments: &[&str]) -> Command {
        self.ssh_command_as("git", arguments)
    }

    /// The same as another user.
    pub(crate) fn ssh_command_as(&self, user: &str, arguments: &[&str]) -> Command {
        let words = self.ssh_words();
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(["-p", &self.port.to_string(), &format!("{user}@127.0.0.1")])
            .args(arguments);
        command
    }

    /// `ssh git@appliance …`
    pub(crate) fn ssh(&self, arguments: &[&str]) -> Output {
        run(&mut self.ssh_command(arguments))
    }

    /// `ssh git@appliance …`, which must succeed.
    pub(crate) fn ssh_ok(&self, arguments: &[&str]) -> String {
        run_ok(&mut self.ssh_command(arguments))
    }

    /// A repository's address.
    pub(crate) fn remote(&self, repo: &str) -> String {
        format!("ssh://git@127.0.0.1:{}/{repo}", self.port)
    }

    /// git in a folder, with nothing of this machine's configuration.
    pub(crate) fn git(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = hermetic_git(folder, &self.folder, arguments);
        command.env("GIT_SSH_COMMAND", self.ssh_words().join(" "));
        command
    }

    /// A new work tree with these files in one commit on `main`.
    pub(crate) fn work_tree(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.folder.join(name);
        fs::create_dir(&folder).unwrap();
        run_ok(&mut self.git(&folder, &["init", "-q", "-b", "main"]));
        self.commit(&folder, files);
        folder
    }

    /// Writes these files and commits them; gives the object id.
    pub(crate) fn commit(&self, folder: &Path, files: &[(&str, &str)]) -> String {
        for (path, content) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        run_ok(&mut self.git(folder, &["add", "--all"]));
        run_ok(&mut self.git(folder, &["commit", "-q", "--allow-empty", "-m", "A change"]));
        run_ok(&mut self.git(folder, &["rev-parse", "HEAD"]))
            .trim()
            .to_owned()
    }

    /// Pushes `main`; gives what the person at the terminal reads.
    pub(crate) fn push(&self, folder: &Path, repo: &str) -> String {
        let output = run(&mut self.git(
            folder,
            &["push", &self.remote(repo), "HEAD:refs/heads/main"],
        ));
        assert!(output.status.success(), "push: {}", text(&output.stderr));
        text(&output.stderr)
    }

    /// All runs of a repository, newest first.
    pub(crate) fn runs(&self, repo: &str) -> Vec<Run> {
        let listed = self.ssh_ok(&["run", "list", "--repo", repo, "--json"]);
        let listed: Value =
            serde_json::from_str(&listed).unwrap_or_else(|error| panic!("{error}: {listed}"));
        serde_json::from_value(listed["runs"].clone())
            .unwrap_or_else(|error| panic!("{error}: {listed}"))
    }

    /// Waits until every run of a repository has ended and no fewer than `count` are there.
    pub(crate) fn wait_runs(&self, repo: &str, count: usize) -> Vec<Run> {
        let settled = || {
            Some(self.runs(repo)).filter(|runs| runs.len() >= count && runs.iter().all(Run::ended))
        };
        // A run may build its image first, from packages that it downloads.
        wait_until(5 * WAIT_TIMEOUT, settled)
            .unwrap_or_else(|| panic!("these runs do not end: {:#?}", self.runs(repo)))
    }

    /// A run's whole log.
    pub(crate) fn log(&self, run: &str) -> String {
        self.ssh_ok(&["run", "logs", run])
    }
}
