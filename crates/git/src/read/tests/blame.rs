//! Lines come from the commits that `git blame` names.

#![expect(clippy::disallowed_methods, reason = "tests compare with git itself")]

use std::path::Path;
use std::time::Duration;

use super::super::*;
use super::odd_repository::{path as path_of, text as text_in, *};
use quire_types::names::ObjectId;

/// The commit of each line, with the path and the line there.
type Origins = Vec<(String, Vec<u8>, u32)>;

fn blame_with(reader: &Reader, query: &BlameQuery, cache: &BlameCache, lines: usize) -> Blame {
    loop {
        let blame = reader.blame(query, cache, &budget(lines)).unwrap();
        if blame.is_whole() {
            return blame;
        }
    }
}

/// All lines, read in windows.
fn origins(reader: &Reader, query: &BlameQuery, window: usize) -> Origins {
    let cache = BlameCache::default();
    let mut origins = Vec::new();
    let mut query = query.clone();
    loop {
        let blame = blame_with(reader, &query, &cache, window);
        for block in &blame.blocks {
            assert_eq!(block.line as usize, origins.len() + 1);
            let id = block.commit.as_ref().unwrap().id.to_string();
            let lines = block.source_line..block.source_line + block.count;
            let path = block.path.as_bytes();
            origins.extend(lines.map(|line| (id.clone(), path.to_vec(), line)));
        }
        if origins.len() >= blame.total {
            return origins;
        }
        query.from = origins.len() + 1;
    }
}

fn of_git(folder: &Path, commit: &str, path: &str, options: &[&str]) -> Vec<String> {
    let arguments = [&["blame", "--porcelain"], options, &[commit, "--", path]];
    let output = git(folder, &arguments.concat());
    let mut ids = Vec::new();
    for line in output.split(|b| *b == b'\n') {
        let first = line.split(|b| *b == b' ').next().unwrap_or_default();
        let is_id = first.len() == 40 && first.iter().all(u8::is_ascii_hexdigit);
        if is_id && line.split(|b| *b == b' ').count() >= 3 {
            ids.push(String::from_utf8_lossy(first).into_owned());
        }
    }
    ids
}

/// Whether a line stands in the named version, and no parent of it has the line by our own difference.
fn comes_from(
    folder: &Path,
    reader: &Reader,
    text: &[u8],
    origin: &(String, Vec<u8>, u32),
) -> bool {
    let (commit, path, line) = origin;
    let content = |commit: &str, path: &[u8]| {
        let entry = reader.entry(&id(commit), &path_of(path)).ok()?;
        Some(reader.blob(&entry.id, MAX_BLOB_BYTES).unwrap().data)
    };
    let here = content(commit, path).unwrap();
    let lines = |text: &[u8]| -> Vec<Vec<u8>> {
        super::super::file_diff::lines(text)
            .into_iter()
            .map(<[u8]>::to_vec)
            .collect()
    };
    let stands = lines(&here)
        .get(*line as usize - 1)
        .is_some_and(|found| found == text);
    let parents = text_in(folder, &["log", "-1", "--format=%P", commit]);
    let is_new = parents.split_whitespace().all(|parent| {
        let Some(old) = content(parent, path) else {
            return true;
        };
        let hunks = super::super::file_diff::hunks(&old, &here);
        hunks.iter().any(|hunk| hunk.after.contains(&(line - 1)))
    });
    stands && is_new
}

/// Compares files of a commit, and returns how many lines there were and how many named another commit than git does.
fn compare(folder: &Path, commit: &ObjectId, paths: &[String]) -> (usize, usize) {
    let reader = Reader::open(folder).unwrap();
    let (mut all, mut different) = (0, 0);
    for path in paths {
        let query = BlameQuery {
            commit: commit.clone(),
            path: path_of(path.as_bytes()),
            from: 1,
            honours_ignored: false,
        };
        let entry = reader.entry(commit, &query.path).unwrap();
        let content = reader.blob(&entry.id, MAX_BLOB_BYTES).unwrap();
        if content.is_binary() || content.data.is_empty() {
            assert!(
                blame_with(&reader, &query, &BlameCache::default(), 10)
                    .blocks
                    .is_empty()
            );
            continue;
        }
        let ours = origins(&reader, &query, 2000);
        let theirs = of_git(folder, commit.as_str(), path, &[]);
        assert_eq!(ours.len(), theirs.len(), "{path}");
        let lines = super::super::file_diff::lines(&content.data);
        for ((ours, theirs), line) in ours.iter().zip(&theirs).zip(lines) {
            all += 1;
            if ours.0 != *theirs {
                different += 1;
                assert!(
                    comes_from(folder, &reader, line, ours),
                    "{path} {ours:?} {theirs}"
                );
            }
        }
    }
    (all, different)
}

