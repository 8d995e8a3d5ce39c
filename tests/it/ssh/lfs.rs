//! Git LFS: the real git-lfs over a real sshd.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use quire_testkit::{SshForge, TestForge, own, stderr, stdout, transcript};

use crate::QUIRE;

/// A git with the filters of git-lfs, as after `git lfs install`.
fn git_as(forge: &SshForge, key: &str, folder: &Path, arguments: &[&str]) -> Command {
    let config = forge.file("client/gitconfig");
    if !config.exists() {
        let text = "[filter \"lfs\"]
            clean = git-lfs clean -- %f
            smudge = git-lfs smudge -- %f
            process = git-lfs filter-process
            required = true
        [lfs]
            locksverify = true\n";
        fs::write(&config, text).unwrap();
    }
    let mut command = forge.git_as(key, folder, arguments);
    command.env("GIT_CONFIG_GLOBAL", config);
    command
}

fn git(forge: &SshForge, folder: &Path, arguments: &[&str]) -> Output {
    git_as(forge, "owner", folder, arguments).output().unwrap()
}

fn git_ok(forge: &SshForge, folder: &Path, arguments: &[&str]) -> String {
    let output = git(forge, folder, arguments);
    assert!(
        output.status.success(),
        "git {arguments:?}: {}\n{}",
        transcript(&output),
        forge.log()
    );
    stdout(&output)
}

/// A working tree whose `*.bin` are in Git LFS.
fn tree(forge: &SshForge, name: &str, repo: &str) -> PathBuf {
    let tree = forge.tree(name, repo);
    git_ok(forge, &tree, &["lfs", "install", "--local"]);
    git_ok(forge, &tree, &["lfs", "track", "*.bin"]);
    tree
}

fn commit(forge: &SshForge, tree: &Path, message: &str) {
    git_ok(forge, tree, &["add", "-A"]);
    git_ok(forge, tree, &["commit", "-q", "-m", message]);
}

fn push(forge: &SshForge, tree: &Path) -> Output {
    let pushed = git(forge, tree, &["push", "origin", "main"]);
    assert!(
        pushed.status.success(),
        "{}\n{}",
        transcript(&pushed),
        forge.log()
    );
    pushed
}

