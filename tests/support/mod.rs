//! A forge to test against: a real sshd on a free loopback port with the image's own
//! configuration, a data folder, keys, and a git and ssh that know nothing of the machine's.
//!
//! As root, sshd gets a mount namespace of its own in which `/etc/passwd` has the user `git`
//! with `quire-shell` as its shell, as in the image. As anybody else it serves that user, with
//! their own shell, as `quire init --native` does. Nothing outside of the temporary folder changes.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "shared by test binaries that use different parts"
)]

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use quire::paths::Paths;
use quire::run::event::PushEvent;
use tempfile::TempDir;

/// The user of the appliance, where the test is root and can have one.
const GIT_UID: u32 = 64_123;
/// How long anything may take that is waited for.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// What stands behind sshd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// quire, as in the image.
    Quire,
    /// A plain sshd and git: the control, which shows that a test says something about quire.
    Plain,
}

/// A running sshd with what it serves.
pub struct Forge {
    pub kind: Kind,
    pub paths: Paths,
    pub port: u16,
    pub user: String,
    folder: TempDir,
    sshd: Child,
}

/// Waits until the condition gives something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
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

/// Standard output, trimmed.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

impl Forge {
    /// Starts one.
    pub fn start(kind: Kind) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("quire-ssh-")
            .tempdir()
            .unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let paths = Paths::new(folder.path().join("data"), folder.path().join("run"));
        for path in [
            paths.repos(),
            paths.spool(),
            paths.host_keys(),
            paths.hooks(),
            folder.path().join("client"),
        ] {
            fs::create_dir_all(path).unwrap();
        }
        lay_out(folder.path(), &paths);
        let user = if geteuid().is_root() {
            "git".to_owned()
        } else {
            User::from_uid(geteuid()).unwrap().unwrap().name
        };
        let (sshd, port) = serve(folder.path(), &paths, kind, &user);
        let forge = Self {
            kind,
            paths,
            port,
            user,
            folder,
            sshd,
        };
        let line = fs::read_to_string(forge.paths.host_keys().join("host.pub")).unwrap();
        fs::write(
            forge.file("client/known_hosts"),
            format!("[127.0.0.1]:{port} {line}"),
        )
        .unwrap();
        forge
    }

    /// A path in the forge's temporary folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The URL of a repository.
    pub fn url(&self, repo: &str) -> String {
        match self.kind {
            Kind::Quire => format!("ssh://{}@127.0.0.1:{}/{repo}", self.user, self.port),
            Kind::Plain => format!(
                "ssh://{}@127.0.0.1:{}{}/{repo}.git",
                self.user,
                self.port,
                self.paths.repos().display()
            ),
        }
    }

    /// The options of an ssh client with this key.
    fn ssh_options(&self, key: &str) -> Vec<String> {
        let known = self.file("client/known_hosts");
        let mut options = vec![
            "-F".to_owned(),
            "none".to_owned(),
            "-i".to_owned(),
            self.file(&format!("client/{key}")).display().to_string(),
        ];
        let settings = [
            "IdentitiesOnly=yes".to_owned(),
            "IdentityAgent=none".to_owned(),
            "BatchMode=yes".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            format!("UserKnownHostsFile={}", known.display()),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            "ConnectTimeout=30".to_owned(),
        ];
        options.extend(
            settings
                .into_iter()
                .flat_map(|setting| ["-o".to_owned(), setting]),
        );
        options
    }

    /// A git client in a folder, with a key.
    pub fn git_as(&self, key: &str, folder: &Path, arguments: &[&str]) -> Command {
        let mut ssh = vec!["ssh".to_owned()];
        ssh.extend(self.ssh_options(key));
        let mut command = Command::new("git");
        command
            .current_dir(folder)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null());
        command
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.file("client"));
        command
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("LC_ALL", "C");
        command.env("GIT_SSH_COMMAND", shell_words::join(ssh));
        for role in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{role}_NAME"), "A Person")
                .env(format!("GIT_{role}_EMAIL"), "person@example.org");
        }
        command
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
            said(&output),
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
        if self.kind == Kind::Plain {
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

    /// What sshd logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.file("sshd.log")).unwrap_or_default()
    }
}

