//! The server away, twice, or with a database that it must not touch. Pushes work all the while.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;

use quire_store::{Journal, Store};
use quire_testkit::{TestForge, Tree, transcript, wait_for};
use quire_types::clock::Clock;
use quire_types::run::{FailureKind, RunState, Trigger};

use super::{GREEN, gate, one};
use crate::QUIRE;

#[test]
fn a_push_while_the_server_is_down_becomes_a_run_when_it_is_back() {
    let mut forge = TestForge::start(QUIRE);
    assert!(forge.stop().success());
    let mut pushed = Vec::new();
    let (app, other) = (
        forge.tree_with("app", GREEN),
        forge.tree_with("other", GREEN),
    );
    let reply = app.push(&["main"]);
    assert!(
        reply.contains("the server is not running; the run will start when it is back"),
        "{reply}"
    );
    pushed.push(app.git_ok(&["rev-parse", "HEAD"]));
    other.push(&["main"]);
    pushed.push(other.git_ok(&["rev-parse", "HEAD"]));
    pushed.push(app.push_new("second"));
    assert_eq!(forge.spooled().len(), 3);
    forge.serve();
    wait_for("the spool to be taken", || {
        forge.spooled().is_empty().then_some(())
    });
    forge.wait_for_quiet();
    let runs = forge.runs();
    assert_eq!(runs.len(), 3, "{runs:?}");
    let of = |repo: &str, sha: &String| {
        runs.iter()
            .find(|run| run.repo.as_str() == repo && run.sha.as_str() == sha)
            .unwrap()
    };
    assert_eq!(of("app", &pushed[2]).state, RunState::Complete);
    assert_eq!(of("other", &pushed[1]).state, RunState::Complete);
    // Its ref had moved on: never an older run after, or in the place of, a newer one.
    assert!(matches!(
        of("app", &pushed[0]).state,
        RunState::Superseded | RunState::Complete
    ));
    forge.check_whole();
}

#[test]
fn a_hook_that_never_ran_is_made_up_for() {
    let mut forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    assert!(forge.stop().success());
    let hook = forge.paths.hooks().join("post-receive");
    fs::rename(&hook, forge.file("hook")).unwrap();
    let sha = tree.push_new("second");
    fs::rename(forge.file("hook"), &hook).unwrap();
    assert!(forge.spooled().is_empty());
    forge.serve();
    let run = wait_for("its run", || {
        forge.runs().into_iter().find(|run| run.sha.as_str() == sha)
    });
    assert_eq!(
        (forge.end_of(run.id).state, run.trigger),
        (RunState::Complete, Trigger::Push)
    );
    assert_eq!(forge.runs().len(), 2);
    forge.check_whole();
}

#[test]
fn a_new_database_runs_nothing_old() {
    let mut forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main", "main:old", "main:refs/tags/v1"]);
    forge.wait_for_quiet();
    assert!(forge.stop().success());
    for end in ["db", "db-wal", "db-shm"] {
        let _ = fs::remove_file(forge.paths.database().with_extension(end));
    }
    // A start that gets no further than this must not make the next one take the database for an old one.
    drop(
        Store::open(
            &forge.paths.database(),
            &forge.paths.backups(),
            Journal::Wal,
            Clock::system(),
        )
        .unwrap(),
    );
    forge.serve();
    forge.wait_for_log("the repository is new to the database");
    assert!(forge.runs().is_empty(), "{:?}", forge.runs());
    tree.push_new("new");
    assert_eq!(
        forge.end_of(forge.newest("app").id).state,
        RunState::Complete
    );
    assert_eq!(forge.runs().len(), 1);
    forge.check_whole();
}

