//! Searches find what git finds.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::super::*;
use super::odd_repository::*;
use quire_types::names::ObjectId;

/// A matching line: its file, its number and its text.
type Hit = (Vec<u8>, usize, Vec<u8>);

/// Files with every end of a line, and what must not be searched.
fn sample() -> (Odd, ObjectId) {
    let mut odd = odd();
    let mut long = "x".repeat(5000);
    long.push_str("needle Needle");
    for (name, content) in [
        (
            "search/plain.rs",
            &b"fn needle() {}\n\nlet x = a.b + needle;\n"[..],
        ),
        (
            "search/crlf.txt",
            b"needle one\r\nNeedle two\r\n\r\nlast needle",
        ),
        (
            "search/invalid.txt",
            b"\xff needle \xfe\nn\xc3\xa9edle \xe2\x82\nN\xc3\x89EDLE\n",
        ),
        ("search/one line", b"needle"),
        ("search/empty lines", b"\n\n\nneedle\n\n"),
        ("search/deep/er/UPPER.md", b"NEEDLE\nneedLe\n"),
        ("search-2/a.rs", b"needle\n"),
        ("search/deep.rs", b"(needle)\n[needle]\n"),
        ("search/binary", b"needle\0needle\n"),
        (
            "search/late binary",
            &[&b"needle\n".repeat(2000)[..], b"\0needle"].concat(),
        ),
        (
            "search/long",
            format!("short\n{long}\nneedle\n{long}").as_bytes(),
        ),
        (
            "search/many",
            "needle here\nnothing\n".repeat(70).as_bytes(),
        ),
        ("a/needle.txt", "größe = needle\n".as_bytes()),
    ] {
        odd.write(name, content);
    }
    std::os::unix::fs::symlink("needle", odd.path().join("search/link")).unwrap();
    let commit = odd.commit("Files to search");
    (odd, commit)
}

fn code_query(pattern: TextPattern, globs: &str, max_file_lines: usize) -> CodeQuery {
    CodeQuery {
        pattern,
        paths: PathGlobs::parse(globs.as_bytes()).unwrap(),
        after: CodeCursor::default(),
        max_file_lines,
    }
}

/// Every line that a search finds, page by page and file by file.
fn walked(reader: &Reader, commit: &ObjectId, query: &CodeQuery, page: usize) -> Vec<Hit> {
    let mut hits = Vec::new();
    let mut todo = vec![query.clone()];
    while let Some(query) = todo.pop() {
        let found = reader
            .search_code(commit, &query, &budget(page).with_bytes(1 << 20))
            .unwrap();
        let lines: usize = found.page.items.iter().map(|file| file.lines.len()).sum();
        assert!(lines <= page && !found.page.out_of_time);
        let reread = |cursor: CodeCursor| CodeCursor::parse(&cursor.to_bytes()).unwrap();
        if let Some(next) = found.page.next {
            assert!(lines == page);
            todo.push(CodeQuery {
                after: reread(next),
                ..query.clone()
            });
        }
        for file in found.page.items {
            assert!(!file.lines.is_empty() && file.lines.len() <= query.max_file_lines);
            for line in file.lines {
                hits.push((file.path.as_bytes().to_vec(), line.number, line.text));
            }
            if let Some(next) = file.next {
                todo.push(CodeQuery {
                    after: reread(next),
                    paths: PathGlobs::parse(&PathGlobs::exact(&file.path)).unwrap(),
                    ..query.clone()
                });
            }
        }
    }
    hits.sort();
    hits
}

