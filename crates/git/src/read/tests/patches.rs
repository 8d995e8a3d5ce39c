//! Patches: what git makes of them is the tree that they came from, and they read as git writes them.

use std::path::Path;
use std::process::{Command, Stdio};

use super::super::*;
use super::odd_repository::*;
use quire_types::names::ObjectId;

fn written(reader: &Reader, content: &PatchContent) -> Vec<u8> {
    let mut out = Vec::new();
    reader.write_patch(content, &mut out).unwrap();
    out
}

fn of_commit(reader: &Reader, commit: &str, format: PatchFormat) -> Vec<u8> {
    let content = reader
        .patch_of_commit(&id(commit), 0, format, &budget(1))
        .unwrap();
    written(reader, &content)
}

/// Runs git with a patch as its input.
#[expect(clippy::disallowed_methods, reason = "tests compare with git itself")]
fn fed(folder: &Path, arguments: &[&str], input: &[u8]) {
    let file = folder.join("../input.patch");
    std::fs::write(&file, input).unwrap();
    let done = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_COMMITTER_NAME", "Another")
        .env("GIT_COMMITTER_EMAIL", "b@example.org")
        .stdin(Stdio::from(std::fs::File::open(&file).unwrap()))
        .output()
        .unwrap();
    let input = String::from_utf8_lossy(input);
    assert!(done.status.success(), "{arguments:?}: {done:?}\n{input}");
}

fn tree(folder: &Path, rev: &str) -> String {
    text(folder, &["rev-parse", &format!("{rev}^{{tree}}")])
}

/// Applies the difference of each commit to its first parent.
fn assert_applies(git_dir: &Path, commits: &[String]) {
    let reader = Reader::open(git_dir).unwrap();
    let place = tempfile::tempdir().unwrap();
    let work = place.path().join("work");
    let shared = git_dir.display().to_string();
    git(
        place.path(),
        &[
            "clone",
            "--quiet",
            "--shared",
            "--no-checkout",
            &shared,
            "work",
        ],
    );
    for commit in commits {
        let parent = format!("{commit}^");
        match git_output(&work, &["rev-parse", "--verify", &parent])
            .status
            .success()
        {
            true => git(&work, &["read-tree", &parent]),
            false => git(&work, &["read-tree", "--empty"]),
        };
        let patch = of_commit(&reader, commit, PatchFormat::Diff);
        if !patch.is_empty() {
            fed(&work, &["apply", "--cached"], &patch);
        }
        let applied = text(&work, &["write-tree"]);
        assert_eq!(applied, tree(git_dir, commit), "{commit}");
        if !patch.is_empty() {
            fed(&work, &["apply", "--cached", "--reverse"], &patch);
        }
    }
}

/// What the odd history lacks: modes, binary files that change and are renamed, ends of files, an empty file, long texts.
fn odder() -> Odd {
    use std::os::unix::fs::PermissionsExt as _;
    let mut odd = odd();
    let noise: Vec<u8> = (0..5000u32).map(|n| (n * n / 7) as u8).collect();
    odd.write("noise", &noise);
    odd.write("tool", "#!/bin/sh\n");
    odd.write("new-empty", "");
    odd.write("ümlaut", "ü\n");
    odd.commit("Add");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(odd.path().join("tool"), executable).unwrap();
    odd.commit("A mode alone");
    git(odd.path(), &["mv", "noise", "moved noise"]);
    git(
        odd.path(),
        &["mv", "tool", "bin/tool"].map(|a| if a == "bin/tool" { "tool2" } else { a }),
    );
    odd.write("tool2", "#!/bin/sh\nexit 0");
    odd.commit("Rename, mode and content");
    odd.write("moved noise", [&noise[..], b"\0more"].concat());
    std::os::unix::fs::symlink("nowhere", odd.path().join("dangling")).unwrap();
    odd.commit("Binary change and a link");
    std::fs::remove_file(odd.path().join("dangling")).unwrap();
    std::os::unix::fs::symlink("elsewhere", odd.path().join("dangling")).unwrap();
    odd.write("large.txt", "0123456789abcdef\n".repeat(200_000));
    odd.commit("A link changes, and a long text");
    std::fs::remove_file(odd.path().join("large.txt")).unwrap();
    std::fs::remove_file(odd.path().join("new-empty")).unwrap();
    odd.write("large.txt", "short\n");
    odd.commit("Delete");
    odd
}

