//! Renames and redirects.

use super::*;

#[test]
fn rows_of_a_version_without_redirects_are_renamed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("quire.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    for sql in [
        include_str!("../../../../migrations/0001_initial.sql"),
        include_str!("../../../../migrations/samples/0001_initial.sql"),
        include_str!("../../../../migrations/0002_pipelines.sql"),
        include_str!("../../../../migrations/samples/0002_pipelines.sql"),
    ] {
        old.execute_batch(sql).unwrap();
    }
    old.pragma_update(None, "user_version", 2).unwrap();
    drop(old);
    let store = open(&folder, &Arc::new(AtomicI64::new(1_700_000_100_000))).unwrap();
    assert!(
        store
            .redirects()
            .begin_rename(&repo("app"), &repo("work/shop"))
            .unwrap()
    );
    store
        .redirects()
        .finish_rename(&repo("app"), &repo("work/shop"))
        .unwrap();
    assert_eq!(
        store.repos().with_runs().unwrap(),
        [repo("work/app"), repo("work/shop")]
    );
    assert_eq!(
        store.schedules().list(Some(&repo("app"))).unwrap()[0].repo,
        repo("work/shop")
    );
    let database = rusqlite::Connection::open(&path).unwrap();
    let left = |table: &str| -> u32 {
        database
            .query_row(
                &format!("SELECT count(*) FROM {table} WHERE repo = 'app'"),
                [],
                |found| found.get(0),
            )
            .unwrap()
    };
    for table in [
        "events",
        "seen_refs",
        "runs",
        "schedules",
        "schedule_sources",
        "maintenance",
    ] {
        assert_eq!(left(table), 0, "{table}");
    }
}

#[test]
fn each_name_resolves_before_during_and_after_a_rename() {
    let f = fixture();
    let (app, shop) = (repo("app"), repo("shop"));
    let runs = |name: &str| {
        f.store
            .runs()
            .list(&RunFilter {
                repo: Some(repo(name)),
                limit: 100,
                ..RunFilter::default()
            })
            .unwrap()
            .len()
    };
    record(&f.store, "app", &["main"]);
    let active = f
        .store
        .queue()
        .claim_next(&ExecutorName::HOST)
        .unwrap()
        .unwrap();
    record(&f.store, "app", &["other"]);
    assert!(f.store.redirects().begin_rename(&app, &shop).unwrap());
    assert!(f.store.redirects().has_pending_work().unwrap());
    // Under it nothing is claimed, and both names are the old one: the folder may bear either.
    assert_eq!(
        f.store.queue().claim_next(&ExecutorName::HOST).unwrap(),
        None
    );
    assert!(!f.store.queue().has_claimable().unwrap());
    record(&f.store, "app", &["third"]);
    record(&f.store, "shop", &["fourth"]);
    assert_eq!((runs("app"), runs("shop")), (4, 4));
    assert_eq!(f.store.runs().active_of(&app).unwrap(), [active.id]);
    // A list of repositories that was made meanwhile may have either of them, or none.
    let (branch_of, sha) = (branch("main"), "1".repeat(40).parse().unwrap());
    f.store
        .schedules()
        .replace(
            &shop,
            &branch_of,
            &sha,
            &[NewSchedule {
                name: "night".into(),
                schedule: "0 3 * * *".into(),
                next_at: Millis(i64::MAX),
            }],
        )
        .unwrap();
    let nothing_is_forgotten = || {
        f.store.seen_refs().forget(&app).unwrap();
        f.store.seen_refs().forget(&shop).unwrap();
        f.store.schedules().forget_all_but(&[], &[]).unwrap();
        for name in [&app, &shop] {
            assert!(
                f.store.seen_refs().list(name).unwrap().len() >= 4
                    && f.store.schedules().list(Some(name)).unwrap().len() == 1
            );
        }
    };
    nothing_is_forgotten();
    assert!(
        !f.store
            .redirects()
            .begin_rename(&repo("third"), &shop)
            .unwrap(),
        "that name is promised"
    );
    assert!(
        !f.store
            .redirects()
            .begin_rename(&app, &repo("other"))
            .unwrap(),
        "one after the other"
    );
    for _ in 0..2 {
        f.store.redirects().finish_rename(&app, &shop).unwrap();
        assert!(f.store.runs_are_all_of(&shop));
        assert_eq!(f.store.runs().active_of(&shop).unwrap(), [active.id]);
    }
    // After it both are the new one.
    record(&f.store, "app", &["fifth"]);
    nothing_is_forgotten();
    f.clock.fetch_add(61_000, Ordering::SeqCst);
    f.store.seen_refs().forget(&app).unwrap();
    assert_eq!(
        (
            runs("app"),
            runs("shop"),
            f.store.seen_refs().list(&app).unwrap().len()
        ),
        (5, 5, 5)
    );
    assert!(f.store.runs_are_all_of(&shop));
    assert!(
        f.store
            .queue()
            .claim_next(&ExecutorName::HOST)
            .unwrap()
            .is_some()
    );
    assert_eq!(
        f.store.redirects().stale_links().unwrap(),
        std::slice::from_ref(&app)
    );
    f.store.redirects().forget_stale_links(&app).unwrap();
    assert!(!f.store.redirects().has_pending_work().unwrap());
    // A run that was read by the old name and is examined now supersedes by the new one.
    let stale = |branch: &str| {
        let (event, mut runs) = push("shop", &[branch]);
        runs[0].group_unknown = true;
        let recorded = record_event(&f.store, &event, &runs);
        Run {
            repo: app.clone(),
            ..f.store.runs().get(recorded.runs[0].0).unwrap().unwrap()
        }
    };
    let group = quire_pipeline::Group {
        name: "deploy".into(),
        supersede: true,
    };
    let (older, newer) = (stale("sixth"), stale("seventh"));
    f.store
        .queue()
        .set_group(&older, Some(&group), supersede::superseded_runs)
        .unwrap();
    assert!(
        f.store
            .queue()
            .set_group(&newer, Some(&group), supersede::superseded_runs)
            .unwrap()
            .contains(&older.id)
    );
    f.store.seen_refs().forget(&shop).unwrap();
    assert_eq!(
        f.store.seen_refs().list(&shop).unwrap(),
        [],
        "at rest what is gone is forgotten"
    );
    // A name that is taken by another one leads there no more, and with the repository its names go.
    f.store.redirects().forget(&app).unwrap();
    record(&f.store, "app", &["main"]);
    assert_eq!(runs("app"), 1);
    assert!(
        !f.store.redirects().begin_rename(&shop, &app).unwrap(),
        "it has runs"
    );
    assert!(
        f.store
            .redirects()
            .begin_rename(&shop, &repo("third"))
            .unwrap()
    );
    f.store.redirects().abort_rename(&shop).unwrap();
    assert!(f.store.redirects().list().unwrap().is_empty());
}

impl Store {
    fn runs_are_all_of(&self, repo: &RepoName) -> bool {
        self.repos().with_runs().unwrap() == std::slice::from_ref(repo)
    }
}
