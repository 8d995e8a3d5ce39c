//! Pull mirrors: from what changes on another machine to a repository that follows it.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use quire_testkit::{SshForge, TestForge, git_in, own, transcript, wait_for};
use serde_json::{Value, json};

use super::GREEN;
use super::imports::{forge, nas};

/// A forge and a repository on another machine with a tree that is pushed to it.
struct Pair {
    forge: TestForge,
    nas: SshForge,
    bare: PathBuf,
    tree: PathBuf,
}

impl Pair {
    /// The forge has not been started.
    fn new() -> Self {
        let forge = forge();
        let nas = nas(&forge);
        let tree = nas.tree("tree", "shop");
        fs::create_dir_all(tree.join(".quire")).unwrap();
        fs::write(tree.join(".quire/ci.fnl"), GREEN).unwrap();
        nas.commit(&tree, "second");
        let bare = nas.paths.repos().join("shop.git");
        let pair = Self {
            forge,
            nas,
            bare,
            tree,
        };
        pair.push(&[
            "main",
            "main:refs/heads/side",
            "main:refs/heads/old",
            "main:refs/tags/v1",
        ]);
        pair
    }

    fn push(&self, refspecs: &[&str]) {
        let arguments = [&["push", "-q", "origin"], refspecs].concat();
        self.nas.git_ok(&self.tree, &arguments);
    }

    fn import(&self, options: &str) -> String {
        let url = self.nas.url("shop");
        self.forge
            .ssh_ok(&format!("repo import {url} --mirror {options}"))
    }

    fn sync(&self, repo: &str) {
        assert_eq!(
            self.forge.ssh_ok(&format!("mirror sync {repo}")),
            "origin: in sync\n"
        );
    }

    fn mirror(&self) -> Value {
        let list: Value = serde_json::from_str(&self.forge.ssh_ok("mirror list --json")).unwrap();
        list["mirrors"][0].clone()
    }

    #[track_caller]
    fn wait_for_state(&self, state: &str) -> Value {
        wait_for(&format!("the mirror to be {state}"), || {
            let mirror = self.mirror();
            (mirror["state"] == state).then_some(mirror)
        })
    }

    /// Whether the refs here are those there.
    #[track_caller]
    fn assert_equal(&self, repo: &str) {
        let here = self.forge.paths.repos().join(format!("{repo}.git"));
        assert_eq!(refs(&here), refs(&self.bare));
    }
}

/// The branches and tags of a bare repository, and its default branch.
fn refs(bare: &Path) -> String {
    let format = "--format=%(refname) %(objectname)";
    let refs = git_in(bare, &["for-each-ref", format, "refs/heads", "refs/tags"]);
    format!("{refs}\n{}", git_in(bare, &["symbolic-ref", "HEAD"]))
}

#[track_caller]
fn refused(forge: &TestForge, command: &str, words: &str) {
    let output = forge.ssh(command);
    let text = transcript(&output);
    assert!(
        !output.status.success() && text.contains(words),
        "{command}: {text}"
    );
}

