//! An `init` under test: started with scripts for children, looked at from outside.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quire_testkit::{WAIT_TIMEOUT, wait_for, wait_for_or_report, wait_until};
use quire_types::init_status::{ChildState, ChildStatus, InitStatus};
use tempfile::TempDir;

use crate::QUIRE;

/// How `init` stands in its world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum World {
    /// PID 1 of a namespace of its own.
    First,
    /// An ordinary process, that adopts what is orphaned below it.
    Subreaper,
}

/// What to start; a copy of it starts another one over the same folder.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    world: World,
    native: bool,
    prelude: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    data: PathBuf,
    pub(crate) folder: Arc<TempDir>,
}

impl Recipe {
    pub(crate) fn new(world: World) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let environment = vec![("F".into(), folder.path().to_str().unwrap().into())];
        Self {
            world,
            native: true,
            prelude: ":".into(),
            arguments: Vec::new(),
            environment,
            data: folder.path().join("data"),
            folder,
        }
    }

    /// A recipe for what the image does, not `--native`: with a `git` user and a runtime folder that only it sees.
    pub(crate) fn image() -> Self {
        let mut recipe = Self::new(World::First);
        recipe.native = false;
        recipe.prelude = r#"set -e; cp /etc/passwd /etc/group "$F"; mkdir -p "$F/run"
            echo 'git:*:1000:1000::/var/quire:/bin/sh' >> "$F/passwd"; echo 'git:x:1000:' >> "$F/group"
            mount --bind "$F/passwd" /etc/passwd; mount --bind "$F/group" /etc/group; mount --bind "$F/run" /run"#
            .into();
        recipe
    }

    /// Commands that run as PID 1 before `init` takes over, in a mount namespace of their own.
    pub(crate) fn prelude(mut self, script: &str) -> Self {
        assert_eq!(self.world, World::First);
        self.prelude = format!("{}; {script}", self.prelude);
        self
    }

    /// A script in the place of `sshd` or `serve`; `$F` is a folder that the test sees too.
    pub(crate) fn child(self, name: &str, script: &str) -> Self {
        self.argument(&format!("--child={name}={script}"))
    }

    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Over this data folder, not one of its own.
    pub(crate) fn data(mut self, data: PathBuf) -> Self {
        self.data = data;
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn start(self) -> Init {
        let file = fs::File::create(self.path("output")).unwrap();
        self.start_on(file.into())
    }

    /// Starts it with its output going there.
    pub(crate) fn start_on(self, output: OwnedFd) -> Init {
        let mut command = match self.world {
            World::First => {
                let mut unshare = Command::new("unshare");
                unshare.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
                // The image's ports are its own, whatever this machine has on them.
                unshare
                    .args((!self.native).then_some("--net"))
                    .args(["sh", "-c"]);
                unshare
                    .arg(format!("{}; exec \"$@\"", self.prelude))
                    .args(["sh", QUIRE]);
                unshare
            }
            World::Subreaper => Command::new(QUIRE),
        };
        command
            .arg("init")
            .args(self.native.then_some("--native"))
            .arg("--data")
            .arg(&self.data)
            .args(&self.arguments)
            .env_remove("DOCKER_HOST")
            .envs(self.environment.clone())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .process_group(0);
        let process = command
            .spawn()
            .expect("unshare (util-linux) and root are needed for these tests");
        let outer = i32::try_from(process.id()).unwrap();
        Init {
            world: self.world,
            process,
            outer,
            pid: None,
            recipe: self,
        }
    }
}

/// A running `init`; killed with all below it when dropped.
#[derive(Debug)]
pub(crate) struct Init {
    world: World,
    process: Child,
    outer: i32,
    pid: Option<i32>,
    pub(crate) recipe: Recipe,
}

