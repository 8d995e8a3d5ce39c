//! A whole forge for a test: the real `quire serve` over a temporary data folder with the host
//! executor, and a real git whose pushes go through `quire exec`, git and the hook as over SSH,
//! only without the time that encryption takes.
//!
//! Nothing of the machine's own settings reaches it, its port is free, and when it is dropped the
//! server has to end well and leave no process behind.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use quire_types::paths::Paths;
use tempfile::TempDir;

use crate::git_user::{UNPRIVILEGED, own};
use crate::net::free_port;
use crate::program::transcript;
use crate::tree::Tree;
use crate::wait::{WAIT_TIMEOUT, wait_for, wait_until};

/// The file in the forge's own folder that the server creates at a fault point.
const FAULT_MARKER: &str = "once";

/// The forge. Not started by [`TestForge::new`], so that a test can lay something out first.
pub struct TestForge {
    pub paths: Paths,
    pub port: u16,
    /// The quire binary.
    pub(crate) program: PathBuf,
    folder: PathBuf,
    variables: BTreeMap<String, String>,
    server: Option<Child>,
    /// Whether the server and the sessions run as a user other than root.
    unprivileged: bool,
    /// The file that takes the place of `/etc/resolv.conf` for the server.
    resolv_conf: Option<PathBuf>,
    /// The file that puts a process into a cgroup, where the server is to be in one.
    cgroup: Option<PathBuf>,
    /// Removes the folder, unless it lies on a disk of its own.
    _temporary: Option<TempDir>,
}

impl TestForge {
    /// A forge of this quire binary whose server runs.
    pub fn start(program: &str) -> Self {
        let mut forge = Self::new(program);
        forge.serve();
        forge
    }

    /// A forge in a folder of its own, not running.
    pub fn new(program: &str) -> Self {
        let temporary = tempfile::Builder::new()
            .prefix("quire-forge-")
            .tempdir()
            .unwrap();
        let mut forge = Self::at(program, temporary.path(), temporary.path().join("data"));
        forge._temporary = Some(temporary);
        forge
    }

    /// A forge with its data in a given folder.
    pub fn at(program: &str, folder: &Path, data: PathBuf) -> Self {
        let paths = Paths::new(data, folder.join("run"));
        for path in [
            paths.repos(),
            paths.spool(),
            paths.hooks(),
            folder.join("client"),
        ] {
            fs::create_dir_all(path).unwrap();
        }
        let mut forge = Self {
            paths,
            port: free_port(),
            program: program.into(),
            folder: folder.to_owned(),
            variables: BTreeMap::new(),
            server: None,
            unprivileged: false,
            resolv_conf: None,
            cgroup: None,
            _temporary: None,
        };
        forge.lay_out();
        for (name, value) in [
            ("QUIRE_CI_EXECUTOR", "host"),
            // Not the machine's own engine, which is another tier's business.
            ("QUIRE_CI_ENGINE", "unix:///nonexistent/docker.sock"),
            ("QUIRE_CI_CONCURRENT_RUNS", "2"),
            // Tests count the containers of runs.
            ("QUIRE_CI_WARM", "0"),
            ("QUIRE_HTTP_LISTEN", "127.0.0.1"),
            ("QUIRE_HTTP_AUTH", "open"),
            // The disk of whoever tests is not what is tested.
            ("QUIRE_KEEP_MIN_FREE", "0"),
        ] {
            forge.set(name, value);
        }
        forge
    }

