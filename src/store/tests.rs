//! The store against a simple model, over a real SQLite file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::clock::{Clock, Millis};
use crate::names::{EventId, JobName, RefName, RepoName, RunId};
use crate::pipeline::Group;
use crate::policy;
use crate::run::event::{EventType, PushEvent, RefUpdate};
use crate::run::{ExecutorKind, FailureKind, JobState, Outcome, Run, RunState, StopReason, Trigger};

struct Fixture {
    store: Store,
    clock: Arc<AtomicI64>,
    folder: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicI64::new(1_700_000_000_000));
    let store = open(&folder, &clock).unwrap();
    Fixture { store, clock, folder }
}

fn open(folder: &tempfile::TempDir, clock: &Arc<AtomicI64>) -> Result<Store, StoreError> {
    Store::open(&folder.path().join("quire.db"), &folder.path().join("backups"), Journal::Wal, Clock::manual(clock.clone()))
}

fn repo(name: &str) -> RepoName {
    name.parse().unwrap()
}

fn branch(name: &str) -> RefName {
    format!("refs/heads/{name}").parse().unwrap()
}

/// Each push goes to a commit of its own.
fn push(repo_name: &str, branches: &[&str]) -> (PushEvent, Vec<NewRun>) {
    push_to(repo_name, branches, &RunId::new().to_string().replace('-', ""))
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
            ..NewRun::of_push(event.repo.clone(), update.ref_name.clone(), update.new_sha.clone(), event.pushed_at)
        })
        .collect();
    (event, runs)
}

fn record(store: &Store, repo_name: &str, branches: &[&str]) -> Vec<RunId> {
    let (event, runs) = push(repo_name, branches);
    store.record_event(&event, &runs, &RefsNow::new(), policy::settle).unwrap();
    runs.iter().map(|run| run.id).collect()
}

#[test]
fn an_event_taken_twice_is_taken_once() {
    let f = fixture();
    let (event, runs) = push("app", &["main", "next"]);
    let first = f.store.record_event(&event, &runs, &RefsNow::new(), policy::settle).unwrap();
    assert!(first.is_new && first.runs.len() == 2);
    let (_, other) = push("app", &["main"]);
    let second = f.store.record_event(&event, &other, &RefsNow::new(), policy::settle).unwrap();
    assert!(!second.is_new);
    assert_eq!(second.runs, first.runs);
    assert_eq!(f.store.list_runs(&RunFilter { limit: 10, ..RunFilter::default() }).unwrap().len(), 2);
    assert_eq!(f.store.runs_of_event(event.id).unwrap(), Some(first.runs));
    assert_eq!(f.store.runs_of_event(EventId::new()).unwrap(), None);
    assert_eq!(f.store.seen_refs(&repo("app")).unwrap().len(), 2);
}

#[test]
fn a_newer_push_supersedes_and_waits_for_the_active_run() {
    let f = fixture();
    let first = record(&f.store, "app", &["main"])[0];
    assert_eq!(f.store.claim_next(ExecutorKind::Host).unwrap().unwrap().id, first);
    let second = record(&f.store, "app", &["main"])[0];
    let third = record(&f.store, "app", &["main"])[0];
    let state = |id| f.store.run(id).unwrap().unwrap();
    assert_eq!(state(second).state, RunState::Superseded);
    assert_eq!(state(second).superseded_by, Some(third));
    assert_eq!((state(first).state, state(first).stop_requested), (RunState::Active, Some(StopReason::Superseded)));
    assert_eq!(f.store.claim_next(ExecutorKind::Host).unwrap(), None, "the ref has an active run");
    f.store.finish(first, &Outcome::Superseded).unwrap();
    assert_eq!(f.store.claim_next(ExecutorKind::Host).unwrap().unwrap().id, third);
}