/// What `git grep` finds in a commit, without files that git takes for binary.
fn git_grep(git_dir: &Path, commit: &ObjectId, arguments: &[&str], paths: &[&str]) -> Vec<Hit> {
    let all = [
        &["grep", "-I", "-n", "-z", "--no-color"],
        arguments,
        &[commit.as_str(), "--"],
        paths,
    ];
    let output = git_output(git_dir, &all.concat());
    // Nothing found is 1.
    assert!(output.status.code() < Some(2), "{arguments:?}: {output:?}");
    let mut hits = Vec::new();
    let mut rest = &output.stdout[..];
    while !rest.is_empty() {
        let mut until = |end: u8| {
            let at = rest.iter().position(|byte| *byte == end).unwrap();
            let part = &rest[..at];
            rest = &rest[at + 1..];
            part
        };
        let path = until(0)
            .split(|byte| *byte == b':')
            .skip(1)
            .collect::<Vec<_>>();
        let path = path.join(&b':');
        let number = String::from_utf8_lossy(until(0)).parse().unwrap();
        let line = until(b'\n');
        let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
        // For an empty match, git counts the end of a file as a line.
        if !line.is_empty() || number <= count_lines(git_dir, commit, &path) {
            hits.push((path, number, line));
        }
    }
    hits.sort();
    hits
}

fn count_lines(git_dir: &Path, commit: &ObjectId, path: &[u8]) -> usize {
    let file = format!("{commit}:{}", String::from_utf8_lossy(path));
    let content = git(git_dir, &["cat-file", "blob", &file]);
    content.split_inclusive(|byte| *byte == b'\n').count()
}

fn assert_same(found: &[Hit], expected: &[Hit], query: &str) {
    let places = |hits: &[Hit]| -> Vec<(Vec<u8>, usize)> {
        hits.iter()
            .map(|(path, line, _)| (path.clone(), *line))
            .collect()
    };
    assert_eq!(places(found), places(expected), "{query}");
    for ((path, line, text), (_, _, whole)) in found.iter().zip(expected) {
        match whole.len() {
            0..=400 => assert_eq!(text, whole, "{path:?}:{line}"),
            _ => assert!(whole.windows(text.len()).any(|part| part == text)),
        }
    }
}

#[test]
fn code_is_found_as_git_grep_finds_it() {
    let (odd, commit) = sample();
    let git_dir = odd.git_dir();
    let reader = Reader::open(&git_dir).unwrap();
    let literal = |text: &str| TextPattern::literal(text).unwrap();
    let regex = |text: &str| TextPattern::regex(text).unwrap();
    let mut found = 0;
    for (pattern, globs, arguments, paths) in [
        (
            literal("needle"),
            "",
            &["-F", "-i", "-e", "needle"][..],
            &[][..],
        ),
        (literal("Needle"), "", &["-F", "-e", "Needle"], &[]),
        (literal("a.b"), "", &["-F", "-i", "-e", "a.b"], &[]),
        (
            literal("(needle)"),
            "",
            &["-F", "-i", "-e", "(needle)"],
            &[],
        ),
        (literal("größe"), "", &["-F", "-i", "-e", "größe"], &[]),
        (literal("one"), "", &["-F", "-i", "-e", "one"], &[]),
        (
            literal("needle"),
            "*.rs",
            &["-F", "-i", "-e", "needle"],
            &[":(glob)**/*.rs"],
        ),
        (
            literal("needle"),
            "search/",
            &["-F", "-i", "-e", "needle"],
            &["search"],
        ),
        (
            literal("needle"),
            "search/*.rs",
            &["-F", "-i", "-e", "needle"],
            &[":(glob)search/*.rs"],
        ),
        (
            literal("needle"),
            "search/deep/** a",
            &["-F", "-i", "-e", "needle"],
            &["search/deep", "a"],
        ),
        (
            literal("needle"),
            "!*.md !search-2",
            &["-F", "-i", "-e", "needle"],
            &[".", ":(exclude,glob)**/*.md", ":(exclude)search-2"],
        ),
        (
            literal("needle"),
            r"search/one\ line",
            &["-F", "-i", "-e", "needle"],
            &["search/one line"],
        ),
        (regex("^needle"), "", &["-E", "-i", "-e", "^needle"], &[]),
        (regex("needle$"), "", &["-E", "-i", "-e", "needle$"], &[]),
        (regex("^$"), "search", &["-E", "-e", "^$"], &["search"]),
        (regex("^.?$"), "search", &["-E", "-e", "^.?$"], &["search"]),
        (
            regex("e+dle[^a-z]"),
            "",
            &["-E", "-i", "-e", "e+dle[^a-z]"],
            &[],
        ),
        (
            regex("Ne{2}dle|fn [a-z]+"),
            "",
            &["-E", "-e", "Ne{2}dle|fn [a-z]+"],
            &[],
        ),
        (
            regex("x{100}needle"),
            "",
            &["-E", "-i", "-e", "x{100}needle"],
            &[],
        ),
        (
            regex(r"\bneedle\b"),
            "",
            &["-P", "-i", "-e", r"\bneedle\b"],
            &[],
        ),
        (
            regex(r"\s+needle"),
            "",
            &["-P", "-i", "-e", r"\s+needle"],
            &[],
        ),
        (
            regex("nothing at all"),
            "",
            &["-E", "-e", "nothing at all"],
            &[],
        ),
    ] {
        let expected = git_grep(&git_dir, &commit, arguments, paths);
        found += expected.len();
        for (page, in_file) in [(10_000, 10_000), (200, 20), (7, 3), (1, 1)] {
            if expected.len() > 300 && page == 1 {
                continue;
            }
            let query = code_query(pattern.clone(), globs, in_file);
            let hits = walked(&reader, &commit, &query, page);
            let shown = format!("{arguments:?} {globs:?} {page} {in_file}");
            assert_same(&hits, &expected, &shown);
        }
    }
    assert!(found > 2000, "{found}");
}

