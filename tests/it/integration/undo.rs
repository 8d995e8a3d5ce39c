//! Refs that pushes overwrote, and moving them back.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;
use quire_testkit::{TestForge, Tree, transcript, wait_for};
use quire_types::names::RepoName;
use quire_types::run::RunState;
use serde_json::Value;

use super::{GREEN, kept_bytes, removed_by_gc, set_keep};
use crate::QUIRE;

fn name(text: &str) -> RepoName {
    text.parse().unwrap()
}

/// Git on the forge's own repository; its standard output.
#[track_caller]
fn inside(forge: &TestForge, repo: &str, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("--git-dir")
        .arg(forge.paths.repo(&name(repo)))
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", transcript(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn hidden(forge: &TestForge, repo: &str) -> Vec<String> {
    let refs = inside(
        forge,
        repo,
        &["for-each-ref", "--format=%(refname)", "refs/quire"],
    );
    refs.lines().map(str::to_owned).collect()
}

/// What `repo undo` lists: ref, old id and new id, the newest first.
fn listed(forge: &TestForge, repo: &str) -> Vec<(String, String, Option<String>)> {
    let list: Value =
        serde_json::from_str(&forge.ssh_ok(&format!("repo undo {repo} --json"))).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    list["overwritten"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                text(&row["ref_name"]).unwrap(),
                text(&row["old_sha"]).unwrap(),
                text(&row["new_sha"]),
            )
        })
        .collect()
}

fn remote(tree: &Tree, name: &str) -> Option<String> {
    let found = tree.git_ok(&["ls-remote", "origin", name]);
    found.split_whitespace().next().map(str::to_owned)
}

/// The command, which must fail with this code and these words.
#[track_caller]
fn refused(forge: &TestForge, command: &str, code: i32, words: &str) {
    let output = forge.ssh(command);
    let text = transcript(&output);
    assert_eq!(output.status.code(), Some(code), "{command}: {text}");
    assert!(text.contains(words), "{command}: {text}");
}

/// Removes every object that nothing refers to, as `git gc` does after two weeks.
fn collect_garbage(forge: &TestForge, repo: &str) {
    inside(
        forge,
        repo,
        &[
            "-c",
            "gc.reflogExpireUnreachable=90.days",
            "gc",
            "--quiet",
            "--prune=now",
        ],
    );
}

#[test]
fn a_forced_push_and_a_deletion_are_undone() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main"]);
    let first = tree.commit("second");
    tree.push(&["main", "main:topic"]);
    let before = tree.commit("third");
    tree.push(&["main"]);
    forge.wait_for_quiet();
    assert_eq!(listed(&forge, "app"), [], "nothing was overwritten yet");
    assert_eq!(
        forge.ssh_ok("repo undo app"),
        "no push has overwritten anything that is still kept\n"
    );
    // The last two commits are replaced by another one, and a branch goes.
    tree.git_ok(&["reset", "-q", "--hard", &format!("{first}~1")]);
    let forced = tree.commit("other");
    tree.push(&["--force", "main"]);
    tree.push(&["--delete", "topic"]);
    let (main, topic) = ("refs/heads/main".to_owned(), "refs/heads/topic".to_owned());
    assert_eq!(
        listed(&forge, "app"),
        [
            (topic.clone(), first.clone(), None),
            (main.clone(), before.clone(), Some(forced.clone()))
        ]
    );
    assert_eq!(hidden(&forge, "app").len(), 2);
    collect_garbage(&forge, "app");
    forge.wait_for_quiet();

    let undone = forge.ssh_ok("repo undo app main");
    let short = |id: &str| id[..12].to_owned();
    assert!(
        undone.starts_with(&format!(
            "moved {main} of app from {} to {}\nrun app#",
            short(&forced),
            short(&before)
        )) && undone.ends_with("`repo undo app main` takes that back\n"),
        "{undone}"
    );
    assert_eq!(remote(&tree, &main), Some(before.clone()));
    let run = forge.newest("app");
    assert_eq!(
        (run.sha.as_str(), run.pusher.as_deref()),
        (before.as_str(), Some("laptop"))
    );
    assert_eq!(forge.end_of(run.id).state, RunState::Complete);
    forge.ssh_ok("repo undo app topic");
    assert_eq!(remote(&tree, &topic), Some(first.clone()));
    // The undo is itself undone, and that again.
    for expected in [Some(&forced), Some(&before)] {
        forge.ssh_ok("repo undo app refs/heads/main");
        assert_eq!(remote(&tree, &main).as_ref(), expected);
    }
    for expected in [None, Some(&first)] {
        let undone = forge.ssh_ok("repo undo app topic --json");
        let undone: Value = serde_json::from_str(&undone).unwrap();
        assert_eq!(undone["new_sha"].as_str(), expected.map(String::as_str));
        assert_eq!(remote(&tree, &topic).as_ref(), expected);
    }
    // To an id that is given, also if the branch has moved on.
    tree.git_ok(&["reset", "-q", "--hard", &before]);
    tree.push_new("fourth");
    forge.wait_for_quiet();
    refused(&forge, "repo undo app main", 1, "has moved");
    forge.ssh_ok(&format!("repo undo app main --to {}", &forced[..7]));
    assert_eq!(remote(&tree, &main), Some(forced));
    forge.wait_for_quiet();
    forge.check_whole();
}

