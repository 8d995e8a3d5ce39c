//! The store over a real SQLite file.

mod model;
mod queue;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::clock::{Clock, Millis};
use crate::names::{EventId, JobName, RefName, RepoName, RunId};
use crate::pipeline::Group;
use crate::policy;
use crate::run::event::{EventType, PushEvent, RefUpdate};
use crate::run::{
    ExecutorKind, FailureKind, JobState, Outcome, Run, RunState, StopReason, Trigger,
};

struct Fixture {
    store: Store,
    clock: Arc<AtomicI64>,
    folder: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicI64::new(1_700_000_000_000));
    let store = open(&folder, &clock).unwrap();
    Fixture {
        store,
        clock,
        folder,
    }
}

fn open(folder: &tempfile::TempDir, clock: &Arc<AtomicI64>) -> Result<Store, StoreError> {
    Store::open(
        &folder.path().join("quire.db"),
        &folder.path().join("backups"),
        Journal::Wal,
        Clock::manual(clock.clone()),
    )
}

fn repo(name: &str) -> RepoName {
    name.parse().unwrap()
}

fn branch(name: &str) -> RefName {
    format!("refs/heads/{name}").parse().unwrap()
}

/// Each push goes to a commit of its own.
fn push(repo_name: &str, branches: &[&str]) -> (PushEvent, Vec<NewRun>) {
    push_to(
        repo_name,
        branches,
        &RunId::new().to_string().replace('-', ""),
    )
}

fn push_to(repo_name: &str, branches: &[&str], id: &str) -> (PushEvent, Vec<NewRun>) {
    let refs: Vec<RefUpdate> = branches
        .iter()
        .map(|name| RefUpdate {
            ref_name: branch(name),
            old_sha: "0".repeat(40).parse().unwrap(),
            new_sha: format!("{id:0>40}").parse().unwrap(),
        })
        .collect();
    let event = PushEvent {
        id: EventId::new(),
        event_type: EventType::Push,
        repo: repo(repo_name),
        pusher: Some("laptop".into()),
        pushed_at: Millis(1_600_000_000_000),
        options: vec![],
        refs,
    };
    let runs = event
        .refs
        .iter()
        .map(|update| NewRun {
            pusher: event.pusher.clone(),
            ..NewRun::of_push(
                event.repo.clone(),
                update.ref_name.clone(),
                update.new_sha.clone(),
                event.pushed_at,
            )
        })
        .collect();
    (event, runs)
}

fn claim(f: &Fixture) -> Option<RunId> {
    f.store
        .claim_next(ExecutorKind::Host)
        .unwrap()
        .map(|run| run.id)
}

fn record(store: &Store, repo_name: &str, branches: &[&str]) -> Vec<RunId> {
    let (event, runs) = push(repo_name, branches);
    store
        .record_event(&event, &runs, &RefsNow::new(), policy::settle)
        .unwrap()
        .runs
        .into_iter()
        .map(|(id, _)| id)
        .collect()
}

#[test]
fn an_event_taken_twice_is_taken_once() {
    let f = fixture();
    let (event, runs) = push("app", &["main", "next"]);
    let first = f
        .store
        .record_event(&event, &runs, &RefsNow::new(), policy::settle)
        .unwrap();
    assert!(first.is_new && first.runs.len() == 2);
    let (_, other) = push("app", &["main"]);
    let second = f
        .store
        .record_event(&event, &other, &RefsNow::new(), policy::settle)
        .unwrap();
    assert!(!second.is_new);
    assert_eq!(second.runs, first.runs);
    assert_eq!(
        f.store
            .list_runs(&RunFilter {
                limit: 10,
                ..RunFilter::default()
            })
            .unwrap()
            .len(),
        2
    );
    assert_eq!(f.store.runs_of_event(event.id).unwrap(), Some(first.runs));
    assert_eq!(f.store.runs_of_event(EventId::new()).unwrap(), None);
    assert_eq!(f.store.seen_refs(&repo("app")).unwrap().len(), 2);
}

