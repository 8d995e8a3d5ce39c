//! What is read equals what git says: of this repository, and of one that is made to be odd.

#![expect(clippy::disallowed_methods, reason = "tests compare with git itself")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;
use quire_types::names::ObjectId;

fn git(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args([
            "-c",
            "core.quotePath=false",
            "-c",
            "protocol.file.allow=always",
        ])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "A Person")
        .env("GIT_AUTHOR_EMAIL", "a@example.org")
        .env("GIT_COMMITTER_NAME", "A Person")
        .env("GIT_COMMITTER_EMAIL", "a@example.org")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn text(folder: &Path, arguments: &[&str]) -> String {
    String::from_utf8_lossy(&git(folder, arguments)).into_owned()
}

fn budget(lines: usize) -> Budget {
    Budget::new(Duration::from_secs(600), lines, MAX_BLOB_BYTES)
}

fn id(text: &str) -> ObjectId {
    text.trim().parse().unwrap()
}

fn path(text: &[u8]) -> TreePath {
    TreePath::parse(text).unwrap()
}

fn resolve(reader: &Reader, wanted: &[u8]) -> Result<(ResolvedRev, TreePath), ReadError> {
    reader.resolve(&RevPath::parse(wanted).unwrap())
}

/// A repository whose commits have distinct times, and that has of everything something.
struct Odd {
    folder: tempfile::TempDir,
    clock: u64,
}

impl Odd {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        git(folder.path(), &["init", "--quiet", "--initial-branch=main"]);
        Self {
            folder,
            clock: 1_700_000_000,
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn git_dir(&self) -> PathBuf {
        self.path().join(".git")
    }

    fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let file = self.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }

    fn at(&mut self) -> String {
        self.clock += 60;
        format!("{} +0100", self.clock)
    }

    fn commit(&mut self, subject: &str) -> ObjectId {
        git(self.path(), &["add", "--all"]);
        let at = self.at();
        let date = format!("--date={at}");
        self.dated(
            &at,
            &["commit", "--quiet", "--allow-empty", &date, "-m", subject],
        );
        id(&text(self.path(), &["rev-parse", "HEAD"]))
    }

    fn dated(&self, at: &str, arguments: &[&str]) {
        let done = Command::new("git")
            .arg("-C")
            .arg(self.path())
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_AUTHOR_NAME", "A Person")
            .env("GIT_AUTHOR_EMAIL", "a@example.org")
            .env("GIT_COMMITTER_NAME", "A Person")
            .env("GIT_COMMITTER_EMAIL", "a@example.org")
            .env("GIT_COMMITTER_DATE", at)
            .output()
            .unwrap();
        assert!(done.status.success(), "{arguments:?}: {done:?}");
    }

    fn merge(&mut self, branches: &[&str]) {
        let at = self.at();
        let arguments = [
            &["merge", "--quiet", "--no-ff", "-X", "ours", "-m", "Merge"],
            branches,
        ];
        self.dated(&at, &arguments.concat());
    }
}

/// Merges (of three too, and criss-cross), renames, reverts, links, a submodule, odd names and line ends.
fn odd() -> Odd {
    use std::os::unix::ffi::OsStrExt as _;
    let mut odd = Odd::new();
    let body: String = (0..60).map(|n| format!("line {n}\n")).collect();
    odd.write("src/lib.rs", format!("fn main() {{\n{body}}}\n"));
    odd.write("empty", "");
    odd.write("no-newline", "one\ntwo");
    odd.write("crlf.txt", "one\r\ntwo\r\n");
    odd.write("binary", b"\0\x01\x02");
    odd.commit("First");
    for name in [
        &b"-dash"[..],
        b"a b",
        b"#%?",
        b"new\nline",
        b"\xff\xfe",
        b"\"<'>&",
    ] {
        odd.write(std::ffi::OsStr::from_bytes(name), "odd\n");
    }
    std::os::unix::fs::symlink("src/lib.rs", odd.path().join("link")).unwrap();
    odd.commit("Odd names");
    odd.write("crlf.txt", "one\ntwo\n");
    odd.write("no-newline", "one\ntwo\n");
    odd.write("empty", "not any more\n");
    odd.commit("Line ends");
    git(odd.path(), &["mv", "src/lib.rs", "src/main.rs"]);
    odd.commit("Rename");
    git(odd.path(), &["mv", "src/main.rs", "src/other.rs"]);
    odd.write(
        "src/other.rs",
        format!("fn other() {{\n{body}}}\nfn more() {{}}\n"),
    );
    odd.commit("Rename and change");
    for branch in ["left", "right", "third"] {
        git(odd.path(), &["checkout", "--quiet", "-b", branch, "main"]);
        for round in 0..3 {
            odd.write(format!("{branch}/{round}"), format!("{branch} {round}\n"));
            odd.write("shared", format!("{branch} {round}\n"));
            odd.commit(&format!("{branch} {round}"));
        }
    }
    git(odd.path(), &["checkout", "--quiet", "left"]);
    odd.merge(&["right"]);
    git(odd.path(), &["checkout", "--quiet", "right"]);
    odd.merge(&["left~1"]);
    git(odd.path(), &["checkout", "--quiet", "main"]);
    odd.merge(&["left"]);
    odd.merge(&["right"]);
    odd.merge(&["third"]);
    let at = odd.at();
    odd.dated(&at, &["revert", "--no-edit", "-m", "1", "HEAD"]);
    let gone = "0123456789012345678901234567890123456789";
    git(
        odd.path(),
        &[
            "update-index",
            "--add",
            "--cacheinfo",
            &format!("160000,{gone},module"),
        ],
    );
    let at = odd.at();
    odd.dated(&at, &["commit", "--quiet", "-m", "Submodule"]);
    std::fs::create_dir(odd.path().join("module")).unwrap();
    std::fs::remove_file(odd.path().join("link")).unwrap();
    odd.write("link", "a file now\n");
    odd.commit("A link becomes a file");
    odd
}

