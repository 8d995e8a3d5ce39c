//! The power goes: what was not synced is gone, at whatever moment. The volume is a real file
//! system on a disk of its own that is cut off under the running appliance (ext4's shutdown,
//! which drops all that has not reached the disk), mounted again and started from.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quire_testkit::{TestForge, Tree, transcript, wait_for};

use super::mounts::{Disk, is_root, within};
use super::{LEAVES_A_PROCESS, Random, refs, settled};
use crate::QUIRE;

/// How often the power goes, where `QUIRE_TEST_CUTS` does not say.
const CUTS: usize = 8;

/// Ends all processes of the forge at once, as the cut would have.
pub(crate) fn end_all(forge: &TestForge) {
    wait_for("all processes to end", || {
        let left = forge.processes();
        for pid in &left {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        left.is_empty().then_some(())
    });
}

/// Pushes, each time another branch or a new repository, until the power goes; gives what was accepted.
fn push_on(
    forge: &TestForge,
    tree: &Tree,
    over: &AtomicBool,
    name: &str,
    mut random: Random,
) -> Vec<(String, String, String)> {
    let mut accepted = Vec::new();
    for nth in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let commit = tree.commit("more");
        let repo = if random.below(3) == 0 {
            format!("{name}-{nth}")
        } else {
            name.to_owned()
        };
        let branch = format!("b{}", random.below(3));
        let url = format!("ssh://git@forge/{repo}");
        let pushed = tree.git(&["push", "-q", "--force", &url, &format!("main:{branch}")]);
        if pushed.status.success() && !transcript(&pushed).contains("warning") {
            accepted.push((repo, format!("refs/heads/{branch}"), commit));
        }
    }
    let _ = forge;
    accepted
}

#[test]
fn the_power_goes_again_and_again() {
    if !is_root() {
        return;
    }
    let Some(folder) = within("power::the_power_goes_again_and_again") else {
        return;
    };
    let (mut random, seed) = Random::seeded();
    let cuts = std::env::var("QUIRE_TEST_CUTS").map_or(CUTS, |cuts| cuts.parse().unwrap());
    let disk = Disk::new(&folder, "errors=continue");
    let outside = tempfile::Builder::new()
        .prefix("quire-power-")
        .tempdir()
        .unwrap();
    let mut forge = TestForge::at(QUIRE, outside.path(), disk.folder.join("data"));
    let (mut in_all, mut last) = (0, BTreeMap::new());
    for cut in 0..cuts {
        forge.serve();
        let over = AtomicBool::new(false);
        let trees: Vec<_> = (0..2)
            .map(|at| forge.tree_with(&format!("r{cut}-{at}"), LEAVES_A_PROCESS))
            .collect();
        std::thread::scope(|scope| {
            let (forge, over) = (&forge, &over);
            let people: Vec<_> = trees
                .iter()
                .enumerate()
                .map(|(at, tree)| {
                    let random = Random(seed.wrapping_add((cut * 10 + at) as u64 + 1) | 1);
                    scope.spawn(move || push_on(forge, tree, over, &format!("r{cut}-{at}"), random))
                })
                .collect();
            // A moment of the test's own making.
            std::thread::sleep(Duration::from_millis(300 + random.below(2000)));
            disk.cut();
            over.store(true, Ordering::Relaxed);
            for person in people {
                for (repo, ref_name, commit) in person.join().unwrap() {
                    in_all += 1;
                    last.insert((repo, ref_name), commit);
                }
            }
        });
        forge.kill();
        end_all(&forge);
        disk.unmount();
        disk.mount();
        forge.serve();
        settled(&forge);
        let held: BTreeMap<_, _> = refs(&forge)
            .into_iter()
            .map(|(repo, name, sha)| ((repo, name), sha))
            .collect();
        for ((repo, name), commit) in &last {
            let sha = held.get(&(repo.clone(), name.clone()));
            // What came after it may have got in without an answer.
            let path = forge.paths.repo(&repo.parse().unwrap());
            let inside = Command::new("git")
                .arg("-C")
                .arg(path)
                .args(["merge-base", "--is-ancestor", commit])
                .arg(name)
                .output()
                .unwrap();
            assert!(
                inside.status.success(),
                "cut {cut}: {repo} {name} is at {sha:?}, {commit} was accepted: {}",
                transcript(&inside)
            );
        }
        assert!(forge.stop().success());
    }
    println!("{cuts} cuts, {in_all} pushes accepted, {} refs", last.len());
    assert!(in_all > cuts);
    drop(forge);
    disk.unmount();
}