    /// What `quire init` would lay out: hook, git configuration, a key; and a client's `ssh`.
    fn lay_out(&self) {
        for hook in ["pre-receive", "proc-receive", "post-receive"] {
            symlink(&self.program, self.paths.hooks().join(hook)).unwrap();
        }
        let gitconfig = include_str!("../../../image/gitconfig")
            .replace("@HOOKS@", self.paths.hooks().to_str().unwrap());
        fs::write(self.paths.git_config(), gitconfig).unwrap();
        let key =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJpcmRzIGFuZCBiZWVzIGFuZCBmaXNoIGFuZCBhbGwh";
        fs::write(
            self.paths.merged_authorized_keys(),
            format!("{key} laptop\n"),
        )
        .unwrap();
        fs::write(self.file("client/auth"), format!("publickey {key}\n")).unwrap();
        // Stands for ssh and sshd: the last word is the command, and a session gets a clean environment.
        // A test may give it another git (git itself puts its own before all others in `PATH`).
        let script = format!(
            "#!/bin/sh\nfor command; do :; done\nexec env -i PATH=\"${{TEST_PATH:-$PATH}}\" ${{GIT_PROTOCOL:+GIT_PROTOCOL=$GIT_PROTOCOL}} \
             ${{QUIRE_FAULT:+QUIRE_FAULT=$QUIRE_FAULT}} ${{QUIRE_FAULT_ONCE:+QUIRE_FAULT_ONCE=$QUIRE_FAULT_ONCE}} \
             ${{QUIRE_FAULT_STOP:+QUIRE_FAULT_STOP=$QUIRE_FAULT_STOP}} \
             ${{QUIRE_FAULT_CLOCK:+QUIRE_FAULT_CLOCK=$QUIRE_FAULT_CLOCK}} \
             SSH_USER_AUTH={auth} SSH_ORIGINAL_COMMAND=\"$command\" {quire} exec --data {data} --runtime {runtime}\n",
            quire = self.program.display(),
            auth = self.file("client/auth").display(),
            data = self.paths.data().display(),
            runtime = self.paths.runtime().display(),
        );
        fs::write(self.file("client/ssh"), script).unwrap();
        fs::set_permissions(self.file("client/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Makes the server and the sessions run as a user for whom the modes of files count, as in the image. Call it before
    /// the server starts.
    pub fn drop_privileges(&mut self) {
        if !geteuid().is_root() {
            return;
        }
        self.unprivileged = true;
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o755)).unwrap();
        for path in [self.paths.data(), self.paths.runtime()] {
            own(path);
        }
        let script = fs::read_to_string(self.file("client/ssh")).unwrap();
        let script = script.replace("exec env", &format!("exec {} env", UNPRIVILEGED.join(" ")));
        fs::write(self.file("client/ssh"), script).unwrap();
    }

    /// Takes the right to read a file or folder from the server and the sessions; returns what gives it back.
    pub fn hide(path: &Path) -> impl FnOnce() + use<> {
        let path = path.to_owned();
        let mode = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        move || fs::set_permissions(&path, mode).unwrap()
    }

    /// Sets a variable of the server's environment, from its next start on.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Has the server killed the first time that it comes to a fault point, from its next start on.
    pub fn kill_once_at(&mut self, point: &str) -> &mut Self {
        self.fault_once("QUIRE_FAULT", point)
    }

    /// Has the server stopped (SIGSTOP) the first time that it comes to a fault point, from its next start on.
    pub fn stop_once_at(&mut self, point: &str) -> &mut Self {
        self.fault_once("QUIRE_FAULT_STOP", point)
    }

    /// Whether the server has come to the fault point.
    pub fn came_to_fault_point(&self) -> bool {
        self.file(FAULT_MARKER).exists()
    }

    fn fault_once(&mut self, variable: &str, point: &str) -> &mut Self {
        let marker = self.file(FAULT_MARKER);
        let _ = fs::remove_file(&marker);
        self.set(variable, point)
            .set("QUIRE_FAULT_ONCE", &marker.display().to_string())
    }

    /// Takes a variable back.
    pub fn unset(&mut self, name: &str) -> &mut Self {
        self.variables.remove(name);
        self
    }

    /// A path in the forge's own folder, beside the data.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The quire binary with the environment of an appliance.
    pub fn quire(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env_clear().stdin(Stdio::null());
        command
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.file("client"));
        command
            .env("QUIRE_DATA", self.paths.data())
            .env("QUIRE_RUNTIME", self.paths.runtime());
        command
            .env("QUIRE_HTTP_PORT", self.port.to_string())
            .envs(&self.variables);
        command
    }

