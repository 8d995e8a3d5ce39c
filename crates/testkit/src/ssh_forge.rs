//! A forge behind a real sshd on a free loopback port, with the image's own configuration of sshd,
//! and ssh and git clients with keys.
//!
//! As root, sshd gets a mount namespace of its own in which `/etc/passwd` has the user `git`
//! with `quire-shell` as its shell, as in the image. As anybody else it serves that user, with
//! their own shell, as `quire init --native` does. Nothing outside of the temporary folder changes.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use quire_types::paths::Paths;
use quire_types::push_event::PushEvent;

use crate::forge::TestForge;
use crate::git::hermetic_git;
use crate::git_user::{GIT_UID, own};
use crate::keys::{HostKeys, generate_key, ssh_options};
use crate::net::free_port;
use crate::program::{stdout, transcript};
use crate::wait::wait_for;

/// A running sshd with the forge that it serves.
pub struct SshForge {
    pub paths: Paths,
    pub port: u16,
    pub user: String,
    /// Whether a plain git stands behind sshd, not quire: the control, which shows that a test says
    /// something about quire.
    pub is_plain: bool,
    forge: TestForge,
    sshd: Child,
}

impl TestForge {
    /// Starts sshd, with `quire exec` behind it, as in the image.
    pub fn sshd(self) -> SshForge {
        SshForge::start(self, false)
    }

    /// Starts sshd, with nothing but git behind it.
    pub fn plain_sshd(self) -> SshForge {
        SshForge::start(self, true)
    }
}

impl SshForge {
    fn start(forge: TestForge, is_plain: bool) -> Self {
        let paths = forge.paths.clone();
        let folder = forge.file("");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(paths.host_keys()).unwrap();
        lay_out(&forge);
        let user = if geteuid().is_root() {
            "git".to_owned()
        } else {
            User::from_uid(geteuid()).unwrap().unwrap().name
        };
        let (sshd, port) = start_sshd(&folder, &paths, is_plain, &user);
        let line = fs::read_to_string(paths.host_keys().join("host.pub")).unwrap();
        fs::write(
            forge.file("client/known_hosts"),
            format!("[127.0.0.1]:{port} {line}"),
        )
        .unwrap();
        Self {
            paths,
            port,
            user,
            is_plain,
            forge,
            sshd,
        }
    }

