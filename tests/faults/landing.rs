//! Landing on green with everything killed, or moved, between the green run and the move of the branch: the branch moves once,
//! and no commit is run twice.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;
use quire_testkit::{TestForge, Tree, hermetic_git, run_ok, wait_for};

use crate::QUIRE;

const LINE: &str = r#"
(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: sh}] (sh "echo all is well")))
"#;

/// The refs of `app` with their commits.
fn refs(forge: &TestForge) -> Vec<String> {
    let repo = forge.paths.repo(&"app".parse().unwrap());
    let format = "--format=%(refname) %(objectname)";
    let mut command = hermetic_git(&repo, &repo, &["for-each-ref", format]);
    run_ok(&mut command).lines().map(str::to_owned).collect()
}

/// Waits until nothing is left of what was to land, and returns what `main` is.
#[track_caller]
fn wait_for_main(forge: &TestForge, is_landed: impl Fn(&str) -> bool) -> String {
    let main = wait_for("the commit to land", || match &refs(forge)[..] {
        [only] => only.strip_prefix("refs/heads/main ").map(str::to_owned),
        _ => None,
    });
    assert!(is_landed(&main), "{main}: {}", forge.log());
    wait_for("the end of the ref to be recorded", || {
        let recorded = forge.store().seen_refs().list(&"app".parse().unwrap());
        (recorded.unwrap().len() == 1).then_some(())
    });
    forge.wait_for_empty_spool();
    forge.wait_for_quiet();
    main
}

fn tested(forge: &TestForge) -> Vec<String> {
    forge
        .runs()
        .into_iter()
        .map(|run| run.sha.to_string())
        .collect()
}

/// A repository whose `main` has a commit that `HEAD` lacks, if it is to be overtaken.
fn seed(forge: &TestForge, is_overtaken: bool) -> Tree {
    let tree = forge.tree_with("app", LINE);
    if is_overtaken {
        tree.write("theirs", "theirs");
        tree.commit("Theirs");
    }
    tree.push(&["-o", "ci.skip", "main"]);
    forge.wait_for_empty_spool();
    if is_overtaken {
        tree.git_ok(&["reset", "-q", "--hard", "HEAD~1"]);
    }
    tree.write("ours", "ours");
    tree.commit("Ours");
    tree
}

#[test]
fn the_server_killed_at_each_point_of_a_landing() {
    for (point, method) in [
        ("land-begun", "ff"),
        ("land-moved", "ff"),
        ("land-spooled", "ff"),
        ("land-refs-deleted", "ff"),
        ("land-remade", "rebase"),
        ("land-announced", "merge"),
        ("land-spooled", "rebase"),
    ] {
        let mut forge = TestForge::new(QUIRE);
        forge.kill_once_at(point).serve();
        let tree = seed(&forge, method != "ff");
        let pushed = tree.git_ok(&["rev-parse", "HEAD"]);
        let option = format!("ci.land={method}");
        tree.push(&["-o", &option, "HEAD:refs/for-green/main"]);
        let status = forge.ended();
        assert_eq!(status.signal(), Some(9), "{point}: {}", forge.log());
        assert!(forge.came_to_fault_point(), "{point}");
        forge.serve();
        let main = wait_for_main(&forge, |main| (main == pushed) == (method == "ff"));
        let expected = match method {
            "ff" => vec![pushed],
            _ => vec![pushed, main],
        };
        assert_eq!(tested(&forge), expected, "{point}: {}", forge.log());
        forge.check_whole();
    }
}

#[test]
fn a_hook_killed_after_the_ref_of_a_commit_was_created() {
    for point in ["hook-landing-created", "hook-before-spool"] {
        let forge = TestForge::start(QUIRE);
        let tree = seed(&forge, false);
        let pushed = tree.git_ok(&["rev-parse", "HEAD"]);
        let mut push = tree.command(&["push", "-q", "origin", "HEAD:refs/for-green/main"]);
        push.env("QUIRE_FAULT", point).output().unwrap();
        wait_for_main(&forge, |main| main == pushed);
        assert_eq!(tested(&forge), [pushed], "{point}");
    }
}

/// Stops the server when its row says that the branch is moved, and moves the branch from elsewhere meanwhile.
fn with_a_push_at_the_last_moment(method: &str, push: impl Fn(&Tree)) -> (TestForge, Tree, String) {
    let mut forge = TestForge::new(QUIRE);
    forge.stop_once_at("land-begun").serve();
    let tree = seed(&forge, false);
    let pushed = tree.git_ok(&["rev-parse", "HEAD"]);
    let option = format!("ci.land={method}");
    tree.push(&["-o", &option, "HEAD:refs/for-green/main"]);
    wait_for("the server to stop", || {
        let status = fs::read_to_string(format!("/proc/{}/status", forge.pid())).unwrap();
        status.contains("State:\tT").then_some(())
    });
    push(&tree);
    forge.signal(Signal::SIGCONT);
    (forge, tree, pushed)
}

#[test]
fn the_branch_is_moved_by_a_push_at_the_last_moment() {
    let other = |tree: &Tree| {
        tree.git_ok(&["checkout", "-q", "--detach", "HEAD~1"]);
        tree.write("theirs", "theirs");
        tree.commit("Theirs");
        tree.push(&["-o", "ci.skip", "HEAD:main"]);
    };
    let (forge, tree, pushed) = with_a_push_at_the_last_moment("ff", other);
    let theirs = tree.git_ok(&["rev-parse", "HEAD"]);
    wait_for_main(&forge, |main| main == theirs);
    assert_eq!(tested(&forge), [pushed]);

    let (forge, tree, pushed) = with_a_push_at_the_last_moment("merge", other);
    let theirs = tree.git_ok(&["rev-parse", "HEAD"]);
    let main = wait_for_main(&forge, |main| main != theirs);
    tree.git_ok(&["fetch", "-q", "origin"]);
    let parents = tree.git_ok(&["show", "-s", "--format=%P", &main]);
    assert_eq!(parents, format!("{theirs} {pushed}"));
    assert_eq!(tested(&forge), [pushed, main]);

    // By a push of the same commit, and of one that goes on from it.
    let same = |tree: &Tree| drop(tree.push(&["HEAD:main"]));
    let (forge, _, pushed) = with_a_push_at_the_last_moment("ff", same);
    wait_for_main(&forge, |main| main == pushed);
    assert_eq!(tested(&forge), [pushed]);
    let next = |tree: &Tree| {
        tree.commit("Next");
        tree.push(&["HEAD:main"]);
    };
    let (forge, tree, pushed) = with_a_push_at_the_last_moment("ff", next);
    let next = tree.git_ok(&["rev-parse", "HEAD"]);
    wait_for_main(&forge, |main| main == next);
    assert_eq!(tested(&forge), [pushed, next]);
}
