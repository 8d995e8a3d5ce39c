//! The log of operations.

use super::*;
use quire_types::landing::LandingMethod;
use quire_types::names::ObjectId;
use quire_types::operation::{Actor, Channel, Operation, OperationId};

fn actor() -> Actor {
    Actor {
        name: Some("laptop".to_owned()),
        key_fingerprint: Some("SHA256:x".to_owned()),
        channel: Channel::Ssh,
    }
}

fn rename(from: &str, to: &str) -> Operation {
    Operation::RepoRename {
        repo: repo(to),
        former_name: repo(from),
    }
}

fn begin(f: &Fixture, operation: &Operation, undoes: Option<OperationId>) -> OperationId {
    f.clock.fetch_add(1000, Ordering::SeqCst);
    let new = NewOperation {
        actor: &actor(),
        operation,
        undoes,
        event: None,
    };
    f.store.operations().begin(&new).unwrap()
}

fn done(f: &Fixture, operation: &Operation, undoes: Option<OperationId>) -> OperationId {
    let id = begin(f, operation, undoes);
    let operations = f.store.operations();
    operations
        .settle(id, operation, &OperationState::Done)
        .unwrap();
    id
}

fn found(f: &Fixture, id: OperationId) -> LoggedOperation {
    f.store.operations().find(id).unwrap().unwrap()
}

fn ids(f: &Fixture, name: Option<&str>) -> Vec<i64> {
    let name = name.map(repo);
    let list = f.store.operations().list(name.as_ref(), 100).unwrap();
    list.iter().map(|one| one.id.0).collect()
}

#[test]
fn an_operation_is_begun_until_its_end_is_recorded_once() {
    let f = fixture();
    let first = begin(&f, &rename("a", "b"), None);
    assert_eq!(found(&f, first).state, OperationState::Begun);
    let failed = OperationState::Failed("no".to_owned());
    let operations = f.store.operations();
    operations
        .settle(first, &rename("a", "c"), &failed)
        .unwrap();
    operations
        .settle(first, &rename("a", "d"), &OperationState::Done)
        .unwrap();
    let logged = found(&f, first);
    assert_eq!((logged.state, logged.operation), (failed, rename("a", "c")));
    assert_eq!(logged.actor, actor());
    let new = NewOperation {
        actor: &Actor::server(),
        operation: &Operation::Gc,
        undoes: None,
        event: None,
    };
    let second = operations.record(&new, &OperationState::Done).unwrap();
    assert_eq!(ids(&f, None), [second.0, first.0]);
    assert_eq!(operations.list(None, 1).unwrap().len(), 1);
    assert!(operations.find(OperationId(99)).unwrap().is_none());
}

#[test]
fn an_operation_is_undone_if_its_undo_is_not() {
    let f = fixture();
    let first = done(&f, &rename("a", "b"), None);
    let cut_off = begin(&f, &rename("b", "a"), Some(first));
    assert_eq!(found(&f, first).undone_by, None);
    let undo = done(&f, &rename("b", "a"), Some(first));
    assert_eq!(found(&f, first).undone_by, Some(undo));
    let redo = done(&f, &rename("a", "b"), Some(undo));
    assert_eq!(found(&f, first).undone_by, None);
    assert_eq!(found(&f, undo).undone_by, Some(redo));
    let again = done(&f, &rename("b", "a"), Some(first));
    assert_eq!(found(&f, first).undone_by, Some(again));
    let newest = f.store.operations().newest_undoing(first).unwrap().unwrap();
    assert_eq!((newest.id, found(&f, cut_off).undone_by), (again, None));
}

