//! The commits of a push.

use super::*;

async fn pushed(
    fixture: &Fixture,
    (ref_name, old, new): (&str, Option<&ObjectId>, Option<&ObjectId>),
) -> PushedCommits {
    let repo = fixture.paths.repo(&Fixture::name("app"));
    let ref_name: RefName = ref_name.parse().unwrap();
    let pushed = fixture.git.pushed_commits(&repo, &ref_name, old, new).await;
    pushed.unwrap()
}

fn messages(pushed: &PushedCommits) -> Vec<&str> {
    let messages = pushed.commits.iter();
    messages.map(|commit| commit.message.as_str()).collect()
}

#[tokio::test]
async fn commits_of_a_push_have_their_people_and_files() {
    let (fixture, _, first) = Fixture::with_files(&[("a", "1"), ("b", "1")]);
    fs::remove_file(fixture.tree().join("b")).unwrap();
    let second = fixture.commit(&[("a", "2"), ("d\u{e4} x/c", "1")], "second\n\nmore\n");
    let main = "refs/heads/main";
    let update = pushed(&fixture, (main, Some(&first), Some(&second))).await;
    let commit = &update.commits[0];
    assert_eq!(
        (&commit.id, commit.message.as_str()),
        (&second, "second\n\nmore")
    );
    let person = CommitPerson {
        name: "a".to_owned(),
        email: "a@b".to_owned(),
    };
    assert_eq!((&commit.author, &commit.committer), (&person, &person));
    assert_eq!(commit.tree, fixture.work(&["rev-parse", "HEAD^{tree}"]));
    assert_eq!(commit.time, fixture.work(&["log", "-1", "--format=%cI"]));
    let files = ChangedFiles {
        added: vec!["d\u{e4} x/c".to_owned()],
        removed: vec!["b".to_owned()],
        modified: vec!["a".to_owned()],
    };
    assert_eq!(commit.files, files);
    assert_eq!(update.head.as_ref(), Some(commit));
    assert!(!update.forced && update.commits.len() == 1);
    // The first push of the default branch, a branch beside it, a tag, a move back and a deletion.
    let created = pushed(&fixture, (main, None, Some(&second))).await;
    assert_eq!(messages(&created), ["first\n\nand more", "second\n\nmore"]);
    assert_eq!(created.commits[0].files.added, ["a", "b"]);
    let beside = pushed(&fixture, ("refs/heads/x", None, Some(&second))).await;
    assert_eq!(messages(&beside), Vec::<&str>::new());
    assert_eq!(beside.head.as_ref(), Some(commit));
    let tag = pushed(&fixture, ("refs/tags/v1", None, Some(&second))).await;
    assert_eq!((messages(&tag).len(), tag.head.as_ref()), (0, Some(commit)));
    let back = pushed(&fixture, (main, Some(&second), Some(&first))).await;
    assert!(back.forced && back.commits.is_empty());
    assert_eq!(back.head.unwrap().id, first);
    let deleted = pushed(&fixture, (main, Some(&second), None)).await;
    assert_eq!(deleted, PushedCommits::default());
    let unknown: ObjectId = "1".repeat(40).parse().unwrap();
    let lost = pushed(&fixture, (main, Some(&unknown), Some(&second))).await;
    assert!(lost.forced && lost.commits.len() == 2);
}