#[test]
fn a_push_that_the_comparison_of_refs_found_first_makes_no_second_run() {
    let f = fixture();
    let (push, runs) = push_to("app", &["main"], "1");
    let found = PushEvent {
        id: EventId::new(),
        event_type: EventType::Reconcile,
        ..push.clone()
    };
    let record = |event: &PushEvent| {
        f.store
            .record_event(event, &runs, &RefsNow::new(), policy::settle)
            .unwrap()
            .runs
    };
    let count = || {
        f.store
            .list_runs(&RunFilter {
                limit: 10,
                ..RunFilter::default()
            })
            .unwrap()
            .len()
    };
    let first = record(&found);
    assert_eq!((record(&push), count()), (first, 1));
    // The same commit pushed again, after a detour that nobody recorded, is a push of its own.
    record(&PushEvent {
        id: EventId::new(),
        ..push
    });
    assert_eq!(count(), 2);
    assert_eq!(f.store.repos_with_seen_refs().unwrap(), [repo("app")]);
    f.store.forget_seen_refs(&repo("app")).unwrap();
    assert!(f.store.seen_refs(&repo("app")).unwrap().is_empty());
}

#[test]
fn a_run_does_not_end_before_its_container_is_gone() {
    let f = fixture();
    let run = record(&f.store, "app", &["main"])[0];
    assert!(
        f.store.container_created(run, "c1", "debian").is_err(),
        "it is not active"
    );
    f.store.claim_next(ExecutorKind::Docker).unwrap();
    f.store.container_created(run, "c1", "debian").unwrap();
    f.store.container_started(run).unwrap();
    assert!(f.store.finish(run, &Outcome::Complete).is_err());
    f.clock.fetch_sub(3_600_000, Ordering::SeqCst);
    f.store.container_gone(run).unwrap();
    f.store.finish(run, &Outcome::Complete).unwrap();
    let row = f.store.run(run).unwrap().unwrap();
    assert!(row.finished_at_ms >= row.started_at_ms && row.container_id.is_none());
    assert!(matches!(
        f.store.finish(run, &Outcome::Complete),
        Err(StoreError::IllegalTransition { .. })
    ));
}

#[test]
fn what_jobs_returned_is_read_only_where_it_is_asked_for() {
    let f = fixture();
    let run = record(&f.store, "app", &["main"])[0];
    let a: JobName = "a".parse().unwrap();
    f.store.claim_next(ExecutorKind::Host).unwrap();
    f.store
        .register_jobs(run, &[(a.clone(), vec!["quire/push".into()])])
        .unwrap();
    f.store.job_started(run, &a).unwrap();
    let output = serde_json::json!({"large": "x"});
    f.store
        .job_ended(
            run,
            &a,
            JobState::Active,
            &JobResult {
                output: Some(&output),
                ..JobResult::plain(JobState::Complete)
            },
        )
        .unwrap();
    let mut jobs = f.store.jobs(run).unwrap();
    assert_eq!(jobs[0].output.take(), Some(output));
    assert_eq!(f.store.jobs_without_outputs(run).unwrap(), jobs);
}