#[test]
fn a_push_is_recorded_once_with_what_it_overwrote() {
    let f = fixture();
    let sha = |digit: &str| -> ObjectId { digit.repeat(40).parse().unwrap() };
    let (mut event, _) = push("app", &["new"]);
    let forced = RefUpdate {
        ref_name: branch("main"),
        old_sha: sha("1"),
        new_sha: sha("2"),
    };
    event.refs.push(forced.clone());
    let planned = PlannedEvent {
        event: event.clone(),
        runs: Vec::new(),
        current_refs: CurrentRefs::new(),
        overwritten: vec![forced],
        landing: LandingMethod::default(),
        changes: Vec::new(),
    };
    for _ in 0..2 {
        let planned = std::slice::from_ref(&planned);
        f.store
            .events()
            .record_all(planned, supersede::superseded_runs)
            .unwrap();
    }
    let [logged] = f
        .store
        .operations()
        .list(None, 10)
        .unwrap()
        .try_into()
        .unwrap();
    let Operation::Push {
        repo: name,
        changes,
    } = &logged.operation
    else {
        panic!("{logged:?}")
    };
    assert_eq!((name, changes.refs.len()), (&repo("app"), 2));
    assert!(changes.refs[0].overwritten && changes.refs[0].ref_name == branch("main"));
    assert_eq!(logged.actor.name.as_deref(), Some("laptop"));
    let before = OperationId(logged.id.0 - 1);
    let operations = f.store.operations();
    assert!(operations.has_later_push(before, &repo("app")).unwrap());
    assert!(!operations.has_later_push(logged.id, &repo("app")).unwrap());
}

#[test]
fn an_event_ends_the_operation_that_announced_it() {
    let f = fixture();
    let (event, _) = push("app", &["main"]);
    let operation = Operation::RepoUndo {
        repo: repo("app"),
        changes: quire_types::operation::RefChanges::of_updates(&event.refs, &[]),
    };
    let new = NewOperation {
        actor: &actor(),
        operation: &operation,
        undoes: None,
        event: Some(event.id),
    };
    let id = f.store.operations().begin(&new).unwrap();
    let (runs, refs) = (Vec::new(), CurrentRefs::new());
    f.store
        .events()
        .record(&event, &runs, &refs, supersede::superseded_runs)
        .unwrap();
    assert_eq!(found(&f, id).state, OperationState::Done);
    assert_eq!(ids(&f, None), [id.0]);
}

#[test]
fn the_operations_of_a_repository_have_all_its_names() {
    let f = fixture();
    let new = done(&f, &Operation::RepoNew { repo: repo("old") }, None);
    let redirects = f.store.redirects();
    assert!(redirects.begin_rename(&repo("old"), &repo("app")).unwrap());
    redirects.finish_rename(&repo("old"), &repo("app")).unwrap();
    let renamed = done(&f, &rename("old", "app"), None);
    let other = done(
        &f,
        &Operation::RepoNew {
            repo: repo("other"),
        },
        None,
    );
    done(&f, &Operation::Gc, None);
    for name in ["app", "old"] {
        assert_eq!(ids(&f, Some(name)), [renamed.0, new.0], "{name}");
    }
    assert_eq!(ids(&f, Some("other")), [other.0]);
    assert_eq!(ids(&f, Some("none")), [0; 0]);
    // Neither a rename nor the end of a repository deletes what was done.
    f.store.repos().forget(&repo("app")).unwrap();
    assert_eq!(ids(&f, None).len(), 4);
}

#[test]
fn old_operations_and_surplus_ones_expire() {
    let f = fixture();
    let all: Vec<i64> = (0..5).map(|_| done(&f, &Operation::Gc, None).0).collect();
    let second = found(&f, OperationId(all[1])).begun_at;
    let operations = f.store.operations();
    assert_eq!(operations.expire(None, 5).unwrap(), 0);
    assert_eq!(operations.expire(Some(second), 5).unwrap(), 1);
    assert_eq!(operations.expire(None, 2).unwrap(), 2);
    assert_eq!(ids(&f, None), [all[4], all[3]]);
    // One that may be under way stays a day longer.
    let begun = begin(&f, &Operation::Gc, None);
    let soon = found(&f, begun).begun_at.plus(1000);
    assert_eq!(operations.expire(Some(soon), 5).unwrap(), 2);
    let later = soon.plus(24 * 60 * 60 * 1000);
    assert_eq!(operations.expire(Some(later), 5).unwrap(), 1);
    assert_eq!(ids(&f, None), [0; 0]);
    // No number is used twice.
    assert!(done(&f, &Operation::Gc, None).0 > all[4]);
}
