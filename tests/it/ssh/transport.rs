//! Push, clone, fetch, archive.

use std::fs;
use std::process::Stdio;

use quire_testkit::{SshForge, TestForge, stderr, stdout, transcript};

use crate::QUIRE;

/// What any git server must do.
fn basics(forge: &SshForge) {
    let tree = forge.tree("work", "group/app");
    let pushed = forge.git(&tree, &["push", "-q", "origin", "main"]);
    assert!(
        pushed.status.success(),
        "{}\n{}",
        transcript(&pushed),
        forge.log()
    );
    assert_eq!(
        stderr(&pushed).contains("quire: created repository group/app"),
        !forge.is_plain,
        "{}",
        transcript(&pushed)
    );

    let clone = forge.file("clone");
    forge.git_ok(
        forge.file("").as_path(),
        &["clone", "-q", &forge.url("group/app"), "clone"],
    );
    assert_eq!(
        forge.git_ok(&clone, &["rev-parse", "HEAD"]),
        forge.git_ok(&tree, &["rev-parse", "HEAD"])
    );

    let second = forge.commit(&tree, "second");
    let again = forge.git(&tree, &["push", "-q", "origin", "main"]);
    assert!(
        again.status.success() && !stderr(&again).contains("created"),
        "{}",
        transcript(&again)
    );
    forge.git_ok(&clone, &["fetch", "-q"]);
    assert_eq!(forge.git_ok(&clone, &["rev-parse", "origin/main"]), second);

    // A partial clone, which needs a setting of the server, and a shallow one.
    let partial = forge.git(
        forge.file("").as_path(),
        &[
            "clone",
            "-q",
            "--filter=blob:none",
            "--no-checkout",
            &forge.url("group/app"),
            "partial",
        ],
    );
    assert!(partial.status.success(), "{}", transcript(&partial));
    assert!(
        forge.is_plain || !stderr(&partial).contains("filtering not recognized"),
        "{}",
        transcript(&partial)
    );
    forge.git_ok(
        forge.file("").as_path(),
        &[
            "clone",
            "-q",
            "--depth=1",
            &forge.url("group/app"),
            "shallow",
        ],
    );

    let traced = forge
        .git_as("owner", &tree, &["ls-remote", "origin"])
        .env("GIT_TRACE_PACKET", "1")
        .output()
        .unwrap();
    assert!(
        stderr(&traced).contains("< version 2"),
        "{}",
        transcript(&traced)
    );

    let archive = forge
        .git_as(
            "owner",
            &tree,
            &["archive", "--remote=origin", "--format=tar", "main"],
        )
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    assert!(
        archive.status.success() && archive.stdout.windows(4).any(|four| four == b"file"),
        "{}",
        transcript(&archive)
    );

    let refused = forge
        .git_as("stranger", &tree, &["ls-remote", "origin"])
        .output()
        .unwrap();
    assert!(
        !refused.status.success() && stderr(&refused).contains("Permission denied"),
        "{}",
        transcript(&refused)
    );
}

#[test]
fn basics_of_quire() {
    basics(&TestForge::new(QUIRE).sshd());
}

#[test]
fn basics_of_the_control() {
    basics(&TestForge::new(QUIRE).plain_sshd());
}

#[test]
fn all_spellings_of_a_repository() {
    let forge = TestForge::new(QUIRE).sshd();
    let tree = forge.tree("work", "app");
    forge.git_ok(&tree, &["push", "-q", "origin", "main"]);
    let host = format!("ssh://{}@127.0.0.1:{}", forge.user, forge.port);
    for name in ["app", "app.git", "app/", "app.git/"] {
        let listed = forge.git(&tree, &["ls-remote", &format!("{host}/{name}")]);
        assert!(listed.status.success(), "{name}: {}", transcript(&listed));
    }
    assert!(forge.paths.repos().join("app.git").is_dir());
}

#[test]
fn a_fetch_of_what_is_not_there_suggests() {
    let forge = TestForge::new(QUIRE).sshd();
    let tree = forge.tree("work", "dotfiles");
    forge.git_ok(&tree, &["push", "-q", "origin", "main"]);
    let wrong = forge.git(&tree, &["ls-remote", &forge.url("dotfile")]);
    assert!(!wrong.status.success());
    assert!(
        stderr(&wrong)
            .contains("quire: there is no repository `dotfile`; did you mean `dotfiles`?"),
        "{}",
        transcript(&wrong)
    );
    assert!(
        !forge.paths.repos().join("dotfile.git").exists(),
        "a fetch makes nothing"
    );
    assert_eq!(
        forge.ssh(&["git-upload-pack", "nothing"]).status.code(),
        Some(3)
    );
}

