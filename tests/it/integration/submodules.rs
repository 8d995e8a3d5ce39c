//! Submodules in the workspace of a run: those of this forge are filled, others are left out with a line.

use std::os::unix::fs::PermissionsExt;

use quire_testkit::{TestForge, Tree};
use quire_types::run::{FailureKind, Run, RunState};

use crate::QUIRE;

/// A tree whose pipeline has these settings and runs one command.
fn tree(forge: &TestForge, repo: &str, settings: &str, command: &str) -> Tree {
    let tree = forge.tree(&repo.replace('/', "-"), repo);
    let pipeline = format!(
        "(local ci (require :quire.ci))\n{settings}\n(ci.job :a [:quire/push] (fn [{{: sh}}] (sh {command:?})))\n"
    );
    tree.write(".quire/ci.fnl", &pipeline);
    tree
}

/// Adds a submodule as `git submodule add` would, without cloning it.
fn add_submodule(tree: &Tree, path: &str, url: &str, commit: &str) {
    let file = tree.path.join(".gitmodules");
    let before = std::fs::read_to_string(&file).unwrap_or_default();
    let entry = format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n");
    tree.write(".gitmodules", &(before + &entry));
    let entry = format!("160000,{commit},{path}");
    tree.git_ok(&["update-index", "--add", "--cacheinfo", &entry]);
}

fn end(forge: &TestForge, tree: &Tree, repo: &str) -> (Run, String) {
    // `git add --all` would take the submodules out of the index, for their folders are not there.
    tree.git_ok(&["add", ".quire", ".gitmodules"]);
    tree.git_ok(&["commit", "-q", "-m", "with submodules"]);
    tree.push(&["HEAD:refs/heads/main"]);
    let run = forge.end_of(forge.newest(repo).id);
    let log = forge.ssh_ok(&format!("run logs {}", run.id));
    (run, log)
}

