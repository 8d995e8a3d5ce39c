//! Protected refs: what pushes, undo and landing may do to them, and where the patterns go with their repository.

use std::io::Write;
use std::process::{Output, Stdio};

use quire_testkit::{TestForge, Tree, run_ok, transcript, wait_for};
use serde_json::Value;

use super::{GREEN, one};
use crate::QUIRE;

/// A forge with the commits `first` and `second` on `main` and `side` of `app`, and the tag `v1`.
fn seeded() -> (TestForge, Tree) {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["-o", "ci.skip", "main"]);
    tree.commit("second");
    tree.push(&["-o", "ci.skip", "main", "main:side", "main:refs/tags/v1"]);
    forge.wait_for_empty_spool();
    (forge, tree)
}

fn push(tree: &Tree, arguments: &[&str]) -> Output {
    tree.git(&[&["push", "-o", "ci.skip", "origin"], arguments].concat())
}

/// The push, which must be refused with these words and change nothing.
#[track_caller]
fn refused(tree: &Tree, arguments: &[&str], words: &[&str]) {
    let before = tree.git_ok(&["ls-remote", "origin"]);
    let output = push(tree, arguments);
    let text = transcript(&output);
    assert!(!output.status.success(), "{arguments:?}: {text}");
    for word in words {
        assert!(text.contains(word), "{arguments:?}: {word}: {text}");
    }
    assert_eq!(tree.git_ok(&["ls-remote", "origin"]), before, "{text}");
}

#[track_caller]
fn fails(forge: &TestForge, command: &str, code: i32, words: &str) {
    let output = forge.ssh(command);
    let text = transcript(&output);
    assert_eq!(output.status.code(), Some(code), "{command}: {text}");
    assert!(text.contains(words), "{command}: {text}");
}

fn patterns(forge: &TestForge, repo: &str) -> Vec<String> {
    let shown: Value =
        serde_json::from_str(&forge.ssh_ok(&format!("repo show {repo} --json"))).unwrap();
    let patterns = shown["protected"].as_array().unwrap().iter();
    patterns
        .map(|one| one.as_str().unwrap().to_owned())
        .collect()
}

/// The number of the newest operation.
fn newest_operation(forge: &TestForge) -> String {
    let log: Value = serde_json::from_str(&forge.ssh_ok("log --limit 1 --json")).unwrap();
    log["operations"][0]["id"].to_string()
}

#[test]
fn protected_refs_lose_nothing_by_pushes() {
    let (forge, tree) = seeded();
    assert_eq!(
        forge.ssh_ok("repo protect app main"),
        "main of app is protected: pushes cannot move it by force or delete it\n"
    );
    assert_eq!(
        forge.ssh_ok("repo protect app main"),
        "main of app is protected already\n"
    );
    let json = forge.ssh_ok("repo protect app refs/tags/v* --json");
    assert_eq!(
        json,
        "{\"repos\":[{\"repo\":\"app\",\"protected\":[\"refs/heads/main\",\"refs/tags/v*\"]}]}\n"
    );
    let shown = forge.ssh_ok("repo show app");
    assert!(
        shown.contains("protected       main, refs/tags/v*\n"),
        "{shown}"
    );

    let forced = [
        "quire: main is protected by the pattern `main` and cannot be moved by force",
        "quire: nothing was changed; `repo unprotect app main` ends the protection",
    ];
    refused(&tree, &["+main~1:main"], &forced);
    // Also with what a push may say besides, and with another ref that could move.
    refused(&tree, &["-o", "ci.land=merge", "+main~1:main"], &forced);
    refused(
        &tree,
        &["+main~1:main", "main:new", "+main~1:side"],
        &forced,
    );
    refused(
        &tree,
        &[":main"],
        &["main is protected", "cannot be deleted"],
    );
    refused(
        &tree,
        &["--mirror"],
        &["v1 is protected", "cannot be deleted"],
    );
    refused(
        &tree,
        &["+main~1:refs/tags/v1"],
        &[
            "the tag v1 is protected by the pattern `refs/tags/v*` and cannot be moved",
            "`repo unprotect app 'refs/tags/v*'` ends the protection",
        ],
    );
    refused(
        &tree,
        &[":refs/tags/v1"],
        &["v1 is protected", "cannot be deleted"],
    );

    // What loses nothing, and what no pattern matches.
    tree.commit("third");
    for accepted in [
        &["main", "main:refs/tags/v2", "main:new"][..],
        &["+main~2:side"],
        &[":side"],
        &["main:refs/tags/other"],
        &["+main~1:refs/tags/other"],
    ] {
        let output = push(&tree, accepted);
        assert!(
            output.status.success(),
            "{accepted:?}: {}",
            transcript(&output)
        );
    }
    // A tag moves no more than back, also forward.
    refused(&tree, &["main:refs/tags/v1"], &["v1"]);

    fails(
        &forge,
        "repo unprotect app ma*",
        3,
        "its patterns are `main`, `refs/tags/v*`",
    );
    fails(&forge, "repo protect app 'a b'", 2, "is no pattern of refs");
    forge.ssh_ok("repo unprotect app main");
    assert!(push(&tree, &["+main~1:main"]).status.success());
    forge.wait_for_quiet();
    forge.check_whole();
}

