//! What pushes overwrote.

use super::*;
use quire_types::landing::LandingMethod;
use quire_types::names::ObjectId;

fn sha(at: u32) -> ObjectId {
    format!("{at:040x}").parse().unwrap()
}

fn update(branch_name: &str, old: u32, new: u32) -> RefUpdate {
    RefUpdate {
        ref_name: branch(branch_name),
        old_sha: sha(old),
        new_sha: sha(new),
    }
}

/// Records an event that overwrote these refs.
fn overwrite(f: &Fixture, repo_name: &str, refs: &[RefUpdate]) {
    f.clock.fetch_add(1000, Ordering::SeqCst);
    let (mut event, _) = push(repo_name, &[]);
    event.refs = refs.to_vec();
    let planned = PlannedEvent {
        event,
        runs: Vec::new(),
        current_refs: CurrentRefs::new(),
        overwritten: refs.to_vec(),
        landing: LandingMethod::default(),
        changes: Vec::new(),
    };
    // Recorded twice, as after a crash.
    for _ in 0..2 {
        f.store
            .events()
            .record_all(std::slice::from_ref(&planned), supersede::superseded_runs)
            .unwrap();
    }
}

/// Branch, old and new id, the newest first.
fn listed(f: &Fixture, repo_name: &str, name: Option<&str>) -> Vec<(String, u32, Option<u32>)> {
    let number = |id: &ObjectId| u32::from_str_radix(id.as_str().trim_start_matches('0'), 16);
    let name = name.map(branch);
    let list = f
        .store
        .overwritten_refs()
        .list(&repo(repo_name), name.as_ref(), 100);
    list.unwrap()
        .iter()
        .map(|row| {
            (
                row.ref_name.short().to_owned(),
                number(&row.old_sha).unwrap(),
                row.new_sha.as_ref().map(|id| number(id).unwrap()),
            )
        })
        .collect()
}

#[test]
fn each_overwritten_ref_is_listed_once() {
    let f = fixture();
    overwrite(&f, "app", &[update("main", 1, 2), update("topic", 3, 0)]);
    overwrite(&f, "other", &[update("main", 7, 8)]);
    overwrite(&f, "app", &[update("main", 2, 1)]);
    let main = |old, new| ("main".to_owned(), old, Some(new));
    let topic = ("topic".to_owned(), 3, None);
    assert_eq!(
        listed(&f, "app", None),
        [main(2, 1), main(1, 2), topic.clone()]
    );
    // The same again is the same only if nothing was between.
    overwrite(&f, "app", &[update("main", 2, 1)]);
    assert_eq!(listed(&f, "app", Some("main")), [main(2, 1), main(1, 2)]);
    overwrite(&f, "app", &[update("topic", 3, 0)]);
    assert_eq!(listed(&f, "app", Some("topic")), [topic]);
    overwrite(&f, "app", &[update("main", 1, 2)]);
    assert_eq!(
        listed(&f, "app", Some("main")),
        [main(1, 2), main(2, 1), main(1, 2)]
    );
    let objects = f.store.overwritten_refs().objects(&repo("app")).unwrap();
    assert_eq!(
        objects.into_iter().collect::<Vec<_>>(),
        [sha(1), sha(2), sha(3)]
    );
}

#[test]
fn old_ones_and_those_that_are_too_many_are_deleted() {
    let f = fixture();
    for at in 1..=5 {
        overwrite(&f, "app", &[update("main", at, at + 1)]);
    }
    overwrite(&f, "other", &[update("main", 7, 8)]);
    let now = f.clock.load(Ordering::SeqCst);
    let expire = |before: i64, max| {
        f.store
            .overwritten_refs()
            .expire(Millis(before), max)
            .unwrap()
    };
    assert_eq!(expire(now - 100_000, 100), 0);
    // The first two are too old, and of the others one is too much.
    assert_eq!(expire(now - 3000, 2), 3);
    let main = |old, new| ("main".to_owned(), old, Some(new));
    assert_eq!(listed(&f, "app", None), [main(5, 6), main(4, 5)]);
    assert_eq!(listed(&f, "other", None), [main(7, 8)]);
}

#[test]
fn they_move_with_their_repository_and_go_with_it() {
    let f = fixture();
    overwrite(&f, "app", &[update("main", 1, 2)]);
    let (app, shop) = (repo("app"), repo("shop"));
    assert!(f.store.redirects().begin_rename(&app, &shop).unwrap());
    assert_eq!(listed(&f, "shop", None).len(), 1);
    f.store.redirects().finish_rename(&app, &shop).unwrap();
    assert_eq!(listed(&f, "app", None), listed(&f, "shop", None));
    f.store.repos().forget(&shop).unwrap();
    assert_eq!(listed(&f, "shop", None), []);
}