#[test]
fn jobs_and_steps_end_with_their_run() {
    let f = fixture();
    let run = record(&f.store, "app", &["main"])[0];
    let (a, b): (JobName, JobName) = ("a".parse().unwrap(), "b".parse().unwrap());
    f.store.claim_next(ExecutorKind::Host).unwrap();
    f.store
        .register_jobs(
            run,
            &[
                (a.clone(), vec!["quire/push".into()]),
                (b.clone(), vec!["a".into()]),
            ],
        )
        .unwrap();
    assert!(
        f.store
            .step_started(run, 1, &"c".parse().unwrap(), "true")
            .is_err(),
        "no such job"
    );
    f.store.job_started(run, &a).unwrap();
    assert!(f.store.job_started(run, &a).is_err());
    f.store.step_started(run, 1, &a, "true").unwrap();
    f.store.step_ended(run, 1, Some(0)).unwrap();
    assert!(f.store.step_ended(run, 1, Some(1)).is_err());
    f.store.step_started(run, 2, &a, "sleep").unwrap();
    f.store
        .finish(
            run,
            &Outcome::Failed(FailureKind::Timeout, "too long".into()),
        )
        .unwrap();
    let jobs = f.store.jobs(run).unwrap();
    assert_eq!(
        (jobs[0].state, jobs[1].state),
        (JobState::Aborted, JobState::Skipped)
    );
    assert!(
        f.store
            .steps(run)
            .unwrap()
            .iter()
            .all(|step| step.finished_at_ms.is_some())
    );
    let since = |after, also: &[u32]| {
        f.store
            .steps_since(run, after, also)
            .unwrap()
            .iter()
            .map(|step| step.seq)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (
            since(0, &[]),
            since(1, &[]),
            since(1, &[1, 2, 7]),
            since(2, &[2, 1])
        ),
        (vec![1, 2], vec![2], vec![1, 2], vec![1, 2])
    );
    assert_eq!((since(2, &[]), since(u32::MAX, &[2])), (vec![], vec![2]));
    f.store.forget_repo(&repo("app")).unwrap();
    assert!(f.store.jobs(run).unwrap().is_empty() && f.store.steps(run).unwrap().is_empty());
}

#[test]
fn ids_shorten_to_unique_prefixes() {
    let f = fixture();
    let runs = record(&f.store, "app", &["a", "b"]);
    assert_eq!(f.store.resolve_run(&runs[0].to_string()).unwrap(), runs[0]);
    assert!(matches!(
        f.store.resolve_run(&runs[0].to_string()[..6]),
        Err(StoreError::AmbiguousRun(_))
    ));
    for hopeless in ["", "zzzz", "%", "0000", &"f".repeat(1_000_000)] {
        assert!(
            matches!(f.store.resolve_run(hopeless), Err(StoreError::NoSuchRun(_))),
            "{hopeless:.10}"
        );
    }
}

#[test]
fn login_links_work_once_and_in_time() {
    let f = fixture();
    let now = Millis(f.clock.load(Ordering::SeqCst));
    let laptop = SignIn {
        key_name: "laptop".into(),
        key_fingerprint: Some("SHA256:x".into()),
    };
    let local = SignIn {
        key_name: "local".into(),
        key_fingerprint: None,
    };
    f.store
        .create_login_link("h1", &laptop, now.plus(1000))
        .unwrap();
    f.store
        .create_login_link("h2", &laptop, now.plus(1000))
        .unwrap();
    assert_eq!(
        f.store.take_login_link("h1", now).unwrap(),
        Some(laptop.clone())
    );
    assert_eq!(f.store.take_login_link("h1", now).unwrap(), None);
    assert_eq!(f.store.take_login_link("h2", now.plus(1001)).unwrap(), None);
    f.store
        .create_session("s", &laptop, now, now.plus(10))
        .unwrap();
    f.store
        .create_session("l", &local, now, now.plus(10))
        .unwrap();
    assert_eq!(f.store.session("s", now).unwrap(), Some(laptop));
    assert_eq!(f.store.session("l", now).unwrap(), Some(local.clone()));
    assert_eq!(f.store.session("s", now.plus(11)).unwrap(), None);
    f.store.delete_session("s").unwrap();
    assert_eq!(f.store.session("s", now).unwrap(), None);
    // Made while the clock was a year ahead: good for no longer than any other once it is right again.
    const YEAR: i64 = 365 * 24 * 3_600_000;
    f.store
        .create_login_link("h3", &local, now.plus(YEAR + 1000))
        .unwrap();
    assert_eq!(f.store.take_login_link("h3", now).unwrap(), None);
    f.store
        .create_session("y", &local, now.plus(YEAR), now.plus(YEAR + 10))
        .unwrap();
    assert_eq!(f.store.session("y", now).unwrap(), None);
    assert_eq!(f.store.session("y", now.plus(YEAR)).unwrap(), Some(local));
}