fn files(folder: &Path, commit: &ObjectId) -> Vec<String> {
    let listed = git(folder, &["ls-tree", "-rz", "--name-only", commit.as_str()]);
    let names = listed
        .split(|b| *b == 0)
        .filter_map(|name| String::from_utf8(name.to_vec()).ok());
    names
        .filter(|name| !name.is_empty() && name != "module")
        .collect()
}

fn assert_mostly_equal((all, different): (usize, usize)) {
    assert!(all > 100 && different * 200 <= all, "{different} of {all}");
}

/// Branches on which lines are changed at random, with merges in both directions, renames and reverts.
fn restless() -> Odd {
    let mut odd = Odd::new();
    let mut random = 7_u64;
    let mut next = move |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let text: String = (0..120)
        .map(|n| format!("{}line {n} of it\n", " ".repeat(n % 5)))
        .collect();
    odd.write("one/file.txt", &text);
    odd.write("crlf", text.replace('\n', "\r\n"));
    odd.write("open-end", text.trim_end());
    odd.write("empty", "");
    odd.commit("First");
    git(odd.path(), &["branch", "other"]);
    let mut round = 0;
    while round < 70 {
        round += 1;
        let branch = ["main", "other"][next(2) as usize];
        git(odd.path(), &["checkout", "--quiet", branch]);
        let names = text_of(&odd, &["ls-files"]);
        let names: Vec<&str> = names.lines().collect();
        match next(8) {
            0 => merge(&mut odd, if branch == "main" { "other" } else { "main" }),
            1 => {
                let at = odd.at();
                let reverted = std::process::Command::new("git")
                    .arg("-C")
                    .arg(odd.path())
                    .args([
                        "-c",
                        "user.name=A",
                        "-c",
                        "user.email=a@example.org",
                        "revert",
                        "--no-edit",
                        "HEAD",
                    ])
                    .env("GIT_COMMITTER_DATE", at)
                    .output()
                    .unwrap();
                if !reverted.status.success() {
                    git(odd.path(), &["reset", "--quiet", "--hard"]);
                }
            }
            2 => {
                let name = names[next(names.len() as u64) as usize];
                let to = format!("moved-{round}/{}", name.rsplit('/').next().unwrap());
                std::fs::create_dir_all(odd.path().join(&to).parent().unwrap()).unwrap();
                git(odd.path(), &["mv", name, &to]);
                odd.commit("Move");
            }
            _ => {
                let name = names[next(names.len() as u64) as usize];
                let old = std::fs::read_to_string(odd.path().join(name)).unwrap();
                let mut lines: Vec<String> = old.split_inclusive('\n').map(str::to_owned).collect();
                for _ in 0..=next(4) {
                    let at = next(lines.len() as u64 + 1) as usize;
                    match next(3) {
                        0 => lines.insert(at, format!("    new {round} {at}\n")),
                        1 if at < lines.len() => lines[at] = format!("changed {round}\n"),
                        _ if at < lines.len() => drop(lines.remove(at)),
                        _ => lines.push("}\n".to_owned()),
                    }
                }
                odd.write(name, lines.concat());
                odd.commit(&format!("Change {round}"));
            }
        }
    }
    git(odd.path(), &["checkout", "--quiet", "main"]);
    merge(&mut odd, "other");
    odd
}

/// Merges a branch; what conflicts is committed as git leaves it.
fn merge(odd: &mut Odd, branch: &str) {
    let arguments = ["merge", "--quiet", "--no-ff", "--no-commit", "-X", "ours"];
    let identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
    let merged = std::process::Command::new("git")
        .arg("-C")
        .arg(odd.path())
        .args([&identity[..], &arguments, &[branch]].concat())
        .output();
    assert!(merged.is_ok());
    odd.commit("Merge");
}

fn text_of(odd: &Odd, arguments: &[&str]) -> String {
    text(odd.path(), arguments)
}

#[test]
fn lines_of_an_odd_history_come_from_the_commits_that_git_names() {
    let odd = odd();
    let head = id(&text(odd.path(), &["rev-parse", "HEAD"]));
    let of_odd = compare(&odd.git_dir(), &head, &files(odd.path(), &head));
    assert_eq!(of_odd.1, 0);
    let restless = restless();
    let head = id(&text(restless.path(), &["rev-parse", "HEAD"]));
    let paths = files(restless.path(), &head);
    assert_mostly_equal(compare(&restless.git_dir(), &head, &paths));
    git(restless.path(), &["commit-graph", "write", "--reachable"]);
    assert_mostly_equal(compare(&restless.git_dir(), &head, &paths));
}

