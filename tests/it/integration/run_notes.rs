//! Notes of commits in `refs/notes/ci`: from the end of a run to what a clone and a mirror show.

use std::fs;

use quire_testkit::{TestForge, git_in, transcript, wait_for};

use super::notifications::{forge_with, target, wait_until_told};
use super::{GREEN, one};
use crate::QUIRE;

const TARGETS: &str = ":notes {:type :git-notes :runs [\"app\"]}\n";

/// What `git log --notes=ci` says in a working tree that has fetched the notes.
fn log(forge: &TestForge, tree: &quire_testkit::Tree) -> String {
    tree.git_ok(&["fetch", "-q", "-f", "origin", "refs/notes/*:refs/notes/*"]);
    let mut text = tree.git_ok(&["log", "--notes=ci", "--format=%s%n%N"]);
    for run in forge.runs_of("app") {
        text = text.replace(&run.id.to_string(), "RUN");
    }
    let mut lines = Vec::new();
    for line in text.lines() {
        // The time that it took.
        let line = match line.split_once(" after ") {
            Some((before, after)) => {
                let end = after.find([',', ':']).unwrap();
                format!("{before} after TIME{}", &after[end..])
            }
            None => line.to_owned(),
        };
        lines.push(line);
    }
    lines.join("\n")
}

#[test]
fn the_runs_of_a_commit_are_in_its_note() {
    let mut forge = forge_with(TARGETS);
    let tree = forge.tree_with("app", &one("exit 1"));
    tree.push(&["main"]);
    forge.wait_for_quiet();
    // Several runs of one commit, and a commit without a run.
    forge.ssh_ok("run retry app#1");
    forge.wait_for_quiet();
    tree.write(".quire/ci.fnl", GREEN);
    tree.push_new("Fix it");
    forge.wait_for_quiet();
    wait_until_told(&forge, "notes");
    insta::assert_snapshot!(log(&forge, &tree));
    // A test writes nothing, and another repository has no notes.
    let said = forge.ssh_ok("notify test notes");
    assert_eq!(said, "a test message was delivered to notes\n");
    forge.tree_with("other", GREEN).push(&["main"]);
    forge.wait_for_quiet();
    wait_until_told(&forge, "notes");
    let notes = |repo: &str| {
        let bare = forge.paths.repos().join(format!("{repo}.git"));
        git_in(
            &bare,
            &["for-each-ref", "--format=%(refname)", "refs/notes"],
        )
    };
    assert_eq!(
        (notes("app").trim(), notes("other").trim()),
        ("refs/notes/ci", "")
    );
    // No push, no run and nothing to undo came of it, also not when the refs are compared at a start.
    let count = forge.runs().len();
    let traces = |forge: &TestForge| {
        let undo = transcript(&forge.ssh("repo undo app"));
        (
            forge.ssh_ok("log --json").matches("refs/notes").count(),
            undo,
        )
    };
    let before = traces(&forge);
    assert_eq!(before.0, 0, "{before:?}");
    assert!(!before.1.contains("refs/notes"), "{before:?}");
    assert!(forge.stop().success());
    forge.serve();
    forge.wait_for_log("listening");
    forge.wait_for_quiet();
    assert_eq!(traces(&forge), before);
    assert_eq!(forge.runs().len(), count);
    assert!(
        !forge
            .log()
            .contains("refs stand where no recorded push put them"),
        "{}",
        forge.log()
    );
}

/// What a client writes into the notes stays, also on the commit that a run is noted at, and a deleted ref is made anew.
#[test]
fn a_client_can_write_notes_as_well() {
    let forge = forge_with(TARGETS);
    let tree = forge.tree_with("app", &one("exit 1"));
    tree.push(&["main"]);
    forge.wait_for_quiet();
    wait_until_told(&forge, "notes");
    log(&forge, &tree);
    tree.git_ok(&[
        "notes",
        "--ref=ci",
        "append",
        "-m",
        "deployed by hand",
        "HEAD",
    ]);
    tree.push(&["refs/notes/ci"]);
    let runs = forge.runs().len();
    forge.ssh_ok("run retry app#1");
    forge.wait_for_quiet();
    wait_until_told(&forge, "notes");
    insta::assert_snapshot!(log(&forge, &tree));
    assert_eq!(forge.runs().len(), runs + 1);
    tree.push(&[":refs/notes/ci"]);
    forge.ssh_ok("run retry app#1");
    forge.wait_for_quiet();
    wait_until_told(&forge, "notes");
    let again = log(&forge, &tree);
    assert_eq!(
        again.trim_end(),
        "first\nquire #3 failed after TIME, job test: https://git.example.org/runs/RUN"
    );
}

/// A ref that no notes can be added to is a finding, and holds up no other repository.
#[test]
fn notes_that_cannot_be_written_hold_up_nothing() {
    let forge = forge_with(":notes {:type :git-notes}\n");
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main", "main:refs/notes/ci/x"]);
    forge.wait_for_quiet();
    let other = forge.tree_with("other", GREEN);
    other.push(&["main"]);
    forge.wait_for_quiet();
    wait_until_told(&forge, "notes");
    let state = target(&forge, "notes");
    assert_eq!(state["given_up"], 1, "{state}");
    let bare = forge.paths.repos().join("other.git");
    assert!(git_in(&bare, &["notes", "--ref=ci", "list"]).contains(' '));
    // It is told again when there is a next run.
    tree.push(&[":refs/notes/ci/x"]);
    tree.push_new("second");
    forge.wait_for_quiet();
    wait_until_told(&forge, "notes");
    let noted = log(&forge, &tree);
    assert!(noted.contains("quire #2 complete"), "{noted}");
}

#[test]
fn notes_travel_with_a_mirror() {
    let mut forge = TestForge::new(QUIRE);
    let nas = TestForge::new(QUIRE).plain_sshd();
    nas.bare("copy");
    let text = |refs: &str| {
        format!(
            "{{:notify {{:targets {{{TARGETS}}}}} :mirrors {{:repos {{:app {{:nas {{:url \"{}\" :refs [{refs}]}}}}}}}}}}",
            nas.url("copy")
        )
    };
    let refs = "\"refs/heads/*\" \"refs/notes/ci\"";
    fs::write(forge.paths.config_fennel(), text(refs)).unwrap();
    forge
        .set("QUIRE_MIRRORS_ALLOWED_NETWORKS", "127.0.0.1")
        .serve();
    nas.allow(forge.ssh_ok("mirror key").trim());
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    wait_until_told(&forge, "notes");
    let bare = nas.paths.repos().join("copy.git");
    let commit = tree.git_ok(&["rev-parse", "main"]);
    let note = wait_for("the note on the other side", || {
        let found = git_in(
            &bare,
            &["for-each-ref", "--format=%(refname)", "refs/notes"],
        );
        (found.trim() == "refs/notes/ci")
            .then(|| git_in(&bare, &["notes", "--ref=ci", "show", commit.trim()]))
    });
    assert!(note.starts_with("quire #1 complete after "), "{note}");
}
