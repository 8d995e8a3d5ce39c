//! The way out: who is told first, what is waited for, what is killed, and that the exit code is 0.

use std::fs;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::Duration;

use quire_testkit::{free_port, wait_for};
use quire_types::init_status::{ChildState, InitPhase};

use crate::appliance::{Recipe, World, alive};

const BOTH: [World; 2] = [World::First, World::Subreaper];
/// A child that notes the end it was told; it is up when its file says so, for before that TERM just kills it.
const POLITE: &str = r#"trap 'echo $0 >> "$F/ended"; exit 0' TERM; echo up > "$F/$0-up"; while :; do sleep 0.02; done"#;

fn named(script: &str, name: &str) -> String {
    script.replace("$0", name)
}

#[test]
fn term_int_and_quit_end_it_in_order() {
    for world in BOTH {
        for signal in [nix::libc::SIGTERM, nix::libc::SIGINT, nix::libc::SIGQUIT] {
            let mut init = Recipe::new(world)
                .child("sshd", &named(POLITE, "sshd"))
                .child("serve", &named(POLITE, "serve"))
                .start();
            init.wait_for_file("sshd-up");
            init.wait_for_file("serve-up");
            let output = init.wait_for_output("no key can");
            assert!(
                output.contains("(0 keys)") && output.contains("no key can connect yet"),
                "{output}"
            );
            assert_eq!(init.status().unwrap().phase, InitPhase::Running);
            init.send(signal);
            assert_eq!(init.end().code(), Some(0), "{}", init.output());
            assert_eq!(
                fs::read_to_string(init.recipe.path("ended")).unwrap(),
                "serve\nsshd\n"
            );
            let status = init.status().unwrap();
            assert_eq!(status.phase, InitPhase::Stopped);
            assert!(
                status
                    .children
                    .values()
                    .all(|child| child.state == ChildState::Stopped && child.pid.is_none())
            );
        }
    }
}

#[test]
fn every_other_signal_leaves_it_running() {
    for world in BOTH {
        let script = r#"trap 'echo hup >> "$F/hups"' HUP; echo up > "$F/$0-up"; while :; do sleep 0.02; done"#;
        let mut init = Recipe::new(world)
            .child("sshd", &named(script, "sshd"))
            .child("serve", &named(script, "serve"))
            .start();
        init.wait_for_file("sshd-up");
        init.wait_for_file("serve-up");
        init.wait_for_output("ready:");
        let deadly_for_an_ordinary_process = |signal| {
            world == World::Subreaper && !matches!(signal, 1 | 10 | 12 | 13 | 17 | 18 | 23 | 28)
        };
        for signal in 1..=64 {
            // TERM, INT and QUIT stop it, KILL and STOP cannot be handled; the terminal's stop it like any process.
            if [2, 3, 9, 15, 19].contains(&signal) || deadly_for_an_ordinary_process(signal) {
                continue;
            }
            init.send(signal);
            // One at a time: Rust's own handlers share a small stack, which two faults at once overflow.
            let pid = init.pid();
            wait_for("the signal to be taken", || {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
                assert!(
                    !status.contains("State:\tZ"),
                    "signal {signal} has ended it"
                );
                status
                    .lines()
                    .any(|line| {
                        line.strip_prefix("ShdPnd:")
                            .is_some_and(|set| set.trim().bytes().all(|b| b == b'0'))
                    })
                    .then_some(())
            });
        }
        let hups = wait_for("a HUP for each child", || {
            fs::read_to_string(init.recipe.path("hups"))
                .ok()
                .map(|text| text.lines().count())
                .filter(|count| *count >= 2)
        });
        assert_eq!(hups, 2, "HUP is passed on, once to each");
        init.wait_for_output("reloading");
        let status = init.status().unwrap();
        assert!(
            status
                .children
                .values()
                .all(|child| child.restarts == 0 && child.state == ChildState::Running),
            "{status:?}"
        );
        init.stop();
    }
}