/// This repository, if the tests run in a clone of it.
fn own() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = text(folder, &["rev-parse", "--git-common-dir"]);
    let found = folder.join(found.trim());
    found.join("objects").is_dir().then_some(found)
}

fn all(reader: &Reader, commit: &ObjectId, path: &TreePath, page: usize) -> Vec<String> {
    let mut query = HistoryQuery {
        from: HistoryCursor::start(commit.clone()),
        path: path.clone(),
    };
    let mut ids = Vec::new();
    loop {
        let portion = reader.history(&query, &budget(page)).unwrap();
        assert!(portion.items.len() <= page && !portion.out_of_time);
        ids.extend(portion.items.iter().map(|commit| commit.id.to_string()));
        match portion.next {
            Some(next) => query.from = HistoryCursor::parse(&next.to_string()).unwrap(),
            None => return ids,
        }
    }
}

fn log(folder: &Path, arguments: &[&str]) -> Vec<String> {
    let all = [&["log", "--format=%H"], arguments].concat();
    text(folder, &all).lines().map(str::to_owned).collect()
}

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
fn a_revision_is_the_longest_ref_or_an_id() {
    let odd = odd();
    let git_dir = odd.git_dir();
    let run = |arguments: &[&str]| git(odd.path(), arguments);
    run(&["branch", "topic/deep", "left"]);
    run(&["tag", "-a", "-m", "one", "v1", "right"]);
    run(&["tag", "main", "third"]);
    run(&["tag", "topic/deep/er", "third"]);
    run(&["branch", "deadbeef00", "left"]);
    run(&["update-ref", "refs/quire/x", "left"]);
    run(&["tag", "blob", "HEAD:empty"]);
    let reader = Reader::open(&git_dir).unwrap();
    let of = |rev: &str| {
        id(&text(
            odd.path(),
            &["rev-parse", &format!("{rev}^{{commit}}")],
        ))
    };
    let resolved = |wanted: &str| {
        let (rev, path) = resolve(&reader, wanted.as_bytes()).unwrap();
        let spelled = String::from_utf8(rev.spelled).unwrap();
        (
            rev.commit,
            spelled,
            String::from_utf8(path.as_bytes().to_vec()).unwrap(),
        )
    };
    let (left, right, third, main) = (of("left"), of("right"), of("third"), of("refs/heads/main"));
    let expected = |commit: &ObjectId, spelled: &str, path: &str| {
        (commit.clone(), spelled.to_owned(), path.to_owned())
    };
    assert_eq!(resolved("HEAD/src"), expected(&main, "HEAD", "src"));
    assert_eq!(resolved("left"), expected(&left, "left", ""));
    // A tag has the same name, so the address has the full one.
    assert_eq!(resolved("main/a"), expected(&main, "refs/heads/main", "a"));
    assert_eq!(
        resolved("refs/tags/main/a"),
        expected(&third, "refs/tags/main", "a")
    );
    assert_eq!(
        resolved("topic/deep/x"),
        expected(&left, "refs/heads/topic/deep", "x")
    );
    assert_eq!(
        resolved("topic/deep/er/x"),
        expected(&third, "topic/deep/er", "x")
    );
    assert_eq!(resolved("v1/x/y"), expected(&right, "v1", "x/y"));
    assert_eq!(
        resolved("deadbeef00"),
        expected(&left, "refs/heads/deadbeef00", "")
    );
    let full = main.to_string();
    assert_eq!(resolved(&format!("{full}/x")), expected(&main, &full, "x"));
    let short = &full[..9];
    assert_eq!(
        resolved(&format!("{}/x", short.to_uppercase())),
        expected(&main, &full, "x")
    );
    let named = reader.named_refs(100, &budget(1)).unwrap();
    assert!(named.are_all && named.branches.len() == 6 && named.tags.len() == 4);
    let few = reader.named_refs(2, &budget(1)).unwrap();
    assert!(!few.are_all && few.branches.len() == 2);
    for (kind, found) in [
        ("refs/heads/", &named.branches),
        ("refs/tags/", &named.tags),
    ] {
        for found in found {
            let full = [kind.as_bytes(), &found.short].concat();
            assert_eq!(found.spelled, reader.spelling(&full));
        }
    }
    for missing in [
        "nothing",
        "topic",
        "refs",
        "refs/quire/x",
        "blob",
        "0123456789",
        &full[..6],
        "HEAD~1",
        "@",
        "le*t",
        "main..left",
        "refs/heads",
        &"a/".repeat(200),
    ] {
        let wanted = RevPath::parse(missing.as_bytes()).unwrap();
        assert!(
            matches!(reader.resolve(&wanted), Err(ReadError::NoRevision)),
            "{missing}"
        );
    }
}