/// The objects of a repository, by name, and what is in the folder of uploads.
fn stored(forge: &SshForge, repo: &str) -> (Vec<String>, usize) {
    let folder = forge.paths.repos().join(format!("{repo}.git/lfs"));
    let mut objects = Vec::new();
    let mut folders = vec![folder.join("objects")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                objects.push(path.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let uploads = fs::read_dir(folder.join("tmp")).map_or(0, Iterator::count);
    objects.sort();
    (objects, uploads)
}

#[test]
fn what_is_pushed_is_in_a_fresh_clone() {
    let forge = TestForge::new(QUIRE).sshd();
    let tree = tree(&forge, "client/work", "group/app");
    fs::create_dir(tree.join("a folder")).unwrap();
    for index in 0..120 {
        fs::write(
            tree.join(format!("a folder/file {index} ü.bin")),
            format!("content {index}\n"),
        )
        .unwrap();
    }
    fs::write(tree.join("empty.bin"), "").unwrap();
    // Compresses well in git, which must not matter.
    let large = fs::File::create(tree.join("large.bin")).unwrap();
    large.set_len(200 << 20).unwrap();
    commit(&forge, &tree, "many files");
    let pushed = push(&forge, &tree);
    assert!(
        stderr(&pushed).contains("quire: created repository group/app"),
        "{}",
        transcript(&pushed)
    );
    let (objects, uploads) = stored(&forge, "group/app");
    // Of the empty file git-lfs makes no pointer.
    assert_eq!((objects.len(), uploads), (121, 0));

    git_ok(
        &forge,
        &forge.file("client"),
        &["clone", "-q", &forge.url("group/app"), "clone"],
    );
    let clone = forge.file("client/clone");
    for index in 0..120 {
        let text = fs::read_to_string(clone.join(format!("a folder/file {index} ü.bin"))).unwrap();
        assert_eq!(text, format!("content {index}\n"));
    }
    let size = fs::metadata(clone.join("large.bin")).unwrap().len();
    assert_eq!(size, 200 << 20);
    git_ok(&forge, &clone, &["lfs", "fsck"]);
}

/// A packet with a line.
fn line(text: &str) -> Vec<u8> {
    format!("{:04x}{text}\n", text.len() + 5).into_bytes()
}

/// The requests of a client that is not git-lfs, and the answers.
fn transfer(forge: &SshForge, repo: &str, operation: &str, requests: &[Vec<u8>]) -> String {
    let mut ssh = forge.ssh_as("owner", &[], &["git-lfs-transfer", repo, operation]);
    let mut child = ssh
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // A session that ends early does not read all of it.
    let _ = input.write_all(&requests.concat());
    drop(input);
    let output = child.wait_with_output().unwrap();
    let answers = String::from_utf8_lossy(&output.stdout).into_owned();
    format!("{answers}\n{}", stderr(&output))
}

/// The whole request to store an object; the content need not be that of the object.
fn put(oid: &str, size: usize, content: &str) -> Vec<u8> {
    let mut request = [
        line(&format!("put-object {oid}")),
        line(&format!("size={size}")),
        b"0001".to_vec(),
    ]
    .concat();
    for part in content.as_bytes().chunks(60_000) {
        request.extend(format!("{:04x}", part.len() + 4).into_bytes());
        request.extend(part);
    }
    request.extend(b"0000");
    request
}

/// `printf hello | sha256sum`
const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
/// The SHA-256 of three MiB of `x`.
const X3M: &str = "3bea8a9a07c1e8dcaa4c1b816815c35a29b4fb585ba6ecc70ea44840a794cfb3";
/// `printf 1 | sha256sum`
const ONE: &str = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b";
const FLUSH: &[u8] = b"0000";

/// A forge with the repository `app`, which has one commit and no objects.
fn forge_with_app() -> SshForge {
    let forge = TestForge::new(QUIRE).sshd();
    let tree = forge.tree("client/plain", "app");
    forge.git_ok(&tree, &["push", "-q", "origin", "main"]);
    forge
}

#[test]
fn an_upload_that_is_not_the_object_is_refused_and_leaves_nothing() {
    let forge = forge_with_app();
    let quit = [line("quit"), FLUSH.to_vec()].concat();
    let answers = transfer(
        &forge,
        "app",
        "upload",
        &[
            put(HELLO, 5, "Hello"),
            put(HELLO, 5, "hell"),
            put(HELLO, 4, "hello"),
            put(HELLO, 5, &"x".repeat(200_000)),
            put("../../../config", 5, "hello"),
            quit.clone(),
        ],
    );
    insta::assert_snapshot!(answers.replace(HELLO, "HELLO"));
    assert_eq!(stored(&forge, "app"), (vec![], 0));
    // The connection ends within the object.
    let mut cut = put(HELLO, 5, "hello");
    cut.truncate(cut.len() - 6);
    transfer(&forge, "app", "upload", &[cut]);
    assert_eq!(stored(&forge, "app"), (vec![], 0));
    let answers = transfer(&forge, "app", "upload", &[put(HELLO, 5, "hello"), quit]);
    assert_eq!(answers.matches("status 200").count(), 2, "{answers}");
    assert_eq!(stored(&forge, "app"), (vec![HELLO.to_owned()], 0));
}

#[test]
fn a_download_changes_nothing() {
    let forge = forge_with_app();
    let lock = [line("lock"), line("path=a"), FLUSH.to_vec()].concat();
    let answers = transfer(&forge, "app", "download", &[put(HELLO, 5, "hello"), lock]);
    assert_eq!(answers.matches("status 403").count(), 2, "{answers}");
    let repo = forge.paths.repos().join("app.git");
    assert!(!repo.join("lfs").exists());
    for (repo, words) in [
        ("ap", "there is no repository `ap`; did you mean `app`?"),
        ("../app", "`..` is not allowed"),
    ] {
        let answers = transfer(&forge, repo, "download", &[]);
        assert!(answers.contains(words), "{answers}");
    }
}

#[test]
fn many_clients_may_send_the_same_object() {
    let forge = forge_with_app();
    let content = "x".repeat(3 << 20);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let answers = transfer(
                    &forge,
                    "app",
                    "upload",
                    &[put(X3M, content.len(), &content)],
                );
                assert!(answers.contains("status 200"), "{answers}");
            });
        }
    });
    assert_eq!(stored(&forge, "app"), (vec![X3M.to_owned()], 0));
}

