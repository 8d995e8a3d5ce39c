//! A disk that is full while a backup is written to it or restored onto it.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Output;

use quire_testkit::{TestForge, stderr, stdout, transcript, wait_for};

use super::mounts::on_a_small_disk;
use crate::QUIRE;

/// How much of the disk is left for a backup that needs several times that.
const LEFT: u64 = 2 << 20;

/// Takes all the space of a disk but [`LEFT`].
fn fill(disk: &Path) {
    let mut file = File::create(disk.join("ballast")).unwrap();
    while file.write_all(&[0xa5; 4096]).is_ok() {}
    let size = file.metadata().unwrap().len();
    file.set_len(size.saturating_sub(LEFT)).unwrap();
}

/// A forge with a repository of more than eight megabytes that cannot be made smaller.
fn seeded() -> TestForge {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree("work", "app");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise: String = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{state:016x}")
    })
    .take(1 << 20)
    .collect();
    tree.write("noise", &noise);
    tree.commit("noise");
    tree.push(&["-o", "ci.skip", "main"]);
    forge.wait_for_quiet();
    forge
}

fn restore(forge: &TestForge, archive: &Path, data: &Path) -> Output {
    let mut restore = forge.quire(&["restore", archive.to_str().unwrap()]);
    restore.env("QUIRE_DATA", data).output().unwrap()
}

#[test]
fn a_restore_onto_a_full_disk_is_one_error_and_can_be_repeated() {
    let test = "backups::a_restore_onto_a_full_disk_is_one_error_and_can_be_repeated";
    let Some(disk) = on_a_small_disk(test, 48) else {
        return;
    };
    let forge = seeded();
    let backup = forge.ssh("backup");
    assert!(backup.status.success(), "{}", transcript(&backup));
    let archive = forge.file("backup.tar.zst");
    fs::write(&archive, &backup.stdout).unwrap();
    let data = disk.join("data");
    fill(&disk);
    let failed = restore(&forge, &archive, &data);
    assert_eq!(failed.status.code(), Some(1), "{}", transcript(&failed));
    assert_eq!(stdout(&failed), "");
    let said = stderr(&failed);
    assert!(said.contains("No space left on device"), "{said}");
    assert!((1..=2).contains(&said.lines().count()), "{said}");
    assert!(!data.join("repos").exists() && !data.join("quire.db").exists());
    fs::remove_file(disk.join("ballast")).unwrap();
    let done = restore(&forge, &archive, &data);
    assert!(done.status.success(), "{}", transcript(&done));
    let bare = data.join("repos/app.git");
    quire_testkit::git_in(&bare, &["fsck", "--strict"]);
}

#[test]
fn a_scheduled_backup_onto_a_full_disk_leaves_nothing_and_says_so() {
    let test = "backups::a_scheduled_backup_onto_a_full_disk_leaves_nothing_and_says_so";
    let Some(disk) = on_a_small_disk(test, 48) else {
        return;
    };
    let mut forge = seeded();
    let folder = disk.join("backups");
    fs::create_dir_all(&folder).unwrap();
    fill(&disk);
    forge.stop();
    let config = format!("{{:backup {{:to \"{}\" :every \"1m\"}}}}", folder.display());
    fs::write(forge.paths.config_fennel(), config).unwrap();
    forge.serve();
    let problem = wait_for("the failure", || {
        let part = forge.health()["parts"]["backup"].clone();
        (part["status"] == "degraded").then(|| part["message"].to_string())
    });
    assert!(problem.contains("the last attempt failed"), "{problem}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "{problem}");
    assert!(forge.ssh("repo list").status.success());
    fs::remove_file(disk.join("ballast")).unwrap();
    forge.stop();
    forge.serve();
    wait_for("the backup", || {
        let part = forge.health()["parts"]["backup"].clone();
        (part["status"] == "ok" && part["figure"]["age_seconds"].is_u64()).then_some(())
    });
}
