//! The whole of it as `quire init --native` starts it: its own sshd, the server, a key, a push over SSH.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quire_testkit::{
    HostKeys, Response, free_port, generate_key, hermetic_git, run, run_ok, ssh_options,
    transcript, wait_for,
};
use serde_json::Value;

use super::GREEN;
use crate::QUIRE;

/// A running `quire init --native`; ended when dropped.
pub(super) struct Native {
    folder: tempfile::TempDir,
    init: Child,
    ssh: u16,
    http: u16,
}

impl Native {
    pub(super) fn start() -> Self {
        Self::start_with(|_, _| ())
    }

    /// Starts it after `prepare`, which gets the path of the data folder and the command.
    pub(super) fn start_with(prepare: impl FnOnce(&Path, &mut Command)) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("quire-native-")
            .tempdir()
            .unwrap();
        let at = |name: &str| folder.path().join(name);
        let key = generate_key(&at("key"), "laptop");
        let (ssh, http) = (free_port(), free_port());
        let log = File::create(at("log")).unwrap();
        let mut command = Command::new(QUIRE);
        command
            .args(["init", "--native", "--listen", "127.0.0.1", "--data"])
            .arg(at("data"));
        command.args([
            "--ssh-port",
            &ssh.to_string(),
            "--http-port",
            &http.to_string(),
        ]);
        command
            .env("QUIRE_AUTHORIZED_KEYS", key)
            .env("HOME", folder.path());
        command
            .env("QUIRE_CI_EXECUTOR", "host")
            .env_remove("DOCKER_HOST")
            .env_remove("QUIRE_DATA")
            .env_remove("QUIRE_RUNTIME");
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0);
        prepare(&at("data"), &mut command);
        let init = command.spawn().unwrap();
        Self {
            folder,
            init,
            ssh,
            http,
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The user that sshd serves: whoever runs this.
    pub(super) fn user() -> String {
        nix::unistd::User::from_uid(nix::unistd::geteuid())
            .unwrap()
            .unwrap()
            .name
    }

    /// ssh with this key, and nothing of the machine's settings.
    fn ssh_words(&self, key: &str) -> Vec<String> {
        let mut words = vec!["ssh".to_owned()];
        words.extend(ssh_options(
            &self.path(key),
            HostKeys::AcceptNew(&self.path("known_hosts")),
        ));
        words
    }

    /// The options of an ssh client with this key.
    pub(super) fn ssh_options_of(&self, key: &str) -> Vec<String> {
        self.ssh_words(key).split_off(1)
    }

    /// The URL of a repository.
    pub(super) fn url(&self, repo: &str) -> String {
        format!("ssh://{}@127.0.0.1:{}/{repo}", Self::user(), self.ssh)
    }

    /// Requests a page.
    #[track_caller]
    pub(super) fn get(&self, path: &str) -> Response {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Response::parse(&bytes).unwrap()
    }

    /// A management command over SSH.
    pub(super) fn ssh(&self, words: &[&str]) -> Output {
        self.ssh_as("key", words)
    }

    /// The same with another key.
    pub(super) fn ssh_as(&self, key: &str, words: &[&str]) -> Output {
        run(&mut self.ssh_command(key, words))
    }

    /// The command of an ssh client with this key.
    pub(super) fn ssh_command(&self, key: &str, words: &[&str]) -> Command {
        let ssh = self.ssh_words(key);
        let address = format!("{}@127.0.0.1", Self::user());
        let mut command = Command::new(&ssh[0]);
        command
            .args(&ssh[1..])
            .args(["-p", &self.ssh.to_string(), &address])
            .args(words);
        command
    }

    /// git with this key.
    pub(super) fn git_as(&self, key: &str, folder: &Path, arguments: &[&str]) -> Output {
        run(hermetic_git(folder, self.folder.path(), arguments)
            .env("GIT_SSH_COMMAND", self.ssh_words(key).join(" ")))
    }

    pub(super) fn git(&self, folder: &Path, arguments: &[&str]) -> String {
        let output = self.git_as("key", folder, arguments);
        assert!(
            output.status.success(),
            "git {arguments:?}: {}\n{}",
            transcript(&output),
            self.log()
        );
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.init.id().cast_signed()), Signal::SIGTERM);
        let ended = self.init.wait();
        if !std::thread::panicking() {
            assert_eq!(ended.unwrap().code(), Some(0), "{}", self.log());
        }
    }
}