#[test]
fn hooks_heard_in_the_wrong_order_do_not_bring_back_an_older_commit() {
    let f = fixture();
    let (first, mut first_run) = push_to("app", &["main"], "1");
    let (second, mut second_run) = push_to("app", &["main"], "2");
    let now: RefsNow = [(branch("main"), Some(second.refs[0].new_sha.clone()))].into();
    f.store.record_event(&second, &second_run, &now, policy::settle).unwrap();
    f.store.record_event(&first, &first_run, &now, policy::settle).unwrap();
    let state = |id| f.store.run(id).unwrap().unwrap();
    assert_eq!(state(second_run[0].id).state, RunState::Pending);
    assert_eq!((state(first_run[0].id).state, state(first_run[0].id).superseded_by), (RunState::Superseded, Some(second_run[0].id)));
    assert_eq!(f.store.seen_refs(&repo("app")).unwrap()[0].sha, second.refs[0].new_sha);

    // Pushed back to the first commit, and forth again: pushes like any other.
    for (event, run) in [(&first, &mut first_run), (&second, &mut second_run)] {
        let back = PushEvent { id: EventId::new(), ..event.clone() };
        run[0].id = RunId::new();
        f.store.record_event(&back, run, &RefsNow::new(), policy::settle).unwrap();
        assert_eq!(state(run[0].id).state, RunState::Pending);
    }
}

#[test]
fn a_push_that_the_comparison_of_refs_found_first_makes_no_second_run() {
    let f = fixture();
    let (push, mut runs) = push_to("app", &["main"], "1");
    let found = PushEvent { id: EventId::new(), event_type: EventType::Reconcile, ..push.clone() };
    f.store.record_event(&found, &runs, &RefsNow::new(), policy::settle).unwrap();
    let first = std::mem::replace(&mut runs[0].id, RunId::new());
    let recorded = f.store.record_event(&push, &runs, &RefsNow::new(), policy::settle).unwrap();
    assert_eq!(recorded.runs, [(first, branch("main"))]);
    assert!(f.store.run(runs[0].id).unwrap().is_none());
    // The same commit pushed again, after a detour that nobody recorded, is a push of its own.
    let again = PushEvent { id: EventId::new(), ..push };
    runs[0].id = RunId::new();
    f.store.record_event(&again, &runs, &RefsNow::new(), policy::settle).unwrap();
    assert!(f.store.run(runs[0].id).unwrap().is_some());
    f.store.keep_seen_refs_of(&[repo("other")]).unwrap();
    assert!(f.store.seen_refs(&repo("app")).unwrap().is_empty());
}

#[test]
fn a_retry_replaces_nothing() {
    let f = fixture();
    let old = record(&f.store, "app", &["main"])[0];
    f.store.request_cancel(old).unwrap();
    let newest = record(&f.store, "app", &["main"])[0];
    let again = f.store.retry(old, Repeat::default()).unwrap();
    let state = |id| f.store.run(id).unwrap().unwrap().state;
    assert_eq!((state(newest), state(again.id)), (RunState::Pending, RunState::Pending));
    assert_eq!(f.store.claim_next(ExecutorKind::Host).unwrap().unwrap().id, newest);
}

#[test]
fn a_run_does_not_end_before_its_container_is_gone() {
    let f = fixture();
    let run = record(&f.store, "app", &["main"])[0];
    assert!(f.store.container_created(run, "c1", "debian").is_err(), "it is not active");
    f.store.claim_next(ExecutorKind::Docker).unwrap();
    f.store.container_created(run, "c1", "debian").unwrap();
    f.store.container_started(run).unwrap();
    assert!(f.store.finish(run, &Outcome::Complete).is_err());
    f.clock.fetch_sub(3_600_000, Ordering::SeqCst);
    f.store.container_gone(run).unwrap();
    f.store.finish(run, &Outcome::Complete).unwrap();
    let row = f.store.run(run).unwrap().unwrap();
    assert!(row.finished_at_ms >= row.started_at_ms && row.container_id.is_none());
    assert!(matches!(f.store.finish(run, &Outcome::Complete), Err(StoreError::IllegalTransition { .. })));
}

#[test]
fn an_orphan_is_queued_again_once() {
    let f = fixture();
    let run = record(&f.store, "app", &["main"])[0];
    f.store.claim_next(ExecutorKind::Host).unwrap();
    let again = f.store.orphan(run, "quire was stopped", true, policy::settle).unwrap().unwrap();
    assert_eq!(f.store.successor_of(run).unwrap(), Some(again));
    let row = f.store.run(again).unwrap().unwrap();
    assert_eq!((row.trigger, row.retry_of, row.state), (Trigger::Orphan, Some(run), RunState::Pending));
    assert_eq!(f.store.claim_next(ExecutorKind::Host).unwrap().unwrap().id, again);
    assert_eq!(f.store.orphan(again, "again", true, policy::settle).unwrap(), None);
    let retried = f.store.retry(run, Repeat::default()).unwrap();
    assert_eq!(retried.retry_of, Some(run));
    assert!(matches!(f.store.retry(retried.id, Repeat::default()), Err(StoreError::NotEnded { .. })));
}

