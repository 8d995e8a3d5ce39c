//! Notes in `refs/notes/ci`.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use quire_types::clock::Millis;

const NOW: Millis = Millis(1_700_000_000_999);

fn append(line: &'static str) -> impl Fn(&[u8]) -> Vec<u8> {
    move |before| [before, line.as_bytes(), b"\n"].concat()
}

/// What a clone that has fetched the notes shows.
fn shown(fixture: &Fixture, repo: &Path, commit: &ObjectId) -> String {
    let repo = repo.to_str().unwrap();
    fixture.work(&["fetch", "-q", "-f", repo, "refs/notes/*:refs/notes/*"]);
    fixture.work(&["log", "-1", "--notes=ci", "--format=%N", commit.as_str()])
}

#[test]
fn a_note_is_written_with_the_means_of_git() {
    let (fixture, repo, id) = Fixture::with_files(&[("a", "1")]);
    let edit = |line| {
        fixture
            .git
            .edit_run_note(&repo, &id, NOW, append(line))
            .unwrap()
    };
    assert_eq!(edit("first"), NoteEdit::Written);
    assert_eq!(edit("second"), NoteEdit::Written);
    assert_eq!(shown(&fixture, &repo, &id), "first\nsecond");
    let same = fixture
        .git
        .edit_run_note(&repo, &id, NOW, <[u8]>::to_vec)
        .unwrap();
    assert_eq!(same, NoteEdit::Unchanged);
    let people = ["log", "--format=%an %ae %at %ct", "refs/notes/ci"];
    assert_eq!(
        fixture.work(&people),
        "quire quire@localhost 1700000000 1700000000\n"
            .repeat(2)
            .trim()
    );
    let unknown: ObjectId = "1".repeat(40).parse().unwrap();
    let edited = fixture
        .git
        .edit_run_note(&repo, &unknown, NOW, append("x"))
        .unwrap();
    assert_eq!(edited, NoteEdit::NoCommit);
}

/// Another writer moves the ref between reading and writing, each time that the note is edited.
#[test]
fn a_push_between_reading_and_writing_is_kept() {
    let (fixture, repo, id) = Fixture::with_files(&[("a", "1")]);
    let repo_text = repo.to_str().unwrap();
    let other = fixture.commit(&[("a", "2")], "second");
    fixture.work(&["push", "-q", repo_text, "HEAD:refs/heads/main"]);
    let pushes = std::cell::Cell::new(0);
    let edit = |before: &[u8]| {
        if pushes.get() < 3 {
            pushes.set(pushes.get() + 1);
            let line = format!("by hand {}", pushes.get());
            fixture.work(&["notes", "--ref=ci", "append", "-m", &line, other.as_str()]);
            fixture.work(&["push", "-q", repo_text, "refs/notes/ci"]);
        }
        append("of the run")(before)
    };
    let edited = fixture.git.edit_run_note(&repo, &id, NOW, edit).unwrap();
    assert_eq!((edited, pushes.get()), (NoteEdit::Written, 3));
    assert_eq!(shown(&fixture, &repo, &id), "of the run");
    assert_eq!(
        shown(&fixture, &repo, &other),
        "by hand 1\n\nby hand 2\n\nby hand 3"
    );
    // One that moves it each time is not waited for.
    let edit = |before: &[u8]| {
        fixture.work(&["notes", "--ref=ci", "append", "-m", "x", other.as_str()]);
        fixture.work(&["push", "-q", "-f", repo_text, "refs/notes/ci"]);
        append("again")(before)
    };
    let error = fixture
        .git
        .edit_run_note(&repo, &id, NOW, edit)
        .unwrap_err();
    assert!(matches!(error, NoteError::Contended), "{error}");
}

/// Git lays out many notes in folders. A client may have done so.
#[test]
fn notes_in_folders_are_found_and_stay_single() {
    let (fixture, repo, id) = Fixture::with_files(&[("a", "1")]);
    let repo_text = repo.to_str().unwrap();
    let (folder, rest) = id.as_str().split_at(2);
    fs::create_dir(fixture.tree().join(folder)).unwrap();
    fs::write(fixture.tree().join(folder).join(rest), "by hand\n").unwrap();
    fixture.work(&["add", folder]);
    let tree = fixture.work(&["write-tree"]);
    let commit = fixture.work(&["commit-tree", "-m", "notes", &tree]);
    let refspec = format!("{commit}:refs/notes/ci");
    fixture.work(&["push", "-q", repo_text, &refspec]);
    let edited = fixture
        .git
        .edit_run_note(&repo, &id, NOW, append("of the run"));
    assert_eq!(edited.unwrap(), NoteEdit::Written);
    assert_eq!(shown(&fixture, &repo, &id), "by hand\nof the run");
    let listed = fixture.work(&["ls-tree", "-r", "--name-only", "refs/notes/ci"]);
    // The file `a` is no note, and stays.
    let listed: BTreeSet<&str> = listed.lines().collect();
    assert_eq!(listed, BTreeSet::from([id.as_str(), "a"]));
}

#[test]
fn what_is_in_the_way_of_notes_is_named() {
    let (fixture, repo, id) = Fixture::with_files(&[("a", "1")]);
    let repo_text = repo.to_str().unwrap();
    let problem = || {
        let edited = fixture.git.edit_run_note(&repo, &id, NOW, append("x"));
        let error = edited.unwrap_err();
        assert!(matches!(error, NoteError::Unusable(_)), "{error}");
        error.to_string()
    };
    fixture.work(&["push", "-q", repo_text, "main:refs/notes/ci/x"]);
    insta::assert_snapshot!(problem(), @"no notes can be added to refs/notes/ci: refs/notes/ci/x is in the way");
    fixture.work(&["push", "-q", repo_text, ":refs/notes/ci/x"]);
    let blob = fixture.work(&["rev-parse", "main:a"]);
    fixture.work(&["push", "-q", repo_text, &format!("{blob}:refs/notes/ci")]);
    insta::assert_snapshot!(problem(), @"no notes can be added to refs/notes/ci: fatal: Failed to read notes tree referenced by refs/notes/ci (56a6051ca2b02b04ef92d5150c9ef600403cb1de)");
    fs::write(fixture.tree().join("a"), "x".repeat(2 << 20)).unwrap();
    let large = fixture.work(&["hash-object", "-w", "a"]);
    fixture.work(&["notes", "--ref=big", "add", "-C", &large, "main"]);
    fixture.work(&[
        "push",
        "-q",
        "-f",
        repo_text,
        "refs/notes/big:refs/notes/ci",
    ]);
    assert!(problem().ends_with("has more than 1 MiB"), "{}", problem());
}