#[test]
fn a_missing_object_is_named_by_push_and_clone() {
    let forge = TestForge::new(QUIRE).sshd();
    let tree = tree(&forge, "client/work", "app");
    fs::write(tree.join("first file.bin"), "1").unwrap();
    fs::write(tree.join("second.bin"), "2").unwrap();
    commit(&forge, &tree, "two files");
    let pushed = git(&forge, &tree, &["push", "--no-verify", "origin", "main"]);
    let words = "quire: warning: 2 files in Git LFS have no content on this forge: first file.bin, second.bin; `git lfs push --all REMOTE` sends it";
    assert!(pushed.status.success(), "{}", transcript(&pushed));
    assert!(stderr(&pushed).contains(words), "{}", transcript(&pushed));
    let clone = ["clone", "-q", &forge.url("app"), "clone"];
    let skipped = git_as(&forge, "owner", &forge.file("client"), &clone)
        .env("GIT_LFS_SKIP_SMUDGE", "1")
        .status()
        .unwrap();
    assert!(skipped.success());
    let clone = forge.file("client/clone");
    let pulled = git(
        &forge,
        &clone,
        &["-c", "lfs.transfer.maxretries=1", "lfs", "pull"],
    );
    assert!(
        !pulled.status.success() && stderr(&pulled).contains("is not on this forge"),
        "{}",
        transcript(&pulled)
    );
    git_ok(&forge, &tree, &["lfs", "push", "--all", "origin"]);
    assert_eq!(stored(&forge, "app").0.len(), 2);
    // Nothing of it is new any more.
    forge.commit(&tree, "third");
    let pushed = push(&forge, &tree);
    assert!(
        !stderr(&pushed).contains("Git LFS"),
        "{}",
        transcript(&pushed)
    );
}

#[test]
fn files_are_locked_by_one_key_and_shown_to_others() {
    let forge = TestForge::new(QUIRE).sshd();
    let tree = tree(&forge, "client/work", "app");
    fs::write(tree.join("a file.bin"), "1").unwrap();
    commit(&forge, &tree, "one file");
    push(&forge, &tree);
    git_ok(&forge, &tree, &["lfs", "lock", "a file.bin"]);
    let again = git_as(&forge, "second", &tree, &["lfs", "lock", "a file.bin"])
        .output()
        .unwrap();
    assert!(
        !again.status.success() && stderr(&again).contains("laptop, the new one"),
        "{}",
        transcript(&again)
    );
    let listed = git_ok(&forge, &tree, &["lfs", "locks"]);
    assert!(
        listed.contains("a file.bin\tlaptop, the new one"),
        "{listed}"
    );
    fs::write(tree.join("a file.bin"), "2").unwrap();
    commit(&forge, &tree, "changed");
    // The client does not push what another key has locked.
    let refused = git_as(&forge, "second", &tree, &["push", "origin", "main"])
        .output()
        .unwrap();
    assert!(
        !refused.status.success() && stdout(&refused).contains("a file.bin - laptop, the new one"),
        "{}",
        transcript(&refused)
    );
    push(&forge, &tree);
    git_ok(&forge, &tree, &["lfs", "unlock", "a file.bin"]);
    assert_eq!(git_ok(&forge, &tree, &["lfs", "locks"]), "");
}

#[test]
fn a_full_disk_refuses_objects_with_one_sentence() {
    let forge = forge_with_app();
    let tree = tree(&forge, "client/work", "app");
    fs::write(tree.join("a.bin"), "1").unwrap();
    commit(&forge, &tree, "one file");
    fs::write(forge.paths.min_free(), u64::MAX.to_string()).unwrap();
    let refused = git(&forge, &tree, &["lfs", "push", "origin", "main"]);
    assert!(!refused.status.success(), "{}", transcript(&refused));
    let words = stderr(&refused);
    assert!(
        words.contains("the disk has no room for 1 B") && words.contains("nothing was stored"),
        "{words}"
    );
    assert_eq!(stored(&forge, "app"), (vec![], 0));
    // What is there can be read all the same, and an upload that asks nothing is refused too.
    let answers = transfer(&forge, "app", "upload", &[put(HELLO, 5, "hello")]);
    assert!(answers.contains("status 507"), "{answers}");
    assert_eq!(stored(&forge, "app"), (vec![], 0));
}

