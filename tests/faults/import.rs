//! The server killed while a repository is imported.

use std::os::unix::process::ExitStatusExt;

use quire_testkit::{TestForge, git_in, run, stderr, transcript, wait_for};

use crate::QUIRE;

/// A pipeline that any push would run.
const GREEN: &str = r#"
(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: sh}] (sh "echo all is well")))
"#;

/// Nothing is to be seen of an import that was cut off; the same command goes on. After the rename all of it is there.
#[test]
fn the_server_killed_during_an_import() {
    for (point, is_placed) in [
        ("import-first-fetched", false),
        ("import-fetched", false),
        ("import-placed", true),
    ] {
        let mut forge = TestForge::new(QUIRE);
        let remote = TestForge::new(QUIRE).plain_sshd();
        remote.allow(forge.ssh_ok("mirror key").trim());
        let tree = remote.tree("tree", "app");
        let commit = remote.commit(&tree, "second");
        remote.git_ok(
            &tree,
            &["push", "-q", "origin", "main", "main~1:refs/heads/side"],
        );
        forge
            .set("QUIRE_MIRRORS_ALLOWED_NETWORKS", "127.0.0.1")
            .kill_once_at(point)
            .serve();
        let command = format!("repo import {}", remote.url("app"));
        let cut = forge.ssh(&command);
        assert!(!cut.status.success(), "{point}");
        let text = stderr(&cut);
        assert!(
            text.contains("the same command goes on from here"),
            "{point}: {text}"
        );
        let status = forge.ended();
        assert_eq!(status.signal(), Some(9), "{point}: {}", forge.log());
        let repo = forge.paths.repos().join("app.git");
        assert_eq!(repo.exists(), is_placed, "{point}");
        forge.serve();
        if !is_placed {
            let again = forge.ssh(&command);
            let text = transcript(&again);
            assert!(again.status.success(), "{point}: {text}");
            assert!(
                text.contains("an earlier import goes on"),
                "{point}: {text}"
            );
        }
        let tips = git_in(&repo, &["rev-parse", "main", "side^0"]);
        assert!(tips.starts_with(&commit), "{point}: {tips}");
        // Its refs are known, without runs, and the next push is a change of its own.
        wait_for(&format!("the refs after {point}"), || {
            let seen = forge.store().seen_refs().list(&"app".parse().unwrap());
            (seen.unwrap().len() == 2).then_some(())
        });
        assert_eq!(forge.runs().len(), 0, "{point}");
        forge.check_whole();
    }
}

/// A repository that follows another one has both sides equal in the end, without runs that were not asked for, whatever is cut off.
#[test]
fn the_server_killed_while_a_mirror_is_made_or_fetched() {
    for point in [
        "import-mirror-recorded",
        "import-placed",
        "pull-objects-added",
        "pull-moved",
        "pull-spooled",
    ] {
        let mut forge = TestForge::new(QUIRE);
        let remote = TestForge::new(QUIRE).plain_sshd();
        remote.allow(forge.ssh_ok("mirror key").trim());
        let tree = remote.tree("tree", "app");
        std::fs::create_dir_all(tree.join(".quire")).unwrap();
        std::fs::write(tree.join(".quire/ci.fnl"), GREEN).unwrap();
        remote.commit(&tree, "second");
        remote.git_ok(
            &tree,
            &["push", "-q", "origin", "main", "main:refs/heads/side"],
        );
        forge
            .set("QUIRE_MIRRORS_ALLOWED_NETWORKS", "127.0.0.1")
            .kill_once_at(point)
            .serve();
        let command = format!("repo import {} --mirror", remote.url("app"));
        let imported = forge.ssh(&command);
        let commit = remote.commit(&tree, "third");
        remote.git_ok(&tree, &["push", "-q", "origin", "main", ":side"]);
        if imported.status.success() {
            let _ = forge.ssh("mirror sync app");
        }
        let status = forge.ended();
        assert_eq!(status.signal(), Some(9), "{point}: {}", forge.log());
        forge.serve();
        let repo = forge.paths.repos().join("app.git");
        if !repo.exists() {
            let again = forge.ssh(&command);
            assert!(again.status.success(), "{point}: {}", transcript(&again));
        }
        let synced = forge.ssh("mirror sync app");
        assert!(synced.status.success(), "{point}: {}", transcript(&synced));
        let format = "--format=%(refname) %(objectname)";
        let refs = git_in(&repo, &["for-each-ref", format, "refs/heads"]);
        assert_eq!(refs, format!("refs/heads/main {commit}"), "{point}");
        wait_for(&format!("the refs after {point}"), || {
            let seen = forge
                .store()
                .seen_refs()
                .list(&"app".parse().unwrap())
                .unwrap();
            (seen.len() == 1 && seen[0].sha.as_str() == commit).then_some(())
        });
        assert_eq!(forge.runs().len(), 0, "{point}");
        forge.check_whole();
    }
}

/// A mirror that is stopped takes pushes, or still is one.
#[test]
fn a_stop_of_a_mirror_that_is_cut_off() {
    let mut forge = TestForge::new(QUIRE);
    let remote = TestForge::new(QUIRE).plain_sshd();
    remote.allow(forge.ssh_ok("mirror key").trim());
    let tree = remote.tree("tree", "app");
    remote.git_ok(&tree, &["push", "-q", "origin", "main"]);
    forge
        .set("QUIRE_MIRRORS_ALLOWED_NETWORKS", "127.0.0.1")
        .serve();
    forge.ssh_ok(&format!("repo import {} --mirror", remote.url("app")));
    let mut stop = forge.quire(&["mirror", "stop", "app"]);
    let cut = run(stop.env("QUIRE_FAULT", "mirror-unmarked"));
    assert_eq!(cut.status.signal(), Some(9), "{}", transcript(&cut));
    // Without its mark it counts as none.
    let synced = forge.ssh("mirror sync app");
    assert!(!synced.status.success(), "{}", transcript(&synced));
    let mine = forge.tree("mine", "app");
    mine.commit("mine");
    mine.push(&["main:mine"]);
    wait_for("the mirror to be forgotten", || {
        forge
            .store()
            .pull_mirrors()
            .list()
            .unwrap()
            .is_empty()
            .then_some(())
    });
}