#[test]
fn a_mirror_follows_what_changes_there() {
    let mut pair = Pair::new();
    pair.forge.serve();
    let text = pair.import("--runs --every 1d");
    assert!(
        text.contains("shop follows it: it is fetched every 1 d") || text.contains("every 24 h"),
        "{text}"
    );
    pair.assert_equal("shop");
    let mirror = pair.mirror();
    assert_eq!(
        [
            &mirror["name"],
            &mirror["direction"],
            &mirror["state"],
            &mirror["refs_in_sync"]
        ],
        [
            &json!("origin"),
            &json!("pull"),
            &json!("in-sync"),
            &json!(4)
        ]
    );
    assert!(mirror["host_key"].is_string());
    assert_eq!(pair.forge.runs().len(), 0, "an import starts none");
    // A new commit, a forced update, a deletion, a new branch below the name of the one that is deleted.
    let commit = pair.nas.commit(&pair.tree, "third");
    pair.push(&["main", "+main~1:side", ":old"]);
    git_in(&pair.tree, &["commit", "-q", "--amend", "-m", "other"]);
    pair.push(&["+HEAD:side", "HEAD~2:refs/heads/old/er"]);
    pair.sync("shop");
    pair.assert_equal("shop");
    pair.forge.wait_for_quiet();
    let newest = pair.forge.runs_of("shop");
    let mut made: Vec<_> = newest.iter().map(|run| run.ref_name.short()).collect();
    made.sort_unstable();
    assert_eq!(made, ["main", "side"], "those that have a pipeline");
    assert!(
        newest
            .iter()
            .all(|run| run.pusher.as_deref() == Some("mirror origin"))
    );
    assert_eq!(
        newest
            .iter()
            .filter(|run| run.sha.as_str() == commit)
            .count(),
        1
    );
    let overwritten = pair.forge.ssh_ok("repo undo shop");
    assert!(overwritten.contains("old"), "{overwritten}");
    let log: Value = serde_json::from_str(&pair.forge.ssh_ok("log --json --repo shop")).unwrap();
    let of_mirror = &log["operations"][0];
    assert_eq!(
        (&of_mirror["actor"], &of_mirror["kind"]),
        (&json!("mirror origin"), &json!("push")),
        "{log}"
    );
    // The default branch is followed as well.
    git_in(&pair.bare, &["symbolic-ref", "HEAD", "refs/heads/side"]);
    own(&pair.bare);
    pair.push(&[":main"]);
    pair.sync("shop");
    pair.assert_equal("shop");
    // One that is empty all of a sudden does not empty the mirror.
    let before = refs(&pair.forge.paths.repos().join("shop.git"));
    fs::rename(&pair.bare, pair.bare.with_extension("away")).unwrap();
    pair.nas.bare("shop");
    pair.sync("shop");
    assert_eq!(refs(&pair.forge.paths.repos().join("shop.git")), before);
    let page = pair.forge.get("/shop").body;
    assert!(
        page.contains("<h2>Mirrors</h2>") && page.contains("origin"),
        "{page}"
    );
    pair.forge.check_whole();
}

#[test]
fn a_mirror_takes_no_pushes_until_it_is_stopped() {
    let mut pair = Pair::new();
    pair.forge.serve();
    pair.import("");
    let mine = pair.forge.tree_with("shop", GREEN);
    let words = format!(
        "`shop` is a mirror of {}, so nothing can be pushed to it; `mirror stop shop` makes it an ordinary repository",
        pair.nas.url("shop")
    );
    let push = |name: &str| {
        let url = format!("ssh://git@forge/{name}");
        transcript(&mine.git(&["push", &url, "main:mine"]))
    };
    assert!(push("shop").contains(&words), "{}", push("shop"));
    assert!(
        transcript(&mine.git(&["push", "origin", "main:refs/for-green/main"])).contains(&words)
    );
    // It stays a mirror under another name, and when it is restored.
    pair.forge.ssh_ok("repo rename shop work/store");
    assert!(push("work/store").contains("is a mirror of"));
    pair.nas.commit(&pair.tree, "third");
    pair.push(&["main"]);
    pair.sync("work/store");
    pair.assert_equal("work/store");
    pair.forge.ssh_ok("repo rm work/store --yes");
    assert_eq!(pair.forge.ssh_ok("mirror list"), "no mirrors\n");
    pair.forge.ssh_ok("repo restore work/store");
    pair.nas.commit(&pair.tree, "fourth");
    pair.push(&["main"]);
    pair.sync("work/store");
    pair.assert_equal("work/store");
    // What it fetched has no runs unless they were asked for, and what a crash left unrecorded neither.
    pair.forge.wait_for_quiet();
    assert_eq!(pair.forge.runs().len(), 0);
    let stopped = pair.forge.ssh_ok("mirror stop work/store");
    assert!(stopped.contains("no longer, and takes pushes"), "{stopped}");
    assert!(!push("work/store").contains("is a mirror of"));
    refused(
        &pair.forge,
        "mirror stop work/store",
        "is no mirror of another repository",
    );
    refused(
        &pair.forge,
        "mirror sync work/store",
        "follows no other repository",
    );
    assert_eq!(pair.forge.ssh_ok("mirror list"), "no mirrors\n");
    pair.forge.wait_for_quiet();
    assert_eq!(pair.forge.runs().len(), 1);
    let log: Value = serde_json::from_str(&pair.forge.ssh_ok("log --json")).unwrap();
    let stop = log["operations"].as_array().unwrap().iter();
    let stop = stop
        .filter(|one| one["kind"] == "mirror-stop")
        .collect::<Vec<_>>();
    let id = &stop[0]["id"];
    refused(
        &pair.forge,
        &format!("undo {id}"),
        "what was pushed since would be overwritten",
    );
}