#[test]
fn submodules_of_this_forge_are_filled() {
    let mut forge = TestForge::new(QUIRE);
    forge.set("QUIRE_SSH_HOST", "forge.example");
    forge.serve();
    let lib = forge.tree("lib", "work/lib");
    lib.write("lib.txt", "from the library\n");
    // A release leaves this file out, a checkout has it.
    lib.write(".gitattributes", "lib.txt export-ignore\n");
    lib.write("tool", "#!/bin/sh\necho the tool\n");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(lib.path.join("tool"), mode).unwrap();
    let inner = lib.commit("library");
    lib.push(&["HEAD:refs/heads/main"]);
    // The library is itself a submodule of another, which was renamed since.
    let outer = forge.tree("outer", "outer");
    outer.write("outer.txt", "outer\n");
    add_submodule(&outer, "deep/lib", "./../work/lib.git", &inner);
    outer.git_ok(&["add", "outer.txt", ".gitmodules"]);
    outer.git_ok(&["commit", "-q", "-m", "outer"]);
    outer.push(&["HEAD:refs/heads/main"]);
    let outer_commit = outer.git_ok(&["rev-parse", "HEAD"]);
    forge.ssh_ok("repo rename outer shell");

    let show = "cat 'a lib/lib.txt' outer/outer.txt outer/deep/lib/lib.txt; outer/deep/lib/tool; cat own/lib.txt";
    let app = tree(&forge, "work/app", "", show);
    add_submodule(&app, "a lib", "../lib", &inner);
    add_submodule(&app, "outer", "../../outer", &outer_commit);
    add_submodule(&app, "own", "git@forge.example:work/lib.git", &inner);
    let (run, log) = end(&forge, &app, "work/app");
    assert_eq!(run.state, RunState::Complete, "{log}");
    assert!(
        log.contains("from the library\nouter\nfrom the library\nthe tool\nfrom the library\n"),
        "{log}"
    );
    assert!(!log.contains("left out"), "{log}");
    let scratch = forge.paths.repos().join(".new");
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_filled_is_said() {
    let forge = TestForge::start(QUIRE);
    let lib = forge.tree("lib", "lib");
    lib.write("lib.txt", "lib\n");
    let first = lib.commit("first");
    lib.push(&["HEAD:refs/heads/main"]);
    lib.write("lib.txt", "not pushed\n");
    let second = lib.commit("second");

    let app = tree(&forge, "app", "", "ls lib new gone far && echo all there");
    for (path, url, commit) in [
        ("lib", "../lib", &first),
        ("new", "../lib", &second),
        ("gone", "../gone", &first),
        ("far", "https://example.invalid/far.git", &first),
    ] {
        add_submodule(&app, path, url, commit);
    }
    let (run, log) = end(&forge, &app, "app");
    assert_eq!(run.state, RunState::Complete, "{log}");
    for words in [
        &format!(
            "quire: the submodule `new` is left out: the repository `lib` has no commit {}; push it there\n",
            &second[..12]
        ),
        "quire: the submodule `gone` is left out: there is no repository `gone` on this forge\n",
        "quire: the submodule `far` is left out: https://example.invalid/far.git is not on this forge; `(ci.checkout {:submodules true})` fetches it\n",
        "lib.txt\n",
        "all there\n",
    ] {
        assert!(log.contains(words), "{words:?} in {log}");
    }

    // A pipeline that asks for all gets all or an error.
    for (nth, (settings, url, commit, words)) in [
        (
            "(ci.checkout {:submodules true})",
            "../lib",
            &second,
            "the submodule `lib` cannot be filled: the repository `lib` has no commit",
        ),
        (
            "(ci.checkout {:submodules true})\n(ci.network false)",
            "https://example.invalid/far.git",
            &first,
            "is not on this forge, and this run has no network",
        ),
        (
            "(ci.checkout {:submodules true})",
            "http://127.0.0.1:1/far.git",
            &first,
            "only https:// addresses are fetched",
        ),
        (
            "(ci.checkout {:submodules true})",
            "https://127.0.0.1:1/far.git",
            &first,
            "`git fetch` failed",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let repo = format!("strict-{nth}");
        let app = tree(&forge, &repo, settings, "true");
        add_submodule(&app, "lib", url, commit);
        let (run, _) = end(&forge, &app, &repo);
        assert_eq!(
            (run.state, run.failure_kind),
            (RunState::Failed, Some(FailureKind::Pipeline)),
            "{run:?}"
        );
        assert!(run.message.as_deref().unwrap().contains(words), "{run:?}");
    }

    let app = tree(
        &forge,
        "without",
        "(ci.checkout {:submodules false})",
        "ls -A lib | wc -l",
    );
    add_submodule(&app, "lib", "../lib", &first);
    let (_, log) = end(&forge, &app, "without");
    let words = "quire: 1 submodule is left out, because the pipeline says so\n";
    assert!(log.contains(words) && log.contains("\n0\n"), "{log}");
}

#[test]
fn files_in_git_lfs_are_said_to_be_pointers() {
    let forge = TestForge::start(QUIRE);
    let app = tree(&forge, "app", "", "cat picture.bin");
    app.write(
        ".gitattributes",
        "*.bin filter=lfs diff=lfs merge=lfs -text\n",
    );
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
    app.write("picture.bin", pointer);
    // Without the filter, as on a machine that has no Git LFS.
    app.commit("with a picture");
    let reply = app.push(&["main"]);
    assert!(
        reply.contains(
            "quire: warning: 1 file in Git LFS has no content on this forge: picture.bin; `git lfs push --all REMOTE` sends it"
        ),
        "{reply}"
    );
    let run = forge.end_of(forge.newest("app").id);
    let log = forge.ssh_ok(&format!("run logs {}", run.id));
    let words =
        "quire: 1 file is a pointer of Git LFS; `(ci.checkout {:lfs true})` fills such files\n";
    assert!(log.contains(words) && log.contains("size 12345"), "{log}");
    assert_eq!(run.state, RunState::Complete);
}

#[test]
fn files_in_git_lfs_have_their_content_if_the_pipeline_asks() {
    let forge = TestForge::start(QUIRE);
    let lib = forge.tree("lib", "lib");
    lib.write("inner.bin", &pointer(WORLD, 5));
    let inner = lib.commit("library");
    lib.push(&["HEAD:refs/heads/main"]);
    store(&forge, "lib", WORLD, b"world");
    let settings = "(ci.checkout {:lfs true :history 1})";
    let show = "cat 'a file.bin' lib/inner.bin gone.bin; echo; git status --short -- .quire";
    let app = tree(&forge, "app", settings, show);
    app.write(
        ".gitattributes",
        "*.bin filter=lfs diff=lfs merge=lfs -text\n",
    );
    app.write("a file.bin", &pointer(HELLO, 5));
    app.write("gone.bin", &pointer(&HELLO.replace('2', "3"), 7));
    add_submodule(&app, "lib", "../lib", &inner);
    app.git_ok(&["add", ".gitattributes", "a file.bin", "gone.bin"]);
    forge.ssh_ok("repo new app");
    store(&forge, "app", HELLO, b"hello");
    let (run, log) = end(&forge, &app, "app");
    assert_eq!(run.state, RunState::Complete, "{log}");
    assert!(
        log.contains("helloworldversion https://git-lfs") && log.contains("size 7\n"),
        "{log}"
    );
    let words = "quire: 1 file is a pointer of Git LFS, because their content is not on this forge: gone.bin; `git lfs push --all REMOTE` sends it\n";
    assert!(log.contains(words), "{log}");
}

/// `printf hello | sha256sum`, `printf world | sha256sum`
const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
const WORLD: &str = "486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7";

fn pointer(oid: &str, size: u64) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n")
}

/// Stores an object as an upload does.
fn store(forge: &TestForge, repo: &str, oid: &str, content: &[u8]) {
    let store = quire_git::lfs::LfsStore::of(&forge.paths.repo(&repo.parse().unwrap()));
    let size = content.len() as u64;
    let mut upload = store.upload(&oid.parse().unwrap(), size).unwrap();
    upload.write(content).unwrap();
    upload.finish().unwrap();
}