impl Init {
    /// Its process id as seen from here.
    #[track_caller]
    pub(crate) fn pid(&mut self) -> i32 {
        if let Some(pid) = self.pid {
            return pid;
        }
        let outer = self.outer;
        let pid = match self.world {
            World::Subreaper => outer,
            World::First => {
                let output = self.output_path();
                wait_for("PID 1 of the namespace", || {
                    children(outer)
                        .first()
                        .map(|(pid, _)| *pid)
                        .filter(|pid| name(*pid) == "quire")
                        .or_else(|| {
                            assert!(
                                self.process.try_wait().unwrap().is_none(),
                                "{}",
                                fs::read_to_string(&output).unwrap_or_default()
                            );
                            None
                        })
                })
            }
        };
        self.pid = Some(pid);
        pid
    }

    fn output_path(&self) -> PathBuf {
        self.recipe.path("output")
    }

    /// What it and its children said so far.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.output_path()).unwrap_or_default()).into_owned()
    }

    #[track_caller]
    pub(crate) fn wait_for_output(&self, text: &str) -> String {
        wait_for_or_report(
            &format!("{text:?} in the output"),
            || Some(self.output()).filter(|output| output.contains(text)),
            || self.output(),
        )
    }

    pub(crate) fn status(&self) -> Option<InitStatus> {
        let runtime = if self.recipe.native {
            self.recipe.data.join("runtime")
        } else {
            self.recipe.path("run/quire")
        };
        InitStatus::read(&runtime.join("status.json"))
            .ok()
            .flatten()
    }

    #[track_caller]
    pub(crate) fn wait_for_child(
        &self,
        name: &str,
        is: impl Fn(&ChildStatus) -> bool,
    ) -> ChildStatus {
        let mut last = None;
        let found = wait_until(WAIT_TIMEOUT, || {
            let now = self.status()?.children.get(name)?.clone();
            last = Some(now.clone());
            Some(now).filter(|child| is(child))
        });
        found.unwrap_or_else(|| {
            panic!(
                "{name} never came to that state, it is {last:?}:\n{}",
                self.output()
            )
        })
    }

    #[track_caller]
    pub(crate) fn wait_until_running(&self) {
        for name in ["sshd", "serve"] {
            self.wait_for_child(name, |child| child.state == ChildState::Running);
        }
    }

    pub(crate) fn send(&mut self, signal: i32) {
        let pid = self.pid();
        #[expect(unsafe_code, reason = "nix has no name for a real-time signal")]
        // SAFETY: it takes two numbers.
        let sent = unsafe { nix::libc::kill(pid, signal) };
        assert_eq!(sent, 0, "signal {signal}");
    }

    /// The outer process id of a direct child whose command line starts so.
    #[track_caller]
    pub(crate) fn child(&mut self, command: &str) -> i32 {
        let pid = self.pid();
        wait_for(command, || {
            children(pid)
                .into_iter()
                .map(|(pid, _)| pid)
                .find(|pid| command_line(*pid).starts_with(command))
        })
    }

    /// Zombies that are its children.
    pub(crate) fn zombies(&mut self) -> usize {
        let pid = self.pid();
        children(pid)
            .iter()
            .filter(|(_, state)| state == "Z")
            .count()
    }

    #[track_caller]
    pub(crate) fn wait_for_file(&self, name: &str) -> String {
        let path = self.recipe.path(name);
        wait_for(name, || {
            fs::read_to_string(&path)
                .ok()
                .filter(|text| text.ends_with('\n'))
        })
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        let ended = wait_until(WAIT_TIMEOUT, || self.process.try_wait().unwrap());
        ended.unwrap_or_else(|| panic!("it does not end:\n{}", self.output()))
    }

    /// TERM, and a good end.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.send(nix::libc::SIGTERM);
        let status = self.end();
        assert_eq!(status.code(), Some(0), "{}", self.output());
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            let mut below = vec![self.outer];
            let mut index = 0;
            while index < below.len() {
                below.extend(children(below[index]).into_iter().map(|(pid, _)| pid));
                index += 1;
            }
            for pid in below {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = self.process.wait();
        }
        if thread::panicking() {
            eprintln!("output:\n{}", self.output());
        }
    }
}

/// The children of a process, each with its state.
pub(crate) fn children(parent: i32) -> Vec<(i32, String)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?.to_owned();
        (fields.next()? == parent.to_string()).then_some((pid, state))
    })
    .collect()
}

pub(crate) fn alive(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn command_line(pid: i32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default())
        .replace('\0', " ")
}
