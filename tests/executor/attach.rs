//! Containers as a person meets them: looked into while a run goes on, or after it failed where it was to be
//! kept; and gone when a run says that it was superseded or canceled.

#![expect(clippy::disallowed_methods, reason = "tests start real programs")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::unistd::ttyname;
use quire_testkit::{TestForge, skipped, transcript, wait_for};
use quire_types::run::{FailureKind, RunState};

use super::support::endpoint;
use crate::QUIRE;

/// A forge whose runs are containers.
pub(crate) fn contained() -> TestForge {
    let mut forge = TestForge::new(QUIRE);
    forge
        .set("QUIRE_CI_EXECUTOR", "docker")
        .set("QUIRE_CI_ENGINE", &endpoint());
    forge
        .set("QUIRE_CI_NETWORK", "false")
        .set("QUIRE_CI_MEMORY", "256m")
        .serve();
    forge
}

fn pipeline(command: &str) -> String {
    format!(
        "(local ci (require :quire.ci))\n(ci.job :test [:quire/push] (fn [{{: sh}}] (sh {command:?})))\n"
    )
}

/// A command over SSH with something on its standard input.
pub(crate) fn ssh_with(forge: &TestForge, command: &str, input: &str) -> Output {
    let mut child = Command::new(forge.file("client/ssh"))
        .arg(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn the_container_of_a_failed_run_is_kept_for_a_person_and_then_goes() {
    if skipped("docker") {
        return;
    }
    let mut forge = contained();
    let tree = forge.tree("app", "app");
    tree.write(".quire/ci.fnl", &pipeline("echo evidence > left; exit 3"));
    tree.commit("first");
    tree.push(&["-o", "ci.keep", "main"]);
    let run = forge.end_of(forge.newest("app").id);
    assert_eq!(
        (run.failure_kind, run.keep),
        (Some(FailureKind::Job), true),
        "{run:?}"
    );
    let shown = forge.ssh_ok(&format!("run show {}", run.id));
    assert!(shown.contains("container, until"), "{shown}");
    assert!(
        forge
            .ssh_ok(&format!("run logs {}", run.id))
            .contains("the container is kept until")
    );
    assert_eq!(
        forge.ssh_ok(&format!("run attach {} cat left", run.id)),
        "evidence\n"
    );
    // A shell that reads what is typed; both outputs and the exit code come back.
    let output = ssh_with(
        &forge,
        &format!("run attach {}", run.id),
        "pwd\necho wrong >&2\nexit 7\n",
    );
    assert_eq!(output.status.code(), Some(7), "{}", transcript(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "/work\n");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("a shell in run") && errors.ends_with("wrong\n"),
        "{errors}"
    );

    // It outlives the server, and a server that was killed.
    forge.kill();
    forge.serve();
    assert_eq!(
        forge.ssh_ok(&format!("run attach {} cat left", run.id)),
        "evidence\n"
    );
    assert!(forge.stop().success());
    let database = rusqlite::Connection::open(forge.paths.database()).unwrap();
    assert_eq!(
        database
            .execute("UPDATE kept_containers SET until_ms = 1", [])
            .unwrap(),
        1
    );
    drop(database);
    forge.serve();
    let refused = wait_for("its removal", || {
        Some(forge.ssh(&format!("run attach {} true", run.id)))
            .filter(|output| output.status.code() == Some(1))
    });
    assert!(
        transcript(&refused).contains("its container was removed"),
        "{}",
        transcript(&refused)
    );
    let engine = quire_executor::engine::Engine::new(
        &endpoint(),
        quire_executor::engine::Timeouts::default(),
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let name = format!("quire-{}", run.id);
    wait_for("the container to go", || {
        runtime
            .block_on(engine.container(&name))
            .unwrap()
            .is_none()
            .then_some(())
    });
    // Let go by a person, it goes as well; and only once.
    forge.ssh_ok(&format!("run retry --keep {}", run.id));
    let again = forge.end_of(forge.newest("app").id);
    let page = forge.get(&format!("/runs/{}", again.id)).body;
    assert!(
        page.contains(&format!("run attach {}", again.id)) && page.contains("is kept until"),
        "{page}"
    );
    assert!(
        forge
            .ssh_ok(&format!("run cancel {}", again.id))
            .contains("its container will be removed")
    );
    assert_eq!(
        forge.ssh(&format!("run cancel {}", again.id)).status.code(),
        Some(1)
    );
    assert!(forge.stop().success());
    forge.serve();
    let name = format!("quire-{}", again.id);
    wait_for("the container to go", || {
        runtime
            .block_on(engine.container(&name))
            .unwrap()
            .is_none()
            .then_some(())
    });
    // Not asked for, not kept.
    forge.ssh_ok(&format!("run retry {}", run.id));
    let again = forge.end_of(forge.newest("app").id);
    assert!(
        transcript(&forge.ssh(&format!("run attach {} true", again.id)))
            .contains("run retry --keep")
    );
    forge.check_whole();
}

/// Says whose it is to whoever connects.
const SERVER: &str = "$s = IO::Socket::INET->new(Listen => 5, LocalPort => 5432) or die; while ($c = $s->accept) { print $c qq(at your service\\n); close $c }";

#[test]
fn services_of_a_kept_container_are_reachable_and_removed_with_it() {
    if skipped("docker") {
        return;
    }
    let mut forge = contained();
    let service = format!(
        r#"(ci.service :db {{:image "debian:trixie-slim" :command ["perl" "-MIO::Socket::INET" "-e" "{SERVER}"]
  :ready ["bash" "-c" "exec 3<>/dev/tcp/127.0.0.1/5432"]}})
"#
    );
    let text = pipeline("exit 3").replace("(ci.job", &(service + "(ci.job"));
    let tree = forge.tree_with("app", &text);
    tree.push(&["-o", "ci.keep", "main"]);
    let run = forge.end_of(forge.newest("app").id);
    assert_eq!(run.failure_kind, Some(FailureKind::Job), "{run:?}");
    let asked = || {
        forge.ssh_ok(&format!(
            "run attach {} bash -c 'exec 3<>/dev/tcp/db/5432 && cat <&3'",
            run.id
        ))
    };
    assert_eq!(asked(), "at your service\n");
    // A second look for strays, a server that was killed: it is still there.
    forge.kill();
    forge.serve();
    let asked = || {
        forge.ssh_ok(&format!(
            "run attach {} bash -c 'exec 3<>/dev/tcp/db/5432 && cat <&3'",
            run.id
        ))
    };
    assert_eq!(asked(), "at your service\n");
    assert!(forge.stop().success());
    let database = rusqlite::Connection::open(forge.paths.database()).unwrap();
    assert_eq!(
        database
            .execute("UPDATE kept_containers SET until_ms = 1", [])
            .unwrap(),
        1
    );
    drop(database);
    forge.serve();
    let label = format!("label=io.quire.run={}", run.id);
    let left = |kind: &[&str]| {
        let listed = Command::new("docker")
            .args(["--host", &endpoint()])
            .args(kind)
            .args(["--quiet", "--filter", &label])
            .output()
            .unwrap();
        assert!(listed.status.success(), "{}", transcript(&listed));
        !listed.stdout.is_empty()
    };
    wait_for("all of it to go", || {
        (!left(&["ps", "--all"]) && !left(&["network", "ls"])).then_some(())
    });
    forge.check_whole();
}

