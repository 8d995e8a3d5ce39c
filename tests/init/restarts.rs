//! A child that ends is started again: whatever its end, at once the first time, then ever slower.

use std::fs;

use quire_testkit::wait_for;
use quire_types::init_status::{ChildExit, ChildState, InitPhase};

use crate::appliance::{Init, Recipe, World};

const SLEEP: &str = "exec sleep 1000";

/// Runs `init` with a `serve` that ends as `$F/next` says, once for each way, and checks what is said of it.
fn go_through(ways: &[(String, ChildExit)]) {
    let script = r#"read -r how < "$F/next"; eval "$how""#;
    let recipe = Recipe::new(World::First)
        .child("sshd", SLEEP)
        .child("serve", script);
    let next = recipe.path("next");
    // Replaced, not rewritten: the script must never read half of it.
    let write = |how: &str| {
        fs::write(next.with_extension("new"), format!("{how}\n")).unwrap();
        fs::rename(next.with_extension("new"), &next).unwrap();
    };
    write("exit 99");
    let mut init = recipe.start();
    for (how, exit) in ways {
        write(how);
        // A child that waits is started at once at HUP; one that runs would be sent it, so it must be waiting.
        let before = init.wait_for_child("serve", |child| {
            child.state == ChildState::Backoff && child.restarts >= 1
        });
        init.send(nix::libc::SIGHUP);
        init.wait_for_child("serve", |child| {
            child.restarts > before.restarts && child.last_exit == Some(*exit)
        });
    }
    let sshd = init.wait_for_child("sshd", |_| true);
    assert_ne!(sshd.state, ChildState::Stopped);
    init.stop();
}

#[test]
fn every_exit_code_is_reported_and_restarted() {
    let ways: Vec<_> = (0..=255)
        .map(|code| (format!("exit {code}"), ChildExit::Code(code)))
        .collect();
    go_through(&ways);
}

#[test]
fn every_deadly_signal_is_reported_and_restarted() {
    // Those that stop, continue or are ignored do not end a process; 32 and 33 are the C library's.
    let harmless = [17, 18, 19, 20, 21, 22, 23, 28, 32, 33];
    let ways: Vec<_> = (1..=64)
        .filter(|signal| !harmless.contains(signal))
        .map(|signal| {
            (
                format!("ulimit -c 0; kill -{signal} $$; exec sleep 1000"),
                ChildExit::Signal(signal),
            )
        })
        .collect();
    go_through(&ways);
}

fn restarted(init: &Init, name: &str, times: u64) -> i32 {
    init.wait_for_child(name, |child| {
        child.state == ChildState::Running && child.restarts == times
    })
    .pid
    .unwrap()
}

#[test]
fn both_children_dying_at_once_come_back() {
    for world in [World::First, World::Subreaper] {
        let mut init = Recipe::new(world)
            .child("sshd", "exec sleep 1001")
            .child("serve", "exec sleep 1002")
            .start();
        init.wait_until_running();
        for round in 1..=3 {
            let (sshd, serve) = (init.child("sleep 1001"), init.child("sleep 1002"));
            for pid in [sshd, serve] {
                nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                )
                .unwrap();
            }
            restarted(&init, "sshd", round);
            restarted(&init, "serve", round);
            assert_ne!(
                (init.child("sleep 1001"), init.child("sleep 1002")),
                (sshd, serve)
            );
        }
        init.stop();
    }
}

#[test]
fn one_child_that_crashes_does_not_touch_the_other() {
    let mut init = Recipe::new(World::First)
        .child("sshd", SLEEP)
        .child("serve", "exit 1")
        .start();
    init.wait_for_child("serve", |child| child.restarts >= 3);
    let sshd = init.wait_for_child("sshd", |child| child.state == ChildState::Running);
    assert_eq!(sshd.restarts, 0);
    assert_eq!(
        init.status().unwrap().phase,
        InitPhase::Starting,
        "it is not ready while a child crashes"
    );
    assert!(!init.output().contains("ready:"));
    init.stop();
}

