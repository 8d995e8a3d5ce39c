//! The whole of it as `quire init --native` starts it: its own sshd, the server, a key, a push over SSH.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::GREEN;
use super::forge::{free_port, said, wait_for};

/// A running `quire init --native`; ended when dropped.
struct Native {
    folder: tempfile::TempDir,
    init: Child,
    ssh: u16,
}

impl Native {
    fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("quire-native-")
            .tempdir()
            .unwrap();
        let at = |name: &str| folder.path().join(name);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "laptop", "-f"])
            .arg(at("key"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", said(&made));
        let (ssh, http) = (free_port(), free_port());
        let log = File::create(at("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_quire"));
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
            .env(
                "QUIRE_AUTHORIZED_KEYS",
                fs::read_to_string(at("key.pub")).unwrap(),
            )
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
        let init = command.spawn().unwrap();
        Self { folder, init, ssh }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The user that sshd serves: whoever runs this.
    fn user() -> String {
        nix::unistd::User::from_uid(nix::unistd::geteuid())
            .unwrap()
            .unwrap()
            .name
    }

    fn ssh_words(&self) -> Vec<String> {
        let options = [
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ];
        let more = [
            "-o",
            "LogLevel=ERROR",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "IdentityAgent=none",
            "-i",
        ];
        let mut words: Vec<String> = ["ssh"]
            .iter()
            .chain(&options)
            .chain(&more)
            .map(ToString::to_string)
            .collect();
        words.push(self.path("key").display().to_string());
        words
    }

    /// A management command over SSH.
    fn ssh(&self, words: &[&str]) -> std::process::Output {
        let own = self.ssh_words();
        let mut command = Command::new(&own[0]);
        command
            .args(&own[1..])
            .args([
                "-p",
                &self.ssh.to_string(),
                &format!("{}@127.0.0.1", Self::user()),
            ])
            .args(words);
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn git(&self, folder: &Path, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command
            .current_dir(folder)
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap());
        command
            .env("HOME", self.folder.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.env("GIT_SSH_COMMAND", self.ssh_words().join(" "));
        for role in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{role}_NAME"), "A Person")
                .env(format!("GIT_{role}_EMAIL"), "person@example.org");
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(
            output.status.success(),
            "git {arguments:?}: {}\n{}",
            said(&output),
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
    let told = native.git(&tree, &["push", "-o", "ci.wait", &url, "main"]);
    assert!(
        told.contains("created repository app")
            && told.contains("all is well")
            && told.contains("complete"),
        "{told}"
    );
    let listed = native.ssh(&["run", "list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(
        (&listed["runs"][0]["state"], &listed["runs"][0]["pusher"]),
        (&"complete".into(), &"laptop".into()),
        "{listed}"
    );
    // Without the key nobody gets in.
    let mut stranger = native.ssh_words();
    let key = native.path("stranger");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .output()
        .unwrap();
    assert!(made.status.success());
    *stranger.last_mut().unwrap() = key.display().to_string();
    let mut command = Command::new(&stranger[0]);
    command.args(&stranger[1..]).args([
        "-p",
        &native.ssh.to_string(),
        &format!("{}@127.0.0.1", Native::user()),
        "status",
    ]);
    assert_eq!(
        command.stdin(Stdio::null()).output().unwrap().status.code(),
        Some(255)
    );
}