#[test]
fn what_a_push_does_not_overwrite_is_not_listed() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main", "main:refs/notes/x"]);
    for _ in 0..3 {
        tree.commit("more");
    }
    // Several commits at once, a merge, a new branch and a tag.
    tree.push(&["main", "main:refs/notes/x"]);
    tree.git_ok(&["checkout", "-q", "-b", "side", "HEAD~2"]);
    tree.commit("aside");
    tree.git_ok(&["checkout", "-q", "main"]);
    tree.git_ok(&["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    tree.git_ok(&["tag", "-a", "v1", "-m", "one"]);
    tree.push(&["main", "side", "v1"]);
    forge.wait_for_quiet();
    assert_eq!(listed(&forge, "app"), []);
    assert_eq!(hidden(&forge, "app"), Vec::<String>::new());
    // A tag that is moved is overwritten, although its commit is an ancestor of the new one.
    let old = tree.git_ok(&["rev-parse", "v1"]);
    tree.commit("released");
    tree.git_ok(&["tag", "-f", "-a", "v1", "-m", "again"]);
    tree.push(&["--force", "v1"]);
    let new = tree.git_ok(&["rev-parse", "v1"]);
    let tag = "refs/tags/v1".to_owned();
    assert_eq!(
        listed(&forge, "app"),
        [(tag.clone(), old.clone(), Some(new))]
    );
    forge.ssh_ok("repo undo app refs/tags/v1");
    assert_eq!(remote(&tree, &tag), Some(old));
    forge.wait_for_quiet();
    forge.check_whole();
}

#[test]
fn no_client_and_no_page_sees_what_is_kept() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main", "main:topic"]);
    let kept = tree.commit("kept");
    // Without a run, whose pages would name it.
    tree.push(&["-o", "ci.skip", "main:topic"]);
    tree.push(&["--delete", "topic"]);
    forge.wait_for_quiet();
    let hidden = format!("refs/quire/undo/{kept}");
    assert_eq!(
        super::undo::hidden(&forge, "app"),
        std::slice::from_ref(&hidden)
    );
    let seen = tree.git_ok(&["ls-remote", "origin"]);
    assert!(!seen.contains("quire") && !seen.contains(&kept), "{seen}");
    let mirror = forge.file("mirror");
    tree.git_ok(&[
        "clone",
        "-q",
        "--mirror",
        "ssh://git@forge/app",
        mirror.to_str().unwrap(),
    ]);
    let refs = Command::new("git")
        .arg("-C")
        .arg(&mirror)
        .arg("for-each-ref")
        .output()
        .unwrap();
    assert!(
        !transcript(&refs).contains("quire"),
        "{}",
        transcript(&refs)
    );
    for arguments in [
        vec!["fetch", "origin", &hidden],
        vec!["push", "origin", &format!("main:{hidden}")],
        vec!["push", "origin", "main:refs/quire/undo/x"],
        vec!["push", "origin", &format!(":{hidden}")],
    ] {
        let output = tree.git(&arguments);
        assert!(!output.status.success(), "{}", transcript(&output));
    }
    for page in ["/app/-/branches", "/app/-/tags", "/app", "/"] {
        let page = forge.get(page);
        assert_eq!(page.status, 200);
        assert!(!page.body.contains(&kept[..7]), "{}", page.body);
    }
    assert_eq!(forge.get(&format!("/app/-/tree/{hidden}")).status, 404);
    // Nor does the comparison of refs take them for pushes.
    let (runs, rows) = (forge.runs().len(), listed(&forge, "app"));
    let mut forge = forge;
    assert!(forge.stop().success());
    forge.serve();
    forge.wait_for_quiet();
    assert_eq!((forge.runs().len(), listed(&forge, "app")), (runs, rows));
    forge.check_whole();
}