    /// A management command, as a person types it over SSH.
    pub fn ssh(&self, command: &str) -> Output {
        let clock = self
            .variables
            .get("QUIRE_FAULT_CLOCK")
            .map(|clock| ("QUIRE_FAULT_CLOCK", clock));
        Command::new(self.file("client/ssh"))
            .arg(command)
            .envs(clock)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// A management command over SSH with this on its standard input.
    pub fn ssh_with(&self, command: &str, input: &[u8]) -> Output {
        let mut session = Command::new(self.file("client/ssh"));
        session.arg(command).stdin(Stdio::piped());
        session.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = session.spawn().unwrap();
        // A command that has failed already reads nothing.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    /// The same, which must succeed; its standard output.
    #[track_caller]
    pub fn ssh_ok(&self, command: &str) -> String {
        let output = self.ssh(command);
        assert!(
            output.status.success(),
            "{command}: {}",
            transcript(&output)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts the server and waits until it takes pushes.
    #[track_caller]
    pub fn serve(&mut self) {
        for _ in 0..3 {
            self.spawn();
            let up = wait_for("the server", || {
                if self.server.as_mut()?.try_wait().unwrap().is_some() {
                    return Some(false);
                }
                let healthy = self.try_get("/healthz")?.json()["status"] != "starting";
                healthy.then_some(true)
            });
            if up {
                return;
            }
            self.server = None;
            // Somebody else may have got the port in between.
            assert!(
                self.log()
                    .contains(&format!("listen on 127.0.0.1:{}", self.port)),
                "the server does not start: {}",
                self.log()
            );
            self.port = free_port();
        }
        panic!("the server does not start: {}", self.log());
    }

    /// Starts the server and waits for nothing.
    pub fn spawn(&mut self) {
        assert!(self.server.is_none(), "it runs already");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.file("serve.log"))
            .unwrap();
        let mut command = self.quire(&["serve"]);
        if self.unprivileged {
            command = within(&UNPRIVILEGED, &command);
        }
        if let Some(cgroup) = &self.cgroup {
            let put = [
                "sh",
                "-c",
                "echo $$ > \"$0\" && exec \"$@\"",
                cgroup.to_str().unwrap(),
            ];
            command = within(&put, &command);
        }
        if let Some(resolv_conf) = &self.resolv_conf {
            let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
            let mount = ["unshare", "--mount", "sh", "-c", script];
            let mount = [&mount[..], &[resolv_conf.to_str().unwrap()]].concat();
            command = within(&mount, &command);
        }
        // As `quire init` does.
        let program = File::open(&self.program).unwrap();
        self.server = Some(
            command
                .stdin(program)
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap(),
        );
    }

    /// From its next start on the server asks the server of names that this text names, in a mount namespace of its own. Needs root.
    pub fn resolve_by(&mut self, resolv_conf: &str) {
        let file = self.file("resolv.conf");
        fs::write(&file, resolv_conf).unwrap();
        self.resolv_conf = Some(file);
    }

    /// From its next start on the server begins its life in the cgroup whose processes this file lists.
    pub fn start_within(&mut self, processes: &Path) {
        self.cgroup = Some(processes.to_owned());
    }

    /// Starts a server that has to end by itself, and gives what it said.
    #[track_caller]
    pub fn serve_to_end(&self) -> Output {
        let mut child = self
            .quire(&["serve"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if wait_until(WAIT_TIMEOUT, || child.try_wait().unwrap()).is_none() {
            let _ = child.kill();
            panic!(
                "it goes on: {}",
                transcript(&child.wait_with_output().unwrap())
            );
        }
        child.wait_with_output().unwrap()
    }

    /// Whether it has a server that has not been stopped.
    pub fn is_serving(&self) -> bool {
        self.server.is_some()
    }

    /// The process id of the server.
    pub fn pid(&self) -> i32 {
        self.server.as_ref().unwrap().id().cast_signed()
    }

    /// Sends the server a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Ends the server as `docker stop` does.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended()
    }

    /// Ends the server as a power cut does.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.ended();
    }

    /// Waits for the server's end.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let mut server = self.server.take().unwrap();
        wait_until(WAIT_TIMEOUT, || server.try_wait().unwrap()).unwrap_or_else(|| {
            let _ = server.kill();
            panic!("the server does not end: {}", self.log())
        })
    }

    /// What the server wrote so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.file("serve.log")).unwrap_or_default()).into_owned()
    }

    /// Waits until the server's log holds this text.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        let _: () = wait_until(WAIT_TIMEOUT, || self.log().contains(text).then_some(()))
            .unwrap_or_else(|| panic!("{text:?} never came in the log: {}", self.log()));
    }

    /// A working tree on branch `main`, with `origin` set and no commit.
    pub fn tree(&self, name: &str, repo: &str) -> Tree {
        let path = self.file(name);
        fs::create_dir_all(&path).unwrap();
        let tree = Tree {
            client: self.file("client"),
            path,
        };
        tree.git_ok(&["init", "-q", "-b", "main"]);
        tree.git_ok(&[
            "remote",
            "add",
            "origin",
            &format!("ssh://git@forge/{repo}"),
        ]);
        tree
    }

    /// A working tree with a Fennel pipeline in its first commit, not pushed.
    pub fn tree_with(&self, repo: &str, pipeline: &str) -> Tree {
        let tree = self.tree(repo, repo);
        tree.write(".quire/ci.fnl", pipeline);
        tree.commit("first");
        tree
    }
}

impl Drop for TestForge {
    fn drop(&mut self) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        let _ = kill(Pid::from_raw(server.id().cast_signed()), Signal::SIGTERM);
        let ended = wait_until(Duration::from_secs(20), || server.try_wait().ok().flatten());
        if ended.is_none() {
            let _ = server.kill();
            let _ = server.wait();
        }
        let left = wait_until(Duration::from_secs(10), || {
            self.processes().is_empty().then_some(())
        });
        if std::thread::panicking() {
            return;
        }
        assert_eq!(
            ended.and_then(|status| status.code()),
            Some(0),
            "the server ended badly: {}",
            self.log()
        );
        assert!(left.is_some(), "processes are left: {:?}", self.processes());
    }
}

/// The command, started by another program with these words.
fn within(words: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(words[0]);
    outer
        .args(&words[1..])
        .arg(command.get_program())
        .args(command.get_args());
    let variables = command.get_envs();
    outer
        .env_clear()
        .envs(variables.filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null());
    outer
}
