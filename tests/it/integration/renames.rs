//! A repository gets another name, and the old one leads to it.

use std::fs;

use quire_git::Git;
use quire_testkit::{TestForge, transcript, wait_for};
use quire_types::names::RepoName;
use quire_types::run::RunState;

use crate::QUIRE;

const HELLO: &str = r#"
(local ci (require :quire.ci))
(local night (ci.cron :night "0 3 * * *"))
(ci.job :hello [:quire/push] (fn [{: sh}] (sh "echo hello")))
(ci.job :dark [night] (fn [{: sh}] (sh "echo dark")))
"#;

fn name(text: &str) -> RepoName {
    text.parse().unwrap()
}

fn repos(forge: &TestForge) -> Vec<String> {
    Git::new(&forge.paths)
        .list()
        .unwrap()
        .repos
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// The command, which must be refused with these words.
#[track_caller]
fn refused(forge: &TestForge, command: &str, code: i32, words: &str) {
    let output = forge.ssh(command);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{command}: {}",
        transcript(&output)
    );
    assert!(
        transcript(&output).contains(words),
        "{command}: {}",
        transcript(&output)
    );
}

#[test]
fn a_repository_gets_another_name_with_all_it_has() {
    let mut forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", HELLO);
    tree.push(&["main", "main:refs/tags/v1", "main:side"]);
    forge.wait_for_quiet();
    wait_for("the schedule", || {
        forge
            .ssh_ok("schedule list")
            .contains("night")
            .then_some(())
    });
    let printed: serde_json::Value =
        serde_json::from_str(&forge.ssh_ok("repo rename app work/shop --json")).unwrap();
    assert_eq!(
        printed,
        serde_json::json!({"repos": [{"repo": "work/shop", "former_name": "app"}]})
    );
    assert_eq!(repos(&forge), ["work/shop"]);
    let runs = forge.runs();
    assert!(
        runs.len() == 3
            && runs
                .iter()
                .all(|run| run.repo == name("work/shop") && run.state == RunState::Complete)
    );
    for run in &runs {
        assert!(
            forge
                .ssh_ok(&format!("run logs {}", run.id))
                .contains("\nhello\n")
        );
    }
    assert!(!forge.paths.runs_dir().join("app").exists());
    assert!(forge.ssh_ok("schedule list").contains("work/shop"));

    // The old name: push, fetch, the commands, the web.
    tree.commit("more");
    let pushed = tree.push(&["main"]);
    assert!(
        pushed.contains("quire: app is now work/shop; git remote set-url origin …/work/shop")
            && !pushed.contains("created"),
        "{pushed}"
    );
    assert!(pushed.contains("queued"), "{pushed}");
    tree.git_ok(&["fetch", "-q", "origin"]);
    forge.wait_for_quiet();
    assert_eq!(
        forge.ssh_ok("run list --repo app --json"),
        forge.ssh_ok("run list --repo work/shop --json")
    );
    assert!(
        forge.ssh_ok("repo list").contains("work/shop")
            && !forge.ssh_ok("repo list").contains("app")
    );
    assert_eq!(
        (forge.get("/app").status, forge.get("/work/shop").status),
        (307, 200)
    );
    assert!(!forge.get("/").body.contains("href=\"/app\""));
    tree.git_ok(&["remote", "set-url", "origin", "ssh://git@forge/work/shop"]);
    assert!(!tree.push(&["main:new"]).contains("is now"));
    forge.wait_for_quiet();

    // Nothing old runs again, and nothing is forgotten.
    let before = forge.runs().len();
    assert!(forge.stop().success());
    forge.serve();
    forge.wait_for_quiet();
    assert_eq!(forge.runs().len(), before);
    forge.check_whole();
}