#[test]
fn an_older_client_is_told_which_version_it_needs() {
    let forge = forge_with_app();
    let answer = forge.ssh(&["git-lfs-authenticate", "app", "upload"]);
    assert!(
        stderr(&answer).contains("needs git-lfs 3.0 or newer"),
        "{}",
        transcript(&answer)
    );
}

#[test]
fn objects_without_a_push_create_their_repository() {
    let forge = TestForge::new(QUIRE).sshd();
    let tree = tree(&forge, "client/work", "fresh");
    fs::write(tree.join("a.bin"), "1").unwrap();
    commit(&forge, &tree, "one file");
    git_ok(&forge, &tree, &["lfs", "push", "--all", "origin"]);
    assert_eq!(stored(&forge, "fresh").0.len(), 1);
}

#[test]
fn a_session_of_git_lfs_reaches_the_objects_and_nothing_else() {
    let forge = forge_with_app();
    fs::write(forge.paths.config_fennel(), "hello").unwrap();
    own(&forge.paths.config_fennel());
    let folder = forge.paths.repos().join("app.git/lfs/objects/2c/f2");
    fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink(forge.paths.config_fennel(), folder.join(HELLO)).unwrap();
    own(&forge.paths.repos().join("app.git/lfs"));
    let get = [line(&format!("get-object {HELLO}")), FLUSH.to_vec()].concat();
    for operation in ["download", "upload"] {
        let answers = transfer(&forge, "app", operation, std::slice::from_ref(&get));
        assert!(
            answers.contains("Permission denied") && !answers.contains("hello"),
            "{answers}"
        );
    }
    // A folder that leads elsewhere is not written to.
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(forge.paths.data().join("elsewhere")).unwrap();
    own(&forge.paths.data().join("elsewhere"));
    std::os::unix::fs::symlink(forge.paths.data().join("elsewhere"), &folder).unwrap();
    let answers = transfer(&forge, "app", "upload", &[put(HELLO, 5, "hello")]);
    assert!(answers.contains("status 500"), "{answers}");
    let elsewhere = fs::read_dir(forge.paths.data().join("elsewhere")).unwrap();
    assert_eq!(elsewhere.count(), 0);
}

#[test]
fn a_push_that_is_only_tried_creates_no_repository() {
    let forge = TestForge::new(QUIRE).sshd();
    let tree = forge.tree("client/plain", "fresh");
    git_ok(&forge, &tree, &["lfs", "install", "--local"]);
    git_ok(&forge, &tree, &["push", "--dry-run", "origin", "main"]);
    assert!(!forge.paths.repos().join("fresh.git").exists());
}

#[test]
fn a_first_push_of_a_sha256_repository_may_have_objects() {
    let forge = TestForge::new(QUIRE).sshd();
    let tree = forge.file("client/work");
    fs::create_dir_all(&tree).unwrap();
    git_ok(
        &forge,
        &tree,
        &["init", "-q", "-b", "main", "--object-format=sha256"],
    );
    git_ok(
        &forge,
        &tree,
        &["remote", "add", "origin", &forge.url("app")],
    );
    git_ok(&forge, &tree, &["lfs", "install", "--local"]);
    git_ok(&forge, &tree, &["lfs", "track", "*.bin"]);
    fs::write(tree.join("a.bin"), "1").unwrap();
    commit(&forge, &tree, "one file");
    // A client that does not know SHA-256 in its hook sends the object by hand.
    let content = put(ONE, 1, "1");
    let answers = transfer(&forge, "app", "upload", &[content]);
    assert!(answers.contains("status 200"), "{answers}");
    let pushed = git(&forge, &tree, &["push", "--no-verify", "origin", "main"]);
    assert!(pushed.status.success(), "{}", transcript(&pushed));
    assert!(
        stderr(&pushed).contains("created repository app")
            && !stderr(&pushed).contains("no content"),
        "{}",
        transcript(&pushed)
    );
}