#[test]
fn pushes_while_the_server_is_down_are_undone_later() {
    let mut forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main", "main:topic"]);
    let (first, second) = (tree.commit("first"), tree.commit("second"));
    tree.push(&["main"]);
    tree.push(&[&format!("{first}:topic")]);
    forge.wait_for_quiet();
    assert!(forge.stop().success());
    tree.git_ok(&["reset", "-q", "--hard", "HEAD~2"]);
    tree.commit("other");
    tree.push(&["--force", "main"]);
    tree.push(&["--delete", "topic"]);
    // Until it is recorded, the reflog keeps the one, and a ref that the hook made the other.
    collect_garbage(&forge, "app");
    forge.serve();
    forge.wait_for_empty_spool();
    assert_eq!(listed(&forge, "app").len(), 2);
    forge.ssh_ok("repo undo app main");
    forge.ssh_ok("repo undo app topic");
    assert_eq!(remote(&tree, "refs/heads/main"), Some(second));
    assert_eq!(remote(&tree, "refs/heads/topic"), Some(first));
    forge.wait_for_quiet();
    forge.check_whole();
}

#[test]
fn an_undo_while_the_server_is_down_has_its_run_later() {
    let mut forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main"]);
    let before = tree.push_new("second");
    tree.git_ok(&["reset", "-q", "--hard", "HEAD~1"]);
    tree.push(&["--force", "main"]);
    forge.wait_for_quiet();
    assert!(forge.stop().success());
    let undone = forge.ssh_ok("repo undo app main");
    assert!(undone.contains("a run starts when it is back"), "{undone}");
    assert_eq!(remote(&tree, "refs/heads/main"), Some(before.clone()));
    forge.serve();
    let run = wait_for("its run", || {
        let newest = forge.newest("app");
        (newest.sha.as_str() == before && newest.number == 4).then_some(newest)
    });
    assert_eq!(forge.end_of(run.id).state, RunState::Complete);
    forge.check_whole();
}

#[test]
fn a_push_that_deletes_many_refs_is_kept_in_part() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree("app", "app");
    tree.write("file", "text");
    tree.commit("first");
    tree.push(&["main"]);
    let blob =
        |at: usize| tree.git_with(&["hash-object", "-w", "--stdin"], at.to_string().as_bytes());
    let ids: Vec<String> = (0..3).map(blob).collect();
    let refs: String = (0..1003)
        .map(|at| format!("create refs/tags/t{at:04} {}\n", ids[at % 3]))
        .collect();
    tree.git_with(&["update-ref", "--stdin"], refs.as_bytes());
    tree.push(&["--tags"]);
    let names: Vec<String> = (0..1003).map(|at| format!(":refs/tags/t{at:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let pushed = tree.push(&names);
    assert!(
        pushed.contains(
            "`repo undo app` can bring back 1000 of the 1003 refs that this push overwrote"
        ),
        "{pushed}"
    );
    let list = forge.ssh_ok("repo undo app --limit 2000 --json");
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["overwritten"].as_array().unwrap().len(), 1000);
    assert_eq!(hidden(&forge, "app").len(), 3);
    let shown = forge.ssh_ok("repo undo app");
    assert_eq!(shown.lines().count(), 51, "{shown}");
    forge.check_whole();
}

