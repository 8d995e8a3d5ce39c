//! Schedules whose runs alternate between failed and complete: what their target is told.

use quire_testkit::{HttpReceiver, TestForge};

use super::GREEN;
use super::notifications::{forge_with, wait_until_told};

/// Adds runs of a schedule, one each hour, every second of which failed. The server is not running.
fn add_runs(forge: &TestForge, numbers: std::ops::Range<u32>) {
    let database = rusqlite::Connection::open(forge.paths.database()).unwrap();
    for number in numbers {
        let failed = number % 2 == 0;
        let (state, kind, message) = match failed {
            true => ("failed", "'job'", "'the job failed'"),
            false => ("complete", "NULL", "NULL"),
        };
        // Midnight, some days ago. Ids are in the order of time.
        let at = 1_700_006_400_000_i64 + i64::from(number) * 3_600_000;
        let id = format!(
            "{:08x}-{:04x}-7000-8000-{number:012x}",
            at >> 16,
            at & 0xffff
        );
        database
            .execute_batch(&format!(
                "BEGIN;
                 INSERT INTO runs (id, repo, number, ref_name, sha, \"trigger\", source, state, pushed_at_ms, queued_at_ms, started_at_ms)
                 SELECT '{id}', repo, 100 + {number}, ref_name, sha, 'cron', 'quire/cron/hourly', 'active', {at}, {at}, {at} FROM runs WHERE number = 1;
                 UPDATE runs SET state = '{state}', failure_kind = {kind}, message = {message}, finished_at_ms = {at} + 1000 WHERE id = '{id}';
                 COMMIT;"
            ))
            .unwrap();
    }
}

#[test]
fn a_schedule_that_alternates_is_told_once_and_then_daily() {
    let (usual, every) = (HttpReceiver::start(), HttpReceiver::start());
    let targets = format!(
        ":usual {{:type :webhook :url \"{}\"}}\n:every {{:type :webhook :url \"{}\" :on :every :triggers [:cron]}}\n",
        usual.url("/"),
        every.url("/")
    );
    let mut forge = forge_with(&targets);
    forge.tree_with("app", GREEN).push(&["main"]);
    forge.wait_for_quiet();
    // The server is down in between, at any run.
    for numbers in [0..2, 2..5, 5..23, 23..50] {
        assert!(forge.stop().success());
        add_runs(&forge, numbers);
        forge.serve();
        for name in ["usual", "every"] {
            wait_until_told(&forge, name);
        }
    }
    let told: Vec<String> = usual
        .requests()
        .iter()
        .map(|request| {
            let told = request.json();
            format!(
                "{} {} {}",
                told["reason"], told["alternation"], told["title"]
            )
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    "failed" null "app#100 failed"
    "fixed" null "app#101 is complete again"
    "failed" null "app#102 failed"
    "fixed" null "app#103 is complete again"
    "alternates" {"changes":4,"complete":2,"failed":3} "app#104 failed, and its schedule hourly alternates"
    "alternates" {"changes":24,"complete":12,"failed":12} "app#124 failed, and its schedule hourly alternates"
    "alternates" {"changes":24,"complete":12,"failed":12} "app#148 failed, and its schedule hourly alternates"
    "#);
    let text = usual.requests()[4].json()["text"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        text.contains("changes. The runs that follow are told once a day."),
        "{text}"
    );
    assert_eq!(every.requests().len(), 50);
}
