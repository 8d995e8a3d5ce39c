//! Landing on green: from a push to `refs/for-green/BRANCH` to the branch, and everything that can come in between.

use std::fs;
use std::path::Path;

use quire_testkit::{TestForge, Tree, hermetic_git, run_ok, transcript, wait_for};
use quire_types::names::RefName;
use quire_types::run::{Run, RunState};
use serde_json::Value;

use super::{GREEN, gate, one};
use crate::QUIRE;

/// A forge with a green commit on `main` of `app`.
fn seeded(pipeline: &str) -> (TestForge, Tree) {
    let forge = TestForge::start(QUIRE);
    let tree = seed(&forge, pipeline);
    (forge, tree)
}

fn seed(forge: &TestForge, pipeline: &str) -> Tree {
    let tree = forge.tree_with("app", pipeline);
    tree.push(&["-o", "ci.skip", "main"]);
    forge.wait_for_empty_spool();
    tree
}

/// The refs of `app` with their commits.
fn refs(forge: &TestForge) -> Vec<String> {
    let repo = forge.paths.repo(&"app".parse().unwrap());
    let format = "--format=%(refname) %(objectname)";
    let mut command = hermetic_git(&repo, &repo, &["for-each-ref", format]);
    run_ok(&mut command).lines().map(str::to_owned).collect()
}

fn main_at(commit: &str) -> Vec<String> {
    vec![format!("refs/heads/main {commit}")]
}

/// Waits until these are all refs of `app`: what was to land has landed, or not, and left nothing.
#[track_caller]
fn wait_for_refs(forge: &TestForge, expected: &[String]) {
    wait_for(&format!("{expected:?}\n{}", forge.log()), || {
        let recorded = forge.store().seen_refs().list(&"app".parse().unwrap());
        let is_recorded = recorded.unwrap().len() == expected.len();
        (is_recorded && refs(forge) == expected).then_some(())
    });
}

/// The landing of a run, as `run show` has it.
fn landing(forge: &TestForge, run: &Run) -> Value {
    let shown = forge.ssh_ok(&format!("run show {} --json", run.id));
    serde_json::from_str::<Value>(&shown).unwrap()["landing"].take()
}

/// Waits for the end of the landing of a run.
#[track_caller]
fn ended(forge: &TestForge, run: &Run, state: &str) -> String {
    let landing = wait_for(&format!("the landing to be {state}"), || {
        let landing = landing(forge, run);
        (landing["state"] == state).then_some(landing)
    });
    landing["message"].as_str().unwrap_or_default().to_owned()
}

/// A commit of `app` on top of `from` that writes a file.
fn commit_on(tree: &Tree, from: &str, file: &str, text: &str) -> String {
    tree.git_ok(&["checkout", "-q", "--detach", from]);
    tree.write(file, text);
    tree.commit(&format!("Write {file}"))
}

/// A pipeline whose run of a commit waits if the commit has a file `wait`, until there is `go` in this folder.
fn gated(folder: &Path) -> String {
    let gate = gate(folder);
    one(&format!("if [ -e wait ]; then {gate}; fi"))
}

fn open(folder: &Path) {
    fs::write(folder.join("go"), "").unwrap();
}

#[test]
fn a_green_commit_lands_once_and_is_run_once() {
    let (forge, tree) = seeded(GREEN);
    let commit = tree.commit("Second");
    let reply = tree.push(&["-o", "ci.wait", "HEAD:refs/for-green/main"]);
    let run = forge.newest("app");
    for words in [
        format!("quire: run {} queued", run.name()),
        "all is well".to_owned(),
        format!("quire: {0} landed on main as {0}", &commit[..12]),
        format!("HEAD -> refs/for-green/main/{commit}"),
    ] {
        assert!(reply.contains(&words), "{words}: {reply}");
    }
    wait_for_refs(&forge, &main_at(&commit));
    forge.wait_for_empty_spool();
    assert_eq!(forge.runs().len(), 1, "{:?}", forge.runs());
    assert_eq!(run.ref_name.short(), "for-green/main");
    assert_eq!(ended(&forge, &run, "landed"), "");
    let sentence = format!("landed on main as {}", &commit[..12]);
    let shown = forge.ssh_ok(&format!("run show {}", run.id));
    assert!(shown.contains(&sentence), "{shown}");
    let page = forge.get(&format!("/runs/{}", run.id)).body;
    assert!(page.contains(&sentence), "{page}");
    // What lands overwrites nothing, and neither does the end of its ref.
    let undo = forge.ssh_ok("repo undo app --json");
    assert!(!undo.contains("old_sha"), "{undo}");
    // A push of the same commit, and one that goes on from it, are pushes as ever.
    assert!(tree.push(&["HEAD:main"]).contains("Everything up-to-date"));
    tree.commit("Third");
    tree.push(&["HEAD:main"]);
    assert_eq!(forge.newest("app").ref_name.short(), "main");
    forge.wait_for_quiet();
    forge.check_whole();
}

