//! What is known of the remotes of mirrors.

use super::*;
use quire_types::mirror::{MirrorFailureKind, MirrorWord};
use quire_types::names::ObjectId;

fn new(name: &str, url: Option<&str>) -> NewMirror {
    NewMirror {
        repo: "app".parse().unwrap(),
        name: name.to_owned(),
        url: url.map(str::to_owned),
    }
}

fn key() -> MirrorKey {
    MirrorKey {
        repo: "app".parse().unwrap(),
        name: "nas".to_owned(),
    }
}

fn refs(refs: &[(&str, char)]) -> Vec<(RefName, ObjectId)> {
    let id = |digit: &char| digit.to_string().repeat(40).parse().unwrap();
    let parse =
        |(name, digit): &(&str, char)| (format!("refs/heads/{name}").parse().unwrap(), id(digit));
    refs.iter().map(parse).collect()
}

/// The refs that differ: name, first digits of what is wanted and of what is there, and the problem.
fn differing(f: &Fixture) -> String {
    let short = |id: &Option<ObjectId>| match id {
        Some(id) => id.as_str()[..1].to_owned(),
        None => "-".to_owned(),
    };
    let refs = f.store.mirrors().waiting_refs(&key(), 100).unwrap();
    let text = |of: &MirrorRef| {
        let problem = of.problem.clone().unwrap_or_default();
        let name = of.ref_name.short();
        format!(
            "{name} {}{} {problem}",
            short(&of.wanted),
            short(&of.remote)
        )
    };
    let lines: Vec<String> = refs.iter().map(text).collect();
    lines.join("|").replace(" |", "|").trim_end().to_owned()
}

fn with_mirror() -> Fixture {
    let f = fixture();
    f.store
        .mirrors()
        .set(&[new("nas", Some("git@nas:app"))])
        .unwrap();
    f
}

fn state(f: &Fixture) -> MirrorState {
    f.store.mirrors().list(None).unwrap().remove(0)
}

#[test]
fn a_ref_waits_exactly_if_it_differs() {
    let f = with_mirror();
    let mirrors = f.store.mirrors();
    let want = |list: &[(&str, char)], delete| mirrors.want(&key(), &refs(list), delete).unwrap();
    let compared =
        |list: &[(&str, char)], delete| mirrors.compared(&key(), &refs(list), delete).unwrap();
    assert_eq!(state(&f).word(), MirrorWord::Waiting);
    want(&[("main", '1'), ("side", '2')], true);
    assert_eq!(differing(&f), "main 1-|side 2-");
    compared(&[("main", '1'), ("other", '3')], true);
    assert_eq!(differing(&f), "other -3|side 2-");
    // Unless it is to be deleted, what is only there does not count.
    compared(&[("main", '1'), ("other", '3')], false);
    assert_eq!(differing(&f), "side 2-");
    let side = MirroredRef {
        ref_name: "refs/heads/side".parse().unwrap(),
        result: Err("declined".to_owned()),
    };
    mirrors.pushed(&key(), std::slice::from_ref(&side)).unwrap();
    assert_eq!(differing(&f), "side 2- declined");
    let rejected = state(&f);
    assert!(!rejected.has_new && rejected.waiting == 1 && rejected.equal == 1);
    // The same again changes nothing; something else is not rejected yet.
    want(&[("main", '1'), ("side", '2')], true);
    assert_eq!(differing(&f), "side 2- declined");
    let other = want(&[("main", '1'), ("side", '4')], true).unwrap();
    assert!(other.has_new);
    assert_eq!(differing(&f), "side 4-");
    let accepted = MirroredRef {
        result: Ok(()),
        ..side
    };
    mirrors.pushed(&key(), &[accepted]).unwrap();
    assert_eq!(differing(&f), "");
    mirrors.succeeded(&key()).unwrap();
    assert_eq!(state(&f).word(), MirrorWord::InSync);
    want(&[("main", '1')], true);
    assert_eq!(differing(&f), "side -4");
    compared(&[("main", '1')], true);
    assert_eq!((differing(&f).as_str(), state(&f).equal), ("", 1));
}

