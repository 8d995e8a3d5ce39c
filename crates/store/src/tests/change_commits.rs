//! The commits of changes.

use super::*;
use quire_types::landing::LandingMethod;
use quire_types::names::ObjectId;

fn sha(at: u32) -> ObjectId {
    format!("{at:040x}").parse().unwrap()
}

fn record(f: &Fixture, repo_name: &str, commits: &[(u32, &str)]) {
    f.clock.fetch_add(1000, Ordering::SeqCst);
    let (event, _) = push(repo_name, &[]);
    let changes = commits
        .iter()
        .map(|(at, change)| (sha(*at), (*change).to_owned()));
    let planned = PlannedEvent {
        event,
        runs: Vec::new(),
        current_refs: CurrentRefs::new(),
        overwritten: Vec::new(),
        landing: LandingMethod::default(),
        changes: changes.collect(),
    };
    f.store
        .events()
        .record_all(&[planned], supersede::superseded_runs)
        .unwrap();
}

fn versions(f: &Fixture, repo_name: &str, change: &str) -> Option<Vec<ObjectId>> {
    let found = f
        .store
        .change_commits()
        .of_change(&repo(repo_name), change, 10);
    let found = found.unwrap()?;
    Some(found.into_iter().map(|commit| commit.sha).collect())
}

#[test]
fn a_change_has_the_commits_that_pushes_brought() {
    let f = fixture();
    record(&f, "app", &[(1, "kkmp"), (2, "qrst")]);
    record(&f, "app", &[(3, "kkmp"), (1, "kkmp")]);
    record(&f, "other", &[(4, "kkmp")]);
    assert_eq!(versions(&f, "app", "kkmp"), Some(vec![sha(3), sha(1)]));
    assert_eq!(versions(&f, "app", "k"), Some(vec![sha(3), sha(1)]));
    assert_eq!(versions(&f, "app", "nothing"), Some(vec![]));
    record(&f, "app", &[(5, "kkqq")]);
    assert_eq!(versions(&f, "app", "kk"), None, "two changes begin so");
    let change = |at| {
        let found = f.store.change_commits().of_commit(&repo("app"), &sha(at));
        found.unwrap().map(|commit| commit.change_id)
    };
    assert_eq!(change(2).as_deref(), Some("qrst"));
    assert_eq!(change(4), None);
    f.store.repos().forget(&repo("app")).unwrap();
    assert_eq!(versions(&f, "app", "kkmp"), Some(vec![]));
    assert_eq!(versions(&f, "other", "kkmp"), Some(vec![sha(4)]));
}
