//! The server killed while a repository is imported.

use std::os::unix::process::ExitStatusExt;

use quire_testkit::{TestForge, hermetic_git, run_ok, stderr, transcript, wait_for};

use crate::QUIRE;

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
        let marker = forge.file("once").display().to_string();
        forge
            .set("QUIRE_MIRRORS_ALLOWED_NETWORKS", "127.0.0.1")
            .set("QUIRE_FAULT", point)
            .set("QUIRE_FAULT_ONCE", &marker)
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
        let arguments = ["-c", "safe.directory=*", "rev-parse", "main", "side^0"];
        let tips = run_ok(&mut hermetic_git(&repo, &repo, &arguments));
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
