//! The server killed between the end of a run and the delivery of its notification, and a long outbox at its start.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;

use quire_testkit::{HttpReceiver, TestForge, git_in, wait_for};
use quire_types::run::RunState;

use super::{LEAVES_A_PROCESS, settled_well};
use crate::QUIRE;

/// A forge that tells a receiver of everything, not started.
fn forge_telling(receiver: &HttpReceiver) -> TestForge {
    let mut forge = TestForge::new(QUIRE);
    let text = format!(
        "{{:notify {{:targets {{:all {{:type :webhook :url \"{}\" :on [:every]}}}}}}}}",
        receiver.url("/")
    );
    fs::write(forge.paths.config_fennel(), text).unwrap();
    forge.set("QUIRE_NOTIFY_ALLOWED_NETWORKS", "127.0.0.1");
    forge
}

fn wait_until_told(forge: &TestForge) {
    wait_for("everything to be told", || {
        let targets = forge.store().outbox().targets().unwrap();
        (targets.first()?.waiting == 0).then_some(())
    });
}

/// Nothing is lost, and at most the last delivery comes twice, with the same id.
#[test]
fn the_server_killed_between_outcome_and_delivery() {
    for (point, is_doubled) in [
        ("runner-before-outcome", false),
        ("runner-outcome-written", false),
        ("notify-before-delivery", false),
        ("notify-delivered", true),
    ] {
        let receiver = HttpReceiver::start();
        let mut forge = forge_telling(&receiver);
        forge.kill_once_at(point).serve();
        forge.tree_with("app", LEAVES_A_PROCESS).push(&["main"]);
        let status = forge.ended();
        assert_eq!(
            status.signal(),
            Some(9),
            "{point}: {status}: {}",
            forge.log()
        );
        forge.serve();
        settled_well(&forge);
        wait_until_told(&forge);
        let ids: Vec<String> = receiver
            .requests()
            .iter()
            .map(|request| request.header("webhook-id").to_owned())
            .collect();
        let complete = forge
            .runs_of("app")
            .into_iter()
            .find(|run| run.state == RunState::Complete);
        let id = complete.unwrap().id.to_string();
        let expected = vec![id; 1 + usize::from(is_doubled)];
        // The end of an orphaned run that was queued again is not told.
        assert_eq!(ids, expected, "{point}");
    }
}

/// A note has one line for its run, whether it was written before the server was killed or not.
#[test]
fn the_server_killed_while_it_writes_a_note() {
    for point in [
        "notify-before-delivery",
        "run-note-before-ref",
        "notify-delivered",
    ] {
        let mut forge = TestForge::new(QUIRE);
        let text = "{:notify {:targets {:notes {:type :git-notes}}}}";
        fs::write(forge.paths.config_fennel(), text).unwrap();
        forge.kill_once_at(point).serve();
        let tree = forge.tree_with("app", LEAVES_A_PROCESS);
        tree.push(&["main"]);
        assert_eq!(forge.ended().signal(), Some(9), "{point}: {}", forge.log());
        forge.serve();
        settled_well(&forge);
        wait_until_told(&forge);
        let commit = tree.git_ok(&["rev-parse", "main"]);
        let bare = forge.paths.repos().join("app.git");
        let note = git_in(&bare, &["notes", "--ref=ci", "show", commit.trim()]);
        assert!(
            note.lines().count() == 1 && note.starts_with("quire #1 complete after "),
            "{point}: {note}"
        );
        git_in(&bare, &["fsck", "--strict"]);
        assert_eq!(forge.runs().len(), 1, "{point}");
    }
}

/// A push that is told as GitHub tells it, likewise.
#[test]
fn the_server_killed_between_push_and_delivery() {
    for (point, is_doubled) in [
        ("intake-before-record", false),
        ("intake-recorded", false),
        ("notify-before-delivery", false),
        ("notify-delivered", true),
    ] {
        let receiver = HttpReceiver::start();
        let mut forge = TestForge::new(QUIRE);
        let url = receiver.url("/");
        let text =
            format!("{{:notify {{:targets {{:hub {{:type :github-push :url \"{url}\"}}}}}}}}");
        fs::write(forge.paths.config_fennel(), text).unwrap();
        forge
            .set("QUIRE_NOTIFY_ALLOWED_NETWORKS", "127.0.0.1")
            .kill_once_at(point)
            .serve();
        let tree = forge.tree_with("app", LEAVES_A_PROCESS);
        tree.push(&["-o", "ci.skip", "main"]);
        assert_eq!(forge.ended().signal(), Some(9), "{point}: {}", forge.log());
        forge.serve();
        receiver.wait_for(1 + usize::from(is_doubled));
        // Told after it, in order.
        tree.push(&["-o", "ci.skip", "main:side"]);
        let requests = receiver.wait_for(2 + usize::from(is_doubled));
        wait_until_told(&forge);
        assert_eq!(receiver.requests().len(), requests.len(), "{point}");
        let (last, told) = requests.split_last().unwrap();
        assert_eq!(last.json()["ref"], "refs/heads/side", "{point}");
        let ids: BTreeSet<&str> = told
            .iter()
            .map(|request| request.header("x-github-delivery"))
            .collect();
        assert_eq!(
            (told.len(), ids.len()),
            (1 + usize::from(is_doubled), 1),
            "{point}"
        );
    }
}

