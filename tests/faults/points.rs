//! Killed at every fault point between a push and its outcome.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quire_testkit::{TestForge, Tree, wait_for};
use quire_types::run::{FailureKind, RunState};

use super::{LEAVES_A_PROCESS, settled_well};
use crate::QUIRE;

/// What a run has come to when the server is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Come {
    /// There is none yet.
    Nowhere,
    /// It waits.
    Queued,
    /// It goes on, and is cut.
    Active,
    /// It has its outcome.
    Ended,
}

/// Where `quire serve` can be killed while a run is executed on the host.
pub(crate) const SERVER_POINTS: [(&str, Come); 10] = [
    ("intake-before-record", Come::Nowhere),
    ("intake-recorded", Come::Queued),
    ("runner-claimed", Come::Active),
    ("runner-before-start", Come::Active),
    ("runner-workspace-ready", Come::Active),
    ("runner-step-recorded", Come::Active),
    ("runner-step-ended", Come::Active),
    ("runner-before-teardown", Come::Active),
    ("runner-before-outcome", Come::Active),
    ("runner-outcome-written", Come::Ended),
];

fn killed(forge: &mut TestForge) {
    let status = forge.ended();
    assert_eq!(status.signal(), Some(9), "{status}: {}", forge.log());
}

#[test]
fn the_server_killed_once_at_each_point() {
    for (point, come) in SERVER_POINTS {
        let mut forge = TestForge::new(QUIRE);
        forge.kill_once_at(point).serve();
        let tree = forge.tree_with("app", LEAVES_A_PROCESS);
        tree.push(&["main"]);
        killed(&mut forge);
        assert!(forge.came_to_fault_point(), "{point}");
        // Git works on, and what comes now is not forgotten either.
        let other = forge.tree_with("other", LEAVES_A_PROCESS);
        other.push(&["main"]);
        forge.serve();
        wait_for("the spool to be taken", || {
            forge.spooled().is_empty().then_some(())
        });
        settled_well(&forge);
        let runs = forge.runs_of("app");
        let states: Vec<_> = runs
            .iter()
            .map(|run| (run.state, run.failure_kind))
            .collect();
        let cut = (RunState::Failed, Some(FailureKind::Orphaned));
        let well = (RunState::Complete, None);
        match come {
            Come::Active => assert_eq!(states, [cut, well], "{point}"),
            // Once recorded it may have been claimed before the server died.
            Come::Queued => assert!(
                states == [cut, well] || states == [well],
                "{point}: {states:?}"
            ),
            Come::Nowhere | Come::Ended => assert_eq!(states, [well], "{point}"),
        }
        assert_eq!(forge.runs_of("other").len(), 1, "{point}");
    }
}

#[test]
fn the_server_killed_at_each_pass_of_each_point() {
    for (point, come) in SERVER_POINTS {
        let mut forge = TestForge::new(QUIRE);
        forge.set("QUIRE_FAULT", point).serve();
        let tree = forge.tree_with("app", LEAVES_A_PROCESS);
        tree.push(&["main"]);
        killed(&mut forge);
        for _ in 0..2 {
            forge.spawn();
            // Nothing left to be killed at: the run has had its second try.
            let died = wait_for("the server to die, or to have nothing to do", || {
                let open = forge.runs().iter().any(|run| !run.state.is_final())
                    || !forge.spooled().is_empty();
                (!forge.processes().contains(&forge.pid()) || !open).then_some(open)
            });
            if !died {
                forge.stop();
                break;
            }
            killed(&mut forge);
        }
        forge.unset("QUIRE_FAULT").serve();
        settled_well(&forge);
        let runs = forge.runs_of("app");
        let orphaned = runs
            .iter()
            .filter(|run| run.failure_kind == Some(FailureKind::Orphaned))
            .count();
        // Once recorded it may be claimed before the server dies, so nothing is certain then.
        match come {
            Come::Active => assert_eq!((runs.len(), orphaned), (2, 2), "{point}: {runs:?}"),
            Come::Nowhere | Come::Ended => {
                assert_eq!((runs.len(), orphaned), (1, 0), "{point}: {runs:?}")
            }
            Come::Queued => {}
        }
    }
}

/// A job that says that it has begun, then waits for the gate.
pub(crate) fn waits(gate: &Path) -> String {
    let (started, go) = (gate.join("started"), gate.join("go"));
    let script = format!(
        "touch {}; while [ ! -e {} ]; do sleep 0.02; done",
        started.display(),
        go.display()
    );
    format!(
        r#"(local ci (require :quire.ci))
(ci.job :wait [:quire/push] (fn [{{: sh}}] (sh "{script}")))
"#
    )
}

