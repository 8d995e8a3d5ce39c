//! What a process in an SSH session can reach.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use quire_testkit::{GIT_UID, TestForge, free_port, own, wait_for};

use crate::QUIRE;

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A user of whom every system knows.
const NOBODY: u32 = 65534;

/// A program as the user who owns the volume.
fn as_owner(command: &mut Command) -> &mut Command {
    as_user(command, GIT_UID)
}

/// A program as this user, if the tests run as root.
fn as_user(command: &mut Command, user: u32) -> &mut Command {
    if nix::unistd::geteuid().is_root() {
        command.uid(user).gid(user);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
}

/// Whether another process of this user can open a file of `/proc`.
fn can_open(path: &str, user: u32) -> bool {
    let mut command = Command::new("sh");
    command.args(["-c", ": < \"$0\"", path]);
    as_user(&mut command, user).status().unwrap().success()
}

/// Has git execute a script in the next push: a repository's own configuration is the way in.
fn plant(repo: &Path, script: &str) {
    fs::write(repo.join("probe"), script).unwrap();
    let probe = repo.join("probe");
    let config = fs::read_to_string(repo.join("config")).unwrap();
    let command = format!("[core]\n\talternateRefsCommand = sh {}\n", probe.display());
    fs::write(repo.join("config"), config + &command).unwrap();
    let other = repo.with_file_name("other.git/objects");
    fs::write(
        repo.join("objects/info/alternates"),
        format!("{}\n", other.display()),
    )
    .unwrap();
    own(repo);
}

#[test]
fn a_session_reaches_its_repository_and_nothing_else() {
    let forge = TestForge::new(QUIRE).sshd();
    let (tree, other) = (
        forge.tree("client/a", "app"),
        forge.tree("client/b", "other"),
    );
    for tree in [&tree, &other] {
        forge.git_ok(tree, &["push", "-q", "origin", "main"]);
    }
    let data = forge.paths.data();
    fs::write(forge.paths.config_fennel(), "{}").unwrap();
    own(&forge.paths.config_fennel());
    let bystander = Process(as_owner(Command::new("sleep").arg("600")).spawn().unwrap());
    let pid = bystander.0.id();
    let files = ["mem", "environ", "maps"].map(|name| format!("/proc/{pid}/{name}"));
    for file in &files {
        assert!(
            can_open(file, GIT_UID),
            "{file} can be opened without the confinement"
        );
    }
    let repo = forge.paths.repos().join("app.git");
    let script = format!(
        "cd {repo}
         try() {{ if sh -c \"$2\" >/dev/null 2>&1; then echo \"$1: allowed\"; else echo \"$1: refused\"; fi; }}
         {{ try 'memory of a process of the user' ': < /proc/{pid}/mem'
            try 'environment of a process of the user' ': < /proc/{pid}/environ'
            try 'signal to a process of the user' 'kill -0 {pid}'
            try 'read the configuration' 'cat {data}/config.fnl'
            try 'write the configuration' ': >> {data}/config.fnl'
            try 'read another repository' 'cat {data}/repos/other.git/HEAD'
            try 'write another repository' ': >> {data}/repos/other.git/HEAD'
            try 'write the folder of repositories' ': > {data}/repos/x'
            try 'write the runtime folder' ': > {runtime}/x'
            try 'write /tmp' ': > /tmp/quire-confinement-test'
            try 'read its repository' 'cat HEAD'
            try 'write its repository' ': >> HEAD'
            try 'write the spool' ': > {data}/spool/.probe && rm {data}/spool/.probe'
            try 'read the system' 'cat /etc/passwd'
            echo \"core files: $(ulimit -c) blocks\"
            echo \"memory of each process: $(ulimit -d) kB\"
            echo \"git holds no file in memory over $(git config core.bigFileThreshold)\"
            echo \"git reads settings of:\"
            git config --list --show-origin | cut -f 1 | sort -u | sed 's,{runtime},RUNTIME,'
         }} > result.new 2>&1
         echo $$ > pid
         mv result.new result
         until [ -e go ]; do sleep 0.05; done\n",
        repo = repo.display(),
        data = data.display(),
        runtime = forge.paths.runtime().display(),
    );
    plant(&repo, &script);
    forge.commit(&tree, "second");
    let mut push = forge.git_as("owner", &tree, &["push", "-q", "origin", "main"]);
    let mut push = Process(
        push.stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let result = wait_for("the probe", || fs::read_to_string(repo.join("result")).ok());
    let probe = fs::read_to_string(repo.join("pid")).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", probe.trim())).unwrap();
    fs::write(repo.join("go"), "").unwrap();
    push.0.wait().unwrap();
    insta::assert_snapshot!(result);
    assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
}

/// A copy of the program that the owner of the volume can execute.
fn program(forge: &TestForge) -> std::path::PathBuf {
    let folder = forge.file("");
    fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let program = forge.file("quire");
    fs::copy(QUIRE, &program).unwrap();
    own(&folder);
    program
}

/// Waits until no other process of its user can look into this one. It must leave no core file either.
fn assert_memory_is_protected(process: &mut Process, user: u32, what: &str) {
    let pid = process.0.id();
    for name in ["mem", "environ", "maps"] {
        let file = format!("/proc/{pid}/{name}");
        wait_for(&format!("{file} of {what} to be closed"), || {
            assert!(process.0.try_wait().unwrap().is_none(), "{what} has ended");
            (!can_open(&file, user)).then_some(())
        });
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().next(), Some("0"), "{what}");
    assert!(process.0.try_wait().unwrap().is_none(), "{what} has ended");
}

#[test]
fn no_process_of_the_user_reads_the_memory_of_the_server() {
    let forge = TestForge::new(QUIRE);
    let program = program(&forge);
    let template = forge.quire(&["serve"]);
    let mut command = Command::new(&program);
    command.args(template.get_args()).env_clear();
    command.envs(
        template
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let mut server = Process(as_owner(&mut command).spawn().unwrap());
    wait_for("the server", || forge.try_get("/healthz"));
    assert_memory_is_protected(&mut server, GIT_UID, "the server");
}

#[test]
fn no_process_of_the_user_reads_the_memory_of_init_or_a_driver() {
    let forge = TestForge::new(QUIRE);
    let program = program(&forge);
    let data = forge.file("of-another-user");
    fs::create_dir(&data).unwrap();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let mut init = Command::new(&program);
    init.args(["init", "--native", "--data"])
        .arg(&data)
        .arg(format!("--ssh-port={}", free_port()))
        .arg(format!("--http-port={}", free_port()))
        .args([
            "--child=sshd=exec sleep 600",
            "--child=serve=exec sleep 600",
        ]);
    let mut init = Process(as_user(&mut init, NOBODY).spawn().unwrap());
    assert_memory_is_protected(&mut init, NOBODY, "init");
    let mut driver = Command::new(&program);
    as_owner(driver.arg("driver")).stdin(Stdio::piped());
    let mut driver = Process(driver.spawn().unwrap());
    assert_memory_is_protected(&mut driver, GIT_UID, "the driver");
}