#[test]
fn what_was_overwritten_is_released_when_its_time_is_over() {
    let mut forge = TestForge::new(QUIRE);
    set_keep(&forge, "undo", "\"2h\"");
    forge.serve();
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main"]);
    let overwrite = |branch: &str| {
        let id = tree.commit(branch);
        let to = format!("HEAD:refs/heads/{branch}");
        tree.push(&[&to]);
        tree.push(&["--delete", branch]);
        id
    };
    let kept = overwrite("topic");
    forge.wait_for_quiet();
    assert_eq!(forge.ssh_ok("gc"), "nothing to remove\n");
    assert!(kept_bytes(&forge, "undo") > 100);
    set_keep(&forge, "undo", "\"1ms\"");
    forge.signal(Signal::SIGHUP);
    let removed = removed_by_gc(&forge);
    assert!(
        removed.starts_with("removed 1 overwritten ref: "),
        "{removed}"
    );
    assert_eq!(
        (hidden(&forge, "app"), kept_bytes(&forge, "undo")),
        (Vec::new(), 0)
    );
    refused(&forge, "repo undo app topic", 3, "nothing to undo");
    collect_garbage(&forge, "app");
    let gone = Command::new("git")
        .arg("--git-dir")
        .arg(forge.paths.repo(&name("app")))
        .args(["cat-file", "-e", &kept])
        .output()
        .unwrap();
    assert!(!gone.status.success(), "its object is still there");
    // Nothing is kept at all.
    set_keep(&forge, "undo", "0");
    forge.signal(Signal::SIGHUP);
    wait_for("nothing to be listed", || {
        overwrite("other");
        listed(&forge, "app").is_empty().then_some(())
    });
    forge.ssh_ok("gc");
    assert_eq!(hidden(&forge, "app"), Vec::<String>::new());
    forge.wait_for_quiet();
    forge.check_whole();
}

#[test]
fn what_was_overwritten_moves_with_its_repository() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main", "main:topic"]);
    tree.push(&["--delete", "topic"]);
    forge.wait_for_quiet();
    let rows = listed(&forge, "app");
    assert_eq!(rows.len(), 1);
    forge.ssh_ok("repo rename app work/shop");
    assert_eq!(listed(&forge, "work/shop"), rows);
    assert_eq!(listed(&forge, "app"), rows, "by the old name");
    forge.ssh_ok("repo rm work/shop --yes");
    refused(&forge, "repo undo work/shop", 3, "is in the trash");
    forge.ssh_ok("repo restore work/shop --as back");
    assert_eq!(listed(&forge, "back"), rows);
    forge.ssh_ok("repo undo back topic");
    forge.wait_for_quiet();
    forge.check_whole();
}

#[test]
fn what_cannot_be_undone_is_said() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main", "main:a"]);
    let second = tree.commit("second");
    tree.push(&["main:a"]);
    tree.push(&["--delete", "a"]);
    tree.push(&["main:a/b"]);
    forge.wait_for_quiet();
    refused(&forge, "repo undo ap", 3, "did you mean `app`?");
    refused(&forge, "repo undo app main", 3, "nothing to undo");
    refused(&forge, "repo undo app a..b", 2, "not a ref name");
    refused(&forge, "repo undo app a --to xyz1", 2, "hexadecimal");
    refused(&forge, "repo undo app a --to 0000000", 3, "was not at");
    // A branch of this name cannot be beside one below it.
    refused(&forge, "repo undo app a", 1, "refs/heads/a");
    assert_eq!(remote(&tree, "refs/heads/a/b"), Some(second));
    // Nothing that failed has left a mark of a push.
    wait_for("the marks to go", || {
        let marks = fs::read_dir(forge.paths.push_marks()).unwrap().count();
        (marks == 0).then_some(())
    });
    forge.wait_for_quiet();
    forge.check_whole();
}