#[test]
fn a_newer_or_damaged_database_is_refused_in_words() {
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
fn what_the_last_release_wrote_goes_on_after_the_upgrade() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("quire.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../../migrations/0001_initial.sql"))
        .unwrap();
    old.execute_batch(include_str!("../../migrations/samples/0001_initial.sql"))
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
    let row = |n: u32| store.run(id(n)).unwrap().unwrap();
    assert!(row(1).supersede && !row(1).keep && row(1).params.is_none());
    // The one that was active ends as an orphan and comes back; the pending one is claimed; a newer push supersedes it.
    store.container_gone(id(2)).unwrap();
    let again = store
        .orphan(id(2), "gone", true, policy::settle)
        .unwrap()
        .unwrap();
    assert_eq!(
        store.claim_next(ExecutorKind::Docker).unwrap(),
        None,
        "whether they are of a group is not known yet"
    );
    for run in store.unexamined_runs(10).unwrap() {
        store.examined(&run, None, policy::settle).unwrap();
    }
    assert_eq!(
        store.claim_next(ExecutorKind::Docker).unwrap().unwrap().id,
        id(3)
    );
    assert_eq!(
        store.claim_next(ExecutorKind::Docker).unwrap().unwrap().id,
        again
    );
    let (event, runs) = push("work/app", &["main"]);
    let recorded = store
        .record_event(&event, &runs, &RefsNow::new(), policy::settle)
        .unwrap();
    assert_eq!(recorded.replaced, [id(3)]);
    let retried = store
        .retry(
            id(1),
            Repeat {
                only_failed: true,
                keep: true,
            },
        )
        .unwrap();
    assert_eq!(
        store.reused(retried.id).unwrap()[0].output,
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

#[test]
fn schedules_move_on_once_and_go_with_their_repository() {
    let f = fixture();
    let (app, main, sha) = (repo("app"), branch("main"), "1".repeat(40).parse().unwrap());
    let set = |new: &[(&str, &str, i64)]| {
        let new: Vec<NewSchedule> = new
            .iter()
            .map(|(name, text, at)| ((*name).to_owned(), (*text).to_owned(), Millis(*at)))
            .collect();
        f.store.set_schedules(&app, &main, &sha, &new).unwrap();
    };
    set(&[("a", "0 1 * * *", 100), ("b", "0 2 * * *", 200)]);
    // One that stays the same keeps its time, one that changed gets the new, one that is gone goes.
    set(&[("a", "0 1 * * *", 101), ("c", "0 3 * * *", 300)]);
    let listed = || {
        f.store
            .schedules(None)
            .unwrap()
            .into_iter()
            .map(|row| (row.name, row.next_at_ms.0))
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(), [("a".to_owned(), 100), ("c".to_owned(), 300)]);
    assert!(f.store.due_schedules(Millis(99)).unwrap().is_empty());
    let due = f.store.due_schedules(Millis(100)).unwrap().remove(0);
    let run = NewRun {
        trigger: Trigger::Cron,
        source: "quire/cron/a".into(),
        ..NewRun::of_push(
            app.clone(),
            main.clone(),
            "1".repeat(40).parse().unwrap(),
            Millis(100),
        )
    };
    assert!(
        f.store
            .fire_schedule(&due, Millis(500), Some(&run))
            .unwrap()
    );
    assert!(
        !f.store
            .fire_schedule(&due, Millis(600), Some(&run))
            .unwrap(),
        "it was moved on already"
    );
    let due = f
        .store
        .due_schedules(Millis(500))
        .unwrap()
        .into_iter()
        .find(|row| row.name == "a")
        .unwrap();
    assert!(
        !f.store
            .fire_schedule(&due, Millis(900), Some(&run))
            .unwrap(),
        "its last run waits still"
    );
    assert_eq!(listed()[0].1, 900);
    assert_eq!(
        claim(&f).map(|run| f.store.run(run).unwrap().unwrap().trigger),
        Some(Trigger::Cron)
    );
    f.store
        .note_schedule_problem(&app, &main, &sha, "it is wrong")
        .unwrap();
    assert_eq!(
        f.store.schedules(Some(&app)).unwrap()[0].problem.as_deref(),
        Some("it is wrong")
    );
    f.store.keep_schedules_of(&[repo("other")]).unwrap();
    assert!(listed().is_empty());
    set(&[("a", "0 1 * * *", 100)]);
    f.store.forget_repo(&app).unwrap();
    assert!(listed().is_empty());
    assert_eq!(f.store.schedule_source(&app, &main).unwrap().read, None);
}

thread_local! {
    static STATEMENTS: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

fn note_statement(event: rusqlite::trace::TraceEvent<'_>) {
    if let rusqlite::trace::TraceEvent::Stmt(statement, _) = event
        && let Some(sql) = statement.expanded_sql()
    {
        STATEMENTS.with_borrow_mut(|seen| seen.push(sql));
    }
}

#[test]
fn a_million_runs_are_never_scanned() {
    let f = fixture();
    let run = record(&f.store, "app", &["main"])[0];
    let codes = rusqlite::trace::TraceEventCodes::SQLITE_TRACE_STMT;
    let traced =
        |connection: &rusqlite::Connection| connection.trace_v2(codes, Some(note_statement));
    let also_here = |connection: &rusqlite::Connection| {
        traced(connection);
        Ok(())
    };
    f.store.write(|tx| also_here(tx)).unwrap();
    f.store.read(also_here).unwrap();
    let all = RunFilter {
        limit: 50,
        ..RunFilter::default()
    };
    assert!(f.store.has_claimable().unwrap());
    assert_eq!(
        f.store.claim_next(ExecutorKind::Host).unwrap().unwrap().id,
        run
    );
    assert_eq!(f.store.list_runs(&all).unwrap().len(), 1);
    for filter in [
        RunFilter {
            repo: Some(repo("app")),
            ..all.clone()
        },
        RunFilter {
            repo: Some(repo("app")),
            ref_name: Some(branch("main")),
            ..all.clone()
        },
        RunFilter {
            state: Some(RunState::Active),
            ..all.clone()
        },
        RunFilter {
            before: Some(RunId::new()),
            ..all
        },
    ] {
        assert_eq!(f.store.list_runs(&filter).unwrap().len(), 1);
    }
    assert_eq!(f.store.active_runs().unwrap().len(), 1);
    f.store.note_waiting(None).unwrap();
    f.store
        .note_removed(
            &[run],
            RemovedFiles {
                logs: true,
                artifacts: true,
            },
        )
        .unwrap();
    f.store.remove_runs(&[run]).unwrap();
    f.store.remove_events(Millis(1), 500).unwrap();
    f.store.finish(run, &Outcome::Complete).unwrap();
    let seen: Vec<String> = STATEMENTS
        .take()
        .into_iter()
        .filter(|sql| !["BEGIN", "COMMIT"].iter().any(|word| sql.starts_with(word)))
        .collect();
    assert!(seen.len() >= 12, "{seen:?}");
    for sql in seen.iter().filter(|sql| !sql.starts_with("--")) {
        let plan = f.store.read(|connection| {
            let mut statement = connection
                .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .unwrap();
            Ok(statement
                .query_map([], |row| row.get::<_, String>(3))
                .unwrap()
                .map(Result::unwrap)
                .collect::<Vec<_>>())
        });
        for step in plan.unwrap() {
            // In the order of an index and only as far as is asked, or through a small table.
            let scan = step.starts_with("SCAN ")
                && !step.contains(" USING ")
                && !step.contains("kept_containers")
                && !step.ends_with(" chain")
                && !step.contains("CONSTANT ROW");
            assert!(
                !scan && !step.contains("TEMP B-TREE FOR ORDER BY"),
                "{step}: {sql}"
            );
        }
    }
}

#[test]
fn what_the_release_before_former_names_wrote_is_renamed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("quire.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    for sql in [
        include_str!("../../migrations/0001_initial.sql"),
        include_str!("../../migrations/samples/0001_initial.sql"),
        include_str!("../../migrations/0002_pipelines.sql"),
        include_str!("../../migrations/samples/0002_pipelines.sql"),
    ] {
        old.execute_batch(sql).unwrap();
    }
    old.pragma_update(None, "user_version", 2).unwrap();
    drop(old);
    let store = open(&folder, &Arc::new(AtomicI64::new(1_700_000_100_000))).unwrap();
    assert!(
        store
            .begin_rename(&repo("app"), &repo("work/shop"))
            .unwrap()
    );
    store
        .finish_rename(&repo("app"), &repo("work/shop"))
        .unwrap();
    assert_eq!(
        store.repos_with_runs().unwrap(),
        [repo("work/app"), repo("work/shop")]
    );
    assert_eq!(
        store.schedules(Some(&repo("app"))).unwrap()[0].repo,
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
fn whatever_name_is_used_it_leads_to_the_rows_before_under_and_after_a_rename() {
    let f = fixture();
    let (app, shop) = (repo("app"), repo("shop"));
    let runs = |name: &str| {
        f.store
            .list_runs(&RunFilter {
                repo: Some(repo(name)),
                limit: 100,
                ..RunFilter::default()
            })
            .unwrap()
            .len()
    };
    record(&f.store, "app", &["main"]);
    let active = f.store.claim_next(ExecutorKind::Host).unwrap().unwrap();
    record(&f.store, "app", &["other"]);
    assert!(f.store.begin_rename(&app, &shop).unwrap());
    assert!(f.store.has_open_renames().unwrap());
    // Under it nothing is claimed, and both names are the old one: the folder may bear either.
    assert_eq!(f.store.claim_next(ExecutorKind::Host).unwrap(), None);
    assert!(!f.store.has_claimable().unwrap());
    record(&f.store, "app", &["third"]);
    record(&f.store, "shop", &["fourth"]);
    assert_eq!((runs("app"), runs("shop")), (4, 4));
    assert_eq!(f.store.active_runs_of(&app).unwrap(), [active.id]);
    // A list of repositories that was made meanwhile may have either of them, or none.
    let (branch_of, sha) = (branch("main"), "1".repeat(40).parse().unwrap());
    f.store
        .set_schedules(
            &shop,
            &branch_of,
            &sha,
            &[("night".into(), "0 3 * * *".into(), Millis(i64::MAX))],
        )
        .unwrap();
    let nothing_is_forgotten = || {
        f.store.forget_seen_refs(&app).unwrap();
        f.store.forget_seen_refs(&shop).unwrap();
        f.store.keep_schedules_of(&[]).unwrap();
        for name in [&app, &shop] {
            assert!(
                f.store.seen_refs(name).unwrap().len() >= 4
                    && f.store.schedules(Some(name)).unwrap().len() == 1
            );
        }
    };
    nothing_is_forgotten();
    assert!(
        !f.store.begin_rename(&repo("third"), &shop).unwrap(),
        "that name is promised"
    );
    assert!(
        !f.store.begin_rename(&app, &repo("other")).unwrap(),
        "one after the other"
    );
    for _ in 0..2 {
        f.store.finish_rename(&app, &shop).unwrap();
        assert!(f.store.runs_are_all_of(&shop));
        assert_eq!(f.store.active_runs_of(&shop).unwrap(), [active.id]);
    }
    // After it both are the new one.
    record(&f.store, "app", &["fifth"]);
    nothing_is_forgotten();
    f.clock.fetch_add(61_000, Ordering::SeqCst);
    f.store.forget_seen_refs(&app).unwrap();
    assert_eq!(
        (
            runs("app"),
            runs("shop"),
            f.store.seen_refs(&app).unwrap().len()
        ),
        (5, 5, 5)
    );
    assert!(f.store.runs_are_all_of(&shop));
    assert!(f.store.claim_next(ExecutorKind::Host).unwrap().is_some());
    assert_eq!(f.store.left_links().unwrap(), std::slice::from_ref(&app));
    f.store.forget_left_links(&app).unwrap();
    assert!(!f.store.has_open_renames().unwrap());
    // A run that was read by the old name and is examined now supersedes by the new one.
    let stale = |branch: &str| {
        let (event, mut runs) = push("shop", &[branch]);
        runs[0].unexamined = true;
        let recorded = f
            .store
            .record_event(&event, &runs, &RefsNow::new(), policy::settle)
            .unwrap();
        Run {
            repo: app.clone(),
            ..f.store.run(recorded.runs[0].0).unwrap().unwrap()
        }
    };
    let group = Group {
        name: "deploy".into(),
        supersede: true,
    };
    let (older, newer) = (stale("sixth"), stale("seventh"));
    f.store
        .examined(&older, Some(&group), policy::settle)
        .unwrap();
    assert!(
        f.store
            .examined(&newer, Some(&group), policy::settle)
            .unwrap()
            .contains(&older.id)
    );
    f.store.forget_seen_refs(&shop).unwrap();
    assert_eq!(
        f.store.seen_refs(&shop).unwrap(),
        [],
        "at rest what is gone is forgotten"
    );
    // A name that is taken by another one leads there no more, and with the repository its names go.
    f.store.forget_former_name(&app).unwrap();
    record(&f.store, "app", &["main"]);
    assert_eq!(runs("app"), 1);
    assert!(!f.store.begin_rename(&shop, &app).unwrap(), "it has runs");
    assert!(f.store.begin_rename(&shop, &repo("third")).unwrap());
    f.store.withdraw_rename(&shop).unwrap();
    assert!(f.store.former_names().unwrap().is_empty());
}

impl Store {
    fn runs_are_all_of(&self, repo: &RepoName) -> bool {
        self.repos_with_runs().unwrap() == std::slice::from_ref(repo)
    }
}

#[test]
fn what_images_and_caches_were_used_for_is_kept_as_long_as_they_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicI64::new(1_700_000_100_000));
    let store = open(&folder, &clock).unwrap();
    let database = rusqlite::Connection::open(folder.path().join("quire.db")).unwrap();
    database
        .execute_batch(include_str!("../../migrations/samples/0004_upkeep.sql"))
        .unwrap();
    let used = |engine: &str| {
        store
            .images(engine)
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
            store.layers("ENGINE").unwrap().len(),
            store.cache_uses().unwrap().len()
        ),
        (Vec::new(), 1, 2)
    );
    // Whatever was not quire's own does not become so by being used; what follows soon is the same use.
    store.image_used("node:20").unwrap();
    store.image_used("debian:trixie-slim").unwrap();
    assert_eq!(used("ENGINE")[0].1, 1_700_000_000_000);
    clock.store(1_700_007_200_000, Ordering::SeqCst);
    store.image_used("debian:trixie-slim").unwrap();
    let repo = "app".parse().unwrap();
    store
        .caches_used(
            ExecutorKind::Docker,
            &repo,
            &["target".into(), "new".into()],
        )
        .unwrap();
    assert_eq!(
        used("ENGINE"),
        [("debian:trixie-slim".to_owned(), 1_700_007_200_000)]
    );
    // A layer that is used again is still of the build that made it.
    store
        .layer_built(
            "ENGINE",
            "0123456789ab",
            Millis(1_700_007_200_000),
            "quire/app:other",
        )
        .unwrap();
    let layer = store.layers("ENGINE").unwrap().pop().unwrap();
    assert_eq!(
        (layer.since.0, layer.built_for.as_str(), layer.used_at.0),
        (1_700_000_000_000, "quire/app:other", 1_700_007_200_000)
    );
    // The clock was wrong, and is set right.
    clock.store(1_700_003_600_000, Ordering::SeqCst);
    store.mend_uses().unwrap();
    assert_eq!(used("ENGINE")[0].1, 1_700_003_600_000);
    store
        .forget_cache(ExecutorKind::Docker, &repo, "target")
        .unwrap();
    store.forget_image("ENGINE", "0123456789ab").unwrap();
    store.forget_image("ENGINE", "debian:trixie-slim").unwrap();
    let left: Vec<_> = store
        .cache_uses()
        .unwrap()
        .into_iter()
        .map(|used| used.name)
        .collect();
    assert_eq!(
        (left, used("ENGINE"), store.layers("ENGINE").unwrap()),
        (vec!["new".into(), "deps".into()], Vec::new(), Vec::new())
    );
}
