//! Histories, trees and counts equal what git says: of this repository, and of one that is made to be odd.

use std::path::Path;

use super::super::*;
use super::odd_repository::*;
use quire_types::names::ObjectId;

fn assert_histories(git_dir: &Path) {
    let reader = Reader::open(git_dir).unwrap();
    let head = reader.head().unwrap().unwrap().commit;
    let of_git = log(git_dir, &[head.as_str()]);
    for page in [1, 7, 1000] {
        assert_eq!(all(&reader, &head, &TreePath::default(), page), of_git);
    }
    let names = git(
        git_dir,
        &[
            "log",
            "--format=",
            "--name-only",
            "-z",
            "--no-renames",
            "-m",
            head.as_str(),
        ],
    );
    let mut names: Vec<&[u8]> = names
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    // Of a large history a sample.
    let step = (names.len() / 40).max(1);
    for name in names.into_iter().step_by(step) {
        let Ok(shown) = std::str::from_utf8(name) else {
            continue;
        };
        for part in [shown, shown.split('/').next().unwrap()] {
            let literal = format!(":(literal){part}");
            assert_eq!(
                all(&reader, &head, &path(part.as_bytes()), 50),
                log(git_dir, &[head.as_str(), "--", &literal]),
                "{part:?}"
            );
        }
    }
}