#[test]
fn there_and_back_and_on() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("a", HELLO);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    for (from, to) in [
        ("a", "b"),
        ("b", "c"),
        ("c", "g/d"),
        ("g/d", "g/e"),
        ("g/e", "a"),
        ("a", "b"),
    ] {
        forge.ssh_ok(&format!("repo rename {from} {to}"));
        assert_eq!(repos(&forge), [to]);
        tree.commit(to);
        let pushed = tree.push(&["main"]);
        assert_eq!(
            pushed.contains(&format!("a is now {to};")),
            to != "a",
            "{pushed}"
        );
        assert_eq!(forge.newest(to).repo, name(to));
    }
    forge.wait_for_quiet();
    assert_eq!(forge.runs_of("b").len(), 7);
    let former = forge.store().redirects().list().unwrap();
    assert_eq!(
        former
            .iter()
            .map(|former| former.name.as_str())
            .collect::<Vec<_>>(),
        ["a", "c", "g/d", "g/e"]
    );
    assert!(
        former
            .iter()
            .all(|former| former.repo == name("b") && !former.moving)
    );
    wait_for("the links to go", || {
        forge
            .store()
            .redirects()
            .stale_links()
            .unwrap()
            .is_empty()
            .then_some(())
    });
    let folders: Vec<_> = fs::read_dir(forge.paths.runs_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(folders, ["b"]);
    // A former name in the middle is taken; those before it lead on.
    assert!(
        forge
            .ssh_ok("repo new c")
            .contains("no longer redirects to b")
    );
    assert_eq!(repos(&forge), ["b", "c"]);
    for old in ["a", "g/d", "g/e"] {
        assert_eq!(
            Git::new(&forge.paths).resolve(&name(old)),
            name("b"),
            "{old}"
        );
    }
    let other = forge.tree("other", "c");
    other.write(".quire/ci.fnl", HELLO);
    other.commit("first");
    assert!(!other.push(&["main"]).contains("is now"));
    assert_eq!(forge.runs_of("c").len(), 1);
    // Another repository takes a former name by being renamed.
    forge.ssh_ok("repo rename c a");
    assert_eq!(repos(&forge), ["a", "b"]);
    assert_eq!((forge.runs_of("a").len(), forge.runs_of("b").len()), (1, 7));
    // With the repository its former names go.
    forge.wait_for_quiet();
    forge.ssh_ok("repo rm b --yes");
    assert!(!forge.paths.repos().join("g").exists());
    assert!(
        tree_is_free(&forge, "g/d")
            && forge
                .store()
                .redirects()
                .list()
                .unwrap()
                .iter()
                .all(|former| former.repo == name("a"))
    );
    forge.wait_for_quiet();
    forge.check_whole();
}

fn tree_is_free(forge: &TestForge, repo: &str) -> bool {
    forge.paths.repo(&name(repo)).symlink_metadata().is_err()
}

#[test]
fn what_is_refused_changes_nothing() {
    let forge = TestForge::start(QUIRE);
    forge.ssh_ok("repo new app");
    forge.ssh_ok("repo new shop");
    refused(
        &forge,
        "repo rename app app",
        1,
        "already has the name `app`",
    );
    refused(
        &forge,
        "repo rename app shop",
        1,
        "the repository `shop` exists already",
    );
    refused(&forge, "repo rename ap other", 3, "did you mean `app`?");
    refused(&forge, "repo rename app ../x", 2, "not a repository name");
    refused(&forge, "repo rename app", 2, "NEW");
    let old = forge
        .paths
        .run_dir(&name("left"), quire_types::names::RunId::new());
    fs::create_dir_all(&old).unwrap();
    refused(
        &forge,
        "repo rename app left",
        1,
        "`repo rm left --yes` removes them",
    );
    forge.ssh_ok("repo rm left --yes");
    forge.ssh_ok("repo rename app left");
    refused(&forge, "repo rename app again", 1, "`app` is now `left`");
    refused(&forge, "repo rm app --yes", 1, "`app` is now `left`");
    assert_eq!(repos(&forge), ["left", "shop"]);
    assert!(
        forge
            .store()
            .redirects()
            .list()
            .unwrap()
            .iter()
            .all(|former| !former.moving)
    );
}

#[test]
fn a_group_of_the_same_name_keeps_what_is_its_own() {
    let forge = TestForge::start(QUIRE);
    let (tree, other) = (
        forge.tree_with("work", HELLO),
        forge.tree("inner", "work/app"),
    );
    other.write(".quire/ci.fnl", HELLO);
    other.commit("first");
    tree.push(&["main"]);
    other.push(&["main"]);
    forge.wait_for_quiet();
    forge.ssh_ok("repo rename work play");
    let has_log = |repo: &str| {
        forge
            .ssh_ok(&format!("run logs {}", forge.newest(repo).id))
            .contains("\nhello\n")
    };
    assert!(has_log("play") && has_log("work/app"));
    // Nor does its removal take them.
    forge.ssh_ok("repo rename play work");
    forge.ssh_ok("repo rm work --yes");
    assert!(has_log("work/app"));
    forge.check_whole();
}
