//! Which commit and path the text of an address means.

#![expect(clippy::disallowed_methods, reason = "tests compare with git itself")]

use std::process::{Command, Stdio};

use super::super::*;
use super::odd_repository::*;
use quire_types::names::ObjectId;

#[test]
fn a_revision_is_the_longest_ref_or_an_id() {
    let odd = odd();
    let git_dir = odd.git_dir();
    let run = |arguments: &[&str]| git(odd.path(), arguments);
    run(&["branch", "topic/deep", "left"]);
    run(&["tag", "-a", "-m", "one", "v1", "right"]);
    run(&["tag", "main", "third"]);
    run(&["tag", "topic/deep/er", "third"]);
    run(&["branch", "deadbeef00", "left"]);
    run(&["update-ref", "refs/quire/x", "left"]);
    run(&["tag", "blob", "HEAD:empty"]);
    let reader = Reader::open(&git_dir).unwrap();
    let of = |rev: &str| {
        id(&text(
            odd.path(),
            &["rev-parse", &format!("{rev}^{{commit}}")],
        ))
    };
    let resolved = |wanted: &str| {
        let (rev, path) = resolve(&reader, wanted.as_bytes()).unwrap();
        let spelled = String::from_utf8(rev.spelled).unwrap();
        (
            rev.commit,
            spelled,
            String::from_utf8(path.as_bytes().to_vec()).unwrap(),
        )
    };
    let (left, right, third, main) = (of("left"), of("right"), of("third"), of("refs/heads/main"));
    let expected = |commit: &ObjectId, spelled: &str, path: &str| {
        (commit.clone(), spelled.to_owned(), path.to_owned())
    };
    assert_eq!(resolved("HEAD/src"), expected(&main, "HEAD", "src"));
    assert_eq!(resolved("left"), expected(&left, "left", ""));
    // A tag has the same name, so the address has the full one.
    assert_eq!(resolved("main/a"), expected(&main, "refs/heads/main", "a"));
    assert_eq!(
        resolved("refs/tags/main/a"),
        expected(&third, "refs/tags/main", "a")
    );
    assert_eq!(
        resolved("topic/deep/x"),
        expected(&left, "refs/heads/topic/deep", "x")
    );
    assert_eq!(
        resolved("topic/deep/er/x"),
        expected(&third, "topic/deep/er", "x")
    );
    assert_eq!(resolved("v1/x/y"), expected(&right, "v1", "x/y"));
    assert_eq!(
        resolved("deadbeef00"),
        expected(&left, "refs/heads/deadbeef00", "")
    );
    let full = main.to_string();
    assert_eq!(resolved(&format!("{full}/x")), expected(&main, &full, "x"));
    let short = &full[..9];
    assert_eq!(
        resolved(&format!("{}/x", short.to_uppercase())),
        expected(&main, &full, "x")
    );
    let named = reader.named_refs(100, &budget(1)).unwrap();
    assert!(named.are_all && named.branches.len() == 6 && named.tags.len() == 4);
    let few = reader.named_refs(2, &budget(1)).unwrap();
    assert!(!few.are_all && few.branches.len() == 2);
    for (kind, found) in [
        ("refs/heads/", &named.branches),
        ("refs/tags/", &named.tags),
    ] {
        for found in found {
            let full = [kind.as_bytes(), &found.short].concat();
            assert_eq!(found.spelled, reader.spelling(&full));
        }
    }
    for missing in [
        "nothing",
        "topic",
        "refs",
        "refs/quire/x",
        "blob",
        "0123456789",
        &full[..6],
        "HEAD~1",
        "@",
        "le*t",
        "main..left",
        "refs/heads",
        &"a/".repeat(200),
    ] {
        let wanted = RevPath::parse(missing.as_bytes()).unwrap();
        assert!(
            matches!(reader.resolve(&wanted), Err(ReadError::NoRevision)),
            "{missing}"
        );
    }
}

#[test]
fn a_short_id_that_no_commit_has_is_none() {
    let mut odd = Odd::new();
    odd.commit("First");
    let tree = text(odd.path(), &["rev-parse", "HEAD^{tree}"]);
    let reader = Reader::open(&odd.git_dir()).unwrap();
    for wanted in [b"aaaaaaaaaa", &tree.as_bytes()[..10]] {
        let found = resolve(&reader, wanted);
        assert!(matches!(found, Err(ReadError::NoRevision)));
    }
}

#[test]
fn a_short_id_of_several_commits_names_them() {
    use std::io::Write as _;
    let odd = Odd::new();
    // Of so many commits, some ids begin with the same seven digits.
    let mut stream = String::new();
    for number in 0..60_000 {
        stream.push_str(&format!(
            "commit refs/heads/many\ncommitter A <a@example.org> {number} +0000\ndata 0\n\n"
        ));
    }
    let mut import = Command::new("git")
        .args(["-C", odd.path().to_str().unwrap(), "fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    import
        .stdin
        .take()
        .unwrap()
        .write_all(stream.as_bytes())
        .unwrap();
    assert!(import.wait().unwrap().success());
    let mut ids = log(&odd.git_dir(), &["many"]);
    ids.sort();
    let pair = ids
        .windows(2)
        .find(|pair| pair[0][..7] == pair[1][..7])
        .unwrap();
    let reader = Reader::open(&odd.git_dir()).unwrap();
    match resolve(&reader, &pair[0].as_bytes()[..7]) {
        Err(ReadError::Ambiguous { prefix, candidates }) => {
            assert_eq!(prefix, pair[0][..7]);
            assert!(
                pair.iter()
                    .all(|id| candidates.iter().any(|found| found.as_str() == id))
            );
        }
        other => panic!("{other:?}"),
    }
    let (rev, _) = resolve(&reader, &pair[0].as_bytes()[..12]).unwrap();
    assert_eq!(
        (rev.commit.as_str(), rev.is_abbreviated),
        (pair[0].as_str(), true)
    );
    // A long history goes on where it stopped.
    let all = all(&reader, &id(&ids_tip(&odd)), &TreePath::default(), 7000);
    assert_eq!(all, log(&odd.git_dir(), &["many"]));
}

fn ids_tip(odd: &Odd) -> String {
    text(odd.path(), &["rev-parse", "many"])
}