#[test]
fn undo_does_to_protected_refs_what_pushes_may_do() {
    let (forge, tree) = seeded();
    // By force, before the branch was protected.
    tree.git_ok(&["reset", "-q", "--hard", "main~1"]);
    tree.commit("other");
    assert!(push(&tree, &["+main"]).status.success());
    forge.wait_for_quiet();
    let forced = newest_operation(&forge);
    forge.ssh_ok("repo protect app ma*");
    let protected = newest_operation(&forge);
    let words = "main is protected by the pattern `ma*` and cannot be moved by force, so nothing was changed";
    fails(&forge, "repo undo app main", 1, words);
    fails(&forge, &format!("undo {forced}"), 1, words);
    // The protection is undone, and that again.
    let undone = forge.ssh_ok(&format!("undo {protected}"));
    assert!(
        undone.contains("ended the protection of the refs refs/heads/ma* of app"),
        "{undone}"
    );
    assert_eq!(patterns(&forge, "app"), [""; 0]);
    let ended = newest_operation(&forge);
    forge.ssh_ok(&format!("undo {ended}"));
    assert_eq!(patterns(&forge, "app"), ["refs/heads/ma*"]);
    forge.ssh_ok("repo unprotect app ma*");
    fails(
        &forge,
        &format!(
            "undo {}",
            newest_operation(&forge).parse::<u64>().unwrap() - 1
        ),
        1,
        "since",
    );
    forge.ssh_ok(&format!("undo {forced}"));
    forge.wait_for_quiet();
    forge.check_whole();
}

#[test]
fn commits_land_on_a_protected_branch() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", &one("true"));
    tree.push(&["-o", "ci.skip", "main"]);
    forge.ssh_ok("repo protect app '*'");
    for how in ["ff", "rebase", "merge"] {
        tree.git_ok(&["pull", "-q", "--rebase", "origin", "main"]);
        tree.write(how, how);
        tree.commit(how);
        if how != "ff" {
            // The branch moves on meanwhile.
            tree.git_ok(&["checkout", "-q", "--detach", "HEAD~1"]);
            tree.write(&format!("{how}-first"), "first");
            tree.commit("first");
            tree.push(&["-o", "ci.skip", "HEAD:main"]);
            tree.git_ok(&["checkout", "-q", "main"]);
        }
        let option = format!("ci.land={how}");
        tree.push(&["-o", &option, "HEAD:refs/for-green/main"]);
        wait_for("the commit to land", || {
            tree.git_ok(&["fetch", "-q", "origin"]);
            let files = tree.git_ok(&["ls-tree", "--name-only", "origin/main"]);
            files.lines().any(|file| file == how).then_some(())
        });
    }
    wait_for(
        "the refs of what has landed to be deleted and recorded",
        || {
            let recorded = forge.store().seen_refs().list(&"app".parse().unwrap());
            let refs = tree.git_ok(&["ls-remote", "origin", "refs/*"]);
            (recorded.unwrap().len() == 1 && refs.lines().count() == 1).then_some(())
        },
    );
    forge.wait_for_quiet();
    forge.check_whole();
}

#[test]
fn the_patterns_go_where_the_repository_goes() {
    let (forge, tree) = seeded();
    forge.ssh_ok("repo protect app main");
    forge.ssh_ok("repo default app side");
    forge.ssh_ok("repo rename app work/shop");
    assert_eq!(patterns(&forge, "app"), ["refs/heads/main"]);
    refused(
        &tree,
        &["+main~1:main"],
        &["`repo unprotect work/shop main`"],
    );
    forge.ssh_ok("repo rm work/shop --yes");
    // Another repository of the name has nothing to do with it.
    forge.ssh_ok("repo new work/shop");
    assert_eq!(patterns(&forge, "work/shop"), [""; 0]);
    forge.ssh_ok("repo rm work/shop --now --yes");
    forge.ssh_ok("repo restore work/shop");
    assert_eq!(patterns(&forge, "work/shop"), ["refs/heads/main"]);

    let backup = forge.ssh("backup");
    assert!(backup.status.success(), "{}", transcript(&backup));
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut restore = forge.quire(&["restore"]);
    restore.env("QUIRE_DATA", &data).stdin(Stdio::piped());
    let mut restore = restore.spawn().unwrap();
    let mut input = restore.stdin.take().unwrap();
    input.write_all(&backup.stdout).unwrap();
    drop(input);
    assert!(restore.wait().unwrap().success());
    let restored = TestForge::at(QUIRE, folder.path(), data);
    assert_eq!(patterns(&restored, "work/shop"), ["refs/heads/main"]);
    let tree = restored.tree("again", "work/shop");
    tree.git_ok(&["fetch", "-q", "origin"]);
    refused(
        &tree,
        &["+origin/main~1:refs/heads/main"],
        &["main is protected"],
    );
    let _ = run_ok(&mut tree.command(&["fsck"]));
}

#[test]
fn a_deletion_of_a_ref_that_the_client_denies_is_refused() {
    let (forge, tree) = seeded();
    let before = tree.git_ok(&["ls-remote", "origin"]);
    // No client of git sends this.
    let zero = "0".repeat(40);
    let line = format!("{zero} {zero} refs/heads/side\0report-status");
    let input = format!("{:04x}{line}0000", line.len() + 4);
    for protected in [false, true] {
        if protected {
            forge.ssh_ok("repo protect app side");
        }
        let output = forge.ssh_with("git-receive-pack 'app.git'", input.as_bytes());
        let text = transcript(&output);
        assert!(
            text.contains("deletes refs/heads/side and says that it does not exist"),
            "{text}"
        );
        assert_eq!(tree.git_ok(&["ls-remote", "origin"]), before, "{text}");
    }
}
