//! What pushes overwrite is kept, whatever is killed between the push and its record, and however an undo is cut off.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quire_testkit::{TestForge, Tree, transcript, wait_for};

use super::settled_well;
use crate::QUIRE;

const LINE: &str = r#"
(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: sh}] (sh "echo all is well")))
"#;

/// A repository `app` with a branch `topic` that has a commit of its own; returns that commit.
fn seeded(forge: &TestForge) -> (Tree, String) {
    let tree = forge.tree_with("app", LINE);
    tree.push(&["main"]);
    let topic = tree.commit("topic");
    tree.push(&["main:topic"]);
    tree.git_ok(&["reset", "-q", "--hard", "HEAD~1"]);
    forge.wait_for_quiet();
    (tree, topic)
}

fn git(forge: &TestForge, arguments: &[&str]) -> std::process::Output {
    Command::new("git")
        .arg("--git-dir")
        .arg(forge.paths.repo(&"app".parse().unwrap()))
        .args(arguments)
        .output()
        .unwrap()
}

fn branch(forge: &TestForge, name: &str) -> Option<String> {
    let found = git(
        forge,
        &[
            "rev-parse",
            "--verify",
            "--quiet",
            &format!("refs/heads/{name}"),
        ],
    );
    let id = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    found.status.success().then_some(id)
}

/// Whether all refs are recorded and what was overwritten is listed, once for each.
#[track_caller]
fn wait_for_list(forge: &TestForge, count: usize) {
    wait_for("the list", || {
        let list = forge.ssh_ok("repo undo app --json");
        (list.matches("\"old_sha\"").count() == count).then_some(())
    });
}

#[track_caller]
fn undone(forge: &TestForge, topic: &str) {
    let collected = git(
        forge,
        &[
            "-c",
            "gc.reflogExpireUnreachable=90.days",
            "gc",
            "--quiet",
            "--prune=now",
        ],
    );
    assert!(collected.status.success(), "{}", transcript(&collected));
    forge.ssh_ok("repo undo app topic");
    assert_eq!(branch(forge, "topic").as_deref(), Some(topic));
    settled_well(forge);
}

#[test]
fn by_a_push_whose_hook_is_killed() {
    for (point, arguments) in [
        ("hook-before-spool", ["--delete", "topic"]),
        ("hook-before-spool", ["--force", "main:topic"]),
        ("hook-in-spool", ["--delete", "topic"]),
        ("hook-after-spool", ["--delete", "topic"]),
    ] {
        let forge = TestForge::start(QUIRE);
        let (tree, topic) = seeded(&forge);
        let mut push = tree.command(&[&["push", "-q", "origin"], &arguments[..]].concat());
        push.env("QUIRE_FAULT", point).output().unwrap();
        assert_ne!(branch(&forge, "topic"), Some(topic.clone()), "{point}");
        wait_for_list(&forge, 1);
        undone(&forge, &topic);
    }
}

#[test]
fn and_the_server_is_killed_before_and_after_the_record() {
    for point in ["intake-before-record", "intake-recorded"] {
        let mut forge = TestForge::start(QUIRE);
        let (tree, topic) = seeded(&forge);
        assert!(forge.stop().success());
        forge.kill_once_at(point).serve();
        tree.push(&["--force", "main:topic"]);
        let status = forge.ended();
        assert_eq!(status.signal(), Some(9), "{point}: {}", forge.log());
        forge.serve();
        wait_for_list(&forge, 1);
        undone(&forge, &topic);
    }
}

#[test]
fn an_undo_that_is_killed_at_each_point() {
    for (point, moved) in [
        ("undo-begun", false),
        ("undo-moved", true),
        ("undo-spooled", true),
    ] {
        let forge = TestForge::start(QUIRE);
        let (tree, topic) = seeded(&forge);
        tree.push(&["--force", "main:topic"]);
        let other = branch(&forge, "topic").unwrap();
        let killed = Command::new(forge.file("client/ssh"))
            .arg("repo undo app topic")
            .env("QUIRE_FAULT", point)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{}", transcript(&killed));
        let expected = if moved { &topic } else { &other };
        assert_eq!(branch(&forge, "topic").as_ref(), Some(expected), "{point}");
        // What moved has its run, without anybody doing anything.
        wait_for("its run", || {
            let runs = forge.runs();
            let newest = runs.iter().rfind(|run| run.ref_name.short() == "topic");
            newest.filter(|run| run.sha.as_str() == expected).map(drop)
        });
        settled_well(&forge);
        if moved {
            forge.ssh_ok("repo undo app topic");
            assert_eq!(branch(&forge, "topic").as_ref(), Some(&other), "{point}");
        } else {
            undone(&forge, &topic);
        }
    }
}

pub(super) fn is_stopped(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.contains("State:\tT")
}

fn continue_all(forge: &TestForge) {
    for pid in forge.processes() {
        let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
    }
}

/// Housekeeping has found that nothing refers to the object any more, and a push deletes a branch at it before the hidden ref
/// is deleted.
#[test]
fn a_push_at_the_moment_of_the_release_keeps_its_object() {
    let mut forge = TestForge::new(QUIRE);
    fs::write(forge.paths.config_fennel(), "{:keep {:undo \"1ms\"}}").unwrap();
    forge.set("QUIRE_FAULT_STOP", "undo-release-begins").serve();
    let (tree, topic) = seeded(&forge);
    tree.push(&["--delete", "topic"]);
    tree.push(&[&format!("{topic}:refs/heads/topic")]);
    forge.wait_for_quiet();
    let hidden = || {
        let refs = git(&forge, &["for-each-ref", "refs/quire"]);
        transcript(&refs).contains(&topic)
    };
    assert!(hidden());
    std::thread::scope(|scope| {
        let collecting = scope.spawn(|| forge.ssh("gc"));
        wait_for("the server to stop", || {
            is_stopped(forge.pid()).then_some(())
        });
        // The hook stops after the branch is deleted, and before the event is written.
        let mut pushing = tree
            .command(&["push", "-q", "origin", "--delete", "topic"])
            .env("QUIRE_FAULT_STOP", "hook-before-spool")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("the hook to stop", || {
            let stopped = forge.processes().into_iter().filter(|pid| is_stopped(*pid));
            (stopped.count() > 1).then_some(())
        });
        assert_eq!(branch(&forge, "topic"), None);
        kill(Pid::from_raw(forge.pid()), Signal::SIGCONT).unwrap();
        assert!(collecting.join().unwrap().status.success());
        assert!(hidden(), "the object of a push that is not recorded");
        continue_all(&forge);
        pushing.wait().unwrap();
    });
    forge.wait_for_empty_spool();
    let list = forge.ssh_ok("repo undo app --json");
    assert!(list.contains(&topic), "{list}");
    undone(&forge, &topic);
}