#[test]
fn what_jobs_returned_is_read_only_where_it_is_asked_for() {
    let f = fixture();
    let run = record(&f.store, "app", &["main"])[0];
    let a: JobName = "a".parse().unwrap();
    f.store.claim_next(ExecutorKind::Host).unwrap();
    f.store.register_jobs(run, &[(a.clone(), vec!["quire/push".into()])]).unwrap();
    f.store.job_started(run, &a).unwrap();
    let output = serde_json::json!({"large": "x"});
    f.store.job_ended(run, &a, JobState::Active, &JobResult { output: Some(&output), ..JobResult::plain(JobState::Complete) }).unwrap();
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
    f.store.register_jobs(run, &[(a.clone(), vec!["quire/push".into()]), (b.clone(), vec!["a".into()])]).unwrap();
    assert!(f.store.step_started(run, 1, &"c".parse().unwrap(), "true").is_err(), "no such job");
    f.store.job_started(run, &a).unwrap();
    assert!(f.store.job_started(run, &a).is_err());
    f.store.step_started(run, 1, &a, "true").unwrap();
    f.store.step_ended(run, 1, Some(0)).unwrap();
    assert!(f.store.step_ended(run, 1, Some(1)).is_err());
    f.store.step_started(run, 2, &a, "sleep").unwrap();
    f.store.finish(run, &Outcome::Failed(FailureKind::Timeout, "too long".into())).unwrap();
    let jobs = f.store.jobs(run).unwrap();
    assert_eq!((jobs[0].state, jobs[1].state), (JobState::Aborted, JobState::Skipped));
    assert!(f.store.steps(run).unwrap().iter().all(|step| step.finished_at_ms.is_some()));
    let since = |after, also: &[u32]| f.store.steps_since(run, after, also).unwrap().iter().map(|step| step.seq).collect::<Vec<_>>();
    assert_eq!((since(0, &[]), since(1, &[]), since(1, &[1, 2, 7]), since(2, &[2, 1])), (vec![1, 2], vec![2], vec![1, 2], vec![1, 2]));
    assert_eq!((since(2, &[]), since(u32::MAX, &[2])), (vec![], vec![2]));
    f.store.forget_repo(&repo("app")).unwrap();
    assert!(f.store.jobs(run).unwrap().is_empty() && f.store.steps(run).unwrap().is_empty());
}

#[test]
fn ids_shorten_to_unique_prefixes() {
    let f = fixture();
    let runs = record(&f.store, "app", &["a", "b"]);
    assert_eq!(f.store.resolve_run(&runs[0].to_string()).unwrap(), runs[0]);
    assert!(matches!(f.store.resolve_run(&runs[0].to_string()[..6]), Err(StoreError::AmbiguousRun(_))));
    for hopeless in ["", "zzzz", "%", "0000", &"f".repeat(1_000_000)] {
        assert!(matches!(f.store.resolve_run(hopeless), Err(StoreError::NoSuchRun(_))), "{hopeless:.10}");
    }
}

#[test]
fn login_links_work_once_and_in_time() {
    let f = fixture();
    let now = Millis(f.clock.load(Ordering::SeqCst));
    let laptop = SignIn { key_name: "laptop".into(), key_fingerprint: Some("SHA256:x".into()) };
    let local = SignIn { key_name: "local".into(), key_fingerprint: None };
    f.store.create_login_link("h1", &laptop, now.plus(1000)).unwrap();
    f.store.create_login_link("h2", &laptop, now.plus(1000)).unwrap();
    assert_eq!(f.store.take_login_link("h1", now).unwrap(), Some(laptop.clone()));
    assert_eq!(f.store.take_login_link("h1", now).unwrap(), None);
    assert_eq!(f.store.take_login_link("h2", now.plus(1001)).unwrap(), None);
    f.store.create_session("s", &laptop, now, now.plus(10)).unwrap();
    f.store.create_session("l", &local, now, now.plus(10)).unwrap();
    assert_eq!(f.store.session("s", now).unwrap(), Some(laptop));
    assert_eq!(f.store.session("l", now).unwrap(), Some(local));
    assert_eq!(f.store.session("s", now.plus(11)).unwrap(), None);
    f.store.delete_session("s").unwrap();
    assert_eq!(f.store.session("s", now).unwrap(), None);
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
    assert!(matches!(&error, StoreError::Newer { found: 999, snapshot: Some(_), .. }), "{error}");
    assert!(matches!(Store::open_existing(&path, Clock::system()), Err(StoreError::Newer { .. })));

    std::fs::remove_file(&path).unwrap();
    assert!(matches!(Store::open_existing(&path, Clock::system()), Err(StoreError::Open { .. })));
    std::fs::write(&path, b"this is no database, whatever its name says, and it is long enough").unwrap();
    let error = open(&f.folder, &f.clock).unwrap_err();
    assert!(matches!(&error, StoreError::Damaged { last_backup: Some(_), .. }), "{error}");
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
    assert!(matches!(open(&f.folder, &f.clock), Err(StoreError::Damaged { .. })));
}

