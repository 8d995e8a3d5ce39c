//! Push events.

use super::*;
use quire_types::landing::LandingMethod;

#[test]
fn an_event_recorded_twice_changes_nothing() {
    let f = fixture();
    let (event, runs) = push("app", &["main", "next"]);
    let first = record_event(&f.store, &event, &runs);
    assert!(first.is_new && first.runs.len() == 2);
    let (_, other) = push("app", &["main"]);
    let second = record_event(&f.store, &event, &other);
    assert!(!second.is_new);
    assert_eq!(second.runs, first.runs);
    assert_eq!(
        f.store
            .runs()
            .list(&RunFilter {
                limit: 10,
                ..RunFilter::default()
            })
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        f.store.events().runs_of(event.id).unwrap(),
        Some(first.runs)
    );
    assert_eq!(f.store.events().runs_of(EventId::new()).unwrap(), None);
    assert_eq!(f.store.seen_refs().list(&repo("app")).unwrap().len(), 2);
}

#[test]
fn a_push_found_by_comparing_refs_makes_no_second_run() {
    let f = fixture();
    let (push, runs) = push_to("app", &["main"], "1");
    let found = PushEvent {
        id: EventId::new(),
        event_type: EventType::Reconcile,
        ..push.clone()
    };
    let record = |event: &PushEvent| {
        f.store
            .events()
            .record(
                event,
                &runs,
                &CurrentRefs::new(),
                supersede::superseded_runs,
            )
            .unwrap()
            .runs
    };
    let count = || {
        f.store
            .runs()
            .list(&RunFilter {
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
    assert_eq!(f.store.seen_refs().repos().unwrap(), [repo("app")]);
    f.store.seen_refs().forget(&repo("app")).unwrap();
    assert!(f.store.seen_refs().list(&repo("app")).unwrap().is_empty());
}

#[test]
fn events_in_the_wrong_order_do_not_bring_back_an_older_commit() {
    let f = fixture();
    let (first, first_run) = push_to("app", &["main"], "1");
    let (second, second_run) = push_to("app", &["main"], "2");
    let now: CurrentRefs = [(branch("main"), Some(second.refs[0].new_sha.clone()))].into();
    let record = |event: &PushEvent, runs: &[NewRun], now: &CurrentRefs| {
        let id = f
            .store
            .events()
            .record(event, runs, now, supersede::superseded_runs)
            .unwrap()
            .runs[0]
            .0;
        f.store.runs().get(id).unwrap().unwrap()
    };
    let newer = record(&second, &second_run, &now);
    assert_eq!(newer.state, RunState::Pending);
    let older = record(&first, &first_run, &now);
    assert_eq!(
        (older.state, older.superseded_by),
        (RunState::Superseded, Some(newer.id))
    );
    assert_eq!(
        f.store.seen_refs().list(&repo("app")).unwrap()[0].sha,
        second.refs[0].new_sha
    );

    // Pushed back to the first commit, and forth again: pushes like any other.
    for (event, run) in [(&first, &first_run), (&second, &second_run)] {
        let back = PushEvent {
            id: EventId::new(),
            ..event.clone()
        };
        assert_eq!(
            record(&back, run, &CurrentRefs::new()).state,
            RunState::Pending
        );
    }
}

#[test]
fn events_recorded_together_are_as_if_recorded_one_by_one() {
    let planned: Vec<PlannedEvent> = ["1", "2", "3"]
        .into_iter()
        .map(|digit| {
            let (event, runs) = push_to("app", &["main", "next"], digit);
            PlannedEvent {
                event,
                runs,
                current_refs: CurrentRefs::new(),
                overwritten: Vec::new(),
                landing: LandingMethod::default(),
                changes: Vec::new(),
            }
        })
        .collect();
    let decide = supersede::superseded_runs;
    let (one_by_one, together) = (fixture(), fixture());
    for planned in &planned {
        let (event, runs) = (&planned.event, &planned.runs);
        let recorded = one_by_one
            .store
            .events()
            .record(event, runs, &planned.current_refs, decide);
        assert!(recorded.unwrap().is_new);
    }
    let recorded = together.store.events().record_all(&planned, decide);
    let recorded = recorded.unwrap();
    assert_eq!(
        recorded.iter().map(|event| event.runs.len()).sum::<usize>(),
        6
    );
    // The second supersedes the runs of the first, and the third those of the second.
    assert_eq!(recorded[2].replaced.len(), 2);
    let outline = |f: &Fixture| {
        let filter = RunFilter {
            limit: 10,
            ..RunFilter::default()
        };
        let runs = f.store.runs().list(&filter).unwrap().into_iter();
        runs.map(|run| (run.number, run.ref_name, run.sha, run.state))
            .collect::<Vec<_>>()
    };
    assert_eq!(outline(&together), outline(&one_by_one));
    // One that was recorded before changes nothing.
    let again = together.store.events().record_all(&planned, decide);
    assert!(again.unwrap().iter().all(|event| !event.is_new));
    assert_eq!(outline(&together).len(), 6);
}
