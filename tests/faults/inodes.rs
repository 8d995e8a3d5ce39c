//! A disk with free space and without free inodes: pushes are refused, and runs wait for the next file that goes.

use std::fs;
use std::path::Path;

use quire_testkit::{TestForge, transcript, wait_for, wait_for_or_report};
use quire_types::disk_space::free_inodes;
use quire_types::run::RunState;

use super::mounts::{Disk, is_root, within};
use super::points::held;
use super::settled_well;
use crate::QUIRE;

/// Takes inodes until this many are left; returns the folder of the files that hold them.
fn leave(disk: &Path, left: u64) -> std::path::PathBuf {
    let ballast = disk.join("ballast");
    fs::create_dir_all(&ballast).unwrap();
    for nth in 0.. {
        if free_inodes(disk).unwrap().unwrap() <= left
            || fs::write(ballast.join(format!("{left}-{nth}")), "").is_err()
        {
            return ballast;
        }
    }
    unreachable!("the numbers do not end");
}

/// Waits until two runs say that they wait for free inodes.
#[track_caller]
fn wait_for_two_to_wait(forge: &TestForge) {
    let two_wait = || {
        let runs = forge.runs().into_iter();
        let waiting = runs.filter(|run| {
            let message = run.message.as_deref().unwrap_or_default();
            run.state == RunState::Pending && message.contains("nearly no inode is free")
        });
        (waiting.count() == 2).then_some(())
    };
    wait_for_or_report("two runs to wait", two_wait, || {
        format!("{:?}\n{}", forge.runs(), forge.log())
    });
}

#[test]
fn a_disk_without_free_inodes() {
    if !is_root() {
        return;
    }
    let Some(folder) = within("inodes::a_disk_without_free_inodes") else {
        return;
    };
    let disk = Disk::with_inodes(&folder, 2048);
    let outside = tempfile::tempdir().unwrap();
    let mut forge = TestForge::at(QUIRE, outside.path(), disk.folder.join("data"));
    forge.set("QUIRE_CI_CONCURRENT_RUNS", "1").serve();
    // One run is active, and two wait for it.
    let (tree, gate) = held(&forge);
    tree.push(&["main:second", "main:third"]);
    let first = forge.newest("app").id;
    wait_for("the runs", || (forge.runs().len() == 3).then_some(()));
    let ballast = leave(&disk.folder, 0);

    let refused = tree.git(&["push", "origin", "main:fourth"]);
    let words = "the disk is full: nearly no inode is free; nothing was changed";
    assert!(
        !refused.status.success() && transcript(&refused).contains(words),
        "{}",
        transcript(&refused)
    );
    tree.git_ok(&["ls-remote", "origin"]);
    let disk_health = || forge.health()["parts"]["disk"].clone();
    wait_for("health to report it", || {
        (disk_health()["status"] == "down").then_some(())
    });

    // The active run ends; those that wait say why, and none is failed.
    fs::write(gate.join("go"), "").unwrap();
    wait_for_two_to_wait(&forge);
    // A start finds the same, and fails none either.
    assert!(forge.stop().success(), "{}", forge.log());
    forge.serve();
    wait_for_two_to_wait(&forge);

    fs::remove_dir_all(ballast).unwrap();
    assert!(forge.end_of(first).state.is_final());
    settled_well(&forge);
    assert_eq!(
        forge.runs().len(),
        3,
        "none was queued again: {:?}",
        forge.runs()
    );
    tree.push_new("as ever");
    settled_well(&forge);
    assert!(forge.stop().success());
    drop(forge);
    disk.unmount();
}
