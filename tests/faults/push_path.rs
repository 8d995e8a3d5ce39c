//! Killed on the way of a push: `quire exec`, git and the hook, at their own points and at every
//! system call of git's that changes the disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use quire_testkit::{TestForge, Tree, files_below, transcript, wait_for};

use super::{LEAVES_A_PROCESS, refs, settled_well};
use crate::QUIRE;

fn push_at(tree: &Tree, point: &str, branch: &str) -> Output {
    tree.command(&["push", "origin", &format!("main:{branch}")])
        .env("QUIRE_FAULT", point)
        .output()
        .unwrap()
}

#[test]
fn a_push_killed_at_each_point_of_ours() {
    // Where, whether the repository is there already, and whether the push gets in.
    const POINTS: [(&str, bool, bool); 6] = [
        ("exec-begun", false, false),
        ("exec-begun", true, false),
        ("exec-repository-made", false, false),
        ("hook-before-spool", true, true),
        ("hook-in-spool", true, true),
        ("hook-after-spool", true, true),
    ];
    let mut forge = TestForge::start(QUIRE);
    for (at, (point, there, gets_in)) in POINTS.into_iter().enumerate() {
        let tree = forge.tree_with(&format!("app-{at}"), LEAVES_A_PROCESS);
        if there {
            tree.push(&["main"]);
            tree.commit("more");
        }
        let pushed = push_at(&tree, point, "main");
        assert_eq!(
            pushed.status.success(),
            gets_in,
            "{point}: {}",
            transcript(&pushed)
        );
        // Nothing of it stands in the way of the next one.
        tree.push(&["main", "main:other"]);
        tree.push_new("the next");
    }
    // What only a comparison of refs can find.
    let last = forge.tree_with("last", LEAVES_A_PROCESS);
    last.push(&["main"]);
    for point in ["hook-before-spool", "hook-in-spool"] {
        last.commit(point);
        assert!(push_at(&last, point, point).status.success());
    }
    let spooled = wait_for("the spool to be taken", || {
        let left = forge.spooled();
        left.iter()
            .all(|file| super::is_draft(file))
            .then_some(left)
    });
    assert!(!spooled.is_empty());
    // Drafts of long ago are nobody's any more.
    for draft in &spooled {
        super::mounts::run("touch", &["-d", "2 hours ago", draft.to_str().unwrap()]);
    }
    assert!(forge.stop().success());
    forge.serve();
    wait_for("the drafts to go", || {
        forge.spooled().is_empty().then_some(())
    });
    settled_well(&forge);
    assert_eq!(
        refs(&forge)
            .iter()
            .filter(|(repo, ..)| repo == "last")
            .count(),
        3
    );
}

#[test]
fn an_object_of_git_lfs_whose_upload_is_killed_is_not_seen() {
    let forge = TestForge::start(QUIRE);
    forge.tree_with("app", LEAVES_A_PROCESS).push(&["main"]);
    let oid = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let line = |text: &str| format!("{:04x}{text}\n", text.len() + 5);
    let put = [
        line(&format!("put-object {oid}")),
        line("size=5"),
        "00010009hello0000".to_owned(),
    ];
    let upload = |point: &str| {
        fs::write(forge.file("request"), put.concat()).unwrap();
        let mut session = forge.quire(&["exec"]);
        let ended = session
            .env("SSH_ORIGINAL_COMMAND", "git-lfs-transfer app upload")
            .env("QUIRE_FAULT", point)
            .stdin(fs::File::open(forge.file("request")).unwrap())
            .output()
            .unwrap();
        String::from_utf8_lossy(&ended.stdout).contains("status 200")
    };
    let lfs = forge.paths.repos().join("app.git/lfs");
    let object = lfs.join("objects/2c/f2").join(oid);
    let uploads = || fs::read_dir(lfs.join("tmp")).unwrap().count();
    assert!(!upload("lfs-before-rename"));
    assert_eq!((object.exists(), uploads()), (false, 1));
    assert!(upload("none"));
    assert_eq!((object.exists(), uploads()), (true, 1));
    let git = quire_git::Git::new(&forge.paths);
    let later = quire_types::clock::Clock::system().now().plus(120_000);
    let removed = git.remove_stale_locks(&"app".parse().unwrap(), later);
    assert_eq!((removed.unwrap(), uploads()), (1, 0));
    assert_eq!(fs::read(object).unwrap(), b"hello");
}

