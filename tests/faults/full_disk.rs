//! A disk that is full, from no space at all to enough, while repositories are removed and restored and pushes are undone. Each command
//! is done, or is one error after which nothing is lost and the same command can be given again.

use std::fs;
use std::path::Path;
use std::process::Output;

use quire_git::Git;
use quire_testkit::{TestForge, Tree, stderr, stdout, transcript, wait_for};
use quire_types::names::RepoName;
use quire_types::run::{Run, RunState};

use super::mounts::{Ballast, on_a_small_disk};
use super::settled_well;
use crate::QUIRE;

const KEEPS: &str = r#"
(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: sh : artifact}] (sh "echo hello; echo made > out") (artifact "out")))
"#;

fn app() -> RepoName {
    "app".parse().unwrap()
}

/// A forge whose data lie on the disk, with two runs of `app`.
fn seeded(disk: &Path) -> (tempfile::TempDir, TestForge, Tree) {
    let folder = tempfile::tempdir().unwrap();
    let mut forge = TestForge::at(QUIRE, folder.path(), disk.join("data"));
    forge.serve();
    let tree = forge.tree_with("app", KEEPS);
    tree.push(&["main", "main:topic"]);
    forge.wait_for_quiet();
    (folder, forge, tree)
}

/// Gives a command again and again, with more space each time, until it is done. Returns how often it failed.
#[track_caller]
fn until_done(disk: &Path, forge: &TestForge, command: &str, after_failure: impl Fn(&str)) -> u64 {
    let mut ballast = Ballast::all(disk);
    let mut failed = 0;
    loop {
        let output = forge.ssh(command);
        if output.status.success() {
            break;
        }
        is_one_error(&output, command);
        after_failure(&transcript(&output));
        failed += 1;
        ballast.give(1 + failed / 10);
        assert!(ballast.size > 0, "{command}: {}", transcript(&output));
    }
    println!("{command}: failed {failed} times");
    drop(ballast);
    fs::remove_file(disk.join("ballast")).unwrap();
    failed
}

/// One sentence, and at most one of what to do, with the cause.
#[track_caller]
fn is_one_error(output: &Output, command: &str) {
    let said = stderr(output);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{command}: {}",
        transcript(output)
    );
    assert_eq!(stdout(output), "", "{command}");
    assert!((1..=2).contains(&said.lines().count()), "{command}: {said}");
    let causes = ["No space left", "disk is full", "disk may be full"];
    assert!(
        causes.iter().any(|cause| said.contains(cause)),
        "{command}: {said}"
    );
}

fn is_there(forge: &TestForge) -> bool {
    Git::new(&forge.paths).exists(&app()).unwrap()
}

fn trash(forge: &TestForge) -> usize {
    Git::new(&forge.paths).trash_entries().unwrap().len()
}

/// Waits until nothing is under way in the trash.
#[track_caller]
fn wait_for_trash(forge: &TestForge) {
    let git = Git::new(&forge.paths);
    wait_for("the trash", || {
        (!git.has_unfinished_trash().unwrap()).then_some(())
    });
}

#[track_caller]
fn is_whole(forge: &TestForge, runs: &[Run]) {
    assert_eq!((is_there(forge), trash(forge)), (true, 0));
    assert_eq!(forge.runs_of("app"), runs);
    for run in runs {
        let log = forge.ssh_ok(&format!("run logs {}", run.id));
        assert!(log.contains("hello"), "{log}");
        let artifact = forge.ssh_ok(&format!("run artifacts get {} out", run.id));
        assert_eq!(artifact, "made\n");
    }
    settled_well(forge);
}

#[test]
fn a_removal_and_a_restore_on_a_full_disk_lose_nothing() {
    let test = "full_disk::a_removal_and_a_restore_on_a_full_disk_lose_nothing";
    let Some(disk) = on_a_small_disk(test, 16) else {
        return;
    };
    let (_folder, forge, _tree) = seeded(&disk);
    let runs = forge.runs_of("app");
    // What is neither here nor in the trash is lost.
    let somewhere = |said: &str| {
        let in_trash = trash(&forge);
        assert!(is_there(&forge) || in_trash > 0, "{said}");
        assert!(in_trash <= 1, "{said}");
    };
    let failed = until_done(&disk, &forge, "repo rm app --yes", somewhere);
    assert!(failed > 0, "the disk was full");
    wait_for_trash(&forge);
    assert_eq!((is_there(&forge), trash(&forge)), (false, 1));
    let failed = until_done(&disk, &forge, "repo restore app", somewhere);
    assert!(failed > 0, "the disk was full");
    wait_for_trash(&forge);
    is_whole(&forge, &runs);
    // What makes room is possible without any.
    let ballast = Ballast::all(&disk);
    let removed = forge.ssh("repo rm app --now --yes");
    assert!(removed.status.success(), "{}", transcript(&removed));
    assert_eq!((is_there(&forge), trash(&forge)), (false, 0));
    drop(ballast);
}

