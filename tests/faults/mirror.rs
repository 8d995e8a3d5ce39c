//! The server killed between a push and its mirror.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use quire_testkit::{TestForge, git_in, wait_for};

use crate::QUIRE;

/// Nothing is lost: the state to reach is compared, not remembered.
#[test]
fn the_server_killed_between_push_and_mirror() {
    for point in ["intake-recorded", "mirror-before-push", "mirror-pushed"] {
        let mut forge = TestForge::new(QUIRE);
        let remote = TestForge::new(QUIRE).plain_sshd();
        let bare = remote.bare("copy");
        remote.allow(forge.ssh_ok("mirror key").trim());
        let text = format!(
            "{{:mirrors {{:repos {{:app {{:nas {{:url \"{}\"}}}}}}}}}}",
            remote.url("copy")
        );
        fs::write(forge.paths.config_fennel(), text).unwrap();
        forge
            .set("QUIRE_MIRRORS_ALLOWED_NETWORKS", "127.0.0.1")
            .kill_once_at(point)
            .serve();
        let tree = forge.tree("work", "app");
        let commit = tree.commit("first");
        tree.push(&["main"]);
        let status = forge.ended();
        assert_eq!(status.signal(), Some(9), "{point}: {}", forge.log());
        forge.serve();
        let wanted = format!("refs/heads/main {commit}");
        wait_for(&format!("the remote after {point}"), || {
            let format = "--format=%(refname) %(objectname)";
            let refs = git_in(&bare, &["for-each-ref", format]);
            (refs == wanted).then_some(())
        });
        wait_for("the mirror to be in sync", || {
            let mirrors = forge.store().mirrors().list(None).unwrap();
            (mirrors.first()?.word().as_str() == "in-sync").then_some(())
        });
    }
}