/// A run whose command goes on until there is a file `go` in the folder that is given.
pub(crate) fn held(forge: &TestForge) -> (Tree, PathBuf) {
    let gate = forge.file("gate");
    fs::create_dir_all(&gate).unwrap();
    let tree = forge.tree_with("app", &waits(&gate));
    tree.push(&["main"]);
    wait_for("the command", || {
        gate.join("started").exists().then_some(())
    });
    (tree, gate)
}

#[test]
fn the_server_killed_in_a_step() {
    let mut forge = TestForge::start(QUIRE);
    let (_, gate) = held(&forge);
    forge.kill();
    assert!(
        !forge.processes().is_empty(),
        "the command outlives the server"
    );
    fs::write(gate.join("go"), "").unwrap();
    forge.serve();
    settled_well(&forge);
    assert_eq!(forge.runs()[0].failure_kind, Some(FailureKind::Orphaned));
}

/// The pid of the driver that the server has just now.
fn driver(forge: &TestForge) -> i32 {
    wait_for("the driver", || {
        let threads = fs::read_dir(format!("/proc/{}/task", forge.pid())).ok()?;
        let children = threads
            .flatten()
            .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
        let pids: Vec<i32> = children
            .flat_map(|list| {
                list.split_whitespace()
                    .filter_map(|pid| pid.parse().ok())
                    .collect::<Vec<_>>()
            })
            .collect();
        pids.into_iter().find(|pid| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"\0driver\0"))
        })
    })
}

#[test]
fn the_driver_killed_while_it_registers_computes_and_waits() {
    let mut forge = TestForge::new(QUIRE);
    forge.set("QUIRE_CI_RETRY_ORPHANED", "false").serve();
    let gate = forge.file("gate");
    fs::create_dir_all(&gate).unwrap();
    let begun = gate.join("begun");
    let computes = format!(
        r#"(local ci (require :quire.ci))
(ci.job :spin [:quire/push] (fn [{{: sh}}] (sh "touch {}") (while true nil)))
"#,
        begun.display()
    );
    for (name, pipeline, ready) in [
        ("registers", "(while true nil)\n", None),
        ("computes", computes.as_str(), Some(begun)),
        ("waits", waits(&gate).as_str(), Some(gate.join("started"))),
    ] {
        forge.tree_with(name, pipeline).push(&["main"]);
        let run = forge.newest(name);
        if let Some(ready) = ready {
            wait_for("the job", || ready.exists().then_some(()));
        }
        kill(Pid::from_raw(driver(&forge)), Signal::SIGKILL).unwrap();
        let run = forge.end_of(run.id);
        assert_eq!(
            (run.state, run.failure_kind),
            (RunState::Failed, Some(FailureKind::Orphaned)),
            "{name}: {run:?}"
        );
        assert!(
            run.message
                .as_deref()
                .unwrap()
                .contains("was killed from outside by SIGKILL"),
            "{name}: {run:?}"
        );
    }
    forge.wait_for_quiet();
    forge.check_whole();
}

#[test]
fn the_hook_killed_before_and_after_it_wrote() {
    let mut forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", LEAVES_A_PROCESS);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    let push = |point: &str| {
        tree.commit(point);
        let pushed = tree
            .command(&["push", "-q", "origin", "main"])
            .env("QUIRE_FAULT", point)
            .output()
            .unwrap();
        assert!(pushed.status.success(), "{}", super::transcript(&pushed));
        tree.git_ok(&["rev-parse", "HEAD"])
    };
    // The file is there: the server finds it by itself.
    let sha = push("hook-after-spool");
    let run = wait_for("its run", || {
        forge.runs().into_iter().find(|run| run.sha.as_str() == sha)
    });
    assert_eq!(forge.end_of(run.id).state, RunState::Complete);
    // No file: the next start compares the refs.
    let sha = push("hook-before-spool");
    assert!(forge.spooled().is_empty());
    assert_eq!(forge.runs().len(), 2);
    assert!(forge.stop().success());
    // The same twice more while the server is away, on several refs.
    let last = push("hook-before-spool");
    tree.push(&["main:by-the-way"]);
    forge.serve();
    wait_for("its run", || {
        forge
            .runs()
            .into_iter()
            .find(|run| run.sha.as_str() == last && run.ref_name.short() == "main")
    });
    settled_well(&forge);
    assert!(
        forge.runs().iter().all(|run| run.sha.as_str() != sha),
        "its ref had moved on before anybody looked"
    );
    assert_eq!(forge.runs().len(), 4);
}