/// What the model knows of a run.
#[derive(Debug, Clone, PartialEq)]
struct Model {
    state: RunState,
    container: bool,
    stop: bool,
    slot: u8,
}

#[derive(Debug, Clone)]
enum Act {
    Push(u8),
    Claim,
    Container(usize),
    Gone(usize),
    Finish(usize, u8),
    Cancel(usize),
    Orphan(usize),
    Clock(i64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..3_u8).prop_map(Act::Push),
        3 => Just(Act::Claim),
        1 => any::<usize>().prop_map(Act::Container),
        1 => any::<usize>().prop_map(Act::Gone),
        2 => (any::<usize>(), 0..3_u8).prop_map(|(run, how)| Act::Finish(run, how)),
        1 => any::<usize>().prop_map(Act::Cancel),
        1 => any::<usize>().prop_map(Act::Orphan),
        1 => (-5_000_000..5_000_000_i64).prop_map(Act::Clock),
    ]
}

/// Plays an act on the model: whether the store must accept it.
fn play(f: &Fixture, model: &mut BTreeMap<RunId, Model>, order: &mut Vec<RunId>, act: Act) {
    let pick = |index: usize| (!order.is_empty()).then(|| order[index % order.len()]);
    match act {
        Act::Push(slot) => {
            let id = record(&f.store, "app", &[&format!("b{slot}")])[0];
            for run in model.values_mut().filter(|run| run.slot == slot) {
                match run.state {
                    RunState::Pending => run.state = RunState::Superseded,
                    RunState::Active => run.stop = true,
                    _ => {}
                }
            }
            model.insert(id, Model { state: RunState::Pending, container: false, stop: false, slot });
            order.push(id);
        }
        Act::Claim => {
            let busy: Vec<u8> = model.values().filter(|run| run.state == RunState::Active).map(|run| run.slot).collect();
            let free = order.iter().any(|id| model[id].state == RunState::Pending && !busy.contains(&model[id].slot));
            let claimed = f.store.claim_next(ExecutorKind::Docker).unwrap();
            assert_eq!(claimed.is_some(), free);
            if let Some(run) = claimed {
                let entry = model.get_mut(&run.id).unwrap();
                assert!(entry.state == RunState::Pending && !busy.contains(&entry.slot));
                entry.state = RunState::Active;
            }
        }
        Act::Container(index) => {
            let Some(id) = pick(index) else { return };
            let entry = model.get_mut(&id).unwrap();
            let accepted = f.store.container_created(id, "c", "i").is_ok();
            assert_eq!(accepted, entry.state == RunState::Active);
            entry.container |= accepted;
        }
        Act::Gone(index) => {
            let Some(id) = pick(index) else { return };
            let entry = model.get_mut(&id).unwrap();
            assert_eq!(f.store.container_gone(id).is_ok(), entry.state == RunState::Active);
            entry.container &= entry.state != RunState::Active;
        }
        Act::Finish(index, how) => {
            let Some(id) = pick(index) else { return };
            let entry = model.get_mut(&id).unwrap();
            let outcome = match how {
                0 => Outcome::Complete,
                1 => Outcome::Failed(FailureKind::Job, "no".into()),
                _ => Outcome::Superseded,
            };
            let accepted = f.store.finish(id, &outcome).is_ok();
            assert_eq!(accepted, entry.state == RunState::Active && !entry.container);
            if accepted {
                entry.state = outcome.state();
            }
        }
        Act::Cancel(index) => {
            let Some(id) = pick(index) else { return };
            let entry = model.get_mut(&id).unwrap();
            let accepted = f.store.request_cancel(id).unwrap();
            match entry.state {
                RunState::Pending => {
                    assert!(accepted);
                    entry.state = RunState::Failed;
                }
                RunState::Active => {
                    assert_eq!(accepted, !entry.stop);
                    entry.stop = true;
                }
                _ => assert!(!accepted),
            }
        }
        Act::Orphan(index) => {
            let Some(id) = pick(index) else { return };
            let entry = model.get_mut(&id).unwrap();
            let accepted = f.store.orphan(id, "gone", false, policy::settle).is_ok();
            assert_eq!(accepted, entry.state == RunState::Active && !entry.container);
            if accepted {
                entry.state = f.store.run(id).unwrap().unwrap().state;
                assert!(entry.state.is_final());
            }
        }
        Act::Clock(by) => {
            f.clock.fetch_add(by, Ordering::SeqCst);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is asked of the store, in whatever order and with whatever clock, its rows are the model's.
    #[test]
    fn random_lives_follow_the_model(acts in proptest::collection::vec(act(), 1..60)) {
        let f = fixture();
        let (mut model, mut order) = (BTreeMap::new(), Vec::new());
        for act in acts {
            play(&f, &mut model, &mut order, act);
            for (id, expected) in &model {
                let row = f.store.run(*id).unwrap().unwrap();
                prop_assert_eq!(row.state, expected.state);
                prop_assert_eq!(row.container_id.is_some(), expected.container);
                prop_assert!(row.finished_at_ms.is_none_or(|end| end >= row.queued_at_ms));
            }
        }
    }
}

#[test]
fn what_the_last_release_wrote_goes_on_after_the_upgrade() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("quire.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../../migrations/0001_initial.sql")).unwrap();
    old.execute_batch(include_str!("../../migrations/samples/0001_initial.sql")).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);
    let clock = Arc::new(AtomicI64::new(1_700_000_100_000));
    let store = open(&folder, &clock).unwrap();
    let id = |n: u32| format!("01970000-0000-7000-8000-{n:012}").parse::<RunId>().unwrap();
    let row = |n: u32| store.run(id(n)).unwrap().unwrap();
    assert!(row(1).supersede && !row(1).keep && row(1).params.is_none());
    // The one that was active ends as an orphan and comes back; the pending one is claimed; a newer push supersedes it.
    store.container_gone(id(2)).unwrap();
    let again = store.orphan(id(2), "gone", true, policy::settle).unwrap().unwrap();
    assert_eq!(store.claim_next(ExecutorKind::Docker).unwrap(), None, "whether they are of a group is not known yet");
    for run in store.unexamined_runs(10).unwrap() {
        store.examined(&run, None, policy::settle).unwrap();
    }
    assert_eq!(store.claim_next(ExecutorKind::Docker).unwrap().unwrap().id, id(3));
    assert_eq!(store.claim_next(ExecutorKind::Docker).unwrap().unwrap().id, again);
    let (event, runs) = push("work/app", &["main"]);
    let recorded = store.record_event(&event, &runs, &RefsNow::new(), policy::settle).unwrap();
    assert_eq!(recorded.replaced, [id(3)]);
    let retried = store.retry(id(1), Repeat { only_failed: true, keep: true }).unwrap();
    assert_eq!(store.reused(retried.id).unwrap()[0].output, Some(serde_json::json!({"version": "1.2"})));
    let database = rusqlite::Connection::open(&path).unwrap();
    let verdict: String = database.query_row("PRAGMA integrity_check", [], |found| found.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    assert_eq!(database.prepare("PRAGMA foreign_key_check").unwrap().query_map([], |_| Ok(())).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(folder.path().join("backups")).unwrap().count(), 1, "a copy was made before");
}

