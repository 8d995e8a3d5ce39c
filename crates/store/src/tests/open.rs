//! Opening, damage and migrations.

use super::*;

#[test]
fn a_newer_or_damaged_database_is_an_error_with_a_hint() {
    let f = fixture();
    drop(f.store);
    let path = f.folder.path().join("quire.db");
    let backups = f.folder.path().join("backups");
    std::fs::create_dir_all(&backups).unwrap();
    std::fs::write(backups.join("quire-v0001-x.db"), b"").unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.pragma_update(None, "user_version", 999).unwrap();
    drop(raw);
    let error = open(&f.folder, &f.clock).unwrap_err();
    assert!(
        matches!(
            &error,
            StoreError::Newer {
                found: 999,
                snapshot: Some(_),
                ..
            }
        ),
        "{error}"
    );
    assert!(matches!(
        Store::open_existing(&path, Clock::system()),
        Err(StoreError::Newer { .. })
    ));

    std::fs::remove_file(&path).unwrap();
    assert!(matches!(
        Store::open_existing(&path, Clock::system()),
        Err(StoreError::Open { .. })
    ));
    std::fs::write(
        &path,
        b"this is no database, whatever its name says, and it is long enough",
    )
    .unwrap();
    let error = open(&f.folder, &f.clock).unwrap_err();
    assert!(
        matches!(
            &error,
            StoreError::Damaged {
                last_backup: Some(_),
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_torn_page_is_found_at_start() {
    let f = fixture();
    for _ in 0..50 {
        record(&f.store, "app", &["main"]);
    }
    drop(f.store);
    let path = f.folder.path().join("quire.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 2048].fill(0xaa);
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(
        open(&f.folder, &f.clock),
        Err(StoreError::Damaged { .. })
    ));
}

#[test]
fn runs_of_the_first_version_continue_after_the_upgrade() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("quire.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../../../../migrations/0001_initial.sql"))
        .unwrap();
    old.execute_batch(include_str!(
        "../../../../migrations/samples/0001_initial.sql"
    ))
    .unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);
    let clock = Arc::new(AtomicI64::new(1_700_000_100_000));
    let store = open(&folder, &clock).unwrap();
    let id = |n: u32| {
        format!("01970000-0000-7000-8000-{n:012}")
            .parse::<RunId>()
            .unwrap()
    };
    let row = |n: u32| store.runs().get(id(n)).unwrap().unwrap();
    assert!(row(1).supersede && !row(1).keep && row(1).params.is_none());
    // The one that was active ends as an orphan and comes back; the pending one is claimed; a newer push supersedes it.
    store.runs().container_ended(id(2)).unwrap();
    let again = store
        .runs()
        .orphan(id(2), "gone", true, supersede::superseded_runs)
        .unwrap()
        .unwrap();
    assert_eq!(
        store.queue().claim_next(&ExecutorName::DOCKER).unwrap(),
        None,
        "whether they are of a group is not known yet"
    );
    for run in store.queue().with_unknown_group(10).unwrap() {
        store
            .queue()
            .set_group(&run, None, supersede::superseded_runs)
            .unwrap();
    }
    assert_eq!(claimed(&store), id(3));
    assert_eq!(claimed(&store), again);
    let (event, runs) = push("work/app", &["main"]);
    let recorded = record_event(&store, &event, &runs);
    assert_eq!(recorded.replaced, [id(3)]);
    let retried = store
        .runs()
        .retry(
            id(1),
            RetryOptions {
                only_failed: true,
                keep: true,
            },
            supersede::superseded_runs,
        )
        .unwrap();
    assert_eq!(
        store.jobs().reused(retried.id).unwrap()[0].output,
        Some(serde_json::json!({"version": "1.2"}))
    );
    let database = rusqlite::Connection::open(&path).unwrap();
    let verdict: String = database
        .query_row("PRAGMA integrity_check", [], |found| found.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
    assert_eq!(
        database
            .prepare("PRAGMA foreign_key_check")
            .unwrap()
            .query_map([], |_| Ok(()))
            .unwrap()
            .count(),
        0
    );
    assert_eq!(
        std::fs::read_dir(folder.path().join("backups"))
            .unwrap()
            .count(),
        1,
        "a copy was made before"
    );
}