#[test]
fn a_native_appliance_from_its_start_to_a_green_run() {
    let native = Native::start();
    wait_for("the appliance", || {
        native.ssh(&["status"]).status.success().then_some(())
    });
    let tree = native.path("tree");
    fs::create_dir_all(tree.join(".quire")).unwrap();
    fs::write(tree.join(".quire/ci.fnl"), GREEN).unwrap();
    native.git(&tree, &["init", "-q", "-b", "main"]);
    native.git(&tree, &["add", "-A"]);
    native.git(&tree, &["commit", "-q", "-m", "first"]);
    let url = format!("ssh://{}@127.0.0.1:{}/app", Native::user(), native.ssh);
    let reply = native.git(&tree, &["push", "-o", "ci.wait", &url, "main"]);
    assert!(
        reply.contains("created repository app")
            && reply.contains("all is well")
            && reply.contains("complete"),
        "{reply}"
    );
    let listed = native.ssh(&["run", "list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(
        (&listed["runs"][0]["state"], &listed["runs"][0]["pusher"]),
        (&"complete".into(), &"laptop".into()),
        "{listed}"
    );
    // Without the key nobody gets in.
    generate_key(&native.path("stranger"), "stranger");
    let refused = native.ssh_as("stranger", &["status"]);
    assert_eq!(refused.status.code(), Some(255));
}

#[test]
fn what_was_lost_is_brought_back_over_ssh() {
    let native = Native::start();
    wait_for("the appliance", || {
        native.ssh(&["status"]).status.success().then_some(())
    });
    let ok = |words: &[&str]| -> String {
        let output = native.ssh(words);
        assert!(
            output.status.success(),
            "{words:?}: {}",
            transcript(&output)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let tree = native.path("tree");
    fs::create_dir_all(tree.join(".quire")).unwrap();
    fs::write(tree.join(".quire/ci.fnl"), GREEN).unwrap();
    native.git(&tree, &["init", "-q", "-b", "main"]);
    native.git(&tree, &["add", "-A"]);
    native.git(&tree, &["commit", "-q", "-m", "first"]);
    native.git(&tree, &["commit", "-q", "--allow-empty", "-m", "lost"]);
    let url = native.url("app");
    native.git(
        &tree,
        &["push", "-o", "ci.wait", &url, "main", "main:topic"],
    );
    native.git(
        &tree,
        &["commit", "-q", "--allow-empty", "--amend", "-m", "other"],
    );
    native.git(&tree, &["push", "-o", "ci.wait", "--force", &url, "main"]);
    native.git(&tree, &["push", &url, "--delete", "topic"]);
    let list: Value = serde_json::from_str(&ok(&["repo", "undo", "app", "--json"])).unwrap();
    let overwritten: Vec<_> = list["overwritten"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["ref_name"].as_str().unwrap(), row["pusher"].as_str()))
        .collect();
    assert_eq!(
        overwritten,
        [
            ("refs/heads/topic", Some("laptop")),
            ("refs/heads/main", Some("laptop"))
        ]
    );
    for name in ["main", "topic"] {
        let undone = ok(&["repo", "undo", "app", name]);
        assert!(undone.contains("run app#"), "{undone}");
    }
    // The repository as well, with both branches at the commit that was lost.
    let removed = ok(&["repo", "rm", "app", "--yes"]);
    assert!(
        removed.contains("`repo restore app` brings it back"),
        "{removed}"
    );
    ok(&["repo", "restore", "app"]);
    let clone = native.path("clone");
    native.git(
        &native.path(""),
        &["clone", "-q", &url, clone.to_str().unwrap()],
    );
    native.git(
        &clone,
        &["diff", "--exit-code", "origin/main", "origin/topic"],
    );
    let log = &["log", "-1", "--format=%s"];
    let subject = run_ok(&mut hermetic_git(&clone, &native.path(""), log));
    assert_eq!(subject.trim(), "lost");
}