impl Drop for Forge {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.sshd.id().cast_signed()), Signal::SIGTERM);
        let _ = self.sshd.wait();
    }
}

/// Gives everything below a path to the user `git`, where there is one.
pub fn own(path: &Path) {
    if !geteuid().is_root() {
        return;
    }
    if path.is_dir() && !path.is_symlink() {
        fs::read_dir(path)
            .unwrap()
            .for_each(|entry| own(&entry.unwrap().path()));
    }
    std::os::unix::fs::lchown(path, Some(GIT_UID), Some(GIT_UID)).unwrap();
}

/// Keys, links and configuration, as init would make them.
fn lay_out(folder: &Path, paths: &Paths) {
    let key = |file: PathBuf, comment: &str| {
        let output = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        fs::read_to_string(file.with_extension("pub")).unwrap()
    };
    key(paths.host_keys().join("host"), "host");
    let owner = key(folder.join("client/owner"), "laptop, the new one");
    let second = key(folder.join("client/second"), "desktop");
    key(folder.join("client/stranger"), "stranger");
    fs::write(paths.effective_keys(), owner + &second).unwrap();
    // A copy: the build's own folder need not be open to another user.
    let quire = folder.join("run/quire");
    fs::copy(env!("CARGO_BIN_EXE_quire"), &quire).unwrap();
    symlink(&quire, folder.join("run/quire-shell")).unwrap();
    symlink(&quire, paths.hooks().join("post-receive")).unwrap();
    let gitconfig = include_str!("../../image/gitconfig")
        .replace("@HOOKS@", paths.hooks().to_str().unwrap())
        .replace("@LIMITS@", paths.git_limits().to_str().unwrap());
    fs::write(paths.git_config(), gitconfig).unwrap();
    own(paths.data());
    if geteuid().is_root() {
        // Host keys must be the server's own, as in the image.
        chown(paths.host_keys().join("host"), Some(0), Some(0)).unwrap();
    }
}

fn serve(folder: &Path, paths: &Paths, kind: Kind, user: &str) -> (Child, u16) {
    for _ in 0..3 {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        fs::write(
            paths.sshd_config(),
            configuration(folder, paths, kind, user, port),
        )
        .unwrap();
        let mut child = command(folder, paths, kind).spawn().unwrap();
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

fn configuration(folder: &Path, paths: &Paths, kind: Kind, user: &str, port: u16) -> String {
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
    let text = include_str!("../../image/sshd_config")
        .replace("@PORT@", &port.to_string())
        .replace("@LISTEN@", "127.0.0.1")
        .replace(
            "@HOST_KEYS@",
            &format!("HostKey {}", paths.host_keys().join("host").display()),
        )
        .replace("@USER@", user)
        .replace(
            "@AUTHORIZED_KEYS@",
            paths.effective_keys().to_str().unwrap(),
        )
        .replace("@STRICT_MODES@", "no")
        .replace("@FORCE_COMMAND@", &force);
    assert!(
        !text
            .lines()
            .any(|line| !line.starts_with('#') && line.contains('@')),
        "{text}"
    );
    match kind {
        Kind::Quire => text,
        Kind::Plain => text
            .lines()
            .filter(|line| !line.starts_with("ForceCommand"))
            .map(|line| format!("{line}\n"))
            .collect(),
    }
}

/// sshd itself; as root within a mount namespace that has the user.
fn command(folder: &Path, paths: &Paths, kind: Kind) -> Command {
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
        let shell = if kind == Kind::Quire {
            folder.join("run/quire-shell")
        } else {
            "/bin/sh".into()
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
