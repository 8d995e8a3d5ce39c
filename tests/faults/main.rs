//! What happens when things break: the server killed at every fault point and at random moments,
//! the disk full, the engine cut off or silent. After each, what git has taken has led to its run,
//! every run has ended in one state, and nothing is left on the machine.
//!
//! Needs the feature `faults`, which compiles the fault points in.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests start real programs, and end where one fails"
)]

/// The program under test.
const QUIRE: &str = env!("CARGO_BIN_EXE_quire");

mod backups;
mod clock;
mod config;
mod containers;
mod database;
mod disk;
mod engine;
mod full_disk;
mod hooks;
mod housekeeping;
mod import;
mod inodes;
mod landing;
mod limits;
mod memory;
mod mirror;
mod mounts;
mod neighbours;
mod notify;
mod operations;
mod own_engine;
mod points;
mod power;
mod proxy;
mod pulls;
mod push_path;
mod queueing;
mod random;
mod registry;
mod renames;
mod scarce;
mod secrets;
mod services;
mod swarm;
mod trash;
mod undo;
mod upkeep;

use std::path::Path;
use std::process::Command;

use quire_store::STOPPED_WITH_QUIRE;
use quire_testkit::{TestForge, transcript, wait_for_or_report};
use quire_types::run::{FailureKind, Run, RunState, Trigger};

/// A pipeline whose one job prints a line and leaves a process behind that nobody waits for.
const LEAVES_A_PROCESS: &str = r#"
(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: sh}] (sh "setsid sleep 300 >/dev/null 2>&1 & echo all is well")))
"#;

/// What git holds, as `repository, ref, commit`.
fn refs(forge: &TestForge) -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    for repo in quire_git::Git::new(&forge.paths).list().unwrap().repos {
        let output = Command::new("git")
            .arg("-C")
            .arg(forge.paths.repo(&repo))
            .args(["for-each-ref", "--format=%(refname) %(objectname)"])
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", transcript(&output));
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let (name, sha) = line.split_once(' ').unwrap();
            // Those that keep what pushes overwrote have no runs, and neither have notes.
            if name.starts_with("refs/quire/") || name.starts_with("refs/notes/") {
                continue;
            }
            all.push((repo.to_string(), name.to_owned(), sha.to_owned()));
        }
    }
    all
}

/// Waits for rest, then checks what has to hold after every fault: every ref that git holds has its
/// run, each run ended once and in words, none was requeued more than once after crashes, rows, database and repositories
/// are sound, and nothing is left: no event, no workspace, no process, no draft.
#[track_caller]
fn settled(forge: &TestForge) {
    forge.wait_for_empty_spool();
    forge.wait_for_recorded_refs();
    forge.wait_for_quiet();
    forge.check_whole();
    let runs = forge.runs();
    for (repo, ref_name, sha) in refs(forge) {
        let of = run_of(&runs, &repo, &ref_name, &sha);
        let of = of.unwrap_or_else(|| {
            panic!(
                "{repo} {ref_name} {sha} has no run: {runs:?}\n{}",
                forge.log()
            )
        });
        assert_ne!(of.state, RunState::Superseded, "{repo} {ref_name}: {of:?}");
    }
    for run in &runs {
        let in_words = run
            .message
            .as_deref()
            .is_some_and(|message| !message.is_empty());
        assert!(run.state != RunState::Failed || in_words, "{run:?}");
        let again = runs
            .iter()
            .filter(|other| other.retry_of == Some(run.id))
            .count();
        // A planned stop requeues a run each time, a crash only once.
        let stopped = run.message.as_deref() == Some(STOPPED_WITH_QUIRE);
        let once_more = run.failure_kind == Some(FailureKind::Orphaned)
            && (run.trigger != Trigger::Orphan || stopped);
        assert_eq!(again, usize::from(once_more), "{run:?}");
    }
    // A driver whose run has just ended may still be on its way out.
    let server = forge.pid();
    let left = || -> Vec<i32> {
        let all = forge.processes().into_iter();
        all.filter(|pid| *pid != server).collect()
    };
    wait_for_or_report(
        "the processes to end",
        || left().is_empty().then_some(()),
        || format!("{:?}", left()),
    );
}

/// What [`settled`] says, and that each ref's newest run went well or was cut off twice: nothing but a cut was wrong.
#[track_caller]
fn settled_well(forge: &TestForge) {
    settled(forge);
    let runs = forge.runs();
    for (repo, ref_name, sha) in refs(forge) {
        let of = run_of(&runs, &repo, &ref_name, &sha).unwrap();
        let twice = of.failure_kind == Some(FailureKind::Orphaned) && of.retry_of.is_some();
        assert!(
            of.state == RunState::Complete || twice,
            "{repo} {ref_name}: {of:?}\n{}",
            forge.log()
        );
    }
}

/// The newest run of a ref at a commit.
fn run_of<'a>(runs: &'a [Run], repo: &str, ref_name: &str, sha: &str) -> Option<&'a Run> {
    runs.iter().rfind(|run| {
        run.repo.as_str() == repo && run.ref_name.as_str() == ref_name && run.sha.as_str() == sha
    })
}

/// A file that a hook was writing when it was killed; it goes when it is old.
fn is_draft(file: &Path) -> bool {
    file.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// A small generator of numbers; good enough for moments.
struct Random(u64);

impl Random {
    /// One that starts from `QUIRE_TEST_SEED` or the time; it says from what.
    fn seeded() -> (Self, u64) {
        let given = std::env::var("QUIRE_TEST_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let seed: u64 =
            given.unwrap_or_else(|| quire_types::clock::Clock::system().now().0.unsigned_abs()) | 1;
        println!("seed: QUIRE_TEST_SEED={seed}");
        (Self(seed), seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
