//! Imports: from a repository on another machine to one of the forge.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use quire_testkit::{
    CertificateAuthority, GitHttpServer, SshForge, TestForge, git_in, own, run_ok, stderr,
    transcript, wait_for,
};
use serde_json::{Value, json};

use super::GREEN;
use crate::QUIRE;

const TOKEN: &str = "glpat-hunter2-and-more";

/// A forge that may connect to loopback, not started.
pub(super) fn forge() -> TestForge {
    let mut forge = TestForge::new(QUIRE);
    forge.set("QUIRE_MIRRORS_ALLOWED_NETWORKS", "127.0.0.1");
    forge
}

/// A plain sshd with git, which knows the key of the forge.
pub(super) fn nas(forge: &TestForge) -> SshForge {
    let nas = TestForge::new(QUIRE).plain_sshd();
    nas.allow(forge.ssh_ok("mirror key").trim());
    nas
}

/// The refs of a bare repository, and what its `HEAD` names.
fn refs(bare: &Path) -> Vec<String> {
    let format = "--format=%(refname) %(objectname)";
    let mut refs: Vec<String> = git_in(bare, &["for-each-ref", format])
        .lines()
        .map(str::to_owned)
        .collect();
    refs.push(git_in(bare, &["symbolic-ref", "HEAD"]));
    refs
}

/// A tree with commits on `trunk` and `side`, a branch that is no default, tags, and refs that are neither.
fn history(folder: &Path, extra: &[&str]) -> PathBuf {
    let tree = folder.join("history");
    fs::create_dir_all(tree.join(".quire")).unwrap();
    let init = [&["init", "-q", "-b", "trunk"], extra].concat();
    git_in(&tree, &init);
    fs::write(tree.join(".quire/ci.fnl"), GREEN).unwrap();
    fs::write(tree.join(".gitattributes"), "*.bin filter=lfs\n").unwrap();
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 7\n",
        "7".repeat(64)
    );
    fs::write(tree.join("logo.bin"), pointer).unwrap();
    for (message, branch) in [
        ("First", "trunk"),
        ("Second", "trunk"),
        ("Third", "side/ü'x"),
    ] {
        git_in(&tree, &["checkout", "-q", "-B", branch]);
        fs::write(tree.join("file"), message).unwrap();
        git_in(&tree, &["add", "-A"]);
        git_in(&tree, &["commit", "-q", "-m", message]);
    }
    git_in(&tree, &["tag", "-a", "-m", "One", "v1", "trunk~1"]);
    git_in(&tree, &["tag", "v2", "trunk"]);
    for other in [
        "refs/pull/1/head",
        "refs/pull/1/merge",
        "refs/notes/commits",
    ] {
        git_in(&tree, &["update-ref", other, "trunk"]);
    }
    git_in(&tree, &["checkout", "-q", "trunk"]);
    tree
}

/// Pushes to a bare repository of a server.
pub(super) fn push_into(tree: &Path, bare: &Path, refspecs: &[&str]) {
    let receive = "--receive-pack=git -c safe.directory=* receive-pack";
    let arguments = [&["push", "-q", receive, bare.to_str().unwrap()], refspecs].concat();
    git_in(tree, &arguments);
    own(bare);
}

/// Pushes everything of a tree to a bare repository.
fn fill(tree: &Path, bare: &Path, refspecs: &[&str]) {
    push_into(tree, bare, refspecs);
    git_in(bare, &["symbolic-ref", "HEAD", "refs/heads/trunk"]);
    own(bare);
}