#[test]
fn what_is_left_out_is_counted() {
    let mut odd = Odd::new();
    odd.write("large", "needle\n".repeat(300));
    odd.write("binary", b"needle\0");
    odd.write("long", format!("{}b\nb\n", "a".repeat(300_000)));
    odd.write("other", "needle\nb\n");
    let commit = odd.commit("Files");
    let reader = Reader::open(&odd.git_dir()).unwrap();
    let budget = budget(100).with_bytes(1000);
    let query = code_query(TextPattern::literal("needle").unwrap(), "", 1);
    let found = reader.search_code(&commit, &query, &budget).unwrap();
    assert_eq!(
        (
            found.searched,
            found.too_large,
            found.binary,
            found.page.items.len()
        ),
        (1, 2, 1, 1)
    );
    assert!(!found.is_whole() && found.page.is_last());
    let query = code_query(
        TextPattern::regex("(?:a?){5000}b").unwrap(),
        "long other",
        1,
    );
    let found = reader
        .search_code(&commit, &query, &budget.with_bytes(1 << 20))
        .unwrap();
    assert_eq!(
        (found.long_lines, found.page.items[0].lines[0].number),
        (1, 2)
    );
    // One line of a file at most.
    let query = code_query(TextPattern::literal("b").unwrap(), "other", 1);
    assert!(
        reader
            .search_code(&commit, &query, &budget)
            .unwrap()
            .is_whole()
    );
    let over = Budget::new(Duration::ZERO, 10, 1000);
    let found = reader.search_code(&commit, &query, &over).unwrap();
    assert!(found.page.out_of_time && found.page.items.is_empty());
    assert_eq!(found.page.next, Some(CodeCursor::default()));
    // An object that is gone is left out as well.
    let blob = text(odd.path(), &["rev-parse", "HEAD:other"]);
    let (folder, name) = blob.trim().split_at(2);
    std::fs::remove_file(odd.git_dir().join("objects").join(folder).join(name)).unwrap();
    let found = reader.search_code(&commit, &query, &budget).unwrap();
    assert_eq!((found.unreadable, found.is_whole()), (1, false));
}