/// A push of one branch whose pipeline may name a group.
fn record_unexamined(f: &Fixture, name: &str) -> Run {
    let (event, mut runs) = push("app", &[name]);
    runs[0].unexamined = true;
    f.store.record_event(&event, &runs, &RefsNow::new(), policy::settle).unwrap();
    f.store.run(runs[0].id).unwrap().unwrap()
}

fn examine(f: &Fixture, run: &Run, group: Option<(&str, bool)>) {
    let group = group.map(|(name, supersede)| Group { name: name.into(), supersede });
    f.store.examined(run, group.as_ref(), policy::settle).unwrap();
}

fn claim(f: &Fixture) -> Option<RunId> {
    f.store.claim_next(ExecutorKind::Host).unwrap().map(|run| run.id)
}

#[test]
fn an_unexamined_run_is_neither_claimed_nor_superseded_and_holds_those_it_may_concern() {
    let f = fixture();
    let state = |run: &Run| f.store.run(run.id).unwrap().unwrap().state;
    let (first, second) = (record_unexamined(&f, "main"), record_unexamined(&f, "main"));
    let grouped = record_unexamined(&f, "deploy");
    examine(&f, &grouped, Some(("g", false)));
    let free = record(&f.store, "app", &["free"])[0];
    assert_eq!((state(&first), state(&second)), (RunState::Pending, RunState::Pending));
    // `grouped` may have to wait for the other two; the one without group on another ref need not.
    assert_eq!((claim(&f), claim(&f)), (Some(free), None));
    examine(&f, &second, None);
    assert_eq!(claim(&f), None, "an earlier run of its ref is not examined");
    examine(&f, &first, None);
    assert_eq!((state(&first), state(&second)), (RunState::Superseded, RunState::Pending));
    assert_eq!((claim(&f), claim(&f)), (Some(second.id), Some(grouped.id)));
    examine(&f, &second, Some(("late", true)));
    assert_eq!(f.store.run(second.id).unwrap().unwrap().group_name, None, "it was examined before");
}