#[test]
fn a_person_in_an_active_run_leaves_nothing_and_disturbs_nothing() {
    if skipped("docker") {
        return;
    }
    let forge = contained();
    let tree = forge.tree("app", "app");
    tree.write(
        ".quire/ci.fnl",
        &pipeline("touch begun; while [ ! -e go ]; do sleep 0.1; done; echo through"),
    );
    tree.push_new("first");
    let run = forge.newest("app");
    let attach = |command: &str| forge.ssh(&format!("run attach {} {command}", run.id));
    wait_for("the command", || {
        attach("test -e begun").status.success().then_some(())
    });
    let mut person = Command::new(forge.file("client/ssh"))
        .arg(format!("run attach {} sleep 4321", run.id))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let sleeps = || {
        attach("sh -c 'cat /proc/[0-9]*/cmdline | tr \"\\0\" \" \" | grep -q \"sleep 432[1]\"'")
            .status
            .success()
    };
    wait_for("the person's command", || sleeps().then_some(()));
    person.kill().unwrap();
    person.wait().unwrap();
    wait_for("its end", || (!sleeps()).then_some(()));
    assert_eq!(forge.run(run.id).state, RunState::Active);
    assert!(attach("touch go").status.success());
    assert_eq!(forge.end_of(run.id).state, RunState::Complete);
    let gone = attach("true");
    assert!(
        gone.status.code() == Some(1) && transcript(&gone).contains("has ended"),
        "{}",
        transcript(&gone)
    );
    forge.check_whole();
}

/// What a terminal shows, read by a thread of its own.
fn screen(master: OwnedFd) -> Arc<Mutex<String>> {
    let shown = Arc::new(Mutex::new(String::new()));
    let (all, mut master) = (Arc::clone(&shown), File::from(master));
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = master.read(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..count]);
            all.lock().unwrap().push_str(&text);
        }
    });
    shown
}

