//! What happens when things break: the server killed at every fault point and at random moments,
//! the disk full, the engine cut off or silent. After each, what git has taken has led to its run,
//! every run has ended in one state, and nothing is left on the machine.
//!
//! Needs the feature `faults`, which compiles the fault points in.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests start real programs, and end where one fails")]

#[path = "../support/forge.rs"]
mod forge;

mod containers;
mod disk;
mod engine;
mod points;
mod random;

use std::process::Command;

use quire::run::{FailureKind, Run, RunState};

use forge::{TestForge, said};

/// A pipeline whose one job prints a line and leaves a process behind that nobody waits for.
const LEAVES_A_PROCESS: &str = r#"
(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: sh}] (sh "setsid sleep 300 >/dev/null 2>&1 & echo all is well")))
"#;

/// What git holds, as `repository, ref, commit`.
fn refs(forge: &TestForge) -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    for repo in quire::git::Git::new(&forge.paths).list().unwrap() {
        let output =
            Command::new("git").arg("-C").arg(forge.paths.repo(&repo)).args(["for-each-ref", "--format=%(refname) %(objectname)"]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", said(&output));
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let (name, sha) = line.split_once(' ').unwrap();
            all.push((repo.to_string(), name.to_owned(), sha.to_owned()));
        }
    }
    all
}

/// Waits for rest, then checks that nothing is lost and nothing is left: every ref that git holds has its
/// run as the newest, which ran to its end or was cut off twice, and no orphan was queued again more than once.
#[track_caller]
fn check_nothing_is_lost(forge: &TestForge) {
    forge.wait_for_quiet();
    forge.check_whole();
    let runs = forge.runs();
    let was_orphaned = |run: &Run| run.failure_kind == Some(FailureKind::Orphaned);
    for (repo, ref_name, sha) in refs(forge) {
        let newest = runs.iter().rfind(|run| run.repo.as_str() == repo && run.ref_name.as_str() == ref_name);
        let newest = newest.unwrap_or_else(|| panic!("{repo} {ref_name} has no run"));
        assert_eq!(newest.sha.as_str(), sha, "{repo} {ref_name}: {newest:?}");
        let twice = was_orphaned(newest) && newest.retry_of.is_some();
        assert!(newest.state == RunState::Complete || twice, "{repo} {ref_name}: {newest:?}\n{}", forge.log());
    }
    for run in runs.iter().filter(|run| was_orphaned(run)) {
        let again: Vec<&Run> = runs.iter().filter(|other| other.retry_of == Some(run.id)).collect();
        assert_eq!(again.len(), usize::from(run.retry_of.is_none()), "{run:?}: {again:?}");
    }
    assert!(forge.spooled().is_empty(), "{:?}", forge.spooled());
    let server = forge.pid();
    let left: Vec<i32> = forge.processes().into_iter().filter(|pid| *pid != server).collect();
    assert_eq!(left, Vec::<i32>::new(), "processes are left");
}