#[test]
fn failures_are_counted_until_a_success() {
    let f = with_mirror();
    let mirrors = f.store.mirrors();
    let next = f.store.clock().now().plus(5000);
    for problem in ["first", "second"] {
        let failure = (MirrorFailureKind::Connection, problem);
        mirrors.failed(&key(), failure, Some(next)).unwrap();
    }
    let failing = state(&f).failure.unwrap();
    assert_eq!(
        (
            failing.attempts,
            failing.problem.as_str(),
            failing.next_attempt_ms
        ),
        (2, "second", Some(next))
    );
    mirrors.retry_now().unwrap();
    assert_eq!(state(&f).failure.unwrap().next_attempt_ms, None);
    let failure = (MirrorFailureKind::Connection, "third");
    mirrors.failed(&key(), failure, Some(next)).unwrap();
    mirrors.retry(&key()).unwrap();
    assert_eq!(state(&f).failure.unwrap().next_attempt_ms, None);
    mirrors.succeeded(&key()).unwrap();
    assert_eq!(state(&f).failure, None);
}

#[test]
fn a_mirror_is_known_until_its_address_changes() {
    let f = with_mirror();
    let mirrors = f.store.mirrors();
    mirrors
        .set_host_key(&key(), Some("ssh-ed25519 AAAA"))
        .unwrap();
    mirrors.want(&key(), &refs(&[("main", '1')]), true).unwrap();
    // Settings that are wrong for a while change nothing.
    mirrors.set(&[new("nas", None)]).unwrap();
    assert!(state(&f).host_key.is_some());
    assert!(mirrors.find(&new("nas", None)).unwrap().is_some());
    assert!(
        mirrors
            .find(&new("nas", Some("git@other:app")))
            .unwrap()
            .is_none()
    );
    mirrors.set(&[new("nas", Some("git@other:app"))]).unwrap();
    let other = state(&f);
    assert_eq!((other.host_key, other.waiting), (None, 0));
    mirrors.set(&[]).unwrap();
    assert!(mirrors.list(None).unwrap().is_empty());
    assert!(mirrors.want(&key(), &[], true).unwrap().is_none());
}

#[test]
fn what_is_known_of_objects_goes_with_the_refs() {
    let f = with_mirror();
    let mirrors = f.store.mirrors();
    let known = || {
        let known = mirrors.lfs_known(&key()).unwrap().into_iter();
        let mut known: Vec<String> = known.map(|id| id.as_str()[..1].to_owned()).collect();
        known.sort();
        known.concat()
    };
    let all = refs(&[("main", '1'), ("side", '2'), ("same", '2')]);
    mirrors.want(&key(), &all, true).unwrap();
    assert_eq!((known(), state(&f).lfs_problem), (String::new(), None));
    mirrors.set_lfs(&key(), &[], Some("no Git LFS")).unwrap();
    assert_eq!(state(&f).lfs_problem.as_deref(), Some("no Git LFS"));
    mirrors.set_lfs(&key(), &all, None).unwrap();
    assert_eq!((known().as_str(), state(&f).lfs_problem), ("12", None));
    // What is wanted later changes nothing of it, and a ref that is gone is forgotten.
    let later = refs(&[("main", '3')]);
    mirrors.want(&key(), &later, true).unwrap();
    assert_eq!(known(), "1");
    // It is the kind of failure that holds up no ref.
    let failure = (MirrorFailureKind::Lfs, "an object was refused");
    mirrors.failed(&key(), failure, None).unwrap();
    assert_eq!(state(&f).failure.unwrap().kind, MirrorFailureKind::Lfs);
}

#[test]
fn a_mirror_has_the_name_of_its_repository_now() {
    let f = with_mirror();
    let (app, tally) = ("app".parse().unwrap(), "tally".parse().unwrap());
    f.store
        .mirrors()
        .want(&key(), &refs(&[("main", '1')]), true)
        .unwrap();
    assert!(f.store.redirects().begin_rename(&app, &tally).unwrap());
    f.store
        .mirrors()
        .set(&[new("nas", Some("git@nas:app"))])
        .unwrap();
    f.store.redirects().finish_rename(&app, &tally).unwrap();
    f.store
        .mirrors()
        .set(&[new("nas", Some("git@nas:app"))])
        .unwrap();
    let renamed = state(&f);
    assert_eq!((renamed.repo.as_str(), renamed.waiting), ("tally", 1));
    let found = f.store.mirrors().find(&new("nas", None)).unwrap().unwrap();
    assert_eq!(found.repo, tally);
}
