//! A whole forge for a test: the real `quire serve` over a temporary data folder with the host
//! executor, and a real git whose pushes go through `quire exec`, git and the hook as over SSH,
//! only without the time that encryption takes.
//!
//! Nothing of the machine's own settings reaches it, its port is free, and when it is dropped the
//! server has to end well and leave no process behind.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "shared by test binaries that use different parts"
)]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quire::clock::Clock;
use quire::names::RunId;
use quire::paths::Paths;
use quire::run::{JobRow, Run, RunState, StepRow};
use quire::store::{RunFilter, Store};
use tempfile::TempDir;

/// How long anything may take that is waited for.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until the condition gives something; says what it waited for where it never does.
#[track_caller]
pub fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_until(DEADLINE, condition).unwrap_or_else(|| panic!("waited in vain for {what}"))
}

/// Polls until the condition gives something or the time is up.
pub fn wait_until<T>(patience: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a process said, for a failed assertion.
pub fn said(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A port that nobody listens on just now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// The forge. Not started by [`TestForge::new`], so that a test can lay something out first.
pub struct TestForge {
    pub paths: Paths,
    pub port: u16,
    folder: PathBuf,
    variables: BTreeMap<String, String>,
    server: Option<Child>,
    /// The file that puts a process into a cgroup, where the server is to be in one.
    cgroup: Option<PathBuf>,
    /// Removes the folder, unless it lies on a disk of its own.
    _temporary: Option<TempDir>,
}

impl TestForge {
    /// A forge that is running.
    pub fn start() -> Self {
        let mut forge = Self::new();
        forge.serve();
        forge
    }

    /// A forge in a folder of its own, not running.
    pub fn new() -> Self {
        let temporary = tempfile::Builder::new()
            .prefix("quire-forge-")
            .tempdir()
            .unwrap();
        let mut forge = Self::at(temporary.path(), temporary.path().join("data"));
        forge._temporary = Some(temporary);
        forge
    }

    /// A forge with its data in a given folder.
    pub fn at(folder: &Path, data: PathBuf) -> Self {
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
            folder: folder.to_owned(),
            variables: BTreeMap::new(),
            server: None,
            cgroup: None,
            _temporary: None,
        };
        forge.lay_out();
        for (name, value) in [
            ("QUIRE_CI_EXECUTOR", "host"),
            // Not the machine's own engine, which is another tier's business.
            ("QUIRE_CI_ENGINE", "unix:///nonexistent/docker.sock"),
            ("QUIRE_CI_CONCURRENT_RUNS", "2"),
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
        let quire = env!("CARGO_BIN_EXE_quire");
        symlink(quire, self.paths.hooks().join("post-receive")).unwrap();
        let gitconfig = include_str!("../../image/gitconfig")
            .replace("@HOOKS@", self.paths.hooks().to_str().unwrap());
        fs::write(self.paths.git_config(), gitconfig).unwrap();
        let key =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJpcmRzIGFuZCBiZWVzIGFuZCBmaXNoIGFuZCBhbGwh";
        fs::write(self.paths.effective_keys(), format!("{key} laptop\n")).unwrap();
        fs::write(self.file("client/auth"), format!("publickey {key}\n")).unwrap();
        // Stands for ssh and sshd: the last word is the command, and a session gets a clean environment.
        // A test may give it another git (git itself puts its own before all others in `PATH`).
        let script = format!(
            "#!/bin/sh\nfor command; do :; done\nexec env -i PATH=\"${{TEST_PATH:-$PATH}}\" ${{GIT_PROTOCOL:+GIT_PROTOCOL=$GIT_PROTOCOL}} \
             ${{QUIRE_FAULT:+QUIRE_FAULT=$QUIRE_FAULT}} ${{QUIRE_FAULT_ONCE:+QUIRE_FAULT_ONCE=$QUIRE_FAULT_ONCE}} \
             ${{QUIRE_FAULT_CLOCK:+QUIRE_FAULT_CLOCK=$QUIRE_FAULT_CLOCK}} \
             SSH_USER_AUTH={auth} SSH_ORIGINAL_COMMAND=\"$command\" {quire} exec --data {data} --runtime {runtime}\n",
            auth = self.file("client/auth").display(),
            data = self.paths.data().display(),
            runtime = self.paths.runtime().display(),
        );
        fs::write(self.file("client/ssh"), script).unwrap();
        fs::set_permissions(self.file("client/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Sets a variable of the server's environment, from its next start on.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
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
        let mut command = Command::new(env!("CARGO_BIN_EXE_quire"));
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

    /// The same, which must succeed; its standard output.
    #[track_caller]
    pub fn ssh_ok(&self, command: &str) -> String {
        let output = self.ssh(command);
        assert!(output.status.success(), "{command}: {}", said(&output));
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
        if let Some(cgroup) = &self.cgroup {
            let mut inside = Command::new("sh");
            inside
                .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
                .arg(cgroup)
                .arg(command.get_program())
                .args(command.get_args());
            inside
                .env_clear()
                .envs(
                    command
                        .get_envs()
                        .filter_map(|(name, value)| Some((name, value?))),
                )
                .stdin(Stdio::null());
            command = inside;
        }
        self.server = Some(
            command
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap(),
        );
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
        if wait_until(DEADLINE, || child.try_wait().unwrap()).is_none() {
            let _ = child.kill();
            panic!("it goes on: {}", said(&child.wait_with_output().unwrap()));
        }
        child.wait_with_output().unwrap()
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
        wait_until(DEADLINE, || server.try_wait().unwrap()).unwrap_or_else(|| {
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
        let _: () = wait_until(DEADLINE, || self.log().contains(text).then_some(()))
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

    /// The database as a second reader sees it.
    #[track_caller]
    pub fn store(&self) -> Store {
        Store::open_existing(&self.paths.database(), Clock::system()).unwrap()
    }

    /// All runs, oldest first.
    #[track_caller]
    pub fn runs(&self) -> Vec<Run> {
        let filter = RunFilter {
            repo: None,
            ref_name: None,
            state: None,
            before: None,
            limit: 100_000,
        };
        let mut runs = self.store().list_runs(&filter).unwrap();
        runs.reverse();
        runs
    }

    /// The runs of a repository, oldest first.
    #[track_caller]
    pub fn runs_of(&self, repo: &str) -> Vec<Run> {
        self.runs()
            .into_iter()
            .filter(|run| run.repo.as_str() == repo)
            .collect()
    }

    /// The newest run of a repository.
    #[track_caller]
    pub fn newest(&self, repo: &str) -> Run {
        self.runs_of(repo)
            .pop()
            .unwrap_or_else(|| panic!("{repo} has no run: {}", self.log()))
    }

    /// A run as it stands.
    #[track_caller]
    pub fn run(&self, id: RunId) -> Run {
        self.store().run(id).unwrap().unwrap()
    }

    /// Waits until a run has ended.
    #[track_caller]
    pub fn end_of(&self, id: RunId) -> Run {
        let ended = wait_until(DEADLINE, || {
            Some(self.run(id)).filter(|run| run.state.is_final())
        });
        ended.unwrap_or_else(|| panic!("it never ended: {:?}\n{}", self.run(id), self.log()))
    }

    /// Waits until a run is in a state.
    #[track_caller]
    pub fn wait_for_state(&self, id: RunId, state: RunState) -> Run {
        let there = wait_until(DEADLINE, || {
            Some(self.run(id)).filter(|run| run.state == state)
        });
        there.unwrap_or_else(|| panic!("it never was {state}: {:?}\n{}", self.run(id), self.log()))
    }

    /// Waits until nothing is pending or active.
    #[track_caller]
    pub fn wait_for_quiet(&self) {
        let open = || {
            self.runs()
                .into_iter()
                .filter(|run| !run.state.is_final())
                .collect::<Vec<_>>()
        };
        let quiet = wait_until(DEADLINE * 2, || open().is_empty().then_some(()));
        quiet.unwrap_or_else(|| panic!("these go on: {:?}\n{}", open(), self.log()));
    }

    /// The jobs of a run.
    pub fn jobs(&self, id: RunId) -> Vec<JobRow> {
        self.store().jobs(id).unwrap()
    }

    /// The steps of a run.
    pub fn steps(&self, id: RunId) -> Vec<StepRow> {
        self.store().steps(id).unwrap()
    }

    /// The folder of a run.
    pub fn run_folder(&self, run: &Run) -> PathBuf {
        self.paths.run(&run.repo, run.id)
    }

    /// The spool's files, sorted; drafts included.
    pub fn spooled(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.paths.spool())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.retain(|path| !path.ends_with("damaged"));
        files.sort();
        files
    }

    /// Asks the web; none where it does not answer.
    pub fn try_get(&self, path: &str) -> Option<Answer> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
            .write_all(
                format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    .as_bytes(),
            )
            .ok()?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let body = if head.to_lowercase().contains("transfer-encoding: chunked") {
            unchunk(body)
        } else {
            body.to_owned()
        };
        Some(Answer { status, body })
    }

    /// Asks the web.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.try_get(path)
            .unwrap_or_else(|| panic!("no answer to {path}: {}", self.log()))
    }

    /// The server's health.
    #[track_caller]
    pub fn health(&self) -> serde_json::Value {
        self.get("/healthz").json()
    }

    /// Follows server-sent events to the event `end`; all data, by event name.
    #[track_caller]
    pub fn events(&self, path: &str) -> Vec<(String, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
            .unwrap();
        let (mut events, mut name) = (Vec::new(), String::new());
        for line in BufReader::new(stream).lines() {
            let line = line.unwrap();
            if let Some(event) = line.strip_prefix("event: ") {
                event.clone_into(&mut name);
            } else if let Some(data) = line.strip_prefix("data: ") {
                events.push((name.clone(), data.to_owned()));
                if name == "end" {
                    return events;
                }
            }
        }
        panic!("the stream ended without an end: {events:?}")
    }

    /// Processes that bear a trace of this forge: its folder in environment, arguments or working folder.
    pub fn processes(&self) -> Vec<i32> {
        let folder = self.folder.to_str().unwrap();
        let holds = |bytes: Vec<u8>| {
            bytes
                .windows(folder.len())
                .any(|part| part == folder.as_bytes())
        };
        let pids = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let is_ours = |pid: &i32| {
            let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let inside = fs::read_link(format!("/proc/{pid}/cwd"))
                .is_ok_and(|cwd| cwd.starts_with(&self.folder));
            // A zombie has none of these.
            inside || holds(read("environ")) || holds(read("cmdline"))
        };
        pids.filter(|pid| *pid != std::process::id().cast_signed())
            .filter(is_ours)
            .collect()
    }

    /// Checks what must hold at rest: rows, database, repositories, and nothing left on the machine.
    #[track_caller]
    pub fn check_whole(&self) {
        let database = rusqlite::Connection::open(self.paths.database()).unwrap();
        let verdict: String = database
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(verdict, "ok");
        let mut broken = database.prepare("PRAGMA foreign_key_check").unwrap();
        assert_eq!(
            broken.query_map([], |_| Ok(())).unwrap().count(),
            0,
            "foreign keys"
        );
        for run in self.runs() {
            assert!(run.state.is_final(), "{run:?}");
            assert!(
                run.container_id.is_none() && !Paths::workspace(&self.run_folder(&run)).exists(),
                "{run:?}"
            );
            let open = |run: &Run| self.jobs(run.id).iter().any(|job| !job.state.is_final());
            assert!(!open(&run), "{:?}", self.jobs(run.id));
            assert!(
                self.steps(run.id)
                    .iter()
                    .all(|step| step.finished_at_ms.is_some()),
                "{:?}",
                self.steps(run.id)
            );
        }
        let repos = quire::git::Git::new(&self.paths).list().unwrap();
        for repo in repos {
            let folder = self.paths.repo(&repo);
            let fsck = Command::new("git")
                .arg("-C")
                .arg(&folder)
                .args(["fsck", "--full", "--strict", "--no-dangling"])
                .output()
                .unwrap();
            assert!(fsck.status.success(), "{repo}: {}", said(&fsck));
            // What the ref comparison would find at the next start: nothing.
            let refs = Command::new("git")
                .arg("-C")
                .arg(&folder)
                .args(["show-ref"])
                .output()
                .unwrap();
            let mut now: Vec<String> = String::from_utf8_lossy(&refs.stdout)
                .lines()
                .map(str::to_owned)
                .collect();
            let seen = self.store().seen_refs(&repo).unwrap();
            let mut seen: Vec<String> = seen
                .iter()
                .map(|seen| format!("{} {}", seen.sha, seen.ref_name))
                .collect();
            now.sort();
            seen.sort();
            assert_eq!(now, seen, "refs of {repo}");
        }
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

/// A whole answer of the web.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }
}

fn unchunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        let Some(chunk) = after.get(..size).filter(|chunk| !chunk.is_empty()) else {
            break;
        };
        body.push_str(chunk);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    body
}

/// A working tree of the owner's.
pub struct Tree {
    /// Home and ssh of the client.
    client: PathBuf,
    pub path: PathBuf,
}

impl Tree {
    /// A git client in the tree.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .current_dir(&self.path)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null());
        command
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", &self.client);
        command
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("LC_ALL", "C");
        command
            .env("GIT_SSH", self.client.join("ssh"))
            .env("GIT_SSH_VARIANT", "ssh");
        for role in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{role}_NAME"), "A Person")
                .env(format!("GIT_{role}_EMAIL"), "person@example.org");
        }
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
            said(&output)
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
            said(&output)
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
            said(&output)
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

/// Every file below a folder.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}