#[test]
fn a_short_id_that_no_commit_has_is_none() {
    let mut odd = Odd::new();
    odd.commit("First");
    let tree = text(odd.path(), &["rev-parse", "HEAD^{tree}"]);
    let reader = Reader::open(&odd.git_dir()).unwrap();
    for wanted in [b"aaaaaaaaaa", &tree.as_bytes()[..10]] {
        let found = resolve(&reader, wanted);
        assert!(matches!(found, Err(ReadError::NoRevision)));
    }
}

#[test]
fn a_short_id_of_several_commits_names_them() {
    use std::io::Write as _;
    let odd = Odd::new();
    // Of so many commits, some ids begin with the same seven digits.
    let mut stream = String::new();
    for number in 0..60_000 {
        stream.push_str(&format!(
            "commit refs/heads/many\ncommitter A <a@example.org> {number} +0000\ndata 0\n\n"
        ));
    }
    let mut import = Command::new("git")
        .args(["-C", odd.path().to_str().unwrap(), "fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    import
        .stdin
        .take()
        .unwrap()
        .write_all(stream.as_bytes())
        .unwrap();
    assert!(import.wait().unwrap().success());
    let mut ids = log(&odd.git_dir(), &["many"]);
    ids.sort();
    let pair = ids
        .windows(2)
        .find(|pair| pair[0][..7] == pair[1][..7])
        .unwrap();
    let reader = Reader::open(&odd.git_dir()).unwrap();
    match resolve(&reader, &pair[0].as_bytes()[..7]) {
        Err(ReadError::Ambiguous { prefix, candidates }) => {
            assert_eq!(prefix, pair[0][..7]);
            assert!(
                pair.iter()
                    .all(|id| candidates.iter().any(|found| found.as_str() == id))
            );
        }
        other => panic!("{other:?}"),
    }
    let (rev, _) = resolve(&reader, &pair[0].as_bytes()[..12]).unwrap();
    assert_eq!(
        (rev.commit.as_str(), rev.is_abbreviated),
        (pair[0].as_str(), true)
    );
    // A long history goes on where it stopped.
    let all = all(&reader, &id(&ids_tip(&odd)), &TreePath::default(), 7000);
    assert_eq!(all, log(&odd.git_dir(), &["many"]));
}

fn ids_tip(odd: &Odd) -> String {
    text(odd.path(), &["rev-parse", "many"])
}

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
    };
    let portion = reader.history(&query, &over).unwrap();
    assert!(portion.out_of_time && portion.items.is_empty());
    assert_eq!(portion.next, Some(HistoryCursor::start(commit)));
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

#[tokio::test]
async fn a_pool_survives_panics_and_notices_new_repositories() {
    let pool = ReadPool::start();
    let read = |folder: PathBuf| {
        pool.read(folder, budget(10), |reader, _| {
            Ok(reader.head()?.map(|rev| rev.commit))
        })
    };
    let mut odd = Odd::new();
    let first = odd.commit("First");
    for _ in 0..4 {
        let panicked = pool
            .read(odd.git_dir(), budget(1), |_, _| -> Result<(), ReadError> {
                panic!("on purpose")
            })
            .await;
        assert!(matches!(panicked, Err(ReadError::Panicked)));
    }
    assert_eq!(read(odd.git_dir()).await.unwrap(), Some(first));
    // Another repository takes the place of this one.
    let mut other = Odd::new();
    let second = other.commit("Second");
    std::fs::remove_dir_all(odd.git_dir()).unwrap();
    assert!(matches!(
        read(odd.git_dir()).await,
        Err(ReadError::Open { .. })
    ));
    std::fs::rename(other.git_dir(), odd.git_dir()).unwrap();
    assert_eq!(read(odd.git_dir()).await.unwrap(), Some(second));
    let over = Budget::new(Duration::ZERO, 1, 1);
    let late = pool.read(odd.git_dir(), over, |_, _| Ok(())).await;
    assert!(matches!(late, Err(ReadError::OutOfTime)));
}
