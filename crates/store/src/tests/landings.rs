//! Landings: how events begin and end them.

use super::*;
use quire_types::landing::{LandingMethod, LandingProblem, LandingState};
use quire_types::names::ObjectId;
use quire_types::run::RunState;

fn id(digit: &str) -> ObjectId {
    digit.repeat(40).parse().unwrap()
}

/// Records an event that moves a ref of `app` to a commit, with a run for it or without.
fn record(f: &Fixture, ref_name: &str, new: &str, has_run: bool) -> RecordedEvent {
    let (mut event, mut runs) = push_to("app", &["main"], new);
    let ref_name: RefName = ref_name.parse().unwrap();
    event.refs[0].ref_name = ref_name.clone();
    runs[0].ref_name = ref_name;
    event.refs[0].new_sha = id(new);
    runs[0].sha = id(new);
    runs.truncate(usize::from(has_run));
    let planned = PlannedEvent {
        event,
        runs,
        current_refs: CurrentRefs::new(),
        overwritten: Vec::new(),
        landing: LandingMethod::Merge,
        changes: Vec::new(),
    };
    let recorded = f
        .store
        .events()
        .record_all(&[planned], supersede::superseded_runs);
    recorded.unwrap().remove(0)
}

fn for_green(commit: &str) -> String {
    format!("refs/for-green/main/{}", id(commit))
}

fn only(f: &Fixture) -> OpenLanding {
    let mut open = f.store.landings().open(&"app".parse().unwrap()).unwrap();
    assert_eq!(open.len(), 1);
    open.remove(0)
}

#[test]
fn a_landing_begins_with_its_ref_and_ends_with_the_move() {
    let f = fixture();
    let made = record(&f, &for_green("2"), "2", true).runs[0].0;
    let open = only(&f);
    assert!(open.is_recorded);
    assert_eq!(open.run.map(|run| run.id), Some(made));
    let landing = open.landing;
    assert_eq!(
        (landing.state, landing.method, landing.branch.as_str()),
        (
            LandingState::Testing,
            LandingMethod::Merge,
            "refs/heads/main"
        )
    );
    // Another commit is made of it, and its ref begins no second landing.
    let event = EventId::new();
    let landings = f.store.landings();
    assert!(landings.retest(&landing, &id("3"), event).unwrap());
    assert!(!landings.retest(&landing, &id("4"), event).unwrap());
    assert!(!only(&f).is_recorded);
    let again = record(&f, &for_green("3"), "3", true).runs[0].0;
    let open = only(&f);
    assert_eq!(open.run.map(|run| run.id), Some(again));
    let refs = |f: &Fixture| {
        let ended = f.store.landings().ended_refs(&"app".parse().unwrap());
        ended.unwrap().len()
    };
    assert_eq!(refs(&f), 0);
    // What quire does with its own refs is no operation; the move of the branch is one.
    let operations = |f: &Fixture| -> i64 {
        let database = rusqlite::Connection::open(f.folder.path().join("quire.db")).unwrap();
        let count = database.query_row("SELECT count(*) FROM operations", [], |row| row.get(0));
        count.unwrap()
    };
    assert_eq!(operations(&f), 0);
    // The branch is moved, which makes no run; a move that no landing makes has one.
    let landing = open.landing;
    assert!(landings.begin_move(&landing, None, event).unwrap());
    assert!(!landings.failed(landing.id, &LandingProblem::NoRun).unwrap());
    assert_eq!(record(&f, "refs/heads/main", "3", true).runs, []);
    assert_eq!(operations(&f), 1);
    // Nor does the event of a person who pushed the same commit at that moment.
    assert_eq!(record(&f, "refs/heads/main", "3", true).runs, []);
    let repo = "app".parse().unwrap();
    assert_eq!(landings.open(&repo).unwrap(), []);
    for commit in ["2", "3"] {
        let name = for_green(commit).parse().unwrap();
        let found = landings.of_ref(&repo, &name).unwrap().unwrap();
        assert_eq!(found.state, LandingState::Landed);
    }
    assert_eq!(refs(&f), 2);
    assert_eq!(record(&f, "refs/heads/main", "4", true).runs.len(), 1);
    // Much later the same commit is a push as any other.
    assert_eq!(record(&f, "refs/heads/main", "3", true).runs.len(), 1);
}

#[test]
fn a_landing_without_a_run_has_failed() {
    let f = fixture();
    record(&f, &for_green("2"), "2", false);
    let repo = "app".parse().unwrap();
    let landings = f.store.landings();
    assert_eq!(landings.open(&repo).unwrap(), []);
    let found = landings.of_ref(&repo, &for_green("2").parse().unwrap());
    let found = found.unwrap().unwrap();
    assert_eq!(found.state, LandingState::Failed);
    assert_eq!(
        found.message.as_deref(),
        Some("it has no run, so it cannot be green")
    );
    assert_eq!(landings.busy_repos().unwrap(), [repo]);
}

#[test]
fn a_landing_ends_with_its_run_or_is_withdrawn() {
    let f = fixture();
    let pending = record(&f, &for_green("2"), "2", true).runs[0].0;
    // Of a pending run it ends in the same transaction.
    assert!(f.store.runs().request_cancel(pending).unwrap());
    let repo = "app".parse().unwrap();
    let landings = f.store.landings();
    assert_eq!(landings.open(&repo).unwrap(), []);
    record(&f, &for_green("3"), "3", true);
    let landing = only(&f).landing;
    let canceled = LandingProblem::NotGreen(RunState::Canceled);
    assert!(landings.failed(landing.id, &canceled).unwrap());
    let found = landings.of_ref(&repo, &for_green("3").parse().unwrap());
    let found = found.unwrap().unwrap();
    assert_eq!(found.state, LandingState::Canceled);
    assert_eq!(found.message.as_deref(), Some("its run was canceled"));
    // A move that is aborted begins anew.
    record(&f, &for_green("4"), "4", true);
    let landing = only(&f).landing;
    let event = EventId::new();
    assert!(
        landings
            .begin_move(&landing, Some(&id("1")), event)
            .unwrap()
    );
    let moving = only(&f).landing;
    assert_eq!(moving.base_sha, Some(id("1")));
    assert!(landings.abort_move(&moving).unwrap());
    assert!(!landings.abort_move(&moving).unwrap());
    let again = only(&f).landing;
    assert_eq!((again.state, again.base_sha), (LandingState::Testing, None));
}
