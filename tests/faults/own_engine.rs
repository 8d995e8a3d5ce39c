//! An engine of the test's own, really stopped, killed and started again.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quire_testkit::{WAIT_TIMEOUT, transcript, wait_for, wait_until};
use quire_types::run::{FailureKind, RunState};

use super::containers::{Contained, endpoint, skipped};
use super::engine::{LONG, WELL, begun};
use super::mounts::is_root;
use super::settled_well;

/// A Docker engine with folders and a socket of its own, and no network.
struct Engine {
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl Engine {
    fn start() -> Self {
        // Short: the path of a socket may not be long.
        let folder = tempfile::Builder::new().prefix("qe-").tempdir().unwrap();
        fs::write(folder.path().join("settings.json"), "{}").unwrap();
        let mut engine = Self {
            folder,
            process: None,
        };
        engine.run();
        let saved = Command::new("docker")
            .args(["--host", &endpoint(), "save", "debian:trixie-slim"])
            .stdout(Stdio::piped())
            .spawn();
        let loaded = engine
            .docker(&["load"])
            .stdin(saved.unwrap().stdout.take().unwrap())
            .output()
            .unwrap();
        assert!(loaded.status.success(), "{}", transcript(&loaded));
        engine
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn address(&self) -> String {
        format!("unix://{}", self.path("sock"))
    }

    fn docker(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .args(["--host", &self.address()])
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    fn run(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        // In a network namespace of its own: an engine told of no bridge removes the one that is there, another engine's.
        let mut command = Command::new("unshare");
        command.args(["--net", "dockerd"]);
        for (option, value) in [
            ("--config-file", self.path("settings.json")),
            ("--data-root", self.path("data")),
            ("--exec-root", self.path("exec")),
            ("--pidfile", self.path("pid")),
            ("--host", self.address()),
            ("--bridge", "none".to_owned()),
            ("--iptables", "false".to_owned()),
            ("--ip6tables", "false".to_owned()),
        ] {
            command.arg(format!("{option}={value}"));
        }
        self.process = Some(
            command
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap(),
        );
        let up = wait_until(WAIT_TIMEOUT, || {
            self.docker(&["version"])
                .output()
                .unwrap()
                .status
                .success()
                .then_some(())
        });
        assert!(
            up.is_some(),
            "the engine does not start: {}",
            fs::read_to_string(self.path("log")).unwrap_or_default()
        );
    }

    fn end(&mut self, how: Signal) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        kill(Pid::from_raw(process.id().cast_signed()), how).unwrap();
        wait_for("the engine's end", || process.try_wait().unwrap());
        // Its containerd goes with it, and where nobody reaps the dead it would be taken for alive.
        for pid in ["pid", "exec/containerd/containerd.pid"] {
            let _ = fs::remove_file(self.path(pid));
        }
    }
}

/// Processes that were told of this folder.
fn children(folder: &Path) -> Vec<i32> {
    let name = folder.to_str().unwrap().as_bytes();
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.windows(name.len()).any(|part| part == name))
    })
    .collect()
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end(Signal::SIGTERM);
        for pid in children(self.folder.path()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        // What it mounted would keep its folder from going.
        for line in fs::read_to_string("/proc/self/mounts")
            .unwrap_or_default()
            .lines()
            .rev()
        {
            let place = line.split(' ').nth(1).unwrap_or_default();
            if place.starts_with(&self.path("")) {
                let _ = Command::new("umount").args(["--lazy", place]).output();
            }
        }
    }
}

#[test]
fn stopped_and_killed_before_and_under_a_run() {
    if skipped() || !is_root() {
        return;
    }
    let mut engine = Engine::start();
    let mut contained = Contained::on(&engine.address(), &engine.address());
    contained.forge.serve();
    let tree = contained.forge.tree_with("app", WELL);
    for how in [Signal::SIGTERM, Signal::SIGKILL] {
        // Away when a push comes: its run waits, says why, and goes on.
        engine.end(how);
        tree.write(".quire/ci.fnl", WELL);
        tree.push_new("while it is away");
        let run = contained.forge.newest("app");
        wait_for("the reason", || {
            contained
                .forge
                .run(run.id)
                .message
                .filter(|message| message.starts_with("waits: "))
        });
        engine.run();
        assert_eq!(
            contained.forge.end_of(run.id).state,
            RunState::Complete,
            "{how}"
        );
        // Away in the middle of a command: the run ends in words once its container is known to be gone.
        tree.write(".quire/ci.fnl", LONG);
        tree.push_new("long");
        let run = begun(&contained);
        engine.end(how);
        engine.run();
        let run = contained.forge.end_of(run.id);
        let kinds = [FailureKind::DockerUnavailable, FailureKind::ContainerDied];
        assert!(
            run.state == RunState::Failed && kinds.contains(&run.failure_kind.unwrap()),
            "{how}: {run:?}"
        );
        println!("{how}: {:?} {:?}", run.failure_kind, run.message);
        contained.nothing_left();
    }
    tree.write(".quire/ci.fnl", WELL);
    tree.push_new("as ever");
    settled_well(&contained.forge);
    assert!(contained.forge.stop().success());
    contained.nothing_left();
    drop(contained);
}