#[test]
fn a_crash_loop_is_slowed_down_and_never_given_up() {
    let script = r#"date +%s%3N >> "$F/starts"; exit 3"#;
    let mut init = Recipe::new(World::First)
        .child("sshd", SLEEP)
        .child("serve", script)
        .start();
    let starts = wait_for("six starts", || {
        let text = fs::read_to_string(init.recipe.path("starts")).ok()?;
        let starts: Vec<i64> = text.lines().map(|line| line.parse().unwrap()).collect();
        (starts.len() >= 6).then_some(starts)
    });
    let gaps: Vec<_> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // The least that the back-off allows; how much more it takes is the machine's affair. One start's own time may differ by a little.
    for (gap, least) in gaps[1..].iter().zip([100, 150, 300, 600]) {
        assert!(*gap >= least - 30, "{gaps:?}");
    }
    assert!(
        init.output()
            .contains("serve ended with exit code 3; restarting it immediately")
    );
    init.stop();
}

#[test]
fn a_bad_configuration_waits_for_a_person() {
    let mut init = Recipe::new(World::First)
        .child("sshd", SLEEP)
        .child("serve", "exit 78")
        .start();
    init.wait_for_output(
        "serve cannot use its configuration (exit code 78); fix the configuration",
    );
    let child = init.wait_for_child("serve", |child| child.state == ChildState::Backoff);
    assert_eq!(
        (child.restarts, child.last_exit),
        (0, Some(ChildExit::Code(78)))
    );
    init.send(nix::libc::SIGHUP);
    init.wait_for_child("serve", |child| child.restarts == 1);
    init.stop();
}

#[test]
fn a_program_that_cannot_run_is_reported() {
    let mut init = Recipe::new(World::First)
        .child("sshd", SLEEP)
        .child("serve", "exec /no/such/program")
        .start();
    init.wait_for_output("serve | ");
    init.wait_for_child("serve", |child| {
        child.last_exit == Some(ChildExit::Code(127))
    });
    init.stop();
}

#[test]
fn output_is_tagged_and_a_survivor_of_a_dead_child_blocks_nothing() {
    // The grandchild keeps the pipe open after its parent has died, and goes on writing.
    let script = r#"(while :; do echo from-below; sleep 0.05; done) & printf 'no end'; kill -9 $$"#;
    let mut init = Recipe::new(World::First)
        .child("sshd", "echo hello; exec sleep 1000")
        .child("serve", script)
        .start();
    let output = init.wait_for_output("serve | from-below");
    assert!(
        init.wait_for_output("serve | no end\n")
            .contains("init  | "),
        "{output}"
    );
    init.wait_for_output("sshd  | hello\n");
    init.wait_for_child("serve", |child| child.restarts >= 2);
    init.stop();
}

#[test]
fn a_child_that_hangs_is_killed_and_restarted() {
    // The program of both children is real: what hangs is a stopped process whose port still accepts connections.
    let recipe = Recipe::new(World::Subreaper)
        .variable("QUIRE_UNRESPONSIVE_AFTER", "2")
        .argument(&format!("--ssh-port={}", quire_testkit::free_port()))
        .argument(&format!("--http-port={}", quire_testkit::free_port()));
    let mut init = recipe.start();
    for name in ["sshd", "serve"] {
        let child = init.wait_for_child(name, |child| child.answers == Some(true));
        let pid = nix::unistd::Pid::from_raw(child.pid.unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
        init.wait_for_child(name, |now| {
            now.restarts > child.restarts && now.last_exit == Some(ChildExit::Signal(9))
        });
        init.wait_for_output(&format!("{name} has not answered for"));
        init.wait_for_child(name, |child| child.answers == Some(true));
    }
    assert!(
        !init.output().contains("Connection closed by"),
        "{}",
        init.output()
    );
    init.stop();
}