/// Starts a command of quire on a terminal. Returns it with what types on the terminal, and what the terminal shows.
pub(crate) fn on_terminal(
    forge: &TestForge,
    arguments: &[&str],
    pty: OpenptyResult,
) -> (Child, File, Arc<Mutex<String>>) {
    let keys = File::from(pty.master.try_clone().unwrap());
    let quire = forge.quire(arguments);
    // The terminal must be that of its session for the kernel to say when its size changes.
    let child = Command::new("setsid")
        .args(["--ctty", "--wait"])
        .arg(quire.get_program())
        .args(quire.get_args())
        .envs(
            quire
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("TERM", "vt100")
        .stdin(pty.slave.try_clone().unwrap())
        .stdout(pty.slave.try_clone().unwrap())
        .stderr(pty.slave)
        .spawn()
        .unwrap();
    (child, keys, screen(pty.master))
}

#[test]
fn a_person_on_a_terminal_has_one_in_the_container() {
    if skipped("docker") {
        return;
    }
    let forge = contained();
    let tree = forge.tree("app", "app");
    tree.write(".quire/ci.fnl", &pipeline("touch begun; sleep 300"));
    tree.push_new("first");
    let run = forge.newest("app");
    wait_for("the command", || {
        let begun = forge.ssh(&format!("run attach {} test -e begun", run.id));
        begun.status.success().then_some(())
    });
    let size = Winsize {
        ws_row: 30,
        ws_col: 90,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = openpty(Some(&size), None).unwrap();
    let name = ttyname(&pty.slave).unwrap();
    let stty = |arguments: &[&str]| {
        let output = Command::new("stty")
            .arg("-F")
            .arg(&name)
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let id = run.id.to_string();
    let (mut child, mut keys, shown) = on_terminal(&forge, &["run", "attach", &id], pty);
    let shows = |text: &str| {
        wait_for(text, || shown.lock().unwrap().contains(text).then_some(()));
    };
    shows("# ");
    keys.write_all(b"stty size; echo kind-$TERM; tty\r")
        .unwrap();
    shows("30 90\r\nkind-vt100\r\n/dev/pts/");
    stty(&["rows", "50", "columns", "132"]);
    wait_for("the new size", || {
        keys.write_all(b"stty size\r").unwrap();
        shown.lock().unwrap().contains("50 132").then_some(())
    });
    // A key that ends a command ends the one in the container.
    keys.write_all(b"sleep 300\r").unwrap();
    shows("sleep 300\r\n");
    keys.write_all(b"\x03").unwrap();
    keys.write_all(b"exit 5\r").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
    let restored = stty(&["-a"]);
    assert!(
        restored.contains(" icanon ") && restored.contains(" echo "),
        "{restored}"
    );
    assert!(
        forge
            .ssh(&format!("run cancel {}", run.id))
            .status
            .success()
    );
    forge.end_of(run.id);
}

#[test]
fn nothing_of_a_superseded_or_canceled_run_is_running() {
    if skipped("docker") {
        return;
    }
    let forge = contained();
    let tree = forge.tree("app", "app");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let engine = quire_executor::engine::Engine::new(
        &endpoint(),
        quire_executor::engine::Timeouts::default(),
    );
    let has_container = |run: &quire_types::run::Run| {
        runtime
            .block_on(engine.container(&format!("quire-{}", run.id)))
            .unwrap()
            .is_some_and(|container| container.running)
    };
    // Nothing in it ends by itself, or when it is asked to.
    tree.write(
        ".quire/ci.fnl",
        &pipeline("trap '' TERM INT HUP; (trap '' TERM; sleep 600) & touch begun; sleep 600"),
    );
    let begun = |run: &quire_types::run::Run| {
        forge
            .ssh(&format!("run attach {} test -e begun", run.id))
            .status
            .success()
    };
    for (state, kind) in [(RunState::Superseded, None), (RunState::Canceled, None)] {
        tree.push_new("waits");
        let run = forge.newest("app");
        wait_for("the command", || begun(&run).then_some(()));
        assert!(has_container(&run));
        match state {
            RunState::Superseded => drop(tree.push_new("takes its place")),
            _ => drop(forge.ssh_ok(&format!("run cancel {}", run.id))),
        }
        let ended = wait_for("its end", || {
            Some(forge.run(run.id)).filter(|run| run.state.is_final())
        });
        assert!(!has_container(&run), "{ended:?}");
        assert_eq!((ended.state, ended.failure_kind), (state, kind));
    }
    for run in forge.runs().iter().filter(|run| !run.state.is_final()) {
        forge.ssh_ok(&format!("run cancel {}", run.id));
    }
    forge.wait_for_quiet();
    forge.check_whole();
}