#[test]
fn git_applies_the_difference_of_each_commit() {
    let odd = odder();
    let commits = log(&odd.git_dir(), &["HEAD"]);
    assert!(commits.len() > 20);
    assert_applies(&odd.git_dir(), &commits);
    if let Some(own) = own() {
        let commits = log(&own, &["-40", "HEAD"]);
        assert_applies(&own, &commits);
    }
}

/// The lines of a patch without the content of binary files, which git may write as a delta.
fn without_binaries(patch: &[u8]) -> Vec<String> {
    let patch = String::from_utf8_lossy(patch).into_owned();
    let mut in_binary = false;
    let mut kept = Vec::new();
    for line in patch.lines() {
        in_binary &= !line.starts_with("diff --git ") && line != "-- ";
        if !in_binary {
            kept.push(line.to_owned());
        }
        in_binary |= line == "GIT binary patch";
    }
    kept
}

#[test]
fn a_difference_reads_as_git_writes_it() {
    let odd = odder();
    let git_dir = odd.git_dir();
    let reader = Reader::open(&git_dir).unwrap();
    for commit in log(&git_dir, &["HEAD"]) {
        let ours = of_commit(&reader, &commit, PatchFormat::Diff);
        // The long text is shown as a binary file.
        let subject = text(&git_dir, &["log", "-1", "--format=%s", &commit]);
        if subject.contains("long text") || subject.starts_with("Delete") {
            continue;
        }
        let arguments = [
            "-c",
            "core.quotePath=true",
            "show",
            "--format=",
            "--first-parent",
            "-m",
            "-M",
            "--full-index",
            "--binary",
            &commit,
        ];
        let of_git = git(&git_dir, &arguments);
        assert_eq!(
            without_binaries(&ours),
            without_binaries(&of_git),
            "{commit} {subject}"
        );
    }
}

#[test]
fn git_am_makes_the_same_commits_of_a_series() {
    let mut odd = odder();
    let begin = text(odd.path(), &["rev-parse", "HEAD"]);
    for (name, message) in [
        (
            "ä",
            "Größe ändern und noch viel mehr, damit die Zeile länger als ein Wort im Kopf werden kann\n\nWarum: übersichtlich.\n\nSigned-off-by: A",
        ),
        ("b", "Two\nlines\n\nBody\n"),
        ("c", "=?UTF-8?q?no?= word"),
        ("d", "Plain"),
    ] {
        odd.write(name, "x\n");
        odd.write("no-newline", format!("{name}\nend"));
        odd.commit(message);
    }
    let git_dir = odd.git_dir();
    let reader = Reader::open(&git_dir).unwrap();
    let end = text(&git_dir, &["rev-parse", "HEAD"]);
    let content = reader
        .patch_series(&id(&begin), &id(&end), &budget(1))
        .unwrap();
    let series = written(&reader, &content);
    let place = tempfile::tempdir().unwrap();
    let work = place.path().join("work");
    let shared = git_dir.display().to_string();
    git(
        place.path(),
        &["clone", "--quiet", "--shared", &shared, "work"],
    );
    git(&work, &["reset", "--quiet", "--hard", begin.trim()]);
    fed(&work, &["am", "--quiet"], &series);
    assert_eq!(tree(&work, "HEAD"), tree(&git_dir, "HEAD"));
    let facts = |folder: &Path, rev: &str| {
        let range = format!("{}..{rev}", begin.trim());
        text(folder, &["log", "--format=%T%n%an <%ae>%n%aI%n%B", &range])
    };
    let joined = facts(&git_dir, "HEAD").replace("Two\nlines", "Two lines");
    assert_eq!(facts(&work, "HEAD"), joined);
    // The heads are those of git, which also folds long subjects.
    let of_git = text(
        &git_dir,
        &[
            "format-patch",
            "--stdout",
            "-1",
            "--full-index",
            "--no-stat",
            "HEAD",
        ],
    );
    let ours = of_commit(&reader, &end, PatchFormat::Mail);
    let head = |text: &str| text.split("\n---\n").next().unwrap().to_owned();
    assert_eq!(
        head(&String::from_utf8_lossy(&ours)),
        head(
            &of_git
                .replace("\n\ndiff", "\n\n---\n\ndiff")
                .replace("\n\n\n---", "\n\n---")
        )
    );
}