    /// A path in the forge's temporary folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.forge.file(name)
    }

    /// The URL of a repository.
    pub fn url(&self, repo: &str) -> String {
        if self.is_plain {
            let repos = self.paths.repos();
            format!(
                "ssh://{}@127.0.0.1:{}{}/{repo}.git",
                self.user,
                self.port,
                repos.display()
            )
        } else {
            format!("ssh://{}@127.0.0.1:{}/{repo}", self.user, self.port)
        }
    }

    /// The options of an ssh client with this key.
    fn ssh_options(&self, key: &str) -> Vec<String> {
        ssh_options(
            &self.file(&format!("client/{key}")),
            HostKeys::Known(&self.file("client/known_hosts")),
        )
    }

    /// A git client in a folder, with a key.
    pub fn git_as(&self, key: &str, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = hermetic_git(folder, &self.file("client"), arguments);
        command.env("GIT_SSH_COMMAND", self.ssh_command(key));
        command
    }

    /// The ssh of a client with a key, as `GIT_SSH_COMMAND` has it.
    pub fn ssh_command(&self, key: &str) -> String {
        let mut ssh = vec!["ssh".to_owned()];
        ssh.extend(self.ssh_options(key));
        shell_words::join(ssh)
    }

    /// Runs the owner's git.
    pub fn git(&self, folder: &Path, arguments: &[&str]) -> Output {
        self.git_as("owner", folder, arguments).output().unwrap()
    }

    /// Runs the owner's git, which must succeed; its standard output.
    pub fn git_ok(&self, folder: &Path, arguments: &[&str]) -> String {
        let output = self.git(folder, arguments);
        assert!(
            output.status.success(),
            "git {arguments:?}: {}\nsshd: {}",
            transcript(&output),
            self.log()
        );
        stdout(&output)
    }

    /// An ssh client with a key, these options and this command.
    pub fn ssh_as(&self, key: &str, options: &[&str], words: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .stdin(Stdio::null());
        command
            .args(self.ssh_options(key))
            .args(["-p", &self.port.to_string()])
            .args(options);
        command.arg(format!("{}@127.0.0.1", self.user)).args(words);
        command
    }

    /// Runs a command over ssh as the owner.
    pub fn ssh(&self, words: &[&str]) -> Output {
        self.ssh_as("owner", &[], words).output().unwrap()
    }

    /// The program with the owner's options, for sftp and scp.
    pub fn copy_program(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command
            .stdin(Stdio::null())
            .args(self.ssh_options("owner"))
            .args(["-P", &self.port.to_string()])
            .args(arguments);
        command.output().unwrap()
    }

    /// A new working tree with one commit on `main`, with `origin` set.
    pub fn tree(&self, name: &str, repo: &str) -> PathBuf {
        let tree = self.file(name);
        fs::create_dir_all(&tree).unwrap();
        self.git_ok(&tree, &["init", "-q", "-b", "main"]);
        self.git_ok(&tree, &["remote", "add", "origin", &self.url(repo)]);
        self.commit(&tree, "first");
        if self.is_plain {
            let bare = self.paths.repos().join(format!("{repo}.git"));
            self.git_ok(
                &tree,
                &["init", "-q", "--bare", "-b", "main", bare.to_str().unwrap()],
            );
            own(&bare);
        }
        tree
    }

    /// One more commit; its id.
    pub fn commit(&self, tree: &Path, message: &str) -> String {
        fs::write(tree.join("file"), message).unwrap();
        self.git_ok(tree, &["add", "-A"]);
        self.git_ok(tree, &["commit", "-q", "--allow-empty", "-m", message]);
        self.git_ok(tree, &["rev-parse", "HEAD"])
    }

    /// The events in the spool, oldest first; drafts there must not be.
    pub fn events(&self) -> Vec<PushEvent> {
        let mut files: Vec<_> = fs::read_dir(self.paths.spool())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let read = |path: &PathBuf| {
            let event: PushEvent = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            assert_eq!(*path, self.paths.spool_file(event.id));
            event
        };
        files.iter().map(read).collect()
    }

    /// Takes the events out of the spool.
    pub fn take_events(&self) -> Vec<PushEvent> {
        let events = self.events();
        events
            .iter()
            .for_each(|event| fs::remove_file(self.paths.spool_file(event.id)).unwrap());
        events
    }

    /// A new bare repository of a plain sshd; its path.
    pub fn bare(&self, name: &str) -> PathBuf {
        let bare = self.paths.repos().join(format!("{name}.git"));
        let path = bare.to_str().unwrap();
        self.git_ok(
            &self.file(""),
            &["init", "-q", "--bare", "-b", "main", path],
        );
        own(&bare);
        bare
    }

    /// Adds a program to those that a plain sshd has.
    pub fn add_program(&self, name: &str, script: &str) {
        let file = self.file("programs").join(name);
        fs::create_dir_all(self.file("programs")).unwrap();
        fs::write(&file, script).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Allows a key to connect, given as a line of `authorized_keys`.
    pub fn allow(&self, key: &str) {
        let file = self.paths.merged_authorized_keys();
        let keys = fs::read_to_string(&file).unwrap();
        fs::write(file, format!("{}\n{key}\n", keys.trim_end())).unwrap();
    }

    /// Ends sshd; its address is free then.
    pub fn stop(&mut self) {
        let _ = kill(Pid::from_raw(self.sshd.id().cast_signed()), Signal::SIGTERM);
        let _ = self.sshd.wait();
    }

    /// Starts sshd again at the same address.
    pub fn start_again(&mut self) {
        self.sshd = command(&self.file(""), &self.paths, self.is_plain)
            .spawn()
            .unwrap();
        wait_for("sshd", || {
            TcpStream::connect(("127.0.0.1", self.port)).ok().map(drop)
        });
    }

    /// Gives the stopped sshd another host key.
    pub fn replace_host_key(&self) {
        let key = self.paths.host_keys().join("host");
        fs::remove_file(&key).unwrap();
        generate_key(&key, "another");
        if geteuid().is_root() {
            chown(key, Some(0), Some(0)).unwrap();
        }
    }

    /// What sshd logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.file("sshd.log")).unwrap_or_default()
    }
}

impl Drop for SshForge {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.sshd.id().cast_signed()), Signal::SIGTERM);
        let _ = self.sshd.wait();
    }
}