fn assert_trees(git_dir: &Path) {
    let reader = Reader::open(git_dir).unwrap();
    let head = reader.head().unwrap().unwrap().commit;
    let mut folders = vec![TreePath::default()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        let tree = reader.entry(&head, &folder).unwrap();
        let mut after = None;
        loop {
            let page = reader
                .folder(&tree.id, after.as_deref(), &budget(3))
                .unwrap();
            for item in page.items {
                let path = folder.join(&item.name);
                if item.mode == EntryMode::Folder {
                    folders.push(path.clone());
                }
                let mode = item.mode.as_octal();
                let line = format!(
                    "{mode} {} {}\t",
                    item.id,
                    item.size.map_or_else(|| "-".into(), |s| s.to_string())
                );
                found.push([line.as_bytes(), path.as_bytes()].concat());
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
    }
    let listed = git(git_dir, &["ls-tree", "-rtzl", head.as_str()]);
    let lines = listed.split(|b| *b == 0).filter(|line| !line.is_empty());
    let mut listed: Vec<Vec<u8>> = lines.map(without_kind).collect();
    listed.sort();
    found.sort();
    assert_eq!(found, listed);
}

/// The last change of every entry of every folder is the first commit of `git log` for its path.
fn assert_last_changes(git_dir: &Path, limit: usize) {
    let reader = Reader::open(git_dir).unwrap();
    let head = reader.head().unwrap().unwrap().commit;
    let mut folders = vec![TreePath::default()];
    let mut checked = 0;
    while let Some(folder) = folders.pop() {
        let tree = reader.entry(&head, &folder).unwrap();
        let items = reader.folder(&tree.id, None, &budget(5000)).unwrap().items;
        let names: Vec<Vec<u8>> = items.iter().map(|item| item.name.clone()).collect();
        let changes = reader
            .last_changes(&head, &folder, &names, &budget(1))
            .unwrap();
        assert!(changes.is_whole);
        for item in items {
            let path = folder.join(&item.name);
            if item.mode == EntryMode::Folder {
                folders.push(path.clone());
            }
            let Ok(shown) = std::str::from_utf8(path.as_bytes()) else {
                continue;
            };
            let literal = format!(":(literal){shown}");
            let of_git = log(git_dir, &["-1", head.as_str(), "--", &literal]);
            assert_eq!(
                [changes.of[&item.name].id.to_string()],
                of_git[..],
                "{shown:?}"
            );
            checked += 1;
        }
        if checked >= limit {
            return;
        }
    }
    assert!(checked > 5);
}

/// Mode, id, size and path of a line of `git ls-tree -l`.
fn without_kind(line: &[u8]) -> Vec<u8> {
    let tab = line.iter().position(|b| *b == b'\t').unwrap();
    let fields = String::from_utf8_lossy(&line[..tab]);
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let kept = format!("{} {} {}", fields[0], fields[2], fields[3]);
    [kept.as_bytes(), &line[tab..]].concat()
}

/// Every file of every commit has the counts that git computes; a renamed one those of its two versions.
fn assert_counts(git_dir: &Path, limit: usize) {
    let reader = Reader::open(git_dir).unwrap();
    let head = reader.head().unwrap().unwrap().commit;
    let empty = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
    for commit in log(git_dir, &[head.as_str()]).into_iter().take(limit) {
        let parents = text(git_dir, &["log", "-1", "--format=%P", &commit]);
        let parent = parents
            .split_whitespace()
            .next()
            .unwrap_or(empty)
            .to_owned();
        let listed = numstat(git_dir, &parent, &commit);
        let (mut found, mut renamed) = (Vec::new(), 0);
        for file in changed_files(&reader, &id(&commit)) {
            let counts = match file.counts {
                Some(counts) => format!("{}\t{}", counts.added, counts.removed),
                None => "-\t-".to_owned(),
            };
            if file.kind != ChangeKind::Renamed {
                found.push([counts.as_bytes(), b"\t", &file.path].concat());
                continue;
            }
            let is_listed = |path: &[u8]| listed.iter().any(|line| line.ends_with(path));
            assert!(is_listed(&file.path) && is_listed(file.old_path.as_ref().unwrap()));
            renamed += 2;
            let (old, new) = (
                file.old.unwrap().1.to_string(),
                file.new.unwrap().1.to_string(),
            );
            let of_git = text(git_dir, &["diff", "--numstat", &old, &new]);
            let of_git: Vec<&str> = of_git.split('\t').take(2).collect();
            if old != new {
                assert_eq!(of_git.join("\t"), counts, "{commit}");
            }
        }
        assert_eq!(found.len() + renamed, listed.len(), "{commit}");
        for line in found {
            assert!(
                listed.contains(&line),
                "{commit} {}",
                String::from_utf8_lossy(&line)
            );
        }
    }
}

fn changed_files(reader: &Reader, commit: &ObjectId) -> Vec<ChangedFile> {
    let mut options = DiffOptions {
        max_files: 100,
        max_lines: 50,
        ..DiffOptions::default()
    };
    let mut files = Vec::new();
    loop {
        let diff = reader.commit_diff(commit, &options, &budget(1000)).unwrap();
        assert!(!diff.is_cut);
        files.extend(diff.files);
        match diff.next {
            Some(next) => options.skip_files = next,
            None => return files,
        }
    }
}

fn numstat(git_dir: &Path, old: &str, new: &str) -> Vec<Vec<u8>> {
    let arguments = [
        "diff-tree",
        "-r",
        "-z",
        "--numstat",
        "--no-renames",
        old,
        new,
    ];
    let output = git(git_dir, &arguments);
    let lines = output.split(|b| *b == 0).filter(|line| !line.is_empty());
    lines.map(<[u8]>::to_vec).collect()
}

#[test]
fn an_odd_history_reads_as_git_reads_it() {
    let odd = odd();
    let git_dir = odd.git_dir();
    assert_histories(&git_dir);
    assert_trees(&git_dir);
    assert_counts(&git_dir, 100);
    assert_last_changes(&git_dir, 1000);
    // The same answers from packs and a commit-graph, and with a graph that is damaged.
    git(&git_dir, &["gc", "--quiet"]);
    git(
        &git_dir,
        &["commit-graph", "write", "--reachable", "--changed-paths"],
    );
    assert!(git_dir.join("objects/info/commit-graph").is_file());
    assert_histories(&git_dir);
    assert_trees(&git_dir);
    let graph = git_dir.join("objects/info/commit-graph");
    let bytes = std::fs::read(&graph).unwrap();
    std::fs::remove_file(&graph).unwrap();
    std::fs::write(&graph, &bytes[..bytes.len() / 2]).unwrap();
    let reader = Reader::open(&git_dir).unwrap();
    let head = reader.head().unwrap().unwrap().commit;
    let damaged = all(&reader, &head, &TreePath::default(), 50);
    std::fs::remove_file(&graph).unwrap();
    assert_eq!(damaged, log(&git_dir, &[head.as_str()]));
}

#[test]
fn the_history_of_this_repository_reads_as_git_reads_it() {
    let Some(git_dir) = own() else { return };
    assert_histories(&git_dir);
    assert_trees(&git_dir);
    assert_counts(&git_dir, 60);
    assert_last_changes(&git_dir, 150);
}

#[test]
fn a_shallow_history_ends_where_it_ends() {
    let odd = odd();
    let copy = tempfile::tempdir().unwrap();
    let from = format!("file://{}", odd.path().display());
    git(
        copy.path(),
        &["clone", "--quiet", "--bare", "--depth=3", &from, "copy.git"],
    );
    let git_dir = copy.path().join("copy.git");
    let reader = Reader::open(&git_dir).unwrap();
    let head = reader.head().unwrap().unwrap().commit;
    assert_eq!(
        all(&reader, &head, &TreePath::default(), 2),
        log(&git_dir, &[head.as_str()])
    );
}