#[test]
fn lines_of_this_repository_come_from_the_commits_that_git_names() {
    let Some(git_dir) = own() else { return };
    let head = id(&text(&git_dir, &["rev-parse", "HEAD"]));
    let paths = files(&git_dir, &head);
    let step = (paths.len() / 40).max(1);
    let sample: Vec<String> = paths.into_iter().step_by(step).collect();
    assert_mostly_equal(compare(&git_dir, &head, &sample));
}

#[test]
fn a_window_has_the_same_commits_as_the_whole_file() {
    let odd = restless();
    let head = id(&text(odd.path(), &["rev-parse", "HEAD"]));
    let reader = Reader::open(&odd.git_dir()).unwrap();
    for path in files(odd.path(), &head) {
        let query = BlameQuery {
            commit: head.clone(),
            path: path_of(path.as_bytes()),
            from: 1,
            honours_ignored: true,
        };
        if reader.entry(&head, &query.path).unwrap().size != Some(0) {
            assert_eq!(origins(&reader, &query, 7), origins(&reader, &query, 2000));
        }
    }
}

#[test]
fn what_ran_out_of_time_goes_on_where_it_ended() {
    let odd = restless();
    let head = id(&text(odd.path(), &["rev-parse", "HEAD"]));
    let reader = Reader::open(&odd.git_dir()).unwrap();
    let path = files(odd.path(), &head)
        .into_iter()
        .find(|path| path.ends_with("crlf"))
        .unwrap();
    let query = BlameQuery {
        commit: head,
        path: path_of(path.as_bytes()),
        from: 1,
        honours_ignored: true,
    };
    let whole = blame_with(&reader, &query, &BlameCache::default(), 2000);
    let cache = BlameCache::default();
    let over = Budget::new(Duration::ZERO, 2000, MAX_BLOB_BYTES);
    let nothing = reader.blame(&query, &cache, &over).unwrap();
    assert!(!nothing.is_whole() && nothing.blocks.len() == 1 && nothing.total == whole.total);
    for step in 1.. {
        let time = Duration::from_micros(100 * step);
        let part = Budget::new(time, 2000, MAX_BLOB_BYTES);
        let blame = reader.blame(&query, &cache, &part).unwrap();
        let lines: u32 = blame.blocks.iter().map(|block| block.count).sum();
        assert_eq!(lines as usize, whole.total);
        if blame.is_whole() {
            assert_eq!(blame, whole);
            return;
        }
    }
}

#[test]
fn listed_commits_are_passed_over() {
    let mut odd = Odd::new();
    odd.write("file", "let first = 1;\nlet second = 2;\nlet third = 3;\n");
    let first = odd.commit("First");
    odd.write(
        "file",
        "    let first = 1;\n    let second = 2;\n    new();\n    let third = 3;\n",
    );
    let layout = odd.commit("Layout");
    odd.write(
        ".git-blame-ignore-revs",
        format!("# Layout\n\n{layout} # indented\nno id\n"),
    );
    let head = odd.commit("List it");
    let reader = Reader::open(&odd.git_dir()).unwrap();
    let mut query = BlameQuery {
        commit: head.clone(),
        path: path(b"file"),
        from: 1,
        honours_ignored: true,
    };
    let commits = |query: &BlameQuery| -> Vec<String> {
        let origins = origins(&reader, query, 100);
        origins.into_iter().map(|(commit, _, _)| commit).collect()
    };
    let (one, two) = (first.to_string(), layout.to_string());
    assert_eq!(
        commits(&query),
        [one.clone(), one.clone(), two.clone(), one]
    );
    let list = format!("--ignore-rev={layout}");
    assert_eq!(
        commits(&query),
        of_git(&odd.git_dir(), head.as_str(), "file", &[&list])
    );
    query.honours_ignored = false;
    assert_eq!(commits(&query), vec![two; 4]);
    let blame = blame_with(&reader, &query, &BlameCache::default(), 9);
    assert_eq!(blame.listed_as_ignored, 1);
    let (commit, old_path, line) = blame.blocks[0].previous.clone().unwrap();
    assert_eq!((commit, old_path, line), (first, path(b"file"), 1));
}