#[test]
fn runs_of_a_group_go_one_after_the_other_in_their_order_also_after_a_crash() {
    let f = fixture();
    let runs: Vec<Run> = (0..4).map(|n| record_unexamined(&f, &format!("b{n}"))).collect();
    // The clock is set back: the order is that of their entering all the same.
    f.clock.fetch_sub(7_200_000, Ordering::SeqCst);
    let late = record_unexamined(&f, "b4");
    for run in runs.iter().chain([&late]).rev() {
        examine(&f, run, Some(("deploy", false)));
    }
    assert_eq!((claim(&f), claim(&f)), (Some(runs[0].id), None));
    f.store.note_blocked().unwrap();
    let message = f.store.run(runs[2].id).unwrap().unwrap().message.unwrap();
    assert_eq!(message, format!("waits for run {} of the same group, deploy", runs[1].id));
    // quire is killed: the run comes back in its own place, before those that waited for it.
    let again = f.store.orphan(runs[0].id, "gone", true, policy::settle).unwrap().unwrap();
    assert_eq!((claim(&f), claim(&f)), (Some(again), None));
    f.store.finish(again, &Outcome::Complete).unwrap();
    assert!(f.store.request_cancel(runs[1].id).unwrap());
    for run in [&runs[2], &runs[3], &late] {
        assert_eq!((claim(&f), claim(&f)), (Some(run.id), None));
        assert_eq!(f.store.run(run.id).unwrap().unwrap().message, None);
        f.store.finish(run.id, &Outcome::Complete).unwrap();
    }
    assert!(!f.store.has_claimable().unwrap());
}

#[test]
fn a_group_that_supersedes_keeps_its_newest_push_only() {
    let f = fixture();
    let runs: Vec<Run> = (0..3).map(|n| record_unexamined(&f, &format!("b{n}"))).collect();
    examine(&f, &runs[0], Some(("deploy", true)));
    assert_eq!(claim(&f), Some(runs[0].id));
    examine(&f, &runs[2], Some(("deploy", true)));
    let row = |run: &Run| f.store.run(run.id).unwrap().unwrap();
    assert_eq!((row(&runs[0]).stop_requested, row(&runs[0]).superseded_by), (Some(StopReason::Superseded), Some(runs[2].id)));
    examine(&f, &runs[1], Some(("deploy", true)));
    assert_eq!((row(&runs[1]).state, row(&runs[1]).superseded_by), (RunState::Superseded, Some(runs[2].id)));
    f.store.finish(runs[0].id, &Outcome::Superseded).unwrap();
    assert_eq!(claim(&f), Some(runs[2].id));
}

#[test]
fn what_a_person_or_a_schedule_started_replaces_nothing_and_is_not_replaced() {
    let f = fixture();
    let pushed = record(&f.store, "app", &["main"])[0];
    let start = |trigger, source: &str| {
        let run = NewRun {
            trigger,
            source: source.into(),
            ..NewRun::of_push(repo("app"), branch("main"), "1".repeat(40).parse().unwrap(), Millis(1))
        };
        f.store.start_run(&run).unwrap();
        run.id
    };
    let (manual, cron) = (start(Trigger::Manual, "quire/manual"), start(Trigger::Cron, "quire/cron/nightly"));
    let newer = record(&f.store, "app", &["main"])[0];
    let state = |id| f.store.run(id).unwrap().unwrap().state;
    assert_eq!((state(pushed), state(manual), state(cron)), (RunState::Superseded, RunState::Pending, RunState::Pending));
    // One at a time, in their order.
    for id in [manual, cron, newer] {
        assert_eq!((claim(&f), claim(&f)), (Some(id), None));
        f.store.finish(id, &Outcome::Complete).unwrap();
    }
}