#[test]
fn paths_are_found_the_best_first() {
    let (odd, commit) = sample();
    let reader = Reader::open(&odd.git_dir()).unwrap();
    let search = |text: &str, globs: &str, page: usize| {
        let mut query = PathQuery {
            text: text.to_owned(),
            paths: PathGlobs::parse(globs.as_bytes()).unwrap(),
            after: None,
        };
        let mut paths = Vec::new();
        loop {
            let found = reader.search_paths(&commit, &query, &budget(page)).unwrap();
            assert!(found.page.items.len() <= page && !found.page.out_of_time);
            paths.extend(found.page.items.into_iter().map(|hit| hit.text));
            match found.page.next {
                Some(next) => query.after = PathCursor::parse(&next.to_bytes()),
                None => {
                    assert_eq!(paths.len(), found.total);
                    return paths;
                }
            }
        }
    };
    let listed = text(odd.path(), &["ls-tree", "-r", "--name-only", "-z", "HEAD"]);
    let all: BTreeSet<&str> = listed.split('\0').filter(|path| !path.is_empty()).collect();
    for wanted in ["e", "s", "sea", "e.r"] {
        let mut characters = wanted.chars();
        let expected: BTreeSet<&str> = all
            .iter()
            .filter(|path| {
                characters = wanted.chars();
                let mut next = characters.next();
                for c in path.to_lowercase().chars() {
                    if Some(c) == next {
                        next = characters.next();
                    }
                }
                next.is_none() && **path != "module"
            })
            .copied()
            .collect();
        let found = search(wanted, "", 100);
        assert_eq!(
            found.iter().map(String::as_str).collect::<BTreeSet<_>>(),
            expected
        );
        for page in [1, 2, 7] {
            assert_eq!(search(wanted, "", page), found, "{wanted} {page}");
        }
    }
    assert_eq!(search("deeprs", "", 100)[0], "search/deep.rs");
    assert_eq!(search("plain", "*.rs", 100), ["search/plain.rs"]);
    assert_eq!(search("plain", "!search", 100), [""; 0]);
    assert!(search("link", "", 100).contains(&"search/link".to_owned()));
    assert_eq!(search(" ", "", 100), [""; 0]);
}

#[test]
fn commits_are_found_as_git_log_finds_them() {
    let mut odd = odd();
    odd.commit("Find the needle\n\nIt was in a haystack.\n\nFixes: #12");
    odd.commit("Größe ändern");
    odd.commit("Say needle (again)");
    let git_dir = odd.git_dir();
    let reader = Reader::open(&git_dir).unwrap();
    let head = reader.head().unwrap().unwrap().commit;
    let literal = |text: &str| TextPattern::literal(text).unwrap();
    for (pattern, arguments) in [
        (literal("needle"), &["-i", "-F", "--grep=needle"][..]),
        (literal("Needle"), &["-F", "--grep=Needle"]),
        (literal("haystack"), &["-i", "--grep=haystack"]),
        (literal("größe"), &["-i", "--grep=größe"]),
        (literal("left"), &["-i", "--grep=left"]),
        (literal("a@example.org"), &["-i", "--author=a@example.org"]),
        (
            TextPattern::regex("^(left|right) [0-9]$").unwrap(),
            &["-E", "--grep=^(left|right) [0-9]$"],
        ),
    ] {
        let expected = log(&git_dir, &[arguments, &[head.as_str()]].concat());
        for page in [1, 3, 100] {
            let mut from = HistoryCursor::start(head.clone());
            let mut found = Vec::new();
            loop {
                let portion = reader
                    .search_commits(from, &pattern, &budget(page))
                    .unwrap();
                assert!(portion.items.len() <= page && !portion.out_of_time && !portion.is_cut);
                found.extend(portion.items.iter().map(|hit| hit.commit.id.to_string()));
                match portion.next {
                    Some(next) => from = HistoryCursor::parse(&next.to_string()).unwrap(),
                    None => break,
                }
            }
            assert_eq!(found, expected, "{arguments:?} {page}");
        }
    }
    let from = HistoryCursor::start(head.clone());
    let found = reader
        .search_commits(from.clone(), &literal("hayst"), &budget(9))
        .unwrap();
    let line = found.items[0].line.as_ref().unwrap();
    assert_eq!(
        (&line.text[..], line.matches.first()),
        (&b"It was in a haystack."[..], Some(&(12..17)))
    );
    let filter = CommitFilter {
        author: Some(literal("person")),
        message: Some(literal("shared")),
        ..CommitFilter::default()
    };
    let query = HistoryQuery {
        from,
        path: path(b"shared"),
        filter,
    };
    assert_eq!(reader.history(&query, &budget(9)).unwrap().items, []);
    let over = Budget::new(Duration::ZERO, 9, 0);
    let late = reader.history(&query, &over).unwrap();
    assert!(late.out_of_time && late.next == Some(query.from));
}
