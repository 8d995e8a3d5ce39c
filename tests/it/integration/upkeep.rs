//! What is left outside of the runs' own folders, and what health says of all upkeep: caches on the host, and
//! findings that only those read who have signed in.

use std::fs;

use quire_testkit::{TestForge, transcript, wait_for};
use quire_types::run::RunState;
use rusqlite::Connection;

use super::{GREEN, gate};
use crate::QUIRE;

fn keep(forge: &TestForge, keep: &str) {
    fs::write(forge.paths.config_fennel(), format!("{{:keep {keep}}}")).unwrap();
}

/// A cache of a repository with so many bytes in it.
fn cache(forge: &TestForge, repo: &str, name: &str, bytes: usize) -> std::path::PathBuf {
    let folder = forge
        .paths
        .caches()
        .join(repo.replace('/', "%2F"))
        .join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("file"), vec![0; bytes]).unwrap();
    folder
}

/// Puts the last use of a cache so many days back.
fn used_days_ago(forge: &TestForge, name: &str, days: i64) {
    let database = Connection::open(forge.paths.database()).unwrap();
    let sql = "UPDATE cache_uses SET used_at_ms = used_at_ms - ?2 * 86400000 WHERE name = ?1";
    assert_eq!(database.execute(sql, (name, days)).unwrap(), 1, "{name}");
}

/// A pipeline with a cache, whose one job runs this command.
fn with_cache(name: &str, command: &str) -> String {
    format!(
        r#"(local ci (require :quire.ci))
(ci.cache :{name} "{name}")
(ci.job :test [:quire/push] (fn [{{: sh}}] (sh {command:?})))
"#
    )
}

