//! Killed while it removes images and caches: the next look finds what is left of them, and nothing else goes.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use quire_testkit::{TestForge, files_below, transcript};
use quire_types::run::RunState;
use rusqlite::Connection;

use super::containers::{Contained, endpoint, skipped};
use crate::QUIRE;

/// A pipeline with two caches.
const CACHES: &str = r#"
(local ci (require :quire.ci))
(ci.cache :one "one")
(ci.cache :two "two")
(ci.job :test [:quire/push] (fn [{: sh}] (sh "echo x > one/file; echo x > two/file")))
"#;

/// Has all images, layers and caches last been used a hundred days ago.
fn long_ago(forge: &TestForge) {
    let database = Connection::open(forge.paths.database()).unwrap();
    for table in ["images", "layers", "cache_uses"] {
        database
            .execute(
                &format!("UPDATE {table} SET used_at_ms = used_at_ms - 8640000000"),
                [],
            )
            .unwrap();
    }
}

fn uses(forge: &TestForge) -> usize {
    forge.store().caches().list().unwrap().len()
}

/// Kills the server at a point of a round, and starts it again.
fn killed_at(forge: &mut TestForge, point: &str) {
    assert!(forge.stop().success());
    forge.kill_once_at(point).serve();
    long_ago(forge);
    assert!(
        !forge.ssh("gc").status.success(),
        "{point}: nobody is left to answer"
    );
    let status = forge.ended();
    assert_eq!(
        status.signal(),
        Some(9),
        "{point}: {status}: {}",
        forge.log()
    );
    forge.unset("QUIRE_FAULT").serve();
}

#[test]
fn killed_while_caches_go() {
    for point in ["host-cache-aside", "housekeeping-cache-gone"] {
        let mut forge = TestForge::start(QUIRE);
        forge.tree_with("app", CACHES).push(&["main"]);
        forge.wait_for_quiet();
        assert_eq!(
            (forge.newest("app").state, uses(&forge)),
            (RunState::Complete, 2)
        );
        killed_at(&mut forge, point);
        // At the start it looks for what was left; the other one is as old.
        let printed = forge.ssh_ok("gc");
        println!("{point}: {printed}");
        assert_eq!(
            (uses(&forge), files_below(&forge.paths.caches())),
            (0, Vec::new()),
            "{point}"
        );
        assert_eq!(forge.ssh_ok("gc"), "nothing to remove\n");
        forge.tree_with("again", CACHES).push(&["main"]);
        forge.wait_for_quiet();
        assert_eq!(forge.newest("again").state, RunState::Complete);
    }
}

#[test]
fn killed_while_volumes_and_images_go() {
    if skipped() {
        return;
    }
    let mut contained = Contained::new(&endpoint());
    let forge = &mut contained.forge;
    forge.serve();
    let tree = forge.tree("app", "app");
    tree.write(".quire/ci.fnl", CACHES);
    let mark = forge.store().instance().id().unwrap();
    tree.write(
        ".quire/Dockerfile",
        &format!("FROM debian:trixie-slim\nRUN echo {mark} > /made\n"),
    );
    tree.commit("first");
    tree.push(&["main"]);
    forge.wait_for_quiet();
    let run = forge.newest("app");
    assert_eq!(run.state, RunState::Complete, "{:?}", run.message);
    let image = run.image_tag.unwrap();
    let docker = |arguments: &[&str]| {
        Command::new("docker")
            .args(["--host", &endpoint()])
            .args(arguments)
            .output()
            .unwrap()
    };
    assert!(docker(&["image", "inspect", &image]).status.success());
    // One cache is gone and its row is not.
    killed_at(forge, "housekeeping-cache-gone");
    assert_eq!(uses(forge), 2);
    assert!(
        docker(&["image", "inspect", &image]).status.success(),
        "it was not its turn yet"
    );
    // The image is noted by the first look; then it goes, and its row stays behind.
    forge.ssh_ok("gc");
    assert_eq!(uses(forge), 0);
    let rows = |forge: &TestForge| {
        let database = Connection::open(forge.paths.database()).unwrap();
        database
            .query_row("SELECT count(*) FROM images", [], |row| {
                row.get::<_, i64>(0)
            })
            .unwrap()
    };
    if docker(&["image", "inspect", &image]).status.success() {
        killed_at(forge, "housekeeping-image-gone");
    }
    let gone = docker(&["image", "inspect", &image]);
    assert!(!gone.status.success(), "{}", transcript(&gone));
    long_ago(forge);
    forge.ssh_ok("gc");
    assert_eq!(rows(forge), 0);
    assert_eq!(forge.ssh_ok("gc"), "nothing to remove\n");
    contained.nothing_left();
}