fn json_of(forge: &TestForge, command: &str) -> Value {
    serde_json::from_str(&forge.ssh_ok(command)).unwrap()
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

/// The names of all repositories.
fn repos(forge: &TestForge) -> Vec<String> {
    let list = json_of(forge, "repo list --json");
    let repos = list["repos"].as_array().unwrap().iter();
    repos
        .map(|repo| repo["repo"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_repository_is_imported_over_ssh_without_runs() {
    let mut forge = forge();
    let nas = nas(&forge);
    forge.serve();
    let bare = nas.bare("shop");
    let tree = history(&nas.file(""), &[]);
    fill(&tree, &bare, &["refs/*:refs/*"]);
    let url = nas.url("shop");
    let output = forge.ssh(&format!("repo import {url}"));
    let text = transcript(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        stderr(&output).contains("remote: Enumerating objects:"),
        "{text}"
    );
    for words in [
        &format!("imported shop from {url}: 2 branches, 2 tags, "),
        "the default branch is trunk; no run was started",
        "not fetched: 1 ref in refs/notes",
        "not fetched: 2 refs in refs/pull",
        "not fetched: objects of Git LFS: the other side has no Git LFS (",
        "`git lfs push --all` from a clone that has them sends them to shop",
        "was not known, and was accepted: SHA256:",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let imported = forge.paths.repos().join("shop.git");
    let mut wanted = refs(&bare);
    wanted.retain(|line| !line.starts_with("refs/pull") && !line.starts_with("refs/notes"));
    assert_eq!(refs(&imported), wanted);
    assert!(!imported.join("quire-import").exists());
    git_in(&imported, &["fsck", "--strict"]);
    // It is recorded once, and its refs are known: what is pushed next is one change, with one run.
    let log = json_of(&forge, "log --json");
    let operations = log["operations"].as_array().unwrap();
    assert_eq!(operations.len(), 1, "{log}");
    assert_eq!(
        (
            &operations[0]["kind"],
            &operations[0]["url"],
            &operations[0]["state"]
        ),
        (&json!("repo-import"), &json!(url), &json!("done"))
    );
    assert_eq!(forge.runs_of("shop").len(), 0);
    git_in(&tree, &["commit", "-q", "--allow-empty", "-m", "Fourth"]);
    let client = forge.tree("client-of-shop", "shop");
    client.git_ok(&["pull", "-q", tree.to_str().unwrap(), "trunk"]);
    client.push(&["HEAD:trunk"]);
    forge.wait_for_quiet();
    assert_eq!(forge.runs_of("shop").len(), 1);
    // What is there already is not imported over.
    refused(
        &forge,
        &format!("repo import {url}"),
        "the repository `shop` exists already",
    );
    let again = json_of(&forge, &format!("repo import {url} work/shop --json"));
    let again = &again["repos"][0];
    assert_eq!(
        (
            &again["repo"],
            &again["branches"],
            &again["default_branch"],
            &again["uses_lfs"]
        ),
        (
            &json!("work/shop"),
            &json!(2),
            &json!("trunk"),
            &json!(true)
        )
    );
    assert_eq!(
        again["left_out"][1],
        json!({"refs": "refs/pull", "count": 2})
    );
}

#[test]
fn https_takes_a_secret_and_nobody_sees_it() {
    let authority = CertificateAuthority::new();
    let server = GitHttpServer::start(&authority.certificate("127.0.0.1"), "me", TOKEN);
    let folder = tempfile::tempdir().unwrap();
    let tree = history(folder.path(), &[]);
    for name in ["app.git", "public/app.git"] {
        fill(&tree, &server.repo(name), &["trunk"]);
    }
    let mut forge = forge();
    forge.set("SSL_CERT_FILE", authority.file().to_str().unwrap());
    forge.set("CONFIGURED", TOKEN);
    let text = "{:secrets {:configured {:env \"CONFIGURED\"}}}";
    fs::write(forge.paths.config_fennel(), text).unwrap();
    forge.serve();
    let set = |name: &str, value: &str| {
        let output = forge.ssh_with(&format!("secret set {name} --repo none"), value.as_bytes());
        assert!(output.status.success(), "{}", transcript(&output));
    };
    set("token", TOKEN);
    set("stale", "glpat-old-and-dead");
    let url = server.url("app.git");
    forge.ssh_ok(&format!(
        "repo import {} open",
        server.url("public/app.git")
    ));
    let failures = [
        format!("{url} a"),
        format!("{url} a --secret stale --user me"),
        format!("{url} a --secret token"),
        format!("{url} a --secret missing"),
        format!("{} a --secret token --user me", server.url("moved/app.git")),
        format!("{} a --secret token --user me", server.url("none.git")),
        "ssh://git@127.0.0.1:1/app a --secret token".to_owned(),
    ];
    let failures = failures.map(|arguments| {
        let output = forge.ssh(&format!("repo import {arguments}"));
        assert!(!output.status.success());
        stderr(&output)
    });
    let failures = failures.concat().replace(&server.port.to_string(), "PORT");
    insta::assert_snapshot!(failures);
    assert_eq!(repos(&forge), ["open"]);
    for (name, secret) in [("a", "token"), ("b", "configured")] {
        forge.ssh_ok(&format!(
            "repo import {url} {name} --secret {secret} --user me"
        ));
        assert_eq!(
            refs(&forge.paths.repos().join(format!("{name}.git"))).len(),
            2
        );
    }
    for request in server.requests() {
        assert_eq!(request["seen"], json!([]), "{request}");
        let moved = request["path"].as_str().unwrap().starts_with("/moved/");
        assert!(!moved || request["login"] == "none", "{request}");
    }
    for text in [forge.log(), forge.ssh_ok("log --json"), failures] {
        assert!(
            !text.contains(TOKEN) && !text.contains("glpat-old"),
            "{text}"
        );
    }
}

#[test]
fn what_cannot_be_imported_leaves_nothing() {
    let mut forge = forge();
    let nas = nas(&forge);
    forge.serve();
    let bare = nas.bare("shop");
    fill(&history(&nas.file(""), &[]), &bare, &["trunk"]);
    let url = nas.url("shop");
    fs::create_dir_all(nas.paths.repos().join("nothing.git")).unwrap();
    refused(
        &forge,
        &format!("repo import {} a", nas.url("nothing")),
        "does not show it to this key",
    );
    refused(
        &forge,
        "repo import ssh://git@127.0.0.1:1/app a",
        "Connection refused",
    );
    for bad in [
        "http://127.0.0.1/app",
        "/srv/app.git",
        "file:///srv/app",
        "https://me:pw@h/app",
        "ext::sh",
    ] {
        refused(
            &forge,
            &format!("repo import {bad} a"),
            "not an address such as",
        );
    }
    refused(&forge, &format!("repo import {url} ../a"), "name");
    refused(
        &forge,
        "repo import git@127.0.0.1:x/-y.git",
        "`repo import URL NAME`",
    );
    refused(&forge, &format!("repo import {url} --user me"), "--secret");
    // A history that does not pass the checks of a push.
    let bad = nas.bare("bad");
    let blob = git_in(&bad, &["hash-object", "-w", "--stdin"]);
    let path = bad.join("tree");
    fs::write(&path, format!("100644 blob {blob}\t.git\n")).unwrap();
    let script = format!(
        "git -c safe.directory='*' --git-dir {0} mktree < {0}/tree",
        bad.display()
    );
    let made = run_ok(Command::new("sh").args(["-c", &script]));
    let commit = git_in(&bad, &["commit-tree", "-m", "bad", made.trim()]);
    git_in(&bad, &["update-ref", "refs/heads/main", &commit]);
    own(&bad);
    refused(
        &forge,
        &format!("repo import {} a", nas.url("bad")),
        "hasDotgit",
    );
    // One that is larger than a push may be.
    fs::write(forge.paths.git_limits(), "100").unwrap();
    refused(
        &forge,
        &format!("repo import {url} a"),
        "larger than 100 B, which `git.max-push` permits",
    );
    fs::write(forge.paths.git_limits(), "0").unwrap();
    fs::write(forge.paths.min_free(), (u64::MAX / 2).to_string()).unwrap();
    refused(
        &forge,
        &format!("repo import {url} a"),
        "the disk is nearly full",
    );
    fs::write(forge.paths.min_free(), "0").unwrap();
    assert!(repos(&forge).is_empty());
    // The name is that of another repository since a rename.
    forge.ssh_ok(&format!("repo import {url}"));
    forge.ssh_ok("repo rename shop store");
    refused(
        &forge,
        &format!("repo import {url}"),
        "`shop` redirects to `store`",
    );
    // An import is undone as a new repository is, unless pushes followed.
    let log = json_of(&forge, "log --json --repo store");
    let import = log["operations"].as_array().unwrap().last().unwrap()["id"].clone();
    forge.ssh_ok("repo rename store shop");
    forge.ssh_ok(&format!("undo {import}"));
    assert!(repos(&forge).is_empty());
    forge.ssh_ok("repo restore shop");
    forge.unset("QUIRE_MIRRORS_ALLOWED_NETWORKS");
    forge.stop();
    forge.serve();
    refused(
        &forge,
        &format!("repo import {url} b"),
        "allowed-networks [\"127.0.0.1\"]",
    );
}

#[test]
fn repositories_without_commits_branches_or_sha_1() {
    let mut forge = forge();
    let nas = nas(&forge);
    forge.serve();
    let import = |name: &str| {
        let imported = json_of(&forge, &format!("repo import {} --json", nas.url(name)));
        imported["repos"][0].clone()
    };
    let folder = |name: &str| forge.paths.repos().join(format!("{name}.git"));
    nas.bare("empty");
    let empty = import("empty");
    assert_eq!(
        (&empty["branches"], &empty["default_branch"]),
        (&json!(0), &Value::Null)
    );
    assert_eq!(refs(&folder("empty")), ["refs/heads/main"]);
    let tree = history(&nas.file(""), &[]);
    let bare = nas.bare("tags");
    fill(&tree, &bare, &["refs/tags/*:refs/tags/*"]);
    let tags = import("tags");
    assert_eq!(
        (&tags["tags"], &tags["default_branch"]),
        (&json!(2), &Value::Null)
    );
    assert_eq!(refs(&folder("tags")).len(), 3);
    // HEAD of the other side names no branch: the branch at its commit is meant.
    let bare = nas.bare("detached");
    fill(
        &tree,
        &bare,
        &[
            "trunk:refs/heads/main",
            "side/ü'x:refs/heads/side",
            "trunk~1:refs/heads/old",
        ],
    );
    git_in(
        &bare,
        &["update-ref", "--no-deref", "HEAD", "refs/heads/side"],
    );
    own(&bare);
    assert_eq!(import("detached")["default_branch"], "side");
    assert_eq!(
        git_in(&folder("detached"), &["symbolic-ref", "HEAD"]),
        "refs/heads/side"
    );
    let other = nas.file("sha256");
    let tree = history(&other, &["--object-format=sha256"]);
    let bare = nas.paths.repos().join("sha256.git");
    let path = bare.to_str().unwrap();
    git_in(
        &other,
        &["init", "-q", "--bare", "--object-format=sha256", path],
    );
    fill(&tree, &bare, &["trunk", "v1"]);
    assert_eq!(import("sha256")["tags"], 1);
    assert_eq!(refs(&folder("sha256")), refs(&bare));
    forge.wait_for_quiet();
    assert_eq!(forge.runs().len(), 0);
}

#[test]
fn a_name_that_is_being_imported_is_taken_until_the_client_leaves() {
    let authority = CertificateAuthority::new();
    let server = GitHttpServer::start(&authority.certificate("127.0.0.1"), "me", TOKEN);
    let folder = tempfile::tempdir().unwrap();
    let tree = history(folder.path(), &[]);
    fill(&tree, &server.repo("stuck/app.git"), &["trunk"]);
    let mut forge = forge();
    forge.set("SSL_CERT_FILE", authority.file().to_str().unwrap());
    forge.serve();
    let output = forge.ssh_with("secret set token", TOKEN.as_bytes());
    assert!(output.status.success(), "{}", transcript(&output));
    let command = format!(
        "repo import {} app --secret token --user me",
        server.url("stuck/app.git")
    );
    let mut client = Command::new(forge.file("client/ssh"))
        .arg(&command)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the fetch", || {
        // The first one lists the refs, the third one fetches.
        let requests = server.requests();
        let posts = requests.iter().filter(|one| one["method"] == "POST");
        (posts.count() > 2).then_some(())
    });
    refused(
        &forge,
        "repo new app",
        "`app` is being imported at this moment",
    );
    refused(&forge, &command, "another import of `app` is under way");
    let mine = forge.tree_with("app", GREEN);
    let push = mine.git(&["push", "origin", "main"]);
    let text = transcript(&push);
    assert!(
        text.contains("`app` is being imported at this moment; push once that has ended"),
        "{text}"
    );
    assert!(repos(&forge).is_empty());
    client.kill().unwrap();
    client.wait().unwrap();
    // The server ends git, and the name is free.
    wait_for("the push", || {
        mine.git(&["push", "origin", "main"])
            .status
            .success()
            .then_some(())
    });
    assert_eq!(repos(&forge), ["app"]);
}
