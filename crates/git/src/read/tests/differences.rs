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