#[test]
fn a_mirror_is_fetched_in_time_and_says_what_keeps_it() {
    let mut pair = Pair::new();
    let clock = pair.forge.file("clock");
    fs::write(&clock, "0").unwrap();
    pair.forge
        .set("QUIRE_FAULT_CLOCK", clock.to_str().unwrap())
        .serve();
    pair.import("--every 10m");
    pair.nas.commit(&pair.tree, "third");
    pair.push(&["main"]);
    fs::write(&clock, "700000").unwrap();
    // Its worker looks at the clock twice a minute, or if the configuration is loaded.
    pair.forge.signal(Signal::SIGHUP);
    wait_for("the fetch", || {
        let here = pair.forge.paths.repos().join("shop.git");
        (refs(&here) == refs(&pair.bare)).then_some(())
    });
    // Another host key is a finding at once.
    pair.nas.stop();
    pair.nas.replace_host_key();
    pair.nas.start_again();
    refused(
        &pair.forge,
        "mirror sync shop",
        "another host key than before",
    );
    let failing = pair.wait_for_state("failing");
    assert_eq!(failing["failure"], "host-key");
    let status = transcript(&pair.forge.ssh("status"));
    assert!(
        status.contains("shop, a mirror of ssh://") && status.contains("not in sync"),
        "{status}"
    );
    assert_eq!(
        pair.forge.ssh_ok("mirror sync shop origin --new-host-key"),
        "origin: in sync\n"
    );
    // A mirror of the configuration cannot have the name.
    let text = format!(
        "{{:mirrors {{:repos {{:shop {{:origin {{:url \"{}\"}}}}}}}}}}",
        pair.nas.url("x")
    );
    fs::write(pair.forge.paths.config_fennel(), text).unwrap();
    pair.forge.ssh_ok("reload");
    wait_for("the finding", || {
        let status = transcript(&pair.forge.ssh("status"));
        status
            .contains("the repository follows another one under this name")
            .then_some(())
    });
    pair.sync("shop");
    // A removal is the undo of an import also after later fetches.
    let log: Value = serde_json::from_str(&pair.forge.ssh_ok("log --json --repo shop")).unwrap();
    let operations = log["operations"].as_array().unwrap().iter();
    let import = operations
        .filter(|one| one["kind"] == "repo-import")
        .collect::<Vec<_>>();
    assert_eq!(import[0]["mirror"], json!(true));
    let id = &import[0]["id"];
    pair.forge.ssh_ok(&format!("undo {id}"));
    assert!(pair.forge.ssh_ok("repo list --trash").contains("shop"));
}