#[test]
fn a_series_has_each_commit_after_its_parents() {
    let odd = odder();
    let git_dir = odd.git_dir();
    let reader = Reader::open(&git_dir).unwrap();
    let first = log(&git_dir, &["--grep=^Rename$", "HEAD"]).remove(0);
    let head = text(&git_dir, &["rev-parse", "HEAD"]);
    let content = reader
        .patch_series(&id(&first), &id(&head), &budget(1))
        .unwrap();
    let series = String::from_utf8_lossy(&written(&reader, &content)).into_owned();
    let ids: Vec<&str> = series
        .lines()
        .filter_map(|line| {
            line.strip_prefix("From ")?
                .strip_suffix(" Mon Sep 17 00:00:00 2001")
        })
        .collect();
    let range = format!("{first}..{}", head.trim());
    let of_git = text(
        &git_dir,
        &[
            "rev-list",
            "--no-merges",
            "--reverse",
            "--topo-order",
            &range,
        ],
    );
    let mut sorted: Vec<&str> = of_git.lines().collect();
    assert_eq!(ids.len(), sorted.len());
    for (at, commit) in ids.iter().enumerate() {
        for later in &ids[at..] {
            let is_parent = git_output(&git_dir, &["merge-base", "--is-ancestor", later, commit]);
            assert!(later == commit || !is_parent.status.success());
        }
    }
    let mut ids = ids;
    ids.sort_unstable();
    sorted.sort_unstable();
    assert_eq!(ids, sorted);
}

#[test]
fn what_is_too_large_for_a_patch_is_refused_before_it_begins() {
    let mut odd = Odd::new();
    odd.write("huge", vec![b'x'; (16 << 20) + 1]);
    let commit = odd.commit("Huge");
    let reader = Reader::open(&odd.git_dir()).unwrap();
    for format in PatchFormat::ALL {
        let refused = reader.patch_of_commit(&commit, 0, format, &budget(1));
        assert!(matches!(refused, Err(ReadError::TooLarge { .. })));
    }
}

/// Each file of each commit has the counts of `git diff -w`, and no lines where git shows none.
#[test]
fn differences_without_white_space_have_the_counts_of_git() {
    let mut odd = odd();
    odd.write("spaces", "a b\n\n\tc\nd  \ne\n");
    odd.commit("Spaces");
    odd.write("spaces", "ab\n\nc\n  d\nE\n");
    odd.commit("Other spaces");
    odd.write("spaces", "a  b\n\nc\nd\nE");
    odd.commit("Spaces again");
    let mut repositories = vec![(odd.git_dir(), 30)];
    repositories.extend(own().map(|own| (own, 60)));
    for (git_dir, count) in repositories {
        let reader = Reader::open(&git_dir).unwrap();
        let limit = format!("-{count}");
        for commit in log(&git_dir, &["--no-merges", &limit, "HEAD"]) {
            assert_blank_free_counts(&git_dir, &reader, &id(&commit));
        }
    }
}

fn assert_blank_free_counts(git_dir: &Path, reader: &Reader, commit: &ObjectId) {
    let options = DiffOptions {
        max_files: 1000,
        max_lines: 10,
        whitespace: Whitespace::Ignored,
        ..DiffOptions::default()
    };
    let diff = reader
        .commit_diff(commit, &options, &budget(100_000))
        .unwrap();
    for file in diff.files {
        let (Some(counts), Some(old), Some(new)) = (file.counts, file.old, file.new) else {
            continue;
        };
        if old.1 == new.1 || !old.0.is_blob() {
            continue;
        }
        let (old, new) = (old.1.to_string(), new.1.to_string());
        let of_git = text(git_dir, &["diff", "-w", "--numstat", &old, &new]);
        let of_git: Vec<&str> = of_git.split('\t').take(2).collect();
        let ours = format!("{}\t{}", counts.added, counts.removed);
        let expected = match of_git.as_slice() {
            [_, _] => of_git.join("\t"),
            _ => "0\t0".to_owned(),
        };
        assert_eq!(
            ours,
            expected,
            "{commit} {}",
            String::from_utf8_lossy(&file.path)
        );
    }
}
