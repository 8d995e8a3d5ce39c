//! Archives unpack to what `git archive` packs.

#![expect(clippy::disallowed_methods, reason = "tests compare with git itself")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use std::io;

use super::*;
use crate::Git;
use quire_types::names::ObjectId;
use quire_types::paths::Paths;

const SECONDS: &str = "1785000001";

fn run(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .current_dir(folder)
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "A Person")
        .env("GIT_AUTHOR_EMAIL", "a@example.org")
        .env("GIT_AUTHOR_DATE", format!("{SECONDS} +0200"))
        .env("GIT_COMMITTER_NAME", "A Person")
        .env("GIT_COMMITTER_EMAIL", "a@example.org")
        .env("GIT_COMMITTER_DATE", format!("{SECONDS} +0200"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{error}",
        output.status
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A commit with every kind of entry.
struct Sample {
    folder: tempfile::TempDir,
    commit: ObjectId,
}

impl Sample {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("work");
        std::fs::create_dir(&work).unwrap();
        run(&work, "git", &["init", "--quiet", "--initial-branch=main"]);
        let write = |name: &[u8], content: &[u8]| {
            let file = work.join(OsStr::from_bytes(name));
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        };
        write(b"a.txt", b"one\ntwo\n");
        write(b"empty", b"");
        write(b"bin", &[0, 1, 2, 3]);
        write("ümlaut ☃".as_bytes(), b"snow\n");
        write(b"\xff\xfe", b"no UTF-8\n");
        write(b"-dash/a b/new\nline", b"odd\n");
        let long = "long/".repeat(60);
        write(format!("{long}{}", "n".repeat(200)).as_bytes(), b"long\n");
        // Larger than what is read into memory, and twice, so that the second follows the first in one process.
        write(b"large", &noise(3 << 20));
        write(b"largest", &noise((2 << 20) + 1));
        write(b"zeros", &vec![0; 5 << 20]);
        write(b"just", &noise(1 << 20));
        write(
            b".gitattributes",
            b"*.log export-ignore\n/docs export-ignore\n",
        );
        write(b"sub/.gitattributes", b"b.log -export-ignore\n");
        for file in [
            &b"a.log"[..],
            b"sub/a.log",
            b"sub/b.log",
            b"docs/x",
            b"sub/docs/x",
        ] {
            write(file, b"attributes\n");
        }
        write(b"run.sh", b"#!/bin/sh\n");
        let program = work.join("run.sh");
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("../a.txt", work.join("sub/link")).unwrap();
        let target = "t/".repeat(120);
        std::os::unix::fs::symlink(target, work.join("far")).unwrap();
        run(&work, "git", &["add", "--all"]);
        let module = format!("160000,{},module", "1".repeat(40));
        run(
            &work,
            "git",
            &["update-index", "--add", "--cacheinfo", &module],
        );
        run(&work, "git", &["commit", "--quiet", "-m", "one"]);
        let commit = run(&work, "git", &["rev-parse", "HEAD"]);
        Self {
            commit: commit.trim().parse().unwrap(),
            folder,
        }
    }

    fn git_dir(&self) -> PathBuf {
        self.folder.path().join("work/.git")
    }

    fn archive(&self, format: ArchiveFormat) -> Vec<u8> {
        let root = self.folder.path();
        let git = Git::new(&Paths::new(root.join("data"), root.join("run")));
        let content = ArchiveContent {
            commit: self.commit.clone(),
            folder: b"app-1.0".to_vec(),
        };
        let mut bytes = Vec::new();
        Reader::open(&self.git_dir())
            .unwrap()
            .write_archive(
                &content,
                format,
                &mut git.copy_blobs(self.git_dir()),
                &mut bytes,
            )
            .unwrap();
        bytes
    }

    /// Unpacks an archive into a folder of this name.
    fn unpack(&self, name: &str, format: ArchiveFormat, bytes: &[u8]) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("archive"), bytes).unwrap();
        match format {
            ArchiveFormat::TarGz => run(&folder, "tar", &["-xzf", "archive"]),
            ArchiveFormat::Zip => run(&folder, "unzip", &["-q", "archive"]),
        };
        folder.join("app-1.0")
    }
}