#[test]
fn a_mirror_is_changed_in_place_and_changed_back() {
    let mut pair = Pair::new();
    pair.forge.serve();
    pair.import("--every 1d");
    let set = |arguments: &str| -> Value {
        let command = format!("mirror set shop {arguments} --json");
        serde_json::from_str(&pair.forge.ssh_ok(&command)).unwrap()
    };
    let url = pair.nas.url("shop");
    assert_eq!(
        set("--every 2h --runs"),
        json!({"repo": "shop", "url": url, "every_ms": 7_200_000, "user": null, "secret": null, "runs": true})
    );
    // What is not named stays.
    assert_eq!(set("--every 3h")["runs"], json!(true));
    pair.nas.commit(&pair.tree, "third");
    pair.push(&["main"]);
    pair.sync("shop");
    pair.assert_equal("shop");
    pair.forge.wait_for_quiet();
    assert_eq!(pair.forge.runs().len(), 1);
    let log: Value = serde_json::from_str(&pair.forge.ssh_ok("log --json --repo shop")).unwrap();
    let operations = log["operations"].as_array().unwrap().iter();
    let changes: Vec<_> = operations
        .filter(|one| one["kind"] == "mirror-set")
        .collect();
    let [newest, first] = [0, 1].map(|at| changes[at]["id"].to_string());
    refused(
        &pair.forge,
        &format!("undo {first}"),
        "the mirror was changed again since",
    );
    pair.forge.ssh_ok(&format!("undo {newest}"));
    pair.forge.ssh_ok(&format!("undo {first}"));
    let text = pair.forge.ssh_ok("mirror set shop --every 1d");
    assert!(
        text.contains("every 24 h") || text.contains("every 1 d"),
        "{text}"
    );
    assert!(text.ends_with("without a secret, without runs\n"), "{text}");
    let runs = pair.forge.runs().len();
    pair.nas.commit(&pair.tree, "fourth");
    pair.push(&["main"]);
    pair.sync("shop");
    pair.forge.wait_for_quiet();
    assert_eq!(pair.forge.runs().len(), runs);
    refused(
        &pair.forge,
        "mirror set shop --secret token",
        "a secret is for HTTPS",
    );
    assert_eq!(pair.forge.ssh("mirror set shop").status.code(), Some(2));
    assert_eq!(
        pair.forge.ssh("mirror set shop --every 5s").status.code(),
        Some(2)
    );
    pair.forge.ssh_ok("mirror stop shop");
    refused(
        &pair.forge,
        "mirror set shop --runs",
        "is no mirror of another repository",
    );
}

#[test]
fn a_protected_ref_does_not_follow_what_loses_commits() {
    let mut pair = Pair::new();
    pair.forge.serve();
    pair.import("--every 1d");
    for pattern in ["main", "old", "refs/tags/*"] {
        pair.forge.ssh_ok(&format!("repo protect shop '{pattern}'"));
    }
    let here = pair.forge.paths.repos().join("shop.git");
    let kept = git_in(&here, &["rev-parse", "main", "old", "v1"]);
    // The other side replaces one branch, deletes another, moves a tag, and adds to a third.
    pair.nas
        .git_ok(&pair.tree, &["checkout", "-q", "--detach", "main~1"]);
    let other = pair.nas.commit(&pair.tree, "another second");
    let (to_main, to_tag) = (
        format!("+{other}:refs/heads/main"),
        format!("+{other}:refs/tags/v1"),
    );
    let new = pair.nas.git_ok(&pair.tree, &["rev-parse", "main"]);
    pair.push(&[
        &to_main,
        &to_tag,
        ":old",
        &format!("{new}:refs/heads/new"),
        "+main~1:refs/heads/side",
    ]);
    let output = pair.forge.ssh("mirror sync shop");
    let text = transcript(&output);
    assert!(
        text.contains("main is protected by the pattern `main` and cannot be moved by force, as the other side did; `repo unprotect shop main` lets it follow"),
        "{text}"
    );
    // What they kept is there, and the others followed.
    assert_eq!(git_in(&here, &["rev-parse", "main", "old", "v1"]), kept);
    let side = git_in(&here, &["rev-parse", "side"]);
    assert_eq!(side, git_in(&pair.bare, &["rev-parse", "side"]));
    assert_eq!(git_in(&here, &["rev-parse", "new"]), new);
    let mirror = pair.mirror();
    assert_eq!(mirror["refs_in_sync"], json!(2), "{mirror}");
    assert!(
        mirror["problem"].to_string().contains("main is protected"),
        "{mirror}"
    );
    for pattern in ["main", "old", "refs/tags/*"] {
        pair.forge
            .ssh_ok(&format!("repo unprotect shop '{pattern}'"));
    }
    pair.sync("shop");
    pair.assert_equal("shop");
    pair.forge.wait_for_quiet();
    pair.forge.check_whole();
}
