//! Against the real git program.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use futures_util::StreamExt;
use tempfile::TempDir;

use super::lfs::LfsStore;
use super::*;
use quire_types::names::{ObjectId, RefName, RepoName};
use quire_types::paths::Paths;

mod lfs_objects;
mod pushed_commits;
mod run_notes;

struct Fixture {
    folder: TempDir,
    git: Git,
    paths: Paths,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path().join("data"), folder.path().join("run"));
        Self {
            git: Git::new(&paths),
            paths,
            folder,
        }
    }

    fn name(text: &str) -> RepoName {
        text.parse().unwrap()
    }

    /// Runs git in the working tree; its output, trimmed.
    #[expect(clippy::disallowed_methods, reason = "a test's own git")]
    fn work(&self, args: &[&str]) -> String {
        let mut command = Command::new("git");
        command.current_dir(self.tree()).args(args);
        command.envs([
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
        ]);
        for role in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{role}_NAME"), "a")
                .env(format!("GIT_{role}_EMAIL"), "a@b");
        }
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn tree(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// Makes `app` and a working tree, commits these files and pushes them.
    fn with_files(files: &[(&str, &str)]) -> (Self, PathBuf, ObjectId) {
        let fixture = Self::new();
        let name = Self::name("app");
        fixture.git.create(&name).unwrap();
        fs::create_dir_all(fixture.tree()).unwrap();
        fixture.work(&["init", "-q", "-b", "main"]);
        let id = fixture.commit(files, "first\n\nand more");
        let repo = fixture.paths.repo(&name);
        (fixture, repo, id)
    }

    fn commit(&self, files: &[(&str, &str)], message: &str) -> ObjectId {
        for (path, text) in files {
            let path = self.tree().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        self.work(&["add", "-A"]);
        self.work(&["commit", "-q", "--allow-empty", "-m", message]);
        let repo = self.paths.repo(&Self::name("app"));
        self.work(&[
            "push",
            "-q",
            "-f",
            repo.to_str().unwrap(),
            "HEAD:refs/heads/main",
        ]);
        self.work(&["rev-parse", "HEAD"]).parse().unwrap()
    }
}

#[test]
fn repositories_come_and_go_whole() {
    let fixture = Fixture::new();
    let git = &fixture.git;
    // A volume that is not there is not an empty one.
    assert!(matches!(git.list(), Err(GitError::Io { .. })));
    fs::create_dir_all(fixture.paths.repos()).unwrap();
    assert!(git.list().unwrap().repos.is_empty());
    for name in ["app", "work/app", "work/b"] {
        assert!(git.create(&Fixture::name(name)).unwrap(), "{name}");
        assert!(!git.create(&Fixture::name(name)).unwrap(), "{name} again");
    }
    let names = |git: &Git| {
        git.list()
            .unwrap()
            .repos
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(git), ["app", "work/app", "work/b"]);
    assert_eq!(
        git.default_branch(&Fixture::name("app"))
            .unwrap()
            .as_deref(),
        None,
        "`main` does not exist yet"
    );
    // What is no repository is not listed.
    fs::create_dir_all(fixture.paths.repos().join("empty.git")).unwrap();
    fs::create_dir_all(fixture.paths.repos().join("..x.git")).unwrap();
    fs::write(fixture.paths.repos().join("file.git"), "").unwrap();
    git.remove(&Fixture::name("work/app")).unwrap();
    git.remove(&Fixture::name("work/b")).unwrap();
    assert_eq!(names(git), ["app"]);
    assert!(
        !fixture.paths.repos().join("work").exists(),
        "an empty group goes"
    );
    assert_eq!(
        fs::read_dir(fixture.paths.repos().join(".trash"))
            .unwrap()
            .count(),
        0
    );
    assert_eq!(
        fs::read_dir(fixture.paths.repos().join(".new"))
            .unwrap()
            .count(),
        0
    );
    assert!(matches!(
        git.remove(&Fixture::name("work/b")),
        Err(GitError::NoRepository(_))
    ));
}

#[test]
fn a_repository_that_cannot_be_looked_at_is_not_gone() {
    let fixture = Fixture::new();
    let (git, name) = (&fixture.git, Fixture::name("app"));
    git.create(&name).unwrap();
    let (folder, aside) = (
        fixture.paths.repo(&name),
        fixture.folder.path().join("aside"),
    );
    fs::rename(&folder, &aside).unwrap();
    assert!(!git.exists(&name).unwrap());
    std::os::unix::fs::symlink("x".repeat(300), &folder).unwrap();
    for told in [
        git.exists(&name).map(drop),
        git.create(&name).map(drop),
        git.remove(&name),
    ] {
        assert!(matches!(told, Err(GitError::Io { .. })), "{told:?}");
    }
    let other = Fixture::name("work/other");
    git.create(&other).unwrap();
    let listing = git.list().unwrap();
    assert_eq!(listing.repos, std::slice::from_ref(&other));
    assert_eq!(listing.unreadable[0].name, "app");
    assert!(listing.may_contain(&name));
    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    assert_eq!(git.list().unwrap().repos, [name, other]);
}

#[test]
fn a_repository_knows_whose_it_is() {
    let fixture = Fixture::new();
    let (git, first, second) = (
        &fixture.git,
        Fixture::name("first"),
        Fixture::name("second"),
    );
    git.create(&first).unwrap();
    assert!(!git.belongs_to(&first, "here").unwrap());
    fs::write(fixture.paths.instance(), "here").unwrap();
    git.create(&second).unwrap();
    assert!(git.belongs_to(&second, "here").unwrap() && !git.belongs_to(&second, "there").unwrap());
    git.adopt(&first, "here").unwrap();
    assert!(git.belongs_to(&first, "here").unwrap());
}

#[test]
fn a_repository_made_by_many_at_once_is_one() {
    let fixture = Fixture::new();
    let made: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| fixture.git.create(&Fixture::name("g/x")).unwrap()))
            .collect();
        threads
            .into_iter()
            .map(|thread| usize::from(thread.join().unwrap()))
            .sum()
    });
    assert_eq!(made, 1);
    assert_eq!(
        fs::read_dir(fixture.paths.repos().join(".new"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn the_nearest_name() {
    let names: Vec<RepoName> = ["quire", "dotfiles", "work/invoices"]
        .map(Fixture::name)
        .into();
    let near = |text: &str| closest_name(&Fixture::name(text), &names).map(RepoName::as_str);
    assert_eq!(near("qiure"), Some("quire"));
    assert_eq!(near("invoices"), Some("work/invoices"));
    assert_eq!(near("dotfile"), Some("dotfiles"));
    assert_eq!(near("zebra"), None);
    assert_eq!(closest_name(&Fixture::name("x"), &[]), None);
}

#[tokio::test]
async fn facts_of_many_commits_by_one_process() {
    let (fixture, repo, none) = Fixture::with_files(&[("README", "hi")]);
    let some = fixture.commit(
        &[(".quire/ci.fnl", "(x)"), (".quire/Dockerfile", "FROM x")],
        "second [skip ci]",
    );
    fixture.work(&["tag", "-a", "-m", "tagged", "v1"]);
    fixture.work(&["push", "-q", repo.to_str().unwrap(), "v1"]);
    let tag: ObjectId = fixture.work(&["rev-parse", "v1"]).parse().unwrap();
    let unknown: ObjectId = "1".repeat(40).parse().unwrap();
    let mut ids = vec![none.clone(), some.clone(), tag, unknown];
    ids.extend(std::iter::repeat_n(some, 600));
    let facts = fixture.git.push_info(&repo, &ids, &[]).await.unwrap();
    let facts = facts.commits;
    assert_eq!(facts.len(), 604);
    assert_eq!(
        facts[0],
        CommitInfo {
            message: Some("first\n\nand more".to_owned()),
            ..CommitInfo::default()
        }
    );
    let second = CommitInfo {
        fennel: true,
        lua: false,
        dockerfile: true,
        message: Some("second [skip ci]".to_owned()),
        parents: vec![none],
        ..CommitInfo::default()
    };
    assert_eq!(facts[1], second);
    assert_eq!(facts[2], second, "a tag counts as its commit");
    let missing = CommitInfo {
        missing: true,
        ..CommitInfo::default()
    };
    assert_eq!(facts[3], missing);
    let error = fixture.git.commit_infos(&repo, &ids).await.unwrap_err();
    assert!(
        matches!(error, GitError::UnreadableObject { .. }),
        "{error}"
    );
    assert!(facts[4..].iter().all(|fact| *fact == second));
    assert!(
        fixture
            .git
            .commit_infos(&repo, &[])
            .await
            .unwrap()
            .is_empty()
    );
    let (main, gone): (RefName, RefName) = (
        "refs/heads/main".parse().unwrap(),
        "refs/heads/gone".parse().unwrap(),
    );
    let facts = fixture
        .git
        .push_info(&repo, &ids[..1], &[&main, &gone])
        .await
        .unwrap();
    assert_eq!(
        (facts.commits.len(), facts.refs),
        (1, vec![Some(ids[1].clone()), None])
    );
    let error = fixture
        .git
        .commit_infos(&repo.join("nowhere"), &ids)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("not a git repository"),
        "{error}"
    );
}

#[tokio::test]
async fn a_commit_whose_pipeline_may_name_a_group_is_known_by_the_word() {
    let (fixture, repo, none) = Fixture::with_files(&[
        (".quire/ci.fnl", "(ci.job :a)"),
        (".quire/notes.txt", "group"),
    ]);
    let own = fixture.commit(&[(".quire/ci.fnl", "(ci.group :deploy)")], "own");
    let helper = fixture.commit(
        &[
            (".quire/ci.fnl", "(require :deploy)"),
            (".quire/deploy.lua", "ci.group('x')"),
        ],
        "helper",
    );
    let elsewhere = fixture.commit(
        &[(".quire/deploy.lua", "--"), ("group.fnl", "(ci.group :x)")],
        "elsewhere",
    );
    let many: Vec<(String, &str)> = (0..=100)
        .map(|n| (format!(".quire/h{n}.fnl"), ""))
        .collect();
    let many: Vec<(&str, &str)> = many
        .iter()
        .map(|(name, text)| (name.as_str(), *text))
        .collect();
    let too_many = fixture.commit(&many, "too many to look at");
    let ids = [none, own.clone(), helper, elsewhere, too_many, own];
    let facts = fixture.git.commit_infos(&repo, &ids).await.unwrap();
    let may: Vec<bool> = facts.iter().map(|facts| facts.may_declare_group).collect();
    assert_eq!(may, [false, true, true, false, true, true]);
}

#[tokio::test]
async fn the_files_of_a_pipeline() {
    let big = "x".repeat(5000);
    let (fixture, repo, id) = Fixture::with_files(&[
        (".quire/ci.fnl", "(ci)"),
        (".quire/a.lua", "return 1"),
        (".quire/big.fnl", &big),
        (".quire/.fnl", "not a module"),
        (".quire/notes.txt", "no"),
        (".quire/sub.fnl/x", "a folder"),
        (".quire/Dockerfile", "FROM x"),
    ]);
    std::os::unix::fs::symlink("/etc/passwd", fixture.tree().join(".quire/link.fnl")).unwrap();
    let linked = fixture.commit(&[], "a link");
    let files = fixture.git.pipeline_files(&repo, &id, 4096).await.unwrap();
    let seen: Vec<_> = files
        .files
        .iter()
        .map(|file| (file.path.as_str(), file.text.as_deref()))
        .collect();
    assert_eq!(
        seen,
        [
            (".quire/a.lua", Some("return 1")),
            (".quire/big.fnl", None),
            (".quire/ci.fnl", Some("(ci)"))
        ]
    );
    assert!(files.dockerfile);
    let files = fixture
        .git
        .pipeline_files(&repo, &linked, 1 << 20)
        .await
        .unwrap();
    assert!(files.get(".quire/link.fnl").is_none());
    assert_eq!(
        files.problems[0].to_string(),
        ".quire/link.fnl is a symbolic link to `/etc/passwd`, which is outside of the repository"
    );
    assert_eq!(
        files
            .get(".quire/big.fnl")
            .unwrap()
            .text
            .as_ref()
            .unwrap()
            .len(),
        5000
    );
    assert_eq!(
        (files.message.as_str(), files.parents),
        ("a link", vec![id])
    );
    let (_fixture, repo, id) = Fixture::with_files(&[("README", "")]);
    let files = _fixture.git.pipeline_files(&repo, &id, 4096).await.unwrap();
    let nothing = PipelineFiles {
        message: "first\n\nand more".to_owned(),
        tree: files.tree.clone(),
        ..PipelineFiles::default()
    };
    assert_eq!(files, nothing);
    assert!(files.tree.is_some_and(|tree| tree != id));
}

#[tokio::test]
async fn what_was_read_of_a_push_is_not_read_again() {
    let (fixture, repo, id) = Fixture::with_files(&[(".quire/ci.fnl", "(ci)"), ("a", "1")]);
    let git = &fixture.git;
    git.push_info(&repo, std::slice::from_ref(&id), &[])
        .await
        .unwrap();
    let first = git.pipeline_files(&repo, &id, 4096).await.unwrap();
    assert_eq!(
        first.get(".quire/ci.fnl").unwrap().text.as_deref(),
        Some("(ci)")
    );
    // Git cannot read anything any more.
    fs::rename(repo.join("objects"), repo.join("away")).unwrap();
    assert_eq!(git.pipeline_files(&repo, &id, 4096).await.unwrap(), first);
    let cut = git.pipeline_files(&repo, &id, 2).await.unwrap();
    assert_eq!(
        cut.get(".quire/ci.fnl").unwrap().text,
        None,
        "the limit holds"
    );
    let other = Git::new(git.paths());
    assert!(other.pipeline_files(&repo, &id, 4096).await.is_err());
    // Another repository at the same place.
    fs::rename(&repo, repo.with_extension("old")).unwrap();
    fs::create_dir(&repo).unwrap();
    assert!(git.pipeline_files(&repo, &id, 4096).await.is_err());
}

#[tokio::test]
async fn refs_and_ancestors() {
    let (fixture, repo, first) = Fixture::with_files(&[("a", "1")]);
    let second = fixture.commit(&[("a", "2")], "second");
    fixture.work(&[
        "push",
        "-q",
        repo.to_str().unwrap(),
        "HEAD:refs/heads/feature/#1-ü",
        "HEAD:refs/quire/own",
    ]);
    fs::write(
        repo.join("packed-refs"),
        [format!("{first} refs/heads/").as_bytes(), b"\xff\xfe\n"].concat(),
    )
    .unwrap();
    let refs = fixture.git.refs(&repo).await.unwrap();
    let names: Vec<_> = refs
        .refs
        .iter()
        .map(|(name, id)| (name.as_str(), id == &second))
        .collect();
    assert_eq!(
        names,
        [("refs/heads/feature/#1-ü", true), ("refs/heads/main", true)]
    );
    assert_eq!(refs.unsupported.len(), 1);
    assert!(
        fixture
            .git
            .is_ancestor(&repo, &first, &second)
            .await
            .unwrap()
    );
    assert!(
        !fixture
            .git
            .is_ancestor(&repo, &second, &first)
            .await
            .unwrap()
    );
    assert!(
        !fixture
            .git
            .has_commit(&repo, &"1".repeat(40).parse().unwrap())
            .await
            .unwrap()
    );
    assert_eq!(
        fixture
            .git
            .files_changed(&repo, Some(&first), &second, 10)
            .await
            .unwrap(),
        ["a"]
    );
    assert_eq!(
        fixture
            .git
            .files_changed(&repo, None, &second, 10)
            .await
            .unwrap(),
        ["a"]
    );
    assert!(fixture.git.refs(&repo.join("nowhere")).await.is_err());
}

async fn collect(git: &Git, repo: &std::path::Path, id: &ObjectId) -> std::io::Result<Vec<u8>> {
    let mut stream = std::pin::pin!(git.archive(repo, id));
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

#[tokio::test]
async fn an_archive_is_the_whole_tree_or_an_error() {
    let big = "0123456789".repeat(100_000);
    let (fixture, repo, id) = Fixture::with_files(&[
        ("kept", "$Format:%H$"),
        ("big", &big),
        (".gitattributes", "kept export-ignore export-subst\n"),
    ]);
    let tar = collect(&fixture.git, &repo, &id).await.unwrap();
    assert!(tar.len() > 1_000_000 && tar.len() % 512 == 0);
    let text = String::from_utf8_lossy(&tar);
    assert!(
        text.contains("$Format:%H$"),
        "attributes for releases do not count"
    );
    let error = collect(&fixture.git, &repo, &"1".repeat(40).parse().unwrap())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("archive"), "{error}");
    // The object of the large file is gone: git fails after it has begun.
    let blob = fixture.work(&["rev-parse", "HEAD:big"]);
    fs::remove_file(repo.join("objects").join(&blob[..2]).join(&blob[2..])).unwrap();
    assert!(collect(&fixture.git, &repo, &id).await.is_err());
}

#[test]
fn objects_in_git_lfs_stay_and_what_killed_uploads_left_goes() {
    let fixture = Fixture::new();
    let (git, app) = (&fixture.git, Fixture::name("app"));
    fs::create_dir_all(fixture.paths.repos()).unwrap();
    git.create(&app).unwrap();
    let store = LfsStore::of(&fixture.paths.repo(&app));
    let oid = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let mut upload = store.upload(&oid.parse().unwrap(), 5).unwrap();
    upload.write(b"hello").unwrap();
    upload.finish().unwrap();
    fs::write(store.folder().join("tmp/left"), "hel").unwrap();
    let now = quire_types::clock::Clock::system().now();
    assert_eq!(git.remove_stale_locks(&app, now).unwrap(), 0);
    let later = now.plus(120_000);
    assert_eq!(git.remove_stale_locks(&app, later).unwrap(), 1);
    assert!(!git.remove_if_empty(&app).unwrap(), "it has an object");
    fs::remove_dir_all(store.folder()).unwrap();
    assert!(git.remove_if_empty(&app).unwrap());
}

#[test]
fn hidden_refs_keep_objects_until_they_are_released() {
    let (fixture, repo, first) = Fixture::with_files(&[("a", "1")]);
    let second = fixture.commit(&[("a", "2")], "second");
    let git = &fixture.git;
    let missing: ObjectId = "1".repeat(40).parse().unwrap();
    assert!(git.kept_objects(&repo).unwrap().is_empty());
    assert!(git.keep_objects(&repo, &[]).unwrap().is_empty());
    // One that does not exist keeps no other from being kept, and nothing changes the second time.
    for _ in 0..2 {
        let kept = git
            .keep_objects(&repo, &[first.clone(), missing.clone(), second.clone()])
            .unwrap();
        let mut expected = [first.clone(), second.clone()];
        expected.sort();
        assert_eq!(kept, expected);
    }
    let all = [first.clone(), second.clone()].into();
    assert_eq!(git.kept_objects(&repo).unwrap(), all);
    fixture.work(&["--git-dir", repo.to_str().unwrap(), "pack-refs", "--all"]);
    assert_eq!(git.kept_objects(&repo).unwrap(), all, "packed");
    git.release_objects(&repo, &[first].into()).unwrap();
    assert_eq!(git.kept_objects(&repo).unwrap(), [second].into());
}

#[test]
fn a_ref_moves_only_from_where_it_is_said_to_be() {
    let (fixture, repo, first) = Fixture::with_files(&[("a", "1")]);
    let second = fixture.commit(&[("a", "2")], "second");
    let git = &fixture.git;
    let name: RefName = "refs/heads/main".parse().unwrap();
    let value = |name: &RefName| git.ref_value(&repo, name).unwrap();
    let one = |name: &RefName, from: Option<&ObjectId>, to: Option<&ObjectId>| RefMove {
        ref_name: name.clone(),
        from: from.cloned(),
        to: to.cloned(),
    };
    let moved = |name: &RefName, from: Option<&ObjectId>, to: Option<&ObjectId>| {
        git.move_refs(&repo, &[one(name, from, to)], "test")
    };
    assert_eq!(value(&name).as_ref(), Some(&second));
    for from in [None, Some(&first)] {
        assert!(!moved(&name, from, Some(&first)).unwrap());
        assert_eq!(value(&name).as_ref(), Some(&second));
    }
    assert!(moved(&name, Some(&second), Some(&first)).unwrap());
    assert!(!moved(&name, Some(&second), None).unwrap());
    assert!(moved(&name, Some(&first), None).unwrap());
    assert_eq!(value(&name), None);
    assert!(!moved(&name, Some(&first), Some(&second)).unwrap());
    assert!(moved(&name, None, Some(&second)).unwrap());
    // A branch cannot be beside one below it.
    let below: RefName = "refs/heads/main/x".parse().unwrap();
    assert_eq!(value(&below), None);
    assert!(moved(&below, None, Some(&second)).is_err());
    // Several refs are moved together or not at all.
    let other: RefName = "refs/heads/other".parse().unwrap();
    let both = |from: Option<&ObjectId>| {
        [
            one(&other, None, Some(&first)),
            one(&name, from, Some(&first)),
        ]
    };
    assert!(!git.move_refs(&repo, &both(None), "test").unwrap());
    assert_eq!((value(&other), value(&name)), (None, Some(second.clone())));
    assert!(git.move_refs(&repo, &both(Some(&second)), "test").unwrap());
    assert_eq!(
        (value(&other), value(&name)),
        (Some(first.clone()), Some(first))
    );
}