/// Keys, and a program that the user `git` can reach.
fn lay_out(forge: &TestForge) {
    let paths = &forge.paths;
    generate_key(&paths.host_keys().join("host"), "host");
    let owner = generate_key(&forge.file("client/owner"), "laptop, the new one");
    let second = generate_key(&forge.file("client/second"), "desktop");
    generate_key(&forge.file("client/stranger"), "stranger");
    fs::write(paths.merged_authorized_keys(), owner + &second).unwrap();
    // A copy: the build's own folder need not be open to another user.
    let quire = forge.file("run/quire");
    fs::copy(&forge.program, &quire).unwrap();
    symlink(&quire, forge.file("run/quire-shell")).unwrap();
    for name in ["pre-receive", "proc-receive", "post-receive"] {
        let hook = paths.hooks().join(name);
        fs::remove_file(&hook).unwrap();
        symlink(&quire, hook).unwrap();
    }
    own(paths.data());
    fs::create_dir_all(paths.push_marks()).unwrap();
    own(&paths.push_marks());
    if geteuid().is_root() {
        // Host keys must be the server's own, as in the image.
        chown(paths.host_keys().join("host"), Some(0), Some(0)).unwrap();
    }
}

fn start_sshd(folder: &Path, paths: &Paths, is_plain: bool, user: &str) -> (Child, u16) {
    for _ in 0..3 {
        let port = free_port();
        fs::write(
            paths.sshd_config(),
            configuration(folder, paths, is_plain, user, port),
        )
        .unwrap();
        let mut child = command(folder, paths, is_plain).spawn().unwrap();
        let up = wait_for("sshd", || match child.try_wait().unwrap() {
            Some(_) => Some(false),
            None => TcpStream::connect(("127.0.0.1", port))
                .is_ok()
                .then_some(true),
        });
        if up {
            return (child, port);
        }
        // Somebody else may have got the port in between.
        let _ = writeln!(
            std::io::stderr(),
            "sshd: {}",
            fs::read_to_string(folder.join("sshd.log")).unwrap_or_default()
        );
    }
    panic!("sshd does not start");
}

fn configuration(folder: &Path, paths: &Paths, is_plain: bool, user: &str, port: u16) -> String {
    let force = [
        "run/quire",
        "exec",
        "--data",
        paths.data().to_str().unwrap(),
        "--runtime",
        paths.runtime().to_str().unwrap(),
    ];
    let force = shell_words::join(force).replacen(
        "run/quire",
        folder.join("run/quire").to_str().unwrap(),
        1,
    );
    let text = include_str!("../../../image/sshd_config")
        .replace("@PORT@", &port.to_string())
        .replace("@LISTEN@", "127.0.0.1")
        .replace(
            "@HOST_KEYS@",
            &format!("HostKey {}", paths.host_keys().join("host").display()),
        )
        .replace("@USER@", user)
        .replace(
            "@AUTHORIZED_KEYS@",
            paths.merged_authorized_keys().to_str().unwrap(),
        )
        .replace("@STRICT_MODES@", "no")
        .replace("@FORCE_COMMAND@", &force);
    assert!(
        !text
            .lines()
            .any(|line| !line.starts_with('#') && line.contains('@')),
        "{text}"
    );
    if !is_plain {
        return text;
    }
    let programs = folder.join("programs");
    let path = format!(
        "SetEnv PATH={}:/usr/local/bin:/usr/bin:/bin\n",
        programs.display()
    );
    let lines = text
        .lines()
        .filter(|line| !line.starts_with("ForceCommand"))
        .map(|line| format!("{line}\n"));
    // Before the first condition.
    std::iter::once(path).chain(lines).collect()
}

/// sshd itself; as root within a mount namespace that has the user.
fn command(folder: &Path, paths: &Paths, is_plain: bool) -> Command {
    let log = folder.join("sshd.log");
    let sshd = [
        "/usr/sbin/sshd",
        "-D",
        "-E",
        log.to_str().unwrap(),
        "-f",
        paths.sshd_config().to_str().unwrap(),
    ]
    .map(str::to_owned);
    let mut command;
    if geteuid().is_root() {
        let shell = if is_plain {
            "/bin/sh".into()
        } else {
            folder.join("run/quire-shell")
        };
        let home = paths.data().display();
        let mut users = fs::read_to_string("/etc/passwd").unwrap();
        users.retain(|c| c != '\0');
        let users: String = users
            .lines()
            .filter(|line| !line.starts_with("git:"))
            .map(|line| format!("{line}\n"))
            .collect();
        fs::write(
            folder.join("passwd"),
            format!(
                "{users}git:*:{GIT_UID}:{GIT_UID}::{home}:{}\n",
                shell.display()
            ),
        )
        .unwrap();
        // A home of sshd's own, and no trace of it outside.
        let script = "mount --bind \"$1\" /etc/passwd && mount -t tmpfs tmpfs /run && mkdir /run/sshd && shift && exec \"$@\"";
        command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(folder.join("passwd"))
            .args(sshd);
    } else {
        command = Command::new(&sshd[0]);
        command.args(&sshd[1..]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}