/// Puts a git before the real one that is killed at the so-manieth call of these: in any process it starts, or only itself.
fn killed_git(forge: &TestForge, calls: &str, nth: usize, children: bool) -> String {
    let folder = forge.file("killed");
    fs::create_dir_all(&folder).unwrap();
    let follow = if children { "-f" } else { "" };
    let script = format!(
        "#!/bin/sh\nPATH=${{PATH#*:}}\ncase \" $* \" in *' receive-pack '*) \
         exec strace {follow} -qq -o /dev/null -e trace={calls} -e signal=none -e inject={calls}:signal=KILL:when={nth} git \"$@\";; \
         esac\nexec git \"$@\"\n"
    );
    fs::write(folder.join("git"), script).unwrap();
    fs::set_permissions(folder.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

/// A new commit on what the repository has, in a working tree that is made for it.
fn tree_on(forge: &TestForge, repo: &str, message: &str) -> Tree {
    let _ = fs::remove_dir_all(forge.file(repo));
    let tree = forge.tree_with(repo, LEAVES_A_PROCESS);
    if tree
        .git(&["fetch", "-q", "origin", "main"])
        .status
        .success()
    {
        tree.git_ok(&["reset", "-q", "--hard", "FETCH_HEAD"]);
    }
    tree.write("file", message);
    tree.commit(message);
    tree
}

#[test]
fn git_killed_at_each_call_that_changes_the_disk() {
    let mut forge = TestForge::start(QUIRE);
    let (mut killed, mut freed) = (Vec::new(), 0);
    for (calls, children) in [
        ("link,linkat", false),
        ("rename,renameat,renameat2", false),
        ("fsync", false),
        ("fsync", true),
        ("unlink,rmdir", false),
    ] {
        let word = calls.split(',').next().unwrap();
        for nth in 1..=12 {
            // Every third time a new repository.
            let repo = format!("{word}-{children}-{}", nth / 3);
            let tree = tree_on(&forge, &repo, &format!("{word} {nth}"));
            let path = killed_git(&forge, calls, nth, children);
            let pushed = tree
                .command(&["push", "origin", "main", "main:other"])
                .env("TEST_PATH", path)
                .output()
                .unwrap();
            if pushed.status.success() && nth > 1 {
                break;
            }
            killed.push((word, children, nth));
            // Another push gets in; where a dead git left its lock, after the next start, as after a power cut.
            let tree = tree_on(&forge, &repo, "after");
            let mut again = tree.git(&["push", "origin", "--force", "main", "main:other"]);
            if !again.status.success() {
                assert!(
                    transcript(&again).contains(".lock': File exists"),
                    "{word} {nth}: {}",
                    transcript(&again)
                );
                freed += 1;
                assert!(forge.stop().success());
                // Young ones may be somebody's.
                let files = files_below(&forge.paths.repo(&repo.parse().unwrap()));
                for lock in files.iter().filter(|file| {
                    file.extension()
                        .is_some_and(|extension| extension == "lock")
                }) {
                    super::mounts::run("touch", &["-d", "2 minutes ago", lock.to_str().unwrap()]);
                }
                forge.serve();
                again = tree.git(&["push", "--force", "origin", "main", "main:other"]);
            }
            assert!(
                again.status.success(),
                "{word} {nth}: {}\nthen: {}",
                transcript(&pushed),
                transcript(&again)
            );
        }
    }
    println!("killed at {killed:?}; locks were left {freed} times");
    assert!(killed.len() >= 10 && freed > 0, "{killed:?}");
    assert!(forge.stop().success());
    forge.serve();
    settled_well(&forge);
}