#[test]
fn a_child_that_ignores_term_is_killed_within_the_grace() {
    for world in BOTH {
        let stubborn = r#"trap '' TERM; echo up > "$F/up"; while :; do sleep 0.02; done"#;
        let mut init = Recipe::new(world)
            .child("sshd", &named(POLITE, "sshd"))
            .child("serve", stubborn)
            .variable("QUIRE_GRACE", "2")
            .start();
        init.wait_for_file("up");
        init.wait_for_file("sshd-up");
        init.wait_until_running();
        let serve = init.child("/bin/sh -c trap '' TERM");
        init.stop();
        assert!(!alive(serve));
        // sshd was told although serve never ended.
        assert_eq!(
            fs::read_to_string(init.recipe.path("ended")).unwrap(),
            "sshd\n"
        );
    }
}

#[test]
fn a_second_term_does_not_restart_the_count() {
    let stubborn = r#"trap '' TERM; echo up > "$F/up"; while :; do sleep 0.02; done"#;
    let mut init = Recipe::new(World::First)
        .child("sshd", "exec sleep 1000")
        .child("serve", stubborn)
        .variable("QUIRE_GRACE", "1")
        .start();
    init.wait_for_file("up");
    let pid = init.pid();
    let sender = thread::spawn(move || {
        // For ever: were the count restarted, it would never end, and `end` would fail.
        while alive(pid) {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGTERM,
            );
            thread::sleep(Duration::from_millis(20));
        }
    });
    init.stop();
    sender.join().unwrap();
    assert_eq!(init.output().matches("stopping within").count(), 1);
}

