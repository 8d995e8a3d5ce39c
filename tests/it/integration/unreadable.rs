//! Repositories that cannot be read: another owner, a stale mount, a damaged pack. Nothing is lost, nothing is taken
//! for removed, and no other repository is affected.

use std::fs;
use std::path::PathBuf;

use quire_testkit::{TestForge, files_below, transcript, wait_for};
use quire_types::run::{FailureKind, RunState};
use serde_json::Value;

use super::{GREEN, gate, one};
use crate::QUIRE;

const NIGHTLY: &str = r#"
(local ci (require :quire.ci))
(local nightly (ci.cron :nightly "0 3 * * *"))
(ci.job :test [:quire/push nightly] (fn [{: sh}] (sh "echo all is well")))
"#;

/// A forge whose server heeds the modes of files.
fn forge() -> TestForge {
    let mut forge = TestForge::new(QUIRE);
    forge.drop_privileges();
    forge.serve();
    forge
}

fn wait_for_health(forge: &TestForge, status: &str) -> Value {
    wait_for("the health of repositories", || {
        Some(forge.health()["parts"]["repositories"].clone())
            .filter(|part| part["status"] == status)
    })
}

#[test]
fn one_that_cannot_be_read_stops_no_other() {
    let mut forge = forge();
    let (app, bad) = (
        forge.tree_with("app", GREEN),
        forge.tree_with("bad", NIGHTLY),
    );
    app.push(&["main"]);
    bad.push(&["main"]);
    forge.tree_with("group/other", NIGHTLY).push(&["main"]);
    wait_for("the schedules", || {
        (forge.ssh_ok("schedule list").matches("nightly").count() == 2).then_some(())
    });
    forge.wait_for_quiet();
    assert!(forge.stop().success());
    let repos = forge.paths.repos();
    let show = [repos.join("bad.git"), repos.join("group")].map(|path| TestForge::hide(&path));
    let hook = forge.paths.hooks().join("post-receive");
    fs::rename(&hook, forge.file("hook")).unwrap();
    let unreported = app.push_new("the hook does not run");
    fs::rename(forge.file("hook"), &hook).unwrap();
    forge.serve();

    // What was attempted on them before they were listed as unreadable is reported too, until the next listing.
    wait_for("the two findings", || {
        (wait_for_health(&forge, "degraded")["figure"]["unreadable"] == 2).then_some(())
    });
    let status = transcript(&forge.ssh("status"));
    for name in ["bad", "group"] {
        let finding = format!("repositories: {name}: cannot be read: cannot ");
        assert!(status.contains(&finding), "{status}");
    }
    // The comparison of refs goes on with the others, and so do schedules and lists.
    wait_for("the run of the push without a hook", || {
        forge
            .runs()
            .into_iter()
            .find(|run| run.sha.as_str() == unreported)
    });
    app.write(".quire/ci.fnl", NIGHTLY);
    app.push_new("a schedule");
    wait_for("the new schedule", || {
        (forge.ssh_ok("schedule list").matches("nightly").count() == 3).then_some(())
    });
    let list = forge.ssh_ok("repo list");
    assert!(
        list.contains("\napp ") && list.contains("\nbad is not readable: "),
        "{list}"
    );
    let json: Value = serde_json::from_str(&forge.ssh_ok("repo list --json")).unwrap();
    assert_eq!(json["unreadable"].as_array().unwrap().len(), 2, "{json}");
    assert_eq!(forge.ssh_ok("cache list"), "no caches\n");
    forge.ssh_ok("repo rename app app2");
    let refused = transcript(&bad.git(&["push", "origin", "main:other"]));
    assert!(refused.contains("Permission denied"), "{refused}");
    assert_eq!(
        forge.log().matches("cannot be read: ").count(),
        2,
        "{}",
        forge.log()
    );

    // What could not be looked at has lost nothing.
    show.into_iter().for_each(|show| show());
    assert!(forge.stop().success());
    forge.serve();
    wait_for_health(&forge, "ok");
    assert_eq!(forge.ssh_ok("schedule list").matches("nightly").count(), 3);
    forge.wait_for_quiet();
    assert_eq!(forge.runs().len(), 5);
    forge.check_whole();
}