#[test]
fn a_push_makes_no_repository_where_it_may_not() {
    let forge = TestForge::new(QUIRE).sshd();
    fs::write(forge.paths.no_push_to_create(), "").unwrap();
    let tree = forge.tree("work", "app");
    let refused = forge.git(&tree, &["push", "-q", "origin", "main"]);
    assert!(
        !refused.status.success()
            && stderr(&refused).contains("pushes do not create repositories here"),
        "{}",
        transcript(&refused)
    );
    assert!(forge.ssh(&["repo", "new", "app"]).status.success());
    forge.git_ok(&tree, &["push", "-q", "origin", "main"]);
}

#[test]
fn two_first_pushes_at_once_make_one_repository() {
    let forge = TestForge::new(QUIRE).sshd();
    for round in 0..5 {
        let repo = format!("group{round}/new");
        let trees = ["a", "b"].map(|name| forge.tree(&format!("{name}{round}"), &repo));
        forge.commit(&trees[1], "its own history");
        let pushes = trees.each_ref().map(|tree| {
            let mut command = forge.git_as("owner", tree, &["push", "origin", "main"]);
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        });
        let outputs = pushes.map(|push| push.wait_with_output().unwrap());
        let won = outputs
            .iter()
            .filter(|output| output.status.success())
            .count();
        assert!(
            won >= 1,
            "{}\n{}",
            transcript(&outputs[0]),
            transcript(&outputs[1])
        );
        for lost in outputs.iter().filter(|output| !output.status.success()) {
            let words = [
                "rejected",
                "failed to update ref",
                "cannot lock ref",
                "reference already exists",
            ];
            assert!(
                words.iter().any(|word| stderr(lost).contains(word)),
                "{}",
                transcript(lost)
            );
        }
        let created = outputs
            .iter()
            .filter(|output| stderr(output).contains("created repository"))
            .count();
        assert_eq!(
            created,
            1,
            "{}\n{}",
            transcript(&outputs[0]),
            transcript(&outputs[1])
        );
        let head = forge.git_ok(&trees[0], &["ls-remote", "origin", "refs/heads/main"]);
        assert_eq!(head.lines().count(), 1, "{head}");
        assert_eq!(
            fs::read_dir(forge.paths.repos().join(".new"))
                .unwrap()
                .count(),
            0
        );
    }
}

#[test]
fn the_settings_of_the_appliance_hold() {
    let forge = TestForge::new(QUIRE).sshd();
    let tree = forge.tree("work", "app");
    forge.git_ok(&tree, &["push", "-q", "origin", "main"]);
    let hidden = forge.git(&tree, &["push", "origin", "main:refs/quire/own"]);
    assert!(
        !hidden.status.success() && stderr(&hidden).contains("hidden ref"),
        "{}",
        transcript(&hidden)
    );
    // A commit that no git would write is refused before it is in.
    let first = forge.git_ok(&tree, &["rev-parse", "HEAD"]);
    let raw = format!(
        "tree {}\nauthor A <a@b\n\nx\n",
        forge.git_ok(&tree, &["rev-parse", "HEAD^{tree}"])
    );
    fs::write(tree.join("raw"), raw).unwrap();
    let broken = forge.git_ok(
        &tree,
        &["hash-object", "--literally", "-t", "commit", "-w", "raw"],
    );
    let refused = forge.git(
        &tree,
        &["push", "origin", &format!("{broken}:refs/heads/broken")],
    );
    assert!(!refused.status.success(), "{}", transcript(&refused));
    let left = forge.git_ok(&tree, &["ls-remote", "--heads", "origin"]);
    assert_eq!(left, format!("{first}\trefs/heads/main"));
    // What a client may not say does not reach git, and does not hinder it.
    let odd = forge
        .git_as("owner", &tree, &["ls-remote", "origin"])
        .env("GIT_PROTOCOL", "version=2:x=$(id)")
        .output()
        .unwrap();
    assert!(
        odd.status.success() && stdout(&odd).contains("refs/heads/main"),
        "{}",
        transcript(&odd)
    );
}