#[test]
fn caches_unused_for_long_are_removed_but_never_during_a_run() {
    let mut forge = TestForge::new(QUIRE);
    keep(&forge, "{:days 5}");
    forge.serve();
    let folder = forge.file("gate");
    forge
        .tree_with(
            "app",
            &with_cache("held", &format!("echo x > held/file; {}", gate(&folder))),
        )
        .push(&["main"]);
    forge
        .tree_with("work/app", &with_cache("used", "echo kept > used/file"))
        .push(&["main"]);
    forge.end_of(forge.newest("work/app").id);
    wait_for("the command", || {
        folder.join("started").exists().then_some(())
    });
    let old = cache(&forge, "work/app", "old", 3000);
    // When it was used is not known, so its age counts from now.
    assert_eq!(forge.ssh_ok("gc"), "nothing to remove\n");
    for name in ["held", "old"] {
        used_days_ago(&forge, name, 6);
    }
    used_days_ago(&forge, "used", 4);
    let listed: serde_json::Value =
        serde_json::from_str(&forge.ssh_ok("cache list --json")).unwrap();
    let of = |name: &str| {
        listed["caches"]
            .as_array()
            .unwrap()
            .iter()
            .find(|cache| cache["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(
        (&of("old")["bytes"], &of("used")["bytes"]),
        (&3000.into(), &5.into())
    );
    assert!(of("old")["used_at_ms"].as_i64() < of("used")["used_at_ms"].as_i64());
    let table = forge.ssh_ok("cache list --repo work/app");
    assert!(
        table.starts_with("REPOSITORY  CACHE  EXECUTOR  SIZE"),
        "{table}"
    );
    assert!(table.contains("2.9 KiB") && table.contains("T"), "{table}");

    assert_eq!(forge.ssh_ok("gc"), "removed 1 cache: 2.9 KiB freed\n");
    assert!(!old.exists());
    let held = forge.paths.caches().join("app/held/file");
    assert!(held.exists() && forge.paths.caches().join("work%2Fapp/used/file").exists());
    // The run ends well with its cache; then it may go.
    fs::write(folder.join("go"), "").unwrap();
    assert_eq!(
        forge.end_of(forge.newest("app").id).state,
        RunState::Complete
    );
    let freed = wait_for("the run to let go of it", || {
        Some(forge.ssh_ok("gc")).filter(|printed| printed.contains("cache"))
    });
    assert!(freed.starts_with("removed 1 cache"), "{freed}");
    assert!(!held.exists());
    assert_eq!(forge.ssh_ok("gc"), "nothing to remove\n");
}

#[test]
fn caches_over_their_budget_go_the_least_recently_used_first() {
    let mut forge = TestForge::new(QUIRE);
    keep(&forge, "{:days 0}");
    forge.serve();
    let folder = forge.file("gate");
    forge
        .tree_with(
            "held",
            &with_cache(
                "held",
                &format!("head -c 4000 /dev/zero > held/file; {}", gate(&folder)),
            ),
        )
        .push(&["main"]);
    wait_for("the command", || {
        folder.join("started").exists().then_some(())
    });
    forge.tree_with("app", GREEN).push(&["main"]);
    forge.end_of(forge.newest("app").id);
    let folders = ["first", "second", "third"].map(|name| cache(&forge, "app", name, 3000));
    // No limit: all stay, and each is known from now on.
    assert_eq!(forge.ssh_ok("gc"), "nothing to remove\n");
    for (name, days) in [("held", 9), ("first", 3), ("second", 8), ("third", 1)] {
        used_days_ago(&forge, name, days);
    }
    // 13,000 bytes: one removal makes them fit. The oldest is asked for first, is in use, and stays.
    keep(&forge, "{:days 0 :caches \"10k\"}");
    forge.signal(nix::sys::signal::Signal::SIGHUP);
    forge.wait_for_log("configuration reloaded");
    assert_eq!(forge.ssh_ok("gc"), "removed 1 cache: 2.9 KiB freed\n");
    assert_eq!(folders.map(|folder| folder.exists()), [true, false, true]);
    assert!(forge.paths.caches().join("held/held/file").exists());
    assert_eq!(forge.ssh_ok("gc"), "nothing to remove\n");
    fs::write(folder.join("go"), "").unwrap();
    assert_eq!(
        forge.end_of(forge.newest("held").id).state,
        RunState::Complete
    );
}

#[test]
fn failed_upkeep_is_reported_with_names_for_signed_in_users_only() {
    let forge = TestForge::start(QUIRE);
    let part = |name: &str, status: &str| {
        wait_for("the health to say so", || {
            Some(forge.health()["parts"][name].clone()).filter(|part| part["status"] == status)
        })
    };
    assert_eq!(
        part("maintenance", "ok")["figure"],
        serde_json::json!({"problems": 0})
    );
    assert_eq!(
        part("schedules", "ok")["figure"],
        serde_json::json!({"unread": 0})
    );
    let tree = forge.tree_with(
        "work/hidden",
        r#"(local ci (require :quire.ci))
(ci.cron :nightly "not a line")
"#,
    );
    tree.push(&["main"]);
    forge
        .store()
        .maintenance()
        .record(&"work/hidden".parse().unwrap(), Some("git says no"))
        .unwrap();
    let (maintenance, schedules) = (
        part("maintenance", "degraded"),
        part("schedules", "degraded"),
    );
    assert!(
        maintenance["message"]
            .as_str()
            .unwrap()
            .starts_with("1 task failed and will be retried"),
        "{maintenance}"
    );
    assert_eq!(
        (
            &maintenance["figure"]["problems"],
            &schedules["figure"]["unread"]
        ),
        (&1.into(), &1.into())
    );
    assert_eq!(forge.health()["status"], "degraded");
    assert_eq!(
        forge.get("/readyz").status,
        200,
        "pushes lead to runs all the same"
    );
    for path in ["/healthz", "/metrics", "/readyz"] {
        assert!(!forge.get(path).body.contains("hidden"), "{path}");
    }
    let metrics = forge.get("/metrics").body;
    assert!(
        metrics.contains("\nquire_maintenance_problems 1\n")
            && metrics.contains("\nquire_schedules_unread 1\n"),
        "{metrics}"
    );
    // Everybody who reaches the port has signed in here.
    assert!(forge.get("/-/health").body.contains("work/hidden"));
    let status = forge.ssh("status");
    let reply = transcript(&status);
    assert!(
        reply.contains("maintenance: git maintenance of work/hidden failed: git says no"),
        "{reply}"
    );
    assert!(
        reply.contains("schedules: the schedules of work/hidden are those of an older commit"),
        "{reply}"
    );
    let json: serde_json::Value = serde_json::from_str(&forge.ssh_ok("status --json")).unwrap();
    assert_eq!(json["findings"][0]["part"], "maintenance");
    // Put right, it is as before.
    tree.write(".quire/ci.fnl", GREEN);
    tree.push_new("no schedule any more");
    forge
        .store()
        .maintenance()
        .record(&"work/hidden".parse().unwrap(), None)
        .unwrap();
    part("maintenance", "ok");
    part("schedules", "ok");
    forge.wait_for_quiet();
}

#[test]
fn health_says_starting_while_the_database_is_opened() {
    let mut forge = TestForge::start(QUIRE);
    assert!(forge.stop().success());
    // All migrations are due, and take long: another connection holds the lock of the writer.
    std::fs::remove_file(forge.paths.database()).unwrap();
    let holder = Connection::open(forge.paths.database()).unwrap();
    holder
        .execute_batch("PRAGMA journal_mode = WAL; BEGIN IMMEDIATE")
        .unwrap();
    forge.spawn();
    let health = wait_for("an answer", || forge.try_get("/healthz"));
    assert_eq!(
        (health.status, &health.json()["status"]),
        (200, &"starting".into()),
        "{}",
        health.body
    );
    assert_eq!(forge.get("/readyz").json()["reasons"][0], "starting");
    let page = forge.get("/");
    assert_eq!(page.status, 503);
    assert!(page.body.starts_with("quire is starting"), "{}", page.body);
    assert_eq!(forge.health()["status"], "starting");
    // The same address answers when it is done.
    holder.execute_batch("ROLLBACK").unwrap();
    drop(holder);
    wait_for("the start", || {
        (forge.health()["status"] == "ok").then_some(())
    });
    assert_eq!(forge.get("/").status, 200);
    assert!(
        forge.store().images().list("ENGINE").unwrap().is_empty(),
        "migrated"
    );
}