#[test]
fn a_retry_of_what_failed_uses_the_results_of_what_passed() {
    let f = fixture();
    let run = record(&f.store, "app", &["main"])[0];
    let name = |text: &str| text.parse::<JobName>().unwrap();
    let jobs: Vec<(JobName, Vec<String>)> = [("a", "quire/push"), ("b", "a"), ("nothing", "a"), ("c", "b"), ("d", "c")]
        .map(|(job, input)| (name(job), vec![input.to_owned()]))
        .into();
    let play = |run: RunId, ends: &[(&str, JobState)]| {
        f.store.claim_next(ExecutorKind::Host).unwrap().unwrap();
        f.store.register_jobs(run, &jobs).unwrap();
        for (job, state) in ends {
            f.store.job_started(run, &name(job)).unwrap();
            let output = serde_json::json!(job);
            f.store.job_ended(run, &name(job), JobState::Active, &JobResult { output: Some(&output), ..JobResult::plain(*state) }).unwrap();
        }
        f.store.finish(run, &Outcome::Failed(FailureKind::Job, "no".into())).unwrap();
    };
    play(run, &[("a", JobState::Complete), ("nothing", JobState::Skipped), ("b", JobState::Failed)]);
    let how = Repeat { only_failed: true, keep: false };
    let second = f.store.retry(run, how).unwrap();
    let reused = |run| f.store.reused(run).unwrap().into_iter().map(|job| (job.job_id.to_string(), job.reused_from)).collect::<Vec<_>>();
    assert_eq!(reused(second.id), [("a".to_owned(), Some(run)), ("nothing".to_owned(), Some(run))]);
    play(second.id, &[("b", JobState::Complete), ("c", JobState::Failed)]);
    // What was run in the first is named so in the third; what it was repeated for may be gone.
    let third = f.store.retry(second.id, how).unwrap();
    let expected = [("a".to_owned(), Some(run)), ("b".to_owned(), Some(second.id)), ("nothing".to_owned(), Some(run))];
    assert_eq!(reused(third.id), expected);
    assert_eq!(f.store.reused(third.id).unwrap()[0].output, Some(serde_json::json!("a")));
    // The whole again: nothing is used again.
    assert_eq!(reused(f.store.retry(second.id, Repeat::default()).unwrap().id), []);
    // Cut by a crash, it goes on from the same results.
    f.store.claim_next(ExecutorKind::Host).unwrap().unwrap();
    let again = f.store.orphan(third.id, "gone", true, policy::settle).unwrap().unwrap();
    assert_eq!(reused(again), expected);
    assert_eq!(claim(&f), Some(again));
    f.store.finish(again, &Outcome::Complete).unwrap();
    assert!(matches!(f.store.retry(again, how), Err(StoreError::NothingFailed(_))));
}