#[test]
fn what_is_not_green_does_not_land() {
    let (forge, tree) = seeded(&one("test -e well"));
    let main = tree.git_ok(&["rev-parse", "HEAD"]);
    tree.commit("Second");
    let reply = tree.push(&["-o", "ci.wait", "HEAD:refs/for-green/main"]);
    assert!(
        reply.contains("did not land on main: its run failed"),
        "{reply}"
    );
    wait_for_refs(&forge, &main_at(&main));
    let run = forge.newest("app");
    assert_eq!(ended(&forge, &run, "failed"), "its run failed");
    // A retry tests the same commit, and lands nothing.
    forge.ssh_ok(&format!("run retry {}", run.id));
    forge.wait_for_quiet();
    // The same commit can be pushed again.
    tree.push(&["HEAD:refs/for-green/main"]);
    let again = forge.newest("app");
    assert_ne!(again.id, run.id);
    ended(&forge, &again, "failed");
    wait_for_refs(&forge, &main_at(&main));
}

#[test]
fn several_wait_in_the_order_of_their_pushes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_owned();
    let (forge, tree) = seeded(&gated(&folder));
    let main = tree.git_ok(&["rev-parse", "HEAD"]);
    let first = commit_on(&tree, "main", "wait", "");
    tree.push(&["HEAD:refs/for-green/main"]);
    let slow = forge.newest("app");
    wait_for("the first run", || {
        folder.join("started").exists().then_some(())
    });
    tree.git_ok(&["rm", "-q", "wait"]);
    let second = tree.commit("Second");
    tree.push(&["HEAD:refs/for-green/main"]);
    let fast = forge.newest("app");
    assert_eq!(forge.end_of(fast.id).state, RunState::Complete);
    let waits = wait_for("the reason", || {
        landing(&forge, &fast)["message"]
            .as_str()
            .map(str::to_owned)
    });
    assert_eq!(
        waits,
        "waits until the commits that were pushed before it have landed"
    );
    // Another branch waits for nothing.
    tree.push(&[&format!("{main}:refs/for-green/side")]);
    ended(&forge, &forge.newest("app"), "landed");
    assert_eq!(landing(&forge, &fast)["state"], "testing");
    assert!(refs(&forge).contains(&main_at(&main)[0]));
    // Who pushes a commit that waits is told so.
    let again = tree.git(&["push", "origin", "HEAD:refs/for-green/main"]);
    let said = transcript(&again);
    assert!(!again.status.success(), "{said}");
    assert!(said.contains("waits to land on main already"), "{said}");
    open(&folder);
    ended(&forge, &slow, "landed");
    ended(&forge, &fast, "landed");
    let side = format!("refs/heads/side {main}");
    wait_for_refs(&forge, &[main_at(&second), vec![side]].concat());
    let history = tree.git_ok(&["rev-list", "--first-parent", &second]);
    assert!(history.contains(&first), "{history}");
    assert_eq!(forge.runs().len(), 3);
}

/// What becomes of a commit while whose run `main` gets a commit that is not in it. Returns the forge, the tree, what
/// `main` was, and what was pushed.
fn overtaken(
    arguments: &[&str],
    (theirs, ours): (&str, &str),
) -> (TestForge, Tree, String, String, Run) {
    let mut forge = TestForge::new(QUIRE);
    let folder = forge.file("gate");
    forge.serve();
    let tree = seed(&forge, &gated(&folder));
    commit_on(&tree, "main", "wait", "");
    tree.write(ours, "ours\n");
    tree.git_ok(&["add", "-A"]);
    let author = "--author=Ada <ada@example.org>";
    tree.git_ok(&["commit", "-q", "--amend", author, "-m", "Ours"]);
    let pushed = tree.git_ok(&["rev-parse", "HEAD"]);
    tree.push(&[arguments, &["HEAD:refs/for-green/main"]].concat());
    let run = forge.newest("app");
    wait_for("the run", || folder.join("started").exists().then_some(()));
    let main = commit_on(&tree, "main", theirs, "theirs\n");
    tree.push(&["-o", "ci.skip", "HEAD:main"]);
    forge.wait_for_empty_spool();
    open(&folder);
    (forge, tree, main, pushed, run)
}