#[test]
fn an_undo_on_a_full_disk_moves_the_ref_or_says_why_not() {
    let test = "full_disk::an_undo_on_a_full_disk_moves_the_ref_or_says_why_not";
    let Some(disk) = on_a_small_disk(test, 16) else {
        return;
    };
    let (_folder, forge, tree) = seeded(&disk);
    let before = tree.git_ok(&["rev-parse", "main"]);
    tree.git_ok(&["commit", "-q", "--amend", "-m", "in its place"]);
    let after = tree.git_ok(&["rev-parse", "main"]);
    tree.push(&["--force", "main"]);
    forge.wait_for_quiet();
    let main = "refs/heads/main".parse().unwrap();
    let value = || {
        let value = Git::new(&forge.paths).ref_value(&forge.paths.repo(&app()), &main);
        value.unwrap().unwrap().to_string()
    };
    for (command, from, to) in [
        ("repo undo app main", &after, &before),
        ("repo undo app main", &before, &after),
    ] {
        until_done(&disk, &forge, command, |said| {
            assert_eq!(&value(), from, "{said}");
        });
        assert_eq!(&value(), to);
        // Its run, whether its event could be written or not.
        wait_for("the run of the move", || {
            let newest = forge.newest("app");
            (newest.sha.as_str() == to && newest.state == RunState::Complete).then_some(())
        });
    }
    settled_well(&forge);
    forge.check_whole();
}

#[test]
fn a_full_disk_changes_no_setting_of_a_repository() {
    let test = "full_disk::a_full_disk_changes_no_setting_of_a_repository";
    let Some(disk) = on_a_small_disk(test, 16) else {
        return;
    };
    let (_folder, forge, tree) = seeded(&disk);
    forge.ssh_ok("repo protect app main");
    forge.ssh_ok("repo description app Tools");
    let shown = || forge.ssh_ok("repo show app --json");
    let settings = || {
        let shown: serde_json::Value = serde_json::from_str(&shown()).unwrap();
        ["protected", "description", "default_branch"].map(|key| shown[key].clone())
    };
    let before = settings();
    for (command, inverse) in [
        (
            "repo protect app refs/tags/*",
            "repo unprotect app refs/tags/*",
        ),
        ("repo unprotect app main", "repo protect app main"),
        ("repo description app Other", "repo description app Tools"),
    ] {
        until_done(&disk, &forge, command, |said| {
            assert_eq!(settings(), before, "{said}");
        });
        forge.ssh_ok(inverse);
        assert_eq!(settings(), before, "{command}");
    }
    let forced = tree.git(&["push", "origin", "--delete", "main"]);
    assert!(!forced.status.success(), "{}", transcript(&forced));
    settled_well(&forge);
}

#[test]
fn a_backup_of_a_full_volume_is_one_error_and_leaves_nothing() {
    let test = "full_disk::a_backup_of_a_full_volume_is_one_error_and_leaves_nothing";
    let Some(disk) = on_a_small_disk(test, 16) else {
        return;
    };
    let (_folder, forge, _tree) = seeded(&disk);
    let data = forge.file("restored");
    let restore = |archive: &[u8]| {
        let file = forge.file("archive");
        fs::write(&file, archive).unwrap();
        let mut restore = forge.quire(&["restore", file.to_str().unwrap()]);
        restore.env("QUIRE_DATA", &data).output().unwrap()
    };
    let ballast = Ballast::all(&disk);
    let failed = forge.ssh("backup");
    let said = stderr(&failed);
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!((1..=2).contains(&said.lines().count()), "{said}");
    assert!(said.contains("disk is full"), "{said}");
    let left = quire_testkit::files_below(&forge.paths.backups());
    assert!(
        !left
            .iter()
            .any(|path| path.to_string_lossy().contains("partial")),
        "{left:?}"
    );
    // What it had written until then is no backup.
    let refused = restore(&failed.stdout);
    assert_eq!(refused.status.code(), Some(1), "{}", transcript(&refused));
    assert!(!data.join("quire.db").exists(), "{}", transcript(&refused));
    drop(ballast);
    fs::remove_file(disk.join("ballast")).unwrap();
    let done = forge.ssh("backup");
    assert!(done.status.success(), "{}", transcript(&done));
    let restored = restore(&done.stdout);
    assert!(restored.status.success(), "{}", transcript(&restored));
}
