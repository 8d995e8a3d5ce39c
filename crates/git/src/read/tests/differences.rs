//! What a commit changed, and the limits of it.

use std::time::Duration;

use super::super::*;
use super::odd_repository::*;

#[test]
fn a_renamed_file_is_shown_as_one() {
    let odd = odd();
    let reader = Reader::open(&odd.git_dir()).unwrap();
    let commit = id(&text(
        odd.path(),
        &["log", "-1", "--format=%H", "--grep=Rename and"],
    ));
    let options = DiffOptions {
        max_files: 10,
        max_lines: 100,
        ..DiffOptions::default()
    };
    let diff = reader
        .commit_diff(&commit, &options, &budget(1000))
        .unwrap();
    let [file] = diff.files.as_slice() else {
        panic!("{diff:?}");
    };
    assert_eq!(file.kind, ChangeKind::Renamed);
    assert_eq!(file.old_path.as_deref(), Some(&b"src/main.rs"[..]));
    assert_eq!(
        file.counts,
        Some(LineCounts {
            added: 2,
            removed: 1
        })
    );
    let alone = DiffOptions {
        only: TreePath::parse(b"nothing"),
        ..options
    };
    assert!(matches!(
        reader.commit_diff(&commit, &alone, &budget(10)),
        Err(ReadError::NoPath)
    ));
}

#[test]
fn what_is_too_much_is_left_out() {
    let mut odd = Odd::new();
    odd.write("large", vec![b'x'; 3 << 20]);
    let commit = odd.commit("Large");
    let reader = Reader::open(&odd.git_dir()).unwrap();
    let entry = reader.entry(&commit, &path(b"large")).unwrap();
    assert!(
        matches!(reader.blob(&entry.id, 1000), Err(ReadError::TooLarge { bytes }) if bytes == 3 << 20)
    );
    let options = DiffOptions {
        max_files: 10,
        max_lines: 100,
        ..DiffOptions::default()
    };
    let diff = reader
        .commit_diff(&commit, &options, &budget(1000))
        .unwrap();
    assert!(diff.files[0].is_too_large && diff.files[0].counts.is_none());
    let over = Budget::new(Duration::ZERO, 10, 10);
    let query = HistoryQuery {
        from: HistoryCursor::start(commit.clone()),
        path: TreePath::default(),
        filter: CommitFilter::default(),
    };
    let portion = reader.history(&query, &over).unwrap();
    assert!(portion.out_of_time && portion.items.is_empty());
    assert_eq!(portion.next, Some(HistoryCursor::start(commit)));
}

/// The history of a file under all of its names, as pages that follow renames show it.
fn followed(reader: &Reader, commit: &str, name: &str) -> Vec<String> {
    let (mut commit, mut name) = (id(commit), path(name.as_bytes()));
    let mut ids = Vec::new();
    loop {
        let part = all(reader, &commit, &name, 7);
        let first = id(part.last().unwrap());
        ids.extend(part);
        match reader.renamed_from(&first, &name, &budget(1)).unwrap() {
            Some((parent, former)) => (commit, name) = (parent, former),
            None => return ids,
        }
    }
}

#[test]
fn renames_are_followed_as_git_follows_them() {
    let mut odd = Odd::new();
    let text = |end: &str| format!("{}{end}\n", "a line of it\n".repeat(20));
    odd.write("one", text(""));
    odd.write("other", "else\n");
    odd.commit("Add");
    odd.write("one", text("changed"));
    odd.commit("Change");
    git(odd.path(), &["mv", "one", "two"]);
    odd.write("two", text("changed too"));
    odd.commit("Rename and change");
    odd.write("other", "more\n");
    odd.commit("Something else");
    std::fs::create_dir(odd.path().join("folder")).unwrap();
    git(odd.path(), &["mv", "two", "folder/three"]);
    odd.commit("Rename");
    odd.write("folder/three", text("last"));
    odd.commit("Change again");
    let mut repositories = vec![(odd.git_dir(), vec!["folder/three", "other"])];
    repositories.extend(own().map(|own| (own, vec!["crates/git/src/repo.rs"])));
    for (git_dir, names) in repositories {
        let reader = Reader::open(&git_dir).unwrap();
        let head = super::odd_repository::text(&git_dir, &["rev-parse", "HEAD"]);
        for name in names {
            let of_git = log(&git_dir, &["--follow", "HEAD", "--", name]);
            assert_eq!(followed(&reader, &head, name), of_git, "{name}");
        }
    }
}