#[test]
fn a_repository_put_in_place_by_hand_runs_nothing_old() {
    let mut forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main", "main:old", "main:refs/tags/v1"]);
    forge.wait_for_quiet();
    assert!(forge.stop().success());
    fs::rename(
        forge.paths.repos().join("app.git"),
        forge.paths.repos().join("moved.git"),
    )
    .unwrap();
    fs::remove_file(forge.paths.repos().join("moved.git/quire-instance")).unwrap();
    let before = forge.runs().len();
    forge.serve();
    forge.wait_for_log("the repository is new to the database");
    assert_eq!(forge.runs().len(), before);
    // From now on it is one like the others: also a push of which no hook told has its run.
    assert!(forge.stop().success());
    tree.git_ok(&["commit", "-q", "--allow-empty", "-m", "unheard"]);
    tree.git_ok(&[
        "-c",
        "core.hooksPath=/dev/null",
        "push",
        "-q",
        &forge.paths.repos().join("moved.git").to_string_lossy(),
        "main",
    ]);
    forge.serve();
    assert_eq!(
        forge
            .end_of(wait_for("its run", || forge.runs_of("moved").pop()).id)
            .state,
        RunState::Complete
    );
    assert_eq!(forge.runs().len(), before + 1);
    forge.check_whole();
}

#[test]
fn a_repository_that_hangs_holds_up_no_other() {
    let mut forge = TestForge::start(QUIRE);
    let (sick, well) = (
        forge.tree_with("sick", GREEN),
        forge.tree_with("well", GREEN),
    );
    sick.push(&["main"]);
    well.push(&["main"]);
    forge.wait_for_quiet();
    assert!(forge.stop().success());
    sick.push_new("waits in the spool");
    // Whoever reads this file waits, as for a disk that does not answer.
    let config = forge.paths.repos().join("sick.git/config");
    let text = fs::read(&config).unwrap();
    fs::remove_file(&config).unwrap();
    nix::unistd::mkfifo(&config, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    forge.spawn();
    wait_for("an answer to a push", || {
        well.commit("meanwhile");
        well.push(&["main"]).contains("queued").then_some(())
    });
    assert_eq!(forge.runs_of("sick").len(), 1);
    let mut answer = fs::OpenOptions::new().write(true).open(&config).unwrap();
    fs::write(config.with_extension("whole"), &text).unwrap();
    fs::rename(config.with_extension("whole"), &config).unwrap();
    answer.write_all(&text).unwrap();
    drop(answer);
    wait_for("the run of the push that waited", || {
        (forge.runs_of("sick").len() == 2).then_some(())
    });
    forge.wait_for_quiet();
    forge.check_whole();
}

#[test]
fn a_stop_during_a_run_queues_it_again() {
    let mut forge = TestForge::start(QUIRE);
    let folder = forge.file("gate");
    forge.tree_with("app", &one(&gate(&folder))).push(&["main"]);
    wait_for("the command", || {
        folder.join("started").exists().then_some(())
    });
    assert!(forge.stop().success());
    assert_eq!(forge.processes(), Vec::<i32>::new());
    let runs = forge.runs();
    assert_eq!(runs.len(), 2, "{runs:?}");
    assert_eq!(runs[0].state, RunState::Failed, "{runs:?}");
    assert_eq!(
        runs[0].failure_kind,
        Some(FailureKind::Orphaned),
        "{runs:?}"
    );
    assert_eq!(runs[1].state, RunState::Pending);
    assert_eq!(runs[1].retry_of, Some(runs[0].id));
    assert_eq!(runs[1].trigger, Trigger::Orphan);

    // A second stop is no reason to end it either.
    fs::remove_file(folder.join("started")).unwrap();
    forge.serve();
    wait_for("the command, again", || {
        folder.join("started").exists().then_some(())
    });
    assert!(forge.stop().success());
    let runs = forge.runs();
    assert_eq!(runs.len(), 3, "{runs:?}");
    assert_eq!(runs[2].state, RunState::Pending, "{runs:?}");
    fs::write(folder.join("go"), "").unwrap();
    forge.serve();
    assert_eq!(forge.end_of(runs[2].id).state, RunState::Complete);
    assert_eq!(forge.runs().len(), 3);
    forge.check_whole();
}

#[test]
fn a_database_that_somebody_holds_delays_runs_and_no_push() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    let holder = rusqlite::Connection::open(forge.paths.database()).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let reply = tree.push(&["main"]);
    assert!(
        reply.contains("the server is busy; the run will start as soon as it can"),
        "{reply}"
    );
    // Pages and health need no write.
    assert_eq!(
        (
            forge.get("/").status,
            forge.get("/healthz").json()["version"].as_str()
        ),
        (200, Some(env!("CARGO_PKG_VERSION")))
    );
    assert!(forge.runs().is_empty() && forge.spooled().len() == 1);
    holder.execute_batch("ROLLBACK").unwrap();
    let run = wait_for("its run", || forge.runs().pop());
    assert_eq!(forge.end_of(run.id).state, RunState::Complete);
    forge.check_whole();
}