#[test]
fn a_grandchild_that_escaped_with_setsid_is_found() {
    for world in BOTH {
        for (trap, ends) in [
            (r#"trap "echo told > $F/told; exit 0" TERM"#, "TERM"),
            ("trap '' TERM", "KILL"),
        ] {
            fs::metadata("/usr/bin/setsid").expect("setsid (util-linux) is needed");
            let script = format!(
                r#"cat > "$F/escaped.sh" <<'END'
{trap}
echo up > "$F/up"
while :; do sleep 0.02; done
END
setsid sh "$F/escaped.sh" & exec sleep 1000"#
            );
            let mut init = Recipe::new(world)
                .child("sshd", "exec sleep 1000")
                .child("serve", &script)
                .variable("QUIRE_GRACE", "4")
                .start();
            init.wait_for_file("up");
            // Orphan it first, so that it is `init`'s own.
            let serve = init.wait_for_child("serve", |child| child.state == ChildState::Running);
            assert_eq!(serve.restarts, 0);
            let direct = init.pid();
            let escaped = wait_for("the escaped process", || {
                crate::appliance::children(direct)
                    .iter()
                    .flat_map(|(pid, _)| crate::appliance::children(*pid))
                    .map(|(pid, _)| pid)
                    .find(|pid| {
                        fs::read(format!("/proc/{pid}/cmdline"))
                            .is_ok_and(|line| String::from_utf8_lossy(&line).contains("escaped.sh"))
                    })
            });
            init.stop();
            assert!(!alive(escaped), "{world:?}, {ends}");
            assert_eq!(init.recipe.path("told").exists(), ends == "TERM");
        }
    }
}

#[test]
fn a_push_in_progress_is_finished_before_sshd_is_stopped() {
    for world in BOTH {
        let recipe = Recipe::new(world);
        // What counts as a push is a git below sshd: here a shell of that name.
        symlink("/bin/sh", recipe.path("git-receive-pack")).unwrap();
        let push = r#"'echo up > "$F/up"; while [ ! -e "$F/finish" ]; do sleep 0.02; done; echo pushed >> "$F/ended"'"#;
        let sshd = format!(
            r#"trap 'echo sshd >> "$F/ended"; exit 0' TERM; "$F/git-receive-pack" -c {push} & while :; do sleep 0.02; done"#
        );
        let mut init = recipe
            .child("sshd", &sshd)
            .child("serve", &named(POLITE, "serve"))
            .variable("QUIRE_GRACE", "20")
            .start();
        init.wait_for_file("up");
        init.wait_for_file("serve-up");
        init.wait_until_running();
        init.send(nix::libc::SIGTERM);
        init.wait_for_output("serve ended with");
        fs::write(init.recipe.path("finish"), "").unwrap();
        assert_eq!(init.end().code(), Some(0));
        assert_eq!(
            fs::read_to_string(init.recipe.path("ended")).unwrap(),
            "serve\npushed\nsshd\n"
        );
    }
}

#[test]
fn a_push_that_never_ends_is_cut_off_within_the_grace() {
    let recipe = Recipe::new(World::First);
    symlink("/bin/sh", recipe.path("git-receive-pack")).unwrap();
    let sshd = r#""$F/git-receive-pack" -c 'trap "" TERM; echo up > "$F/up"; while :; do sleep 0.02; done' & exec sleep 1000"#;
    let mut init = recipe
        .child("sshd", sshd)
        .child("serve", &named(POLITE, "serve"))
        .variable("QUIRE_GRACE", "1")
        .start();
    init.wait_for_file("up");
    init.wait_until_running();
    init.stop();
}

#[test]
fn term_while_starting_ends_it_at_any_moment() {
    // Natively with the real sshd: preflight makes keys and asks sshd, so there is something to interrupt.
    for world in BOTH {
        for step in 0..12 {
            let mut init = Recipe::new(world)
                .child("serve", "exec sleep 1000")
                .argument(&format!("--ssh-port={}", free_port()))
                .start();
            init.pid();
            thread::sleep(Duration::from_millis(step * 6));
            // As PID 1 it does not even die of it before it listens; then the next one counts.
            let pid = init.pid();
            let sender = thread::spawn(move || {
                while alive(pid) {
                    let _ = nix::sys::signal::kill(
                        nix::unistd::Pid::from_raw(pid),
                        nix::sys::signal::Signal::SIGTERM,
                    );
                    thread::sleep(Duration::from_millis(10));
                }
            });
            let status = init.end();
            sender.join().unwrap();
            let early = world == World::Subreaper
                && std::os::unix::process::ExitStatusExt::signal(&status) == Some(15);
            assert!(
                status.code() == Some(0) || early,
                "{status:?}\n{}",
                init.output()
            );
            // What it left behind is whole: the next one starts with it.
            let data = init.recipe.path("data/ssh");
            for key in fs::read_dir(data).into_iter().flatten().flatten() {
                assert_ne!(key.metadata().unwrap().len(), 0, "{:?}", key.path());
            }
        }
    }
}

#[test]
fn term_while_a_tool_of_preflight_hangs() {
    let recipe = Recipe::new(World::First);
    let keygen = recipe.path("keygen");
    fs::write(
        &keygen,
        format!(
            "#!/bin/sh\ntrap '' TERM\necho up > {}\nwhile :; do sleep 0.02; done\n",
            recipe.path("up").display()
        ),
    )
    .unwrap();
    fs::set_permissions(&keygen, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut init = recipe
        .prelude(r#"mount --bind "$F/keygen" /usr/bin/ssh-keygen"#)
        .child("serve", "exec sleep 1000")
        .start();
    init.wait_for_file("up");
    init.stop();
    assert!(
        init.output()
            .contains("stopped before the start was complete"),
        "{}",
        init.output()
    );
}

#[test]
fn killed_itself_it_takes_its_children_along() {
    let mut init = Recipe::new(World::Subreaper)
        .child("sshd", "exec sleep 1001")
        .child("serve", "exec sleep 1002")
        .start();
    init.wait_until_running();
    let below = [init.child("sleep 1001"), init.child("sleep 1002")];
    init.send(nix::libc::SIGKILL);
    init.end();
    wait_for("its children to be gone", || {
        below.iter().all(|pid| !running(*pid)).then_some(())
    });
}

/// Not gone and not a zombie that nobody here can reap.
fn running(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn an_output_that_nobody_reads_holds_nothing_up() {
    for world in BOTH {
        let (reader, writer) = std::io::pipe().unwrap();
        let flood = r#"while :; do echo flood flood flood flood flood flood flood flood; done"#;
        let mut init = Recipe::new(world)
            .child("sshd", "exec sleep 1001")
            .child("serve", flood)
            .start_on(writer.into());
        init.wait_until_running();
        for round in 1..=2 {
            let sshd = init.child("sleep 1001");
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(sshd),
                nix::sys::signal::Signal::SIGKILL,
            )
            .unwrap();
            init.wait_for_child("sshd", |child| {
                child.restarts == round && child.state == ChildState::Running
            });
        }
        init.stop();
        drop(reader);
    }
}