/// A finding that was not recorded is seen again, and one that was is told once, with one id.
#[test]
fn the_server_killed_while_a_finding_is_told() {
    for (point, is_doubled) in [
        ("health-before-report", false),
        ("health-reported", false),
        ("notify-before-delivery", false),
        ("notify-delivered", true),
    ] {
        let receiver = HttpReceiver::start();
        let mut forge = forge_telling(&receiver);
        forge.set("QUIRE_NOTIFY_HEALTH_AFTER", "1s");
        let damaged = forge.paths.data().join("spool/damaged");
        fs::create_dir_all(&damaged).unwrap();
        let event = damaged.join("event");
        fs::write(&event, "?").unwrap();
        forge.kill_once_at(point).serve();
        assert_eq!(forge.ended().signal(), Some(9), "{point}: {}", forge.log());
        forge.serve();
        receiver.wait_for(1);
        fs::remove_file(&event).unwrap();
        let count = 2 + usize::from(is_doubled);
        let told: Vec<(String, String)> = receiver
            .wait_for(count)
            .iter()
            .map(|request| {
                let finding = request.json()["finding"].clone();
                let phase = finding["phase"].as_str().unwrap().to_owned();
                (phase, request.header("webhook-id").to_owned())
            })
            .collect();
        wait_until_told(&forge);
        assert_eq!(receiver.requests().len(), count, "{point}");
        let phases: Vec<&str> = told.iter().map(|(phase, _)| phase.as_str()).collect();
        let expected = ["began", "began", "over"];
        assert_eq!(phases, expected[usize::from(!is_doubled)..], "{point}");
        let ids: BTreeSet<&String> = told.iter().map(|(_, id)| id).collect();
        assert_eq!(ids.len(), 2, "{point}: {told:?}");
        assert_eq!(forge.store().health_findings().told().unwrap(), []);
    }
}

#[test]
fn ten_thousand_ends_wait_at_the_start() {
    const COUNT: usize = 10_000;
    let receiver = HttpReceiver::start();
    let mut forge = forge_telling(&receiver);
    forge.serve();
    forge.tree_with("app", LEAVES_A_PROCESS).push(&["main"]);
    settled_well(&forge);
    wait_until_told(&forge);
    assert!(forge.stop().success());
    let database = rusqlite::Connection::open(forge.paths.database()).unwrap();
    database
        .execute_batch(&format!(
            "BEGIN;
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {COUNT})
             INSERT INTO runs (id, repo, number, ref_name, sha, \"trigger\", state, pushed_at_ms, queued_at_ms)
             SELECT substr(id, 1, 24) || printf('%012x', i), repo, number + i, 'refs/heads/' || i, sha, 'push', 'pending', pushed_at_ms, queued_at_ms
             FROM runs, n;
             UPDATE runs SET state = 'canceled', finished_at_ms = queued_at_ms, message = 'canceled' WHERE state = 'pending';
             COMMIT;"
        ))
        .unwrap();
    drop(database);
    forge.serve();
    // A push is taken and run meanwhile.
    forge.tree_with("other", LEAVES_A_PROCESS).push(&["main"]);
    let other = forge.end_of(forge.newest("other").id);
    assert_eq!(other.state, RunState::Complete);
    for count in (0..=COUNT).step_by(COUNT / 10) {
        receiver.wait_for(count);
    }
    wait_until_told(&forge);
    let numbers: Vec<u64> = receiver.requests()[1..=COUNT]
        .iter()
        .map(|request| request.json()["run"]["number"].as_u64().unwrap())
        .collect();
    assert!(numbers.is_sorted() && numbers.len() == COUNT);
    // A connection is used for many messages.
    let connections = receiver.connections();
    assert!(connections < COUNT / 10, "{connections} connections");
    let last = receiver.requests().pop().unwrap();
    assert_eq!(last.json()["run"]["repo"], "other");
}