#[test]
fn schedules_move_on_once_and_go_with_their_repository() {
    let f = fixture();
    let (app, main, sha) = (repo("app"), branch("main"), "1".repeat(40).parse().unwrap());
    let set = |new: &[(&str, &str, i64)]| {
        let new: Vec<NewSchedule> = new.iter().map(|(name, text, at)| ((*name).to_owned(), (*text).to_owned(), Millis(*at))).collect();
        f.store.set_schedules(&app, &main, &sha, &new).unwrap();
    };
    set(&[("a", "0 1 * * *", 100), ("b", "0 2 * * *", 200)]);
    // One that stays the same keeps its time, one that changed gets the new, one that is gone goes.
    set(&[("a", "0 1 * * *", 101), ("c", "0 3 * * *", 300)]);
    let listed = || f.store.schedules(None).unwrap().into_iter().map(|row| (row.name, row.next_at_ms.0)).collect::<Vec<_>>();
    assert_eq!(listed(), [("a".to_owned(), 100), ("c".to_owned(), 300)]);
    assert!(f.store.due_schedules(Millis(99)).unwrap().is_empty());
    let due = f.store.due_schedules(Millis(100)).unwrap().remove(0);
    let run = |id| NewRun {
        id,
        trigger: Trigger::Cron,
        source: "quire/cron/a".into(),
        ..NewRun::of_push(app.clone(), main.clone(), "1".repeat(40).parse().unwrap(), Millis(100))
    };
    let first = run(RunId::new());
    assert!(f.store.fire_schedule(&due, Millis(500), Some(&first)).unwrap());
    assert!(!f.store.fire_schedule(&due, Millis(600), Some(&run(RunId::new()))).unwrap(), "it was moved on already");
    let due = f.store.due_schedules(Millis(500)).unwrap().into_iter().find(|row| row.name == "a").unwrap();
    assert!(!f.store.fire_schedule(&due, Millis(900), Some(&run(RunId::new()))).unwrap(), "its last run waits still");
    assert_eq!(listed()[0].1, 900);
    assert_eq!(claim(&f), Some(first.id));
    f.store.note_schedule_problem(&app, &main, &sha, "it is wrong").unwrap();
    assert_eq!(f.store.schedules(Some(&app)).unwrap()[0].problem.as_deref(), Some("it is wrong"));
    f.store.keep_schedules_of(&[repo("other")]).unwrap();
    assert!(listed().is_empty());
    set(&[("a", "0 1 * * *", 100)]);
    f.store.forget_repo(&app).unwrap();
    assert!(listed().is_empty());
    assert_eq!(f.store.schedule_source(&app, &main).unwrap().read, None);
}

#[test]
fn what_the_queue_asks_is_answered_by_indexes() {
    let f = fixture();
    let connection = rusqlite::Connection::open(f.folder.path().join("quire.db")).unwrap();
    for sql in super::queue::asked() {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let nulls = vec![rusqlite::types::Null; statement.parameter_count()];
        let plan: Vec<String> =
            statement.query_map(rusqlite::params_from_iter(nulls), |row| row.get(3)).unwrap().collect::<rusqlite::Result<_>>().unwrap();
        let whole = |line: &&String| line.starts_with("SCAN") && line.contains("runs") && !line.contains("USING");
        assert_eq!(plan.iter().find(whole), None, "{sql}\n{plan:#?}");
    }
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
    let traced = |connection: &rusqlite::Connection| connection.trace_v2(codes, Some(note_statement));
    let also_here = |connection: &rusqlite::Connection| {
        traced(connection);
        Ok(())
    };
    f.store.write(|tx| also_here(tx)).unwrap();
    f.store.read(also_here).unwrap();
    let all = RunFilter { limit: 50, ..RunFilter::default() };
    assert!(f.store.has_claimable().unwrap());
    assert_eq!(f.store.claim_next(ExecutorKind::Host).unwrap().unwrap().id, run);
    assert_eq!(f.store.list_runs(&all).unwrap().len(), 1);
    for filter in [
        RunFilter { repo: Some(repo("app")), ..all.clone() },
        RunFilter { repo: Some(repo("app")), ref_name: Some(branch("main")), ..all.clone() },
        RunFilter { state: Some(RunState::Active), ..all.clone() },
        RunFilter { before: Some(RunId::new()), ..all },
    ] {
        assert_eq!(f.store.list_runs(&filter).unwrap().len(), 1);
    }
    assert_eq!(f.store.active_runs().unwrap().len(), 1);
    f.store.note_waiting(None).unwrap();
    f.store.note_removed(&[run], RemovedFiles { logs: true, artifacts: true }).unwrap();
    f.store.remove_runs(&[run]).unwrap();
    f.store.remove_events(Millis(1), 500).unwrap();
    f.store.finish(run, &Outcome::Complete).unwrap();
    let seen: Vec<String> =
        STATEMENTS.take().into_iter().filter(|sql| !["BEGIN", "COMMIT"].iter().any(|word| sql.starts_with(word))).collect();
    assert!(seen.len() >= 12, "{seen:?}");
    for sql in seen.iter().filter(|sql| !sql.starts_with("--")) {
        let plan = f.store.read(|connection| {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            Ok(statement.query_map([], |row| row.get::<_, String>(3)).unwrap().map(Result::unwrap).collect::<Vec<_>>())
        });
        for step in plan.unwrap() {
            // In the order of an index and only as far as is asked, or through a small table.
            let scan = step.starts_with("SCAN ")
                && !step.contains(" USING ")
                && !step.contains("kept_containers")
                && !step.contains("CONSTANT ROW");
            assert!(!scan && !step.contains("TEMP B-TREE FOR ORDER BY"), "{step}: {sql}");
        }
    }
}