/// Bytes that hardly get smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// Everything below a folder: kind, permissions and content, by path.
fn listing(folder: &Path) -> BTreeMap<Vec<u8>, (String, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let facts = std::fs::symlink_metadata(&path).unwrap();
            let mode = facts.permissions().mode();
            let content = if facts.is_dir() {
                open.push(path.clone());
                Vec::new()
            } else if facts.is_symlink() {
                let target = std::fs::read_link(&path).unwrap();
                target.as_os_str().as_bytes().to_vec()
            } else {
                std::fs::read(&path).unwrap()
            };
            let name = path.strip_prefix(folder).unwrap().as_os_str().as_bytes();
            let modified = std::os::unix::fs::MetadataExt::mtime(&facts);
            // A link that is unpacked has the time of the unpacking.
            let modified = if facts.is_symlink() { 0 } else { modified };
            found.insert(name.to_vec(), (format!("{mode:o} {modified}"), content));
        }
    }
    found
}

#[test]
fn an_archive_unpacks_to_what_git_archive_packs() {
    let sample = Sample::new();
    let from_git = sample.folder.path().join("git");
    std::fs::create_dir(&from_git).unwrap();
    run(
        &sample.folder.path().join("work"),
        "git",
        &[
            "-c",
            "tar.umask=0022",
            "archive",
            "--prefix=app-1.0/",
            "-o",
            "../git/archive.tar",
            "HEAD",
        ],
    );
    run(&from_git, "tar", &["-xf", "archive.tar"]);
    let expected = listing(&from_git.join("app-1.0"));
    assert!(expected.contains_key(&b"sub/b.log"[..]) && expected.contains_key(&b"sub/docs"[..]));
    assert!(!expected.contains_key(&b"docs"[..]) && !expected.contains_key(&b"a.log"[..]));
    for format in [ArchiveFormat::TarGz, ArchiveFormat::Zip] {
        let bytes = sample.archive(format);
        assert_eq!(bytes, sample.archive(format), "{format:?}");
        let mut found = listing(&sample.unpack(format.extension(), format, &bytes));
        for (name, facts) in &expected {
            let mut name = name.clone();
            if format == ArchiveFormat::Zip {
                // unzip leaves out control characters, and converts what is no UTF-8.
                name.retain(|byte| *byte != b'\n');
                if std::str::from_utf8(&name).is_err() {
                    let converted = found.iter().find(|(_, other)| *other == facts);
                    name = converted.unwrap().0.clone();
                }
            }
            let text = String::from_utf8_lossy(&name);
            let unpacked = found.remove(&name);
            let mode = unpacked.as_ref().map(|(mode, _)| mode);
            assert!(
                unpacked.as_ref() == Some(facts),
                "{format:?} {text}: {mode:?}"
            );
        }
        assert!(found.is_empty(), "{format:?}: {} more", found.len());
    }
    // The commit can be read from both, by git's own way.
    let tar_gz = sample.archive(ArchiveFormat::TarGz);
    let file = sample.folder.path().join("x.tar.gz");
    std::fs::write(&file, &tar_gz).unwrap();
    let script = "gzip -dc x.tar.gz | git get-tar-commit-id";
    let commit = run(sample.folder.path(), "sh", &["-c", script]);
    assert_eq!(commit.trim(), sample.commit.as_str());
    assert!(
        sample
            .archive(ArchiveFormat::Zip)
            .ends_with(sample.commit.as_str().as_bytes())
    );
}

#[test]
fn a_client_that_disconnects_ends_the_archive() {
    struct Closed(usize);
    impl Write for Closed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            if self.0 > 1 << 20 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let sample = Sample::new();
    let root = sample.folder.path();
    let git = Git::new(&Paths::new(root.join("data"), root.join("run")));
    let content = ArchiveContent {
        commit: sample.commit.clone(),
        folder: b"x".to_vec(),
    };
    for format in [ArchiveFormat::TarGz, ArchiveFormat::Zip] {
        let mut blobs = git.copy_blobs(sample.git_dir());
        let mut out = Closed(0);
        let reader = Reader::open(&sample.git_dir()).unwrap();
        let error = reader
            .write_archive(&content, format, &mut blobs, &mut out)
            .unwrap_err();
        assert!(matches!(error, ArchiveError::Write(_)), "{error:?}");
        assert!(out.0 < 2 << 20, "{format:?} wrote {} more bytes", out.0);
    }
}