#[test]
fn a_port_in_use_and_a_second_server() {
    let mut forge = TestForge::start(QUIRE);
    // A second one on the same data, on a port of its own.
    let taken = forge.port;
    forge.port = quire_testkit::free_port();
    let second = forge.serve_to_end();
    assert_eq!(second.status.code(), Some(1), "{}", transcript(&second));
    assert!(
        transcript(&second).contains("another quire serves"),
        "{}",
        transcript(&second)
    );
    forge.port = taken;
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main"]);
    assert_eq!(
        forge.end_of(forge.newest("app").id).state,
        RunState::Complete,
        "the first one goes on"
    );

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut other = TestForge::new(QUIRE);
    other.port = listener.local_addr().unwrap().port();
    let refused = other.serve_to_end();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        transcript(&refused).contains(&format!("listen on 127.0.0.1:{}", other.port)),
        "{}",
        transcript(&refused)
    );
}

#[test]
fn a_database_that_must_not_be_touched() {
    let mut forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    assert!(forge.stop().success());
    let database = forge.paths.database();
    let sound = fs::read(&database).unwrap();

    let newer = rusqlite::Connection::open(&database).unwrap();
    newer.pragma_update(None, "user_version", 4711).unwrap();
    newer.close().unwrap();
    refuses(&forge, &tree, "version 4711", 1);

    // Damaged in three ways: no database at all, a torn page, cut short.
    fs::write(
        &database,
        "this is no database, it is a text of some length ".repeat(100),
    )
    .unwrap();
    refuses(&forge, &tree, "damaged", 2);
    let mut torn = sound.clone();
    let middle = 4096 * 3;
    torn[middle..middle + 2048].fill(0xa5);
    fs::write(&database, &torn).unwrap();
    refuses(&forge, &tree, "damaged", 3);
    fs::write(&database, &sound[..sound.len() / 2]).unwrap();
    refuses(&forge, &tree, "damaged", 4);

    // The sound one again: all pushes that came meanwhile have their runs.
    fs::write(&database, &sound).unwrap();
    forge.serve();
    wait_for("the spool to be taken", || {
        forge.spooled().is_empty().then_some(())
    });
    forge.wait_for_quiet();
    assert_eq!(forge.runs().len(), 5);
    assert_eq!(forge.newest("app").state, RunState::Complete);
    forge.check_whole();
}

/// The server does not start, says why, leaves the file alone; pushes and fetches work.
fn refuses(forge: &TestForge, tree: &Tree, why: &str, nth: usize) {
    let before = fs::read(forge.paths.database()).unwrap();
    let refused = forge.serve_to_end();
    assert_eq!(refused.status.code(), Some(78), "{}", transcript(&refused));
    assert!(
        transcript(&refused).contains(why),
        "{}",
        transcript(&refused)
    );
    assert_eq!(
        fs::read(forge.paths.database()).unwrap(),
        before,
        "{why}: it was changed"
    );
    tree.push_new("meanwhile");
    assert_eq!(forge.spooled().len(), nth);
    let clone = forge.file(&format!("clone-{nth}"));
    tree.git_ok(&[
        "clone",
        "-q",
        "ssh://git@forge/app",
        clone.to_str().unwrap(),
    ]);
}
