//! Histories are the same with a commit-graph and without, whatever is in it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::super::*;
use super::odd_repository::*;
use crate::read::commit_graph::CommitGraph;
use quire_types::names::ObjectId;

fn graph_of(git_dir: &Path) -> PathBuf {
    git_dir.join("objects/info/commit-graph")
}

/// Writes the graph, with filters of a version or without.
fn write_graph(git_dir: &Path, filters: Option<u32>) {
    let _ = std::fs::remove_file(graph_of(git_dir));
    let version = format!("commitGraph.changedPathsVersion={}", filters.unwrap_or(1));
    let changed = match filters {
        Some(_) => "--changed-paths",
        None => "--no-changed-paths",
    };
    let write = [
        "-c",
        &version,
        "commit-graph",
        "write",
        "--reachable",
        changed,
    ];
    git(git_dir, &write);
}

/// Every path that any commit has, in UTF-8, and the folders.
fn paths(git_dir: &Path) -> Vec<String> {
    let listed = git(
        git_dir,
        &["log", "--all", "--format=", "--name-only", "-z", "-m"],
    );
    let mut found = Vec::new();
    for name in listed.split(|b| *b == 0) {
        let Ok(name) = str::from_utf8(name) else {
            continue;
        };
        let mut end = name.len();
        while end > 0 {
            found.push(name[..end].to_owned());
            end = name[..end].rfind('/').unwrap_or(0);
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The history of each path, and of all, as git says it without a graph.
fn of_git(git_dir: &Path, head: &ObjectId, paths: &[String]) -> Vec<Vec<String>> {
    let log = |more: &[&str]| {
        let base = [
            "-c",
            "core.commitGraph=false",
            "log",
            "--format=%H",
            head.as_str(),
        ];
        let found = text(git_dir, &[&base, more].concat());
        found.lines().map(str::to_owned).collect()
    };
    let each = paths
        .iter()
        .map(|path| log(&["--", &format!(":(literal){path}")]));
    each.chain([log(&[])]).collect()
}

fn of_ours(git_dir: &Path, head: &ObjectId, paths: &[String]) -> Vec<Vec<String>> {
    let reader = Reader::open(git_dir).unwrap();
    let each = paths
        .iter()
        .map(|one| all(&reader, head, &path(one.as_bytes()), 50));
    each.chain([all(&reader, head, &TreePath::default(), 50)])
        .collect()
}

/// The last change of each entry of the root.
fn last_changes(git_dir: &Path, head: &ObjectId) -> LastChanges {
    let reader = Reader::open(git_dir).unwrap();
    let tree = reader.entry(head, &TreePath::default()).unwrap();
    let items = reader.folder(&tree.id, None, &budget(5000)).unwrap().items;
    let names: Vec<Vec<u8>> = items.into_iter().map(|item| item.name).collect();
    reader
        .last_changes(head, &TreePath::default(), &names, &budget(1))
        .unwrap()
}

fn head_of(git_dir: &Path) -> ObjectId {
    Reader::open(git_dir)
        .unwrap()
        .head()
        .unwrap()
        .unwrap()
        .commit
}

fn repository() -> Odd {
    let mut odd = odd();
    odd.write("ä/ö.txt", "one\n");
    odd.commit("Names that are not ASCII");
    odd.write("ä/ö.txt", "two\n");
    for number in 0..600 {
        odd.write(format!("many/{number}"), "");
    }
    odd.commit("More paths than a filter has");
    odd.write("src/deep/er/file", "x");
    odd.commit("Deep");
    odd
}

#[test]
fn histories_are_the_same_with_every_kind_of_graph() {
    let mut odd = repository();
    let git_dir = odd.git_dir();
    let (head, paths) = (head_of(&git_dir), paths(&git_dir));
    let expected = of_git(&git_dir, &head, &paths);
    let changes = last_changes(&git_dir, &head);
    assert_eq!(of_ours(&git_dir, &head, &paths), expected, "no graph");
    let path_filter = |name: &str| {
        let reader = Reader::open(&git_dir).unwrap();
        CommitGraph::open(&reader)
            .unwrap()
            .path_filter(&path(name.as_bytes()))
    };
    for filters in [None, Some(1), Some(2)] {
        write_graph(&git_dir, filters);
        assert_eq!(of_ours(&git_dir, &head, &paths), expected, "{filters:?}");
        assert_eq!(last_changes(&git_dir, &head), changes, "{filters:?}");
        assert_eq!(path_filter("empty").is_some(), filters.is_some());
        assert_eq!(path_filter("ä").is_some(), filters == Some(2));
    }
    // The filters say no of most commits.
    let (filter, commits) = (
        path_filter("empty").unwrap(),
        expected.last().unwrap().len(),
    );
    let maybe =
        (0..u32::try_from(commits).unwrap()).filter(|place| filter.may_have_changed(*place));
    assert!(maybe.count() * 3 < commits);
    // Commits that the graph does not have are read as objects until the walk enters it.
    odd.write("empty", "once more\n");
    let newer = odd.commit("After the graph");
    let expected = of_git(&git_dir, &newer, &paths);
    assert_eq!(of_ours(&git_dir, &newer, &paths), expected);
}

#[test]
fn a_graph_that_is_damaged_changes_no_history() {
    let odd = repository();
    let git_dir = odd.git_dir();
    let (head, mut paths) = (head_of(&git_dir), paths(&git_dir));
    paths.retain(|path| !path.starts_with("many/"));
    let expected = of_git(&git_dir, &head, &paths);
    write_graph(&git_dir, Some(2));
    let graph = graph_of(&git_dir);
    let sound = std::fs::read(&graph).unwrap();
    let replace = |bytes: &[u8]| {
        std::fs::set_permissions(&graph, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&graph, bytes).unwrap();
        assert_eq!(of_ours(&git_dir, &head, &paths), expected);
    };
    for at in (8..sound.len()).step_by(sound.len() / 40) {
        let mut damaged = sound.clone();
        damaged[at] ^= 0xff;
        replace(&damaged);
    }
    for length in [0, 7, 100, sound.len() / 2, sound.len() - 1] {
        replace(&sound[..length]);
    }
    replace(&sound);
    assert!(CommitGraph::open(&Reader::open(&git_dir).unwrap()).is_some());
}

#[test]
fn a_shallow_repository_uses_no_graph() {
    let odd = repository();
    write_graph(&odd.git_dir(), Some(2));
    let folder = tempfile::tempdir().unwrap();
    let address = format!("file://{}", odd.git_dir().display());
    git(
        folder.path(),
        &[
            "clone",
            "--quiet",
            "--bare",
            "--depth=3",
            &address,
            "shallow",
        ],
    );
    let shallow = folder.path().join("shallow");
    std::fs::create_dir_all(shallow.join("objects/info")).unwrap();
    std::fs::copy(graph_of(&odd.git_dir()), graph_of(&shallow)).unwrap();
    let (head, paths) = (head_of(&shallow), paths(&shallow));
    let expected = of_git(&shallow, &head, &paths);
    assert!(expected.last().unwrap().len() < 20);
    assert_eq!(of_ours(&shallow, &head, &paths), expected);
}
