//! The database held by somebody else, with a journal that has grown large, and damaged.

use std::fs;
use std::time::Duration;

use quire_testkit::{TestForge, transcript, wait_for};
use quire_types::run::RunState;
use rusqlite::Connection;

use super::points::held;
use super::{LEAVES_A_PROCESS, settled_well};
use crate::QUIRE;

#[test]
fn held_by_another_program_for_longer_than_ten_seconds() {
    let forge = TestForge::start(QUIRE);
    let (_tree, gate) = held(&forge);
    let holder = Connection::open(forge.paths.database()).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The command ends and its end cannot be recorded yet; a push comes that cannot be recorded either.
    fs::write(gate.join("go"), "").unwrap();
    let other = forge.tree_with("other", LEAVES_A_PROCESS);
    other.push(&["main"]);
    // The hold itself is what is tested.
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(forge.get("/").status, 200);
    assert!(
        forge
            .runs()
            .iter()
            .all(|run| run.repo.as_str() == "app" && run.state == RunState::Active)
    );
    holder.execute_batch("ROLLBACK").unwrap();
    settled_well(&forge);
    assert_eq!(forge.newest("app").state, RunState::Complete);
    assert_eq!(forge.newest("other").state, RunState::Complete);
}

#[test]
fn a_journal_of_a_hundred_megabytes() {
    let mut forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", LEAVES_A_PROCESS);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    // A long read keeps the journal from being taken over while much is written.
    let reader = Connection::open(forge.paths.database()).unwrap();
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM runs")
        .unwrap();
    reader
        .query_row("SELECT count(*) FROM runs", [], |row| row.get::<_, i64>(0))
        .unwrap();
    let writer = Connection::open(forge.paths.database()).unwrap();
    writer.busy_timeout(Duration::from_secs(60)).unwrap();
    writer
        .execute_batch("CREATE TABLE bulk (bytes BLOB)")
        .unwrap();
    for _ in 0..50 {
        writer
            .execute_batch("INSERT INTO bulk VALUES (randomblob(2097152))")
            .unwrap();
    }
    writer.execute_batch("DROP TABLE bulk").unwrap();
    let wal = forge.paths.database().with_extension("db-wal");
    let size = || fs::metadata(&wal).map_or(0, |wal| wal.len());
    assert!(size() > 100 << 20, "{}", size());
    // A crash, and a start over all of it.
    forge.kill();
    forge.serve();
    tree.push_new("second");
    settled_well(&forge);
    drop(writer);
    drop(reader);
    // It gives the space back.
    wait_for("the journal to shrink", || {
        tree.push_new("more");
        (size() < 16 << 20).then_some(())
    });
    settled_well(&forge);
}

#[test]
fn a_damaged_page_names_the_last_good_copy_and_git_works_on() {
    let mut forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", LEAVES_A_PROCESS);
    for nth in 0..5 {
        tree.push_new(&format!("push {nth}"));
        forge.wait_for_quiet();
    }
    assert!(forge.stop().success());
    let database = forge.paths.database();
    let sound = fs::read(&database).unwrap();
    let mut torn = sound.clone();
    let middle = 4096 * (torn.len() / 4096 / 2);
    torn[middle..middle + 4096].fill(0xa5);
    // Three copies: a good one, a better one, and the newest, which is as damaged as the file.
    let copy = |name: &str| forge.paths.backups().join(name);
    fs::write(copy("quire-v0001-2026-01-01T000000.000Z.db"), &sound).unwrap();
    fs::write(copy("quire-v0001-2026-02-01T000000.000Z.db"), &sound).unwrap();
    fs::write(copy("quire-v0001-2026-03-01T000000.000Z.db"), &torn).unwrap();
    fs::write(&database, &torn).unwrap();
    let refused = transcript(&forge.serve_to_end());
    assert!(
        refused.contains(&format!("the database {} is damaged", database.display())),
        "{refused}"
    );
    assert!(refused.contains("2026-02-01"), "{refused}");
    assert!(
        !refused.contains("2026-03-01") && !refused.contains("2026-01-01"),
        "{refused}"
    );
    assert_eq!(fs::read(&database).unwrap(), torn, "it was changed");
    let health = forge.quire(&["health"]).output().unwrap();
    assert_eq!(health.status.code(), Some(1), "{}", transcript(&health));
    // Git works on, and what is pushed is kept.
    let pushed = tree.push_new("meanwhile");
    assert_eq!(forge.spooled().len(), 1);
    tree.git_ok(&[
        "clone",
        "-q",
        "ssh://git@forge/app",
        forge.file("clone").to_str().unwrap(),
    ]);
    // As told: the good copy in its place.
    fs::copy(copy("quire-v0001-2026-02-01T000000.000Z.db"), &database).unwrap();
    forge.serve();
    settled_well(&forge);
    assert!(forge.runs().iter().any(|run| run.sha.as_str() == pushed));
}

#[test]
fn damaged_under_the_running_server() {
    let mut forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", LEAVES_A_PROCESS);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    let database = forge.paths.database();
    let other = Connection::open(&database).unwrap();
    other
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    let sound = fs::read(&database).unwrap();
    // Everything but the first page: whatever is not remembered cannot be read.
    let mut file = fs::File::options().write(true).open(&database).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(4096)).unwrap();
    std::io::Write::write_all(&mut file, &vec![0xa5; sound.len() - 4096]).unwrap();
    // What was remembered of it is no longer true once somebody has written.
    let _ = other.execute_batch("PRAGMA user_version = 4711");
    drop((file, other));
    let part = wait_for("health to tell", || {
        Some(forge.health()["parts"]["database"].clone()).filter(|part| part["status"] == "down")
    });
    println!("{part}");
    assert_eq!(forge.get("/healthz").status, 503);
    assert_eq!(forge.get("/readyz").status, 503);
    tree.push_new("meanwhile");
    tree.git_ok(&[
        "clone",
        "-q",
        "ssh://git@forge/app",
        forge.file("clone").to_str().unwrap(),
    ]);
    assert_eq!(forge.spooled().len(), 1, "the event waits");
    forge.kill();
    for end in ["db-wal", "db-shm"] {
        let _ = fs::remove_file(database.with_extension(end));
    }
    fs::write(&database, &sound).unwrap();
    forge.serve();
    settled_well(&forge);
}
