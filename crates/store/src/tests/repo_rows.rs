//! The rows of a repository that is removed and restored.

use std::collections::BTreeMap;

use super::*;

/// The tables with rows of repositories that stay when a repository is removed, or go for good.
const NOT_MOVED: [&str; 9] = [
    "landings",
    "mirrors",
    "mirror_refs",
    "schedules",
    "schedule_sources",
    "maintenance",
    "cache_uses",
    "images",
    "operations",
];

/// All rows of the tables that are moved, as sorted text. The times of redirects are left out.
fn rows(f: &Fixture) -> BTreeMap<&'static str, Vec<String>> {
    let database = rusqlite::Connection::open(f.folder.path().join("quire.db")).unwrap();
    let all = |table: &str| -> Vec<String> {
        let mut select = database.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let count = select.column_count();
        let ignored = select
            .column_names()
            .iter()
            .position(|name| *name == "renamed_at_ms");
        let row = |row: &rusqlite::Row<'_>| {
            let values = (0..count).filter(|at| Some(*at) != ignored);
            values
                .map(|at| {
                    row.get::<_, rusqlite::types::Value>(at)
                        .map(|v| format!("{v:?}"))
                })
                .collect::<rusqlite::Result<Vec<_>>>()
                .map(|values| values.join(" "))
        };
        let mut rows: Vec<String> = select
            .query_map([], row)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        rows.sort();
        rows
    };
    crate::repo_rows::MOVED
        .iter()
        .map(|(table, _)| (*table, all(table)))
        .collect()
}

/// A repository `app` that was called `old`, with a run that failed, its retry, which is complete, and a superseded one.
fn with_history() -> Fixture {
    let f = fixture();
    record(&f.store, "old", &["main"]);
    let failed = claimed(&f.store);
    let test: JobName = "test".parse().unwrap();
    f.store
        .jobs()
        .register(failed, &[(test.clone(), vec!["quire/push".to_owned()])])
        .unwrap();
    f.store.jobs().started(failed, &test).unwrap();
    f.store
        .steps()
        .started(failed, 1, &test, "make test")
        .unwrap();
    f.store
        .runs()
        .finish(failed, &Outcome::Failed(FailureKind::Job, "no".into()))
        .unwrap();
    let retried = retry_failed(&f.store, failed);
    assert_eq!(claimed(&f.store), retried);
    f.store.runs().finish(retried, &Outcome::Complete).unwrap();
    record(&f.store, "old", &["topic"]);
    record(&f.store, "old", &["topic"]);
    let last = claimed(&f.store);
    f.store.runs().finish(last, &Outcome::Complete).unwrap();
    let (old, app) = (repo("old"), repo("app"));
    let mirror = PullMirror {
        repo: old.clone(),
        url: "git@nas:app".to_owned(),
        login: None,
        every: std::time::Duration::from_secs(60),
        has_runs: true,
    };
    f.store.pull_mirrors().put(&mirror).unwrap();
    // What a crash left at the new name.
    let stale = PullMirror {
        repo: app.clone(),
        ..mirror
    };
    f.store.pull_mirrors().put(&stale).unwrap();
    assert!(f.store.redirects().begin_rename(&old, &app).unwrap());
    f.store.redirects().finish_rename(&old, &app).unwrap();
    record(&f.store, "other", &["main"]);
    let other = claimed(&f.store);
    f.store.runs().finish(other, &Outcome::Complete).unwrap();
    f
}

#[test]
fn rows_are_moved_out_and_in_unchanged() {
    let f = with_history();
    let (before, file) = (rows(&f), f.folder.path().join("rows.db"));
    for table in [
        "runs",
        "jobs",
        "steps",
        "former_names",
        "events",
        "pull_mirrors",
    ] {
        assert!(!before[table].is_empty(), "{table}");
    }
    // Each move is done twice, as after a crash.
    for _ in 0..2 {
        assert!(f.store.repos().move_out(&repo("app"), &file).unwrap());
    }
    let left = rows(&f);
    assert_eq!(left["runs"].len(), 1, "that of the other repository");
    assert_eq!(left["events"].len(), 1);
    assert!(left["former_names"].is_empty() && left["jobs"].is_empty());
    for _ in 0..2 {
        f.store
            .repos()
            .move_in(&file, &repo("app"), &repo("app"))
            .unwrap();
    }
    assert_eq!(rows(&f), before);
}

#[test]
fn rows_are_moved_in_under_another_name() {
    let f = with_history();
    let file = f.folder.path().join("rows.db");
    assert!(f.store.repos().move_out(&repo("app"), &file).unwrap());
    record(&f.store, "app", &["main"]);
    // A redirect to the name that it has now, and one to a name that is in use by now.
    f.store
        .repos()
        .move_in(&file, &repo("app"), &repo("old"))
        .unwrap();
    let of = |name: &str| {
        let filter = RunFilter {
            repo: Some(repo(name)),
            limit: 100,
            ..RunFilter::default()
        };
        f.store.runs().list(&filter).unwrap()
    };
    assert_eq!((of("app").len(), of("old").len()), (1, 4));
    assert_eq!(of("app")[0].number, 5, "no number is used twice");
    assert_eq!(f.store.redirects().list().unwrap(), []);
    record(&f.store, "old", &["main"]);
    assert_eq!(of("old").iter().map(|run| run.number).max(), Some(5));
}

#[test]
fn nothing_is_moved_while_a_run_is_active() {
    let f = fixture();
    let file = f.folder.path().join("rows.db");
    record(&f.store, "app", &["main", "topic"]);
    let active = claimed(&f.store);
    assert!(!f.store.repos().move_out(&repo("app"), &file).unwrap());
    let states = |f: &Fixture| {
        let runs = f.store.runs().list(&RunFilter {
            limit: 100,
            ..RunFilter::default()
        });
        let mut states: Vec<_> = runs.unwrap().iter().map(|run| run.state).collect();
        states.sort_by_key(ToString::to_string);
        states
    };
    assert_eq!(states(&f), [RunState::Active, RunState::Canceled]);
    assert_eq!(
        f.store.runs().get(active).unwrap().unwrap().stop_requested,
        Some(StopReason::Canceled)
    );
    f.store.runs().finish(active, &Outcome::Canceled).unwrap();
    assert!(f.store.repos().move_out(&repo("app"), &file).unwrap());
    assert_eq!(states(&f), []);
}

#[test]
fn every_table_of_repositories_is_moved_or_known_not_to_be() {
    let f = fixture();
    let database = rusqlite::Connection::open(f.folder.path().join("quire.db")).unwrap();
    let mut select = database
        .prepare("SELECT m.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table' AND c.name = 'repo'")
        .unwrap();
    let tables = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
    for table in tables.map(Result::unwrap) {
        let is_moved = crate::repo_rows::MOVED
            .iter()
            .any(|(name, _)| *name == table);
        assert!(
            is_moved || NOT_MOVED.contains(&table.as_str()),
            "{table}: are its rows moved with a removed repository?"
        );
    }
}
