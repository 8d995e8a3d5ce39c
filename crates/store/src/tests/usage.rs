//! Uses of images and caches.

use super::*;

#[test]
fn uses_of_images_and_caches_are_recorded_until_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicI64::new(1_700_000_100_000));
    let store = open(&folder, &clock).unwrap();
    let database = rusqlite::Connection::open(folder.path().join("quire.db")).unwrap();
    database
        .execute_batch(include_str!(
            "../../../../migrations/samples/0004_upkeep.sql"
        ))
        .unwrap();
    let used = |engine: &str| {
        store
            .images()
            .list(engine)
            .unwrap()
            .into_iter()
            .map(|row| (row.name, row.used_at.0))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        used("ENGINE"),
        [("debian:trixie-slim".to_owned(), 1_700_000_000_000)]
    );
    assert_eq!(
        (
            used("ANOTHER"),
            store.images().layers("ENGINE").unwrap().len(),
            store.caches().list().unwrap().len()
        ),
        (Vec::new(), 1, 2)
    );
    // Whatever was not quire's own does not become so by being used; what follows soon is the same use.
    store.images().record_use("node:20").unwrap();
    store.images().record_use("debian:trixie-slim").unwrap();
    assert_eq!(used("ENGINE")[0].1, 1_700_000_000_000);
    clock.store(1_700_007_200_000, Ordering::SeqCst);
    store.images().record_use("debian:trixie-slim").unwrap();
    let repo = "app".parse().unwrap();
    store
        .caches()
        .record_use(
            &ExecutorName::DOCKER,
            &repo,
            &["target".into(), "new".into()],
        )
        .unwrap();
    assert_eq!(
        used("ENGINE"),
        [("debian:trixie-slim".to_owned(), 1_700_007_200_000)]
    );
    // The clock was wrong, and is set right.
    clock.store(1_700_003_600_000, Ordering::SeqCst);
    store.retention().clamp_future_usage().unwrap();
    assert_eq!(used("ENGINE")[0].1, 1_700_003_600_000);
    store
        .caches()
        .forget(&ExecutorName::DOCKER, &repo, "target")
        .unwrap();
    store.images().forget("ENGINE", "0123456789ab").unwrap();
    store
        .images()
        .forget("ENGINE", "debian:trixie-slim")
        .unwrap();
    let left: Vec<_> = store
        .caches()
        .list()
        .unwrap()
        .into_iter()
        .map(|used| used.name)
        .collect();
    assert_eq!(
        (
            left,
            used("ENGINE"),
            store.images().layers("ENGINE").unwrap()
        ),
        (vec!["new".into(), "deps".into()], Vec::new(), Vec::new())
    );
}

#[test]
fn the_last_look_for_an_image_is_recorded_until_it_is_old() {
    let f = fixture();
    let images = || f.store.images();
    assert_eq!(images().last_look("debian:13").unwrap(), None);
    let newer = format!("debian@sha256:{}", "5".repeat(64));
    let newer = Some(newer.parse().unwrap());
    let hours = |count: i64| {
        let at = 1_700_000_000_000 + count * 3_600_000;
        f.clock.store(at, Ordering::SeqCst);
    };
    let record = |name: &str| images().record_look(name, "sha256:1", newer.as_ref());
    record("debian:13").unwrap();
    hours(2);
    let look = images().last_look("debian:13").unwrap().unwrap();
    assert_eq!(look.age, std::time::Duration::from_secs(7200));
    assert_eq!((look.image_id.as_str(), &look.newer), ("sha256:1", &newer));
    // The clock was set back.
    hours(-1);
    let look = images().last_look("debian:13").unwrap().unwrap();
    assert_eq!(look.age, std::time::Duration::MAX);
    hours(24 * 91);
    record("node:20").unwrap();
    assert_eq!(images().last_look("debian:13").unwrap(), None);
}