#[test]
fn a_commit_that_was_overtaken_is_made_anew_and_run_again() {
    for method in ["rebase", "merge"] {
        let option = format!("ci.land={method}");
        let (forge, tree, main, pushed, run) = overtaken(&["-o", &option], ("theirs", "ours"));
        ended(&forge, &run, "landed");
        let found = landing(&forge, &run);
        let landed = found["tested_sha"].as_str().unwrap();
        assert_eq!(
            (found["pushed_sha"].as_str(), found["method"].as_str()),
            (Some(pushed.as_str()), Some(method))
        );
        assert_ne!(landed, pushed);
        wait_for_refs(&forge, &main_at(landed));
        let runs = forge.runs();
        let tested: Vec<&str> = runs.iter().map(|run| run.sha.as_str()).collect();
        assert_eq!(tested, [pushed.as_str(), landed], "{method}");
        tree.git_ok(&["fetch", "-q", "origin"]);
        let parents = match method {
            "rebase" => main.clone(),
            _ => format!("{main} {pushed}"),
        };
        let show = |format: &str| tree.git_ok(&["show", "-s", format, landed]);
        assert_eq!(show("--format=%P"), parents);
        let said = match method {
            "rebase" => "Ada: Ours".to_owned(),
            _ => format!("A Person: Merge commit '{}' into main", &pushed[..12]),
        };
        let committer = show("--format=%cn");
        assert_eq!(
            show("--format=%an: %s"),
            said.replace("A Person", &committer)
        );
        let files = tree.git_ok(&["ls-tree", "--name-only", landed]);
        assert_eq!(files, ".quire\nours\ntheirs\nwait");
        forge.check_whole();
    }
}

#[test]
fn a_commit_that_does_not_fit_leaves_the_branch_alone() {
    for (option, file, words) in [
        (
            "ci.land=ff",
            "ours",
            "`main` has moved, and the commit does not contain it; rebase and push again, or push with `-o ci.land=rebase` or `-o ci.land=merge`",
        ),
        (
            "ci.land=rebase",
            "theirs",
            "it conflicts with `main` in theirs; rebase and push again",
        ),
        (
            "ci.land=merge",
            "theirs",
            "it conflicts with `main` in theirs; rebase and push again",
        ),
    ] {
        let (forge, _tree, main, _, run) = overtaken(&["-o", option], ("theirs", file));
        assert_eq!(ended(&forge, &run, "failed"), words);
        wait_for_refs(&forge, &main_at(&main));
        assert_eq!(forge.runs().len(), 1, "{option}");
    }
}

#[test]
fn a_branch_that_came_by_itself_is_not_moved() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_owned();
    let (forge, tree) = seeded(&gated(&folder));
    let commit = commit_on(&tree, "main", "wait", "");
    tree.push(&["HEAD:refs/for-green/main"]);
    let run = forge.newest("app");
    wait_for("the run", || folder.join("started").exists().then_some(()));
    tree.push(&["HEAD:main"]);
    open(&folder);
    ended(&forge, &run, "landed");
    wait_for_refs(&forge, &main_at(&commit));
    forge.wait_for_quiet();
    // It was pushed to the branch, so it has a run there as well.
    let names: Vec<RefName> = forge.runs().into_iter().map(|run| run.ref_name).collect();
    let names: Vec<&str> = names.iter().map(RefName::short).collect();
    assert_eq!(names, ["for-green/main", "main"]);
}

#[test]
fn a_run_that_is_canceled_or_superseded_takes_its_commit_back() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_owned();
    let (forge, tree) = seeded(&gated(&folder));
    let main = tree.git_ok(&["rev-parse", "HEAD"]);
    commit_on(&tree, "main", "wait", "");
    tree.push(&["HEAD:refs/for-green/main"]);
    let active = forge.newest("app");
    wait_for("the run", || folder.join("started").exists().then_some(()));
    commit_on(&tree, "main", "other", "");
    tree.push(&["HEAD:refs/for-green/main"]);
    let waiting = forge.newest("app");
    forge.end_of(waiting.id);
    // One whose run is green waits for the other. Its run has ended, and what is canceled is that it lands.
    let said = forge.ssh_ok(&format!("run cancel {}", waiting.id));
    assert!(said.contains("its commit does not land"), "{said}");
    assert_eq!(ended(&forge, &waiting, "canceled"), "it was withdrawn");
    let again = forge.ssh(&format!("run cancel {}", waiting.id));
    assert!(!again.status.success(), "{}", transcript(&again));
    forge.ssh_ok(&format!("run cancel {}", active.id));
    assert_eq!(ended(&forge, &active, "canceled"), "its run was canceled");
    wait_for_refs(&forge, &main_at(&main));

    let group = r#"(ci.group :all {:supersede true})"#;
    let grouped = gated(&folder).replacen("(ci.job", &format!("{group}\n(ci.job"), 1);
    for name in ["go", "started"] {
        fs::remove_file(folder.join(name)).ok();
    }
    tree.git_ok(&["checkout", "-q", "--detach", &main]);
    tree.write(".quire/ci.fnl", &grouped);
    tree.write("wait", "");
    tree.commit("Group");
    tree.push(&["HEAD:refs/for-green/main"]);
    let older = forge.newest("app");
    wait_for("the run", || folder.join("started").exists().then_some(()));
    tree.git_ok(&["rm", "-q", "wait"]);
    let newer = tree.commit("Newer");
    tree.push(&["HEAD:refs/for-green/main"]);
    assert_eq!(ended(&forge, &older, "failed"), "its run was superseded");
    ended(&forge, &forge.newest("app"), "landed");
    wait_for_refs(&forge, &main_at(&newer));
}