/// The packs of a repository.
fn packs(forge: &TestForge, repo: &str) -> Vec<PathBuf> {
    let folder = forge
        .paths
        .repo(&repo.parse().unwrap())
        .join("objects/pack");
    let mut files = files_below(&folder);
    files.retain(|file| file.extension().is_some_and(|end| end == "pack"));
    files
}

#[test]
fn a_push_whose_pack_cannot_be_read_waits_for_it() {
    let mut forge = forge();
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    assert!(forge.stop().success());
    let known = packs(&forge, "app");
    let pushed = tree.push_new("second");
    let new = packs(&forge, "app")
        .into_iter()
        .find(|pack| !known.contains(pack));
    let show = TestForge::hide(&new.unwrap());
    forge.serve();
    wait_for_health(&forge, "degraded");
    let status = transcript(&forge.ssh("status"));
    let words = format!(
        "repositories: app: a push waits to be recorded: the object {pushed} is missing or cannot be read"
    );
    assert!(status.contains(&words), "{status}");
    assert_eq!((forge.spooled().len(), forge.runs().len()), (1, 1));
    show();
    forge.wait_for_empty_spool();
    forge.wait_for_quiet();
    assert_eq!(forge.runs().len(), 2);
    assert!(
        forge
            .runs()
            .iter()
            .all(|run| run.state == RunState::Complete)
    );
    wait_for_health(&forge, "ok");
    forge.check_whole();
}

#[test]
fn refs_that_cannot_be_read_are_not_taken_for_deleted() {
    let mut forge = forge();
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main", "main:topic/one", "main:other"]);
    forge.wait_for_quiet();
    let repo = "app".parse().unwrap();
    let folder = forge.paths.repo(&repo);
    for hidden in ["refs/heads/topic", "refs/heads/other", "objects"] {
        assert!(forge.stop().success());
        let show = TestForge::hide(&folder.join(hidden));
        forge.serve();
        wait_for_health(&forge, "degraded");
        assert_eq!(
            forge.store().seen_refs().list(&repo).unwrap().len(),
            3,
            "{hidden}"
        );
        show();
    }
    assert!(forge.stop().success());
    forge.serve();
    wait_for_health(&forge, "ok");
    assert_eq!(forge.runs().len(), 3);
    forge.check_whole();
}

#[test]
fn a_damaged_pack_is_no_missing_pipeline() {
    let mut forge = TestForge::new(QUIRE);
    forge.set("QUIRE_CI_CONCURRENT_RUNS", "1").serve();
    let folder = forge.file("gate");
    forge
        .tree_with("first", &one(&gate(&folder)))
        .push(&["main"]);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main"]);
    let run = forge.newest("app");
    assert_eq!(run.state, RunState::Pending);
    let pack = packs(&forge, "app").pop().unwrap();
    let sound = fs::read(&pack).unwrap();
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, &sound[..sound.len() / 2]).unwrap();
    fs::write(folder.join("go"), "").unwrap();
    let run = forge.end_of(run.id);
    assert_eq!(run.failure_kind, Some(FailureKind::Internal), "{run:?}");
    let message = run.message.unwrap();
    // The runner knows the pipeline from the push, and reads the files.
    assert!(
        message.starts_with("cannot unpack the tree: ") && message.contains("`git archive` failed"),
        "{message}"
    );
    wait_for_health(&forge, "degraded");
    wait_for("the words of git fsck", || {
        let status = transcript(&forge.ssh("status"));
        status
            .contains("repositories: app: git fsck reports: error: ")
            .then_some(())
    });
    fs::write(&pack, &sound).unwrap();
    forge.ssh_ok(&format!("run retry {}", run.id));
    forge.wait_for_quiet();
    assert_eq!(forge.newest("app").state, RunState::Complete);
}
