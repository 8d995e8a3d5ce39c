//! Branches and tags, and that changes of them show at once.

use super::super::*;
use super::odd_repository::*;

#[test]
fn branches_and_tags_have_their_commits() {
    let odd = odd();
    for (name, at) in [("v1", "left"), ("v2", "third")] {
        git(odd.path(), &["tag", "-a", "-m", "About it", name, at]);
    }
    git(odd.path(), &["tag", "plain", "left"]);
    let reader = Reader::open(&odd.git_dir()).unwrap();
    let mut names = Vec::new();
    let mut after = None;
    loop {
        let tips = reader
            .ref_tips(RefNames::Branches, after.as_deref(), &budget(1))
            .unwrap();
        assert_eq!((tips.total, tips.is_cut), (4, false));
        names.extend(tips.page.items.into_iter().map(|tip| tip.name.short));
        match tips.page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let listed = text(
        odd.path(),
        &[
            "branch",
            "--sort=-committerdate",
            "--format=%(refname:short)",
        ],
    );
    assert_eq!(
        names,
        listed
            .lines()
            .map(|line| line.as_bytes().to_vec())
            .collect::<Vec<_>>()
    );
    let tags = reader
        .ref_tips(RefNames::Tags, None, &budget(10))
        .unwrap()
        .page
        .items;
    assert_eq!(tags.len(), 3);
    let tag = tags.iter().find(|tag| tag.name.short == b"v1").unwrap();
    let annotation = tag.annotation.as_ref().unwrap();
    assert_eq!(annotation.subject, "About it");
    assert_eq!(annotation.tagger.as_ref().unwrap().name, "A Person");
    let left = id(&text(odd.path(), &["rev-parse", "left"]));
    assert_eq!(tag.commit.as_ref().unwrap().id, left);
    assert!(tags.iter().any(|tag| tag.annotation.is_none()));
}

#[test]
fn pushes_forced_pushes_and_gc_show_at_once() {
    let mut odd = odd();
    let git_dir = odd.git_dir();
    let reader = Reader::open(&git_dir).unwrap();
    let tip = |reader: &Reader, name: &[u8]| resolve(reader, name).map(|(rev, _)| rev.commit);
    for _ in 0..3 {
        let new = odd.commit("Again");
        assert_eq!(tip(&reader, b"main").unwrap(), new);
        git(odd.path(), &["pack-refs", "--all"]);
        assert_eq!(tip(&reader, b"main").unwrap(), new);
        assert_eq!(reader.commit(&new).unwrap().summary.subject, "Again");
        git(odd.path(), &["gc", "--quiet", "--prune=now"]);
        assert_eq!(reader.commit(&new).unwrap().summary.subject, "Again");
        git(odd.path(), &["reset", "--quiet", "--hard", "HEAD~1"]);
        let back = id(&text(odd.path(), &["rev-parse", "HEAD"]));
        assert_eq!(tip(&reader, b"main").unwrap(), back);
    }
    git(odd.path(), &["branch", "-D", "third"]);
    assert!(tip(&reader, b"third").is_err());
}
