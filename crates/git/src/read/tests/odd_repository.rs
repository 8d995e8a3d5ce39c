//! The repositories that the tests read, and git to compare with.

#![expect(clippy::disallowed_methods, reason = "tests compare with git itself")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::super::*;
use quire_types::names::ObjectId;

pub(super) fn git(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = git_output(folder, arguments);
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

pub(super) fn git_output(folder: &Path, arguments: &[&str]) -> Output {
    Command::new("git")
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
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

pub(super) fn text(folder: &Path, arguments: &[&str]) -> String {
    String::from_utf8_lossy(&git(folder, arguments)).into_owned()
}

pub(super) fn budget(lines: usize) -> Budget {
    Budget::new(Duration::from_secs(600), lines, MAX_BLOB_BYTES)
}

pub(super) fn id(text: &str) -> ObjectId {
    text.trim().parse().unwrap()
}

pub(super) fn path(text: &[u8]) -> TreePath {
    TreePath::parse(text).unwrap()
}

pub(super) fn resolve(
    reader: &Reader,
    wanted: &[u8],
) -> Result<(ResolvedRev, TreePath), ReadError> {
    reader.resolve(&RevPath::parse(wanted).unwrap())
}

/// A repository whose commits have distinct times, and that has of everything something.
pub(super) struct Odd {
    folder: tempfile::TempDir,
    clock: u64,
}

impl Odd {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        git(folder.path(), &["init", "--quiet", "--initial-branch=main"]);
        Self {
            folder,
            clock: 1_700_000_000,
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn git_dir(&self) -> PathBuf {
        self.path().join(".git")
    }

    pub(super) fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let file = self.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }

    pub(super) fn at(&mut self) -> String {
        self.clock += 60;
        format!("{} +0100", self.clock)
    }

    pub(super) fn commit(&mut self, subject: &str) -> ObjectId {
        git(self.path(), &["add", "--all"]);
        let at = self.at();
        let date = format!("--date={at}");
        self.dated(
            &at,
            &["commit", "--quiet", "--allow-empty", &date, "-m", subject],
        );
        id(&text(self.path(), &["rev-parse", "HEAD"]))
    }

    pub(super) fn dated(&self, at: &str, arguments: &[&str]) {
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

    pub(super) fn merge(&mut self, branches: &[&str]) {
        let at = self.at();
        let arguments = [
            &["merge", "--quiet", "--no-ff", "-X", "ours", "-m", "Merge"],
            branches,
        ];
        self.dated(&at, &arguments.concat());
    }
}

/// Merges (of three too, and criss-cross), renames, reverts, links, a submodule, odd names and line ends.
pub(super) fn odd() -> Odd {
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
pub(super) fn own() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = text(folder, &["rev-parse", "--git-common-dir"]);
    let found = folder.join(found.trim());
    found.join("objects").is_dir().then_some(found)
}

pub(super) fn log(folder: &Path, arguments: &[&str]) -> Vec<String> {
    let all = [&["log", "--format=%H"], arguments].concat();
    text(folder, &all).lines().map(str::to_owned).collect()
}

pub(super) fn all(reader: &Reader, commit: &ObjectId, path: &TreePath, page: usize) -> Vec<String> {
    let mut query = HistoryQuery {
        from: HistoryCursor::start(commit.clone()),
        path: path.clone(),
        filter: CommitFilter::default(),
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
