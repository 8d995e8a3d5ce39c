//! Pushes that end before their hook has done its work, or that change nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use quire_testkit::{TestForge, transcript, wait_for};
use quire_types::run::RunState;

use super::GREEN;
use crate::QUIRE;

/// Puts this script in the place of the hook; returns what puts the hook back.
fn replace_hook(forge: &TestForge, script: &str) -> impl FnOnce() + use<> {
    let (hook, aside) = (forge.paths.hooks().join("post-receive"), forge.file("hook"));
    fs::rename(&hook, &aside).unwrap();
    fs::write(&hook, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    move || fs::rename(&aside, &hook).unwrap()
}

#[test]
fn a_push_whose_hook_is_killed_has_its_run_in_seconds() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("group/app", GREEN);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    // The hook and the git that started it are killed, as when the host kills a whole session.
    let put_back = replace_hook(&forge, "kill -9 $PPID $$");
    let sha = tree.commit("second");
    assert!(!tree.git(&["push", "origin", "main"]).status.success());
    put_back();
    assert!(tree.push(&["main"]).contains("Everything up-to-date"));
    let run = wait_for("its run", || {
        forge.runs().into_iter().find(|run| run.sha.as_str() == sha)
    });
    assert_eq!(forge.end_of(run.id).state, RunState::Complete);
    assert_eq!(forge.runs().len(), 2);
    wait_for("the marks to go", || {
        let marks = fs::read_dir(forge.paths.push_marks()).unwrap();
        (marks.count() == 0).then_some(())
    });
    forge.check_whole();
}

#[test]
fn a_push_that_changes_nothing_leaves_no_repository() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("group/app", GREEN);
    let is_gone = |repo: &str| {
        let path = forge.paths.repo(&repo.parse().unwrap());
        wait_for("the repository to go", || (!path.exists()).then_some(()));
    };
    tree.git_ok(&["push", "--dry-run", "origin", "main"]);
    is_gone("group/app");
    // A tag without an object is refused.
    let object = "object 1111111111111111111111111111111111111111\ntype commit\ntag v1\ntagger a <a@b> 1 +0000\n\nx\n";
    let arguments = ["hash-object", "-t", "tag", "-w", "--literally", "--stdin"];
    let tag = tree.git_with(&arguments, object.as_bytes());
    tree.git_ok(&["update-ref", "refs/tags/v1", &tag]);
    let refused = tree.git(&["push", "origin", "refs/tags/v1"]);
    assert!(!refused.status.success(), "{}", transcript(&refused));
    is_gone("group/app");
    // One that a person created stays, and one with a ref.
    forge.ssh_ok("repo new kept");
    let kept = forge.tree("kept", "kept");
    kept.write(".quire/ci.fnl", GREEN);
    kept.commit("first");
    kept.git_ok(&["push", "--dry-run", "origin", "main"]);
    assert!(
        tree.push(&["main"])
            .contains("quire: created repository group/app")
    );
    wait_for("the marks to go", || {
        let marks = fs::read_dir(forge.paths.push_marks()).unwrap();
        (marks.count() == 0).then_some(())
    });
    let list = forge.ssh_ok("repo list");
    assert!(
        list.contains("kept") && list.contains("group/app"),
        "{list}"
    );
    forge.wait_for_quiet();
    forge.check_whole();
}
