//! The database removed or replaced under the running server, and an older copy in its place.

use std::fs;
use std::path::Path;

use quire_testkit::{TestForge, transcript, wait_for};
use quire_types::names::RunId;
use quire_types::run::RunState;
use serde_json::Value;

use super::{GREEN, gate, one};
use crate::QUIRE;

fn remove_database(forge: &TestForge) {
    for end in ["db", "db-wal", "db-shm"] {
        let _ = fs::remove_file(forge.paths.database().with_extension(end));
    }
}

#[test]
fn removed_under_the_running_server_it_loses_no_push() {
    let mut forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    remove_database(&forge);
    let sha = tree.push_new("after the removal");
    assert_eq!(forge.spooled().len(), 1, "the event stays");
    assert_eq!(forge.ended().code(), Some(1));
    assert!(
        forge
            .log()
            .contains("was removed or replaced while it was open"),
        "{}",
        forge.log()
    );
    assert!(
        !forge.paths.database().exists(),
        "nothing creates a new one"
    );
    forge.serve();
    let run = wait_for("its run", || {
        forge.runs().into_iter().find(|run| run.sha.as_str() == sha)
    });
    assert_eq!(forge.end_of(run.id).state, RunState::Complete);
    assert_eq!(forge.runs().len(), 1, "old commits do not run again");
    forge.check_whole();
}

/// Stops the server, and keeps a copy of the one file of the database.
fn copy_of(forge: &mut TestForge) -> Vec<u8> {
    assert!(forge.stop().success());
    let copy = fs::read(forge.paths.database()).unwrap();
    forge.serve();
    copy
}

/// Puts a copy in the place of the database.
fn restore(forge: &mut TestForge, copy: &[u8]) {
    assert!(forge.stop().success());
    remove_database(forge);
    fs::write(forge.paths.database(), copy).unwrap();
    forge.serve();
}

/// A pipeline whose one job adds a line to a file.
fn counted(file: &Path) -> String {
    one(&format!("echo ran >> {}", file.display()))
}

fn count(file: &Path) -> usize {
    fs::read_to_string(file).unwrap_or_default().lines().count()
}

#[test]
fn an_older_copy_runs_nothing_until_the_owner_decides() {
    let mut forge = TestForge::start(QUIRE);
    let deploys = forge.file("deploys");
    let tree = forge.tree_with("app", &counted(&deploys));
    tree.push(&["main"]);
    forge.wait_for_quiet();
    let copy = copy_of(&mut forge);
    tree.push_new("second");
    tree.push(&["main:release"]);
    forge.wait_for_quiet();
    assert_eq!(count(&deploys), 3);
    let refused = transcript(&forge.ssh("reconcile --run"));
    assert!(refused.contains("there is nothing to decide"), "{refused}");

    restore(&mut forge, &copy);
    let health = wait_for("the health of the database", || {
        Some(forge.health()["parts"]["database"].clone())
            .filter(|part| part["status"] == "degraded")
    });
    insta::assert_snapshot!(health["message"].as_str().unwrap(), @"an older copy of the database that was in use; nothing runs until `reconcile --adopt` or `reconcile --run` decides");
    // A push is recorded, and waits.
    tree.push_new("third");
    let third = forge.newest("app");
    wait_for("the reason", || {
        forge
            .run(third.id)
            .message
            .filter(|why| why.contains("reconcile --adopt"))
    });
    // Also after another start.
    assert!(forge.stop().success());
    forge.serve();
    assert_eq!((forge.runs().len(), count(&deploys)), (2, 3));
    assert_eq!(
        forge.ssh_ok("reconcile --adopt"),
        "the refs are recorded as they are, and the runs that waited are canceled\n"
    );
    assert_eq!(forge.end_of(third.id).state, RunState::Complete);
    forge.wait_for_quiet();
    assert_eq!((forge.runs().len(), count(&deploys)), (2, 4));
    forge.check_whole();

    // The other decision: what the copy does not know runs.
    restore(&mut forge, &copy);
    assert_eq!(
        forge.ssh_ok("reconcile --run"),
        "what is missing in the database runs now\n"
    );
    wait_for("the runs of both branches", || {
        (count(&deploys) == 6).then_some(())
    });
    forge.wait_for_quiet();
    forge.check_whole();
}

#[test]
fn a_commit_that_waited_in_an_older_copy_does_not_land_again() {
    let mut forge = TestForge::new(QUIRE);
    forge.set("QUIRE_CI_CONCURRENT_RUNS", "1").serve();
    let folder = forge.file("gate");
    forge
        .tree_with("first", &one(&gate(&folder)))
        .push(&["main"]);
    wait_for("the command", || {
        folder.join("started").exists().then_some(())
    });
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["-o", "ci.skip", "main"]);
    tree.commit("Second");
    tree.push(&["HEAD:refs/for-green/main"]);
    let run = forge.newest("app");
    assert!(forge.stop().success());
    let copy = fs::read(forge.paths.database()).unwrap();
    fs::write(folder.join("go"), "").unwrap();
    forge.serve();
    wait_for("the commit to land", || {
        (shown(&forge, run.id)["landing"]["state"] == "landed").then_some(())
    });
    // It is taken back by hand, and the copy does not know of all this.
    tree.push(&["-o", "ci.skip", "--force", "HEAD~1:main"]);
    forge.wait_for_empty_spool();
    restore(&mut forge, &copy);
    forge.ssh_ok("reconcile --adopt");
    forge.wait_for_quiet();
    let landing = shown(&forge, run.id)["landing"].take();
    assert_eq!(landing["state"], "canceled", "{landing}");
    tree.git_ok(&["fetch", "-q", "origin"]);
    assert_eq!(
        tree.git_ok(&["rev-parse", "origin/main"]),
        tree.git_ok(&["rev-parse", "HEAD~1"])
    );
    forge.check_whole();
}

fn shown(forge: &TestForge, run: RunId) -> Value {
    serde_json::from_str(&forge.ssh_ok(&format!("run show {run} --json"))).unwrap()
}

#[test]
fn a_run_that_waited_in_an_older_copy_is_canceled() {
    let mut forge = TestForge::new(QUIRE);
    forge.set("QUIRE_CI_CONCURRENT_RUNS", "1").serve();
    let (folder, deploys) = (forge.file("gate"), forge.file("deploys"));
    forge
        .tree_with("first", &one(&gate(&folder)))
        .push(&["main"]);
    wait_for("the command", || {
        folder.join("started").exists().then_some(())
    });
    forge.tree_with("app", &counted(&deploys)).push(&["main"]);
    let run = forge.newest("app");
    assert_eq!(run.state, RunState::Pending);
    assert!(forge.stop().success());
    let copy = fs::read(forge.paths.database()).unwrap();
    fs::write(folder.join("go"), "").unwrap();
    forge.serve();
    assert_eq!(forge.end_of(run.id).state, RunState::Complete);
    forge.wait_for_quiet();
    restore(&mut forge, &copy);
    forge.ssh_ok("reconcile --adopt");
    // The run that was requeued at the stop, and the one that had not started.
    forge.wait_for_quiet();
    for run in [forge.newest("first"), forge.run(run.id)] {
        assert_eq!(run.state, RunState::Canceled, "{run:?}");
    }
    assert_eq!(count(&deploys), 1);
    forge.check_whole();
}
