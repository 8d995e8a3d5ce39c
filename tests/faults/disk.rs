//! A disk that is full: at a push, and under a run.
//!
//! The data lie on a small tmpfs in a mount namespace of the test's own.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use quire::run::RunState;

use super::forge::{TestForge, said, wait_for};
use super::mounts::on_a_small_disk;
use super::{refs, settled_well};

/// Takes up space, in steps of a page.
struct Ballast {
    file: File,
    size: u64,
}

impl Ballast {
    const PAGE: u64 = 4096;

    /// All that there is.
    fn all(disk: &Path) -> Self {
        let mut file = File::create(disk.join("ballast")).unwrap();
        let page = [0xa5; Self::PAGE as usize];
        while file.write_all(&page).is_ok() {}
        let size = file.metadata().unwrap().len();
        Self { file, size }
    }

    /// Gives some pages back.
    fn give(&mut self, pages: u64) {
        self.size = self.size.saturating_sub(pages * Self::PAGE);
        self.file.set_len(self.size).unwrap();
    }
}

/// A forge whose data lie on the disk.
fn forge_on(disk: &Path) -> (tempfile::TempDir, TestForge) {
    let folder = tempfile::tempdir().unwrap();
    let mut forge = TestForge::at(folder.path(), disk.join("data"));
    forge.serve();
    (folder, forge)
}

#[test]
fn a_full_disk_at_a_push() {
    let Some(disk) = on_a_small_disk("disk::a_full_disk_at_a_push", 16) else { return };
    let (_folder, mut forge) = forge_on(&disk);
    let tree = forge.tree_with("app", super::LEAVES_A_PROCESS);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    let mut ballast = Ballast::all(&disk);
    let (mut refused, mut warned, mut accepted) = (0, 0, Vec::new());
    // From no space at all, page by page, to enough: each push is refused, or it counts.
    while accepted.len() < warned + 3 {
        let commit = tree.commit("more");
        let branch = format!("main:b{}", refused + accepted.len());
        let pushed = tree.git(&["push", "origin", &branch]);
        let told = said(&pushed);
        if pushed.status.success() {
            accepted.push(commit);
            warned += usize::from(told.contains("quire: warning: the push is in, but its event could not be written"));
        } else {
            refused += 1;
            assert!(told.contains("No space left on device") || told.contains("unable to write"), "{told}");
        }
        assert_eq!(forge.get("/healthz").json()["version"], env!("CARGO_PKG_VERSION"), "health answers");
        ballast.give(1);
        assert!(ballast.size > 0, "no push was taken with all the space in the world: {told}");
    }
    println!("{refused} refused, {} accepted, of which {warned} without event", accepted.len());
    assert!(refused > 0);
    // Space again: what was taken has its run, after a start at the latest.
    ballast.give(u64::MAX / Ballast::PAGE);
    wait_for("the spool to be taken", || forge.spooled().is_empty().then_some(()));
    forge.wait_for_quiet();
    assert!(forge.stop().success());
    forge.serve();
    wait_for("the missing runs", || (forge.runs().len() > accepted.len()).then_some(()));
    settled_well(&forge);
    let runs = forge.runs();
    for commit in &accepted {
        assert!(runs.iter().any(|run| run.sha.as_str() == commit && run.state == RunState::Complete), "{commit}: {runs:?}");
    }
    assert_eq!(refs(&forge).len(), accepted.len() + 1, "no ref of a push that was refused");
    tree.push_new("as ever");
    assert_eq!(forge.end_of(forge.newest("app").id).state, RunState::Complete);
}

#[test]
fn a_full_disk_under_a_run() {
    let Some(disk) = on_a_small_disk("disk::a_full_disk_under_a_run", 32) else { return };
    let (_folder, forge) = forge_on(&disk);
    let gate = forge.file("gate");
    fs::create_dir_all(&gate).unwrap();
    let tree = forge.tree("app", "app");
    let (started, go) = (gate.join("started"), gate.join("go"));
    let script = format!(
        "touch {}; while [ ! -e {} ]; do sleep 0.01; done; head -c 40000000 /dev/zero | tr '\\\\0' x | fold -w 99; touch {}",
        started.display(),
        go.display(),
        gate.join("done").display()
    );
    tree.write(
        ".quire/ci.fnl",
        &format!("(local ci (require :quire.ci))\n(ci.job :loud [:quire/push] (fn [{{: sh}}] (sh \"{script}\")))\n"),
    );
    tree.push_new("loud");
    let run = forge.newest("app");
    wait_for("the command", || started.exists().then_some(()));
    // Its log needs more than there is.
    fs::write(&go, "").unwrap();
    wait_for("its end, or the disk's", || (gate.join("done").exists() || forge.run(run.id).state.is_final()).then_some(()));
    assert_eq!(forge.get("/healthz").json()["version"], env!("CARGO_PKG_VERSION"));
    // The log is what filled it; a person makes room.
    let log = forge.run_folder(&run).join("jobs/loud/1.log");
    println!("the log has {} bytes, the run is {}", fs::metadata(&log).map_or(0, |log| log.len()), forge.run(run.id).state);
    File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
    let run = forge.end_of(run.id);
    println!("{run:?}");
    tree.write(".quire/ci.fnl", super::LEAVES_A_PROCESS);
    tree.push_new("as ever");
    settled_well(&forge);
}
