//! Killed at every fault point between a push and its outcome.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use quire::run::{FailureKind, RunState};

use super::forge::{TestForge, wait_for};
use super::{LEAVES_A_PROCESS, settled_well};

/// Where `quire serve` can be killed while a run is executed on the host, and whether the run has been claimed by then.
const SERVER_POINTS: [(&str, bool); 5] = [
    ("intake-before-record", false),
    ("intake-recorded", false),
    ("runner-claimed", true),
    ("runner-before-teardown", true),
    ("runner-before-outcome", true),
];

fn killed(forge: &mut TestForge) {
    let status = forge.ended();
    assert_eq!(status.signal(), Some(9), "{status}: {}", forge.log());
}

#[test]
fn the_server_killed_once_at_each_point() {
    for (point, claimed) in SERVER_POINTS {
        let mut forge = TestForge::new();
        let marker = forge.file("once").display().to_string();
        forge.set("QUIRE_FAULT", point).set("QUIRE_FAULT_ONCE", &marker).serve();
        let tree = forge.tree_with("app", LEAVES_A_PROCESS);
        tree.push(&["main"]);
        killed(&mut forge);
        assert!(fs::exists(&marker).unwrap(), "{point}");
        // Git works on, and what comes now is not forgotten either.
        let other = forge.tree_with("other", LEAVES_A_PROCESS);
        other.push(&["main"]);
        forge.serve();
        wait_for("the spool to be taken", || forge.spooled().is_empty().then_some(()));
        settled_well(&forge);
        let runs = forge.runs_of("app");
        let states: Vec<_> = runs.iter().map(|run| (run.state, run.failure_kind)).collect();
        let cut = (RunState::Failed, Some(FailureKind::Orphaned));
        let well = (RunState::Complete, None);
        assert!(states == [cut, well] || !claimed && states == [well], "{point}: {states:?}");
        assert_eq!(forge.runs_of("other").len(), 1, "{point}");
    }
}

#[test]
fn the_server_killed_at_each_pass_of_each_point() {
    for (point, claimed) in SERVER_POINTS {
        let mut forge = TestForge::new();
        forge.set("QUIRE_FAULT", point).serve();
        let tree = forge.tree_with("app", LEAVES_A_PROCESS);
        tree.push(&["main"]);
        killed(&mut forge);
        for _ in 0..2 {
            forge.spawn();
            // Nothing left to be killed at: the run has had its second try.
            let died = wait_for("the server to die, or to have nothing to do", || {
                let open = forge.runs().iter().any(|run| !run.state.is_final()) || !forge.spooled().is_empty();
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
        let orphaned = runs.iter().filter(|run| run.failure_kind == Some(FailureKind::Orphaned)).count();
        // Once recorded it may be claimed before the server dies, so only these counts are certain.
        if claimed {
            assert_eq!((runs.len(), orphaned), (2, 2), "{point}: {runs:?}");
        } else if point == "intake-before-record" {
            assert_eq!((runs.len(), orphaned), (1, 0), "{point}: {runs:?}");
        }
    }
}

#[test]
fn the_hook_killed_before_and_after_it_wrote() {
    let mut forge = TestForge::start();
    let tree = forge.tree_with("app", LEAVES_A_PROCESS);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    let push = |point: &str| {
        tree.commit(point);
        let pushed = tree.command(&["push", "-q", "origin", "main"]).env("QUIRE_FAULT", point).output().unwrap();
        assert!(pushed.status.success(), "{}", super::said(&pushed));
        tree.git_ok(&["rev-parse", "HEAD"])
    };
    // The file is there: the server finds it by itself.
    let sha = push("hook-after-spool");
    let run = wait_for("its run", || forge.runs().into_iter().find(|run| run.sha.as_str() == sha));
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
    wait_for("its run", || forge.runs().into_iter().find(|run| run.sha.as_str() == last && run.ref_name.short() == "main"));
    settled_well(&forge);
    assert!(forge.runs().iter().all(|run| run.sha.as_str() != sha), "its ref had moved on before anybody looked");
    assert_eq!(forge.runs().len(), 4);
}
