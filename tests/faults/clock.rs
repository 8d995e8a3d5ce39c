//! The clock jumps: ids stay in order, and nothing is removed for an age that it only seems to have.

use std::fs;

use quire_testkit::{TestForge, Tree, transcript, wait_for};
use quire_types::names::EventId;
use quire_types::run::Run;

use super::{LEAVES_A_PROCESS, settled_well};
use crate::QUIRE;

const DAY: i64 = 24 * 3600 * 1000;
const YEAR: i64 = 365 * DAY;
const HOUR: i64 = 3600 * 1000;

/// A forge whose clock the test sets, in the file that is given.
fn with_a_clock() -> (TestForge, std::path::PathBuf) {
    let mut forge = TestForge::new(QUIRE);
    let clock = forge.file("clock");
    fs::write(&clock, "0").unwrap();
    forge.set("QUIRE_FAULT_CLOCK", clock.to_str().unwrap());
    (forge, clock)
}

/// One more commit, pushed through a hook that has the same clock.
fn push(tree: &Tree, clock: &std::path::Path) {
    tree.commit("more");
    let pushed = tree
        .command(&["push", "-q", "origin", "main"])
        .env("QUIRE_FAULT_CLOCK", clock)
        .output()
        .unwrap();
    assert!(pushed.status.success(), "{}", super::transcript(&pushed));
}

/// How much later a run's id was made than this time.
fn after(run: &Run, time: i64) -> i64 {
    run.id.made_at_ms() - time
}

#[test]
fn ids_follow_quires_clock_and_runs_keep_their_queue_order() {
    let (mut forge, clock) = with_a_clock();
    forge.serve();
    let tree = forge.tree_with("app", LEAVES_A_PROCESS);
    let begun = quire_types::clock::Clock::system().now().0;
    let next = |forge: &TestForge, offset: i64| {
        fs::write(&clock, offset.to_string()).unwrap();
        push(&tree, &clock);
        forge.wait_for_quiet();
        forge.newest("app")
    };
    let mut runs = vec![next(&forge, 0), next(&forge, YEAR)];
    assert!(
        (0..HOUR).contains(&after(&runs[0], begun))
            && (0..HOUR).contains(&after(&runs[1], begun + YEAR)),
        "{runs:?}"
    );
    // Set back: in the same process, in a new one, and in the process of a person who starts a run.
    runs.push(next(&forge, -HOUR));
    assert!(forge.stop().success());
    forge.serve();
    runs.push(next(&forge, -HOUR));
    // No job of it is a person's to start; there is a run all the same, which says so.
    assert!(transcript(&forge.ssh("run start app")).contains("quire/manual"));
    forge.wait_for_quiet();
    runs.push(forge.newest("app"));
    // The newest is the one that was queued last.
    let ids: Vec<_> = runs.iter().map(|run| run.id).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    assert_eq!(
        forge.runs().iter().map(|run| run.id).collect::<Vec<_>>(),
        ids
    );
    let listed = forge.ssh_ok("run list");
    let places: Vec<_> = runs
        .iter()
        .rev()
        .map(|run| {
            let name = format!("app#{}", run.number);
            listed
                .find(&name)
                .unwrap_or_else(|| panic!("{name}: {listed}"))
        })
        .collect();
    assert!(places.is_sorted(), "{listed}");
    // An event's id is of the hook's clock, and the next start takes what lies there whatever its name says.
    assert!(forge.stop().success());
    for offset in [YEAR, -HOUR] {
        fs::write(&clock, offset.to_string()).unwrap();
        push(&tree, &clock);
        let made = |file: &std::path::PathBuf| {
            file.file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .parse::<EventId>()
                .unwrap()
                .made_at_ms()
        };
        let spooled = forge.spooled();
        assert!(
            spooled
                .iter()
                .any(|file| (0..HOUR).contains(&(made(file) - begun - offset))),
            "{spooled:?}"
        );
    }
    forge.serve();
    settled_well(&forge);
    assert!(forge.newest("app").id > ids[4]);
}

#[test]
fn a_year_ahead_removes_nothing_for_its_age() {
    let (mut forge, clock) = with_a_clock();
    fs::write(forge.paths.config_fennel(), "{:keep {:days 30}}").unwrap();
    forge.serve();
    let tree = forge.tree_with("app", LEAVES_A_PROCESS);
    for _ in 0..3 {
        push(&tree, &clock);
        forge.wait_for_quiet();
    }
    // As if some days ago, and kept so far.
    let database = rusqlite::Connection::open(forge.paths.database()).unwrap();
    database.busy_timeout(quire_testkit::WAIT_TIMEOUT).unwrap();
    let earlier = "UPDATE runs SET pushed_at_ms = pushed_at_ms - ?1, queued_at_ms = queued_at_ms - ?1, \
                   started_at_ms = started_at_ms - ?1, finished_at_ms = finished_at_ms - ?1";
    assert_eq!(database.execute(earlier, [3 * DAY]).unwrap(), 3);
    let stays = |forge: &TestForge, runs: usize, doubted: bool| {
        let printed = forge.ssh_ok("gc");
        assert_eq!(
            printed.contains("the system clock is far ahead of the time last recorded"),
            doubted,
            "{printed}"
        );
        assert_eq!(forge.runs().len(), runs, "{printed}");
    };
    stays(&forge, 3, false);
    // It jumps under the running server; a run is queued by the wrong time; and the server is started again with it.
    fs::write(&clock, YEAR.to_string()).unwrap();
    stays(&forge, 3, true);
    push(&tree, &clock);
    wait_for("its run", || (forge.runs().len() == 4).then_some(()));
    forge.wait_for_quiet();
    for _ in 0..2 {
        assert!(forge.stop().success());
        forge.serve();
        stays(&forge, 4, true);
    }
    // Right again. What is really old goes.
    fs::write(&clock, "0").unwrap();
    assert!(forge.stop().success());
    forge.serve();
    stays(&forge, 4, false);
    assert_eq!(
        database
            .execute(
                &format!("{earlier} WHERE queued_at_ms < ?2"),
                [28 * DAY, quire_types::clock::Clock::system().now().0]
            )
            .unwrap(),
        3
    );
    push(&tree, &clock);
    forge.wait_for_quiet();
    stays(&forge, 2, false);
    settled_well(&forge);
}