#[test]
fn what_cannot_land_is_said_at_once() {
    let (forge, tree) = seeded(GREEN);
    let main = tree.git_ok(&["rev-parse", "HEAD"]);
    tree.commit("Second");
    let tree_id = tree.git_ok(&["rev-parse", "HEAD^{tree}"]);
    let refused = |arguments: &[&str], words: &str| {
        let output = tree.git(&[&["push", "origin"], arguments].concat());
        let said = transcript(&output);
        assert!(!output.status.success() && said.contains(words), "{said}");
    };
    refused(
        &[":refs/for-green/main"],
        "`run cancel RUN` takes a commit back that waits to land",
    );
    refused(
        &[&format!("{tree_id}:refs/for-green/main")],
        "only a commit can land on a branch",
    );
    let said = tree.push(&["-o", "ci.skip", "HEAD:refs/for-green/main"]);
    assert!(
        said.contains("has no run, so it does not land; push to main itself"),
        "{said}"
    );
    wait_for_refs(&forge, &main_at(&main));
    assert_eq!(forge.runs().len(), 0);
    // A branch below another one, and all jobs although one is named.
    let said = tree.push(&["-o", "ci.job=test", "HEAD:refs/for-green/main/below"]);
    assert!(said.contains("ci.job is ignored"), "{said}");
    let run = forge.newest("app");
    assert_eq!(run.only_job, None);
    assert_eq!(
        ended(&forge, &run, "failed"),
        "the branch `main` is in the way"
    );
    // Without a common commit.
    tree.git_ok(&["checkout", "-q", "--orphan", "alone"]);
    tree.commit("Alone");
    tree.push(&["-o", "ci.land=merge", "HEAD:refs/for-green/main"]);
    assert_eq!(
        ended(&forge, &forge.newest("app"), "failed"),
        "it has no commit in common with `main`"
    );
    wait_for_refs(&forge, &main_at(&main));
    forge.check_whole();
}

#[test]
fn a_first_push_may_be_one_that_lands() {
    let mut forge = TestForge::new(QUIRE);
    fs::write(forge.paths.config_fennel(), "{:ci {:land :rebase}}").unwrap();
    forge.serve();
    let tree = forge.tree_with("app", GREEN);
    let reply = tree.push(&["-o", "ci.wait", "HEAD:refs/for-green/main"]);
    assert!(reply.contains("created repository app"), "{reply}");
    let commit = tree.git_ok(&["rev-parse", "HEAD"]);
    wait_for_refs(&forge, &main_at(&commit));
    assert_eq!(landing(&forge, &forge.newest("app"))["method"], "rebase");
    // A change that the branch has already is nothing to land.
    tree.write("file", "text");
    let there = tree.commit("Write");
    tree.push(&["-o", "ci.skip", "HEAD:main"]);
    tree.git_ok(&["reset", "-q", "--hard", "HEAD~1"]);
    tree.write("file", "text");
    tree.commit("Write the same");
    tree.push(&["HEAD:refs/for-green/main"]);
    ended(&forge, &forge.newest("app"), "landed");
    wait_for_refs(&forge, &main_at(&there));
    assert_eq!(forge.runs().len(), 2);
}

#[test]
fn a_repository_is_renamed_or_removed_while_a_commit_waits() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_owned();
    let (forge, tree) = seeded(&gated(&folder));
    let commit = commit_on(&tree, "main", "wait", "");
    tree.push(&["HEAD:refs/for-green/main"]);
    let run = forge.newest("app");
    wait_for("the run", || folder.join("started").exists().then_some(()));
    forge.ssh_ok("repo rename app other");
    open(&folder);
    ended(&forge, &run, "landed");
    forge.ssh_ok("repo rename other app");
    wait_for_refs(&forge, &main_at(&commit));
    fs::remove_file(folder.join("started")).unwrap();
    fs::remove_file(folder.join("go")).unwrap();
    tree.commit("Again");
    tree.push(&["HEAD:refs/for-green/main"]);
    wait_for("the run", || folder.join("started").exists().then_some(()));
    forge.ssh_ok("repo rm app --yes");
    // What was restored does not land by itself, and leaves no ref.
    forge.ssh_ok("repo restore app");
    wait_for_refs(&forge, &main_at(&commit));
    forge.wait_for_quiet();
    forge.check_whole();
}
