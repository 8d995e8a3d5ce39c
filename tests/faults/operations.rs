//! The log of operations tells no lie, whatever is killed between an operation and its row.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use quire_git::Git;
use quire_testkit::{TestForge, generate_key, transcript, wait_for};
use quire_types::names::RepoName;
use serde_json::Value;

use super::settled_well;
use crate::QUIRE;

const LINE: &str = r#"
(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: sh}] (sh "echo all is well")))
"#;

fn log(forge: &TestForge) -> Vec<Value> {
    let list: Value = serde_json::from_str(&forge.ssh_ok("log --json --limit 1000")).unwrap();
    list["operations"].as_array().unwrap().clone()
}

/// A command with this on its standard input that is killed at a point.
fn killed_at(forge: &TestForge, command: &str, input: &str, point: &str) {
    let path = forge.file("input");
    fs::write(&path, input).unwrap();
    let killed = Command::new(forge.file("client/ssh"))
        .arg(command)
        .env("QUIRE_FAULT", point)
        .stdin(Stdio::from(fs::File::open(&path).unwrap()))
        .output()
        .unwrap();
    assert_eq!(
        killed.status.signal(),
        Some(9),
        "{command} at {point}: {}",
        transcript(&killed)
    );
}

/// What operations change: the repositories, the default branch of `app`, the keys and the secrets.
#[derive(Debug, PartialEq, Eq, Clone)]
struct State {
    repos: Vec<RepoName>,
    default: Option<String>,
    keys: String,
    secrets: Vec<(String, u32)>,
}

fn state(forge: &TestForge) -> State {
    let git = Git::new(&forge.paths);
    let secrets = forge.store().secrets().list().unwrap();
    State {
        repos: git.list().unwrap().repos,
        default: git.default_branch(&"app".parse().unwrap()).ok().flatten(),
        keys: fs::read_to_string(forge.paths.authorized_keys()).unwrap_or_default(),
        secrets: secrets
            .into_iter()
            .map(|secret| (secret.name.to_string(), secret.version))
            .collect(),
    }
}

#[test]
fn a_command_that_is_killed_before_and_after_what_it_does() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", LINE);
    tree.push(&["main", "main:topic"]);
    forge.wait_for_quiet();
    let [first, second] = ["first", "second"].map(|name| generate_key(&forge.file(name), name));
    assert!(forge.ssh_with("key add", first.as_bytes()).status.success());
    for (command, input, can_be_undone) in [
        ("repo new fresh", "", true),
        ("repo default app topic", "", true),
        ("repo rename app shop", "", true),
        ("repo rm app --yes", "", true),
        ("key add", second.as_str(), true),
        ("key rm first", "", true),
        ("secret set token", "hunter22hunter22", true),
    ] {
        let before = state(&forge);
        let rows = log(&forge).len();
        // Killed before it has any effect: the log says that it was begun, and nothing else.
        killed_at(&forge, command, input, "operation-begun");
        assert_eq!(state(&forge), before, "{command}");
        let begun = log(&forge);
        assert_eq!(begun.len(), rows + 1, "{command}");
        assert_eq!(begun[0]["state"], "begun", "{command}");
        // There is nothing to undo, and the try changes nothing.
        let undo = format!("undo {}", begun[0]["id"]);
        let refused = forge.ssh(&undo);
        if command == "repo default app topic" {
            assert!(transcript(&refused).contains("was changed again since"));
        }
        assert!(
            !refused.status.success(),
            "{command}: {}",
            transcript(&refused)
        );
        assert_eq!(state(&forge), before, "{command}");
        // Killed after its effect: the log does not say that it was done, but it can be undone.
        killed_at(&forge, command, input, "operation-acted");
        let after = state(&forge);
        assert_ne!(after, before, "{command}");
        let acted = log(&forge).remove(0);
        assert_eq!(acted["state"], "begun", "{command}");
        if can_be_undone {
            forge.ssh_ok(&format!("undo {}", acted["id"]));
            assert_eq!(state(&forge), before, "{command}");
            assert_eq!(log(&forge)[0]["undoes"], acted["id"], "{command}");
        }
    }
    settled_well(&forge);
}

fn topic(forge: &TestForge) -> Option<String> {
    let found = Command::new("git")
        .arg("--git-dir")
        .arg(forge.paths.repo(&"app".parse().unwrap()))
        .args(["rev-parse", "--verify", "--quiet", "refs/heads/topic"])
        .output()
        .unwrap();
    let id = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    found.status.success().then_some(id)
}

#[test]
fn an_undo_of_a_push_that_is_killed_at_each_point() {
    for (point, moved, state) in [
        ("operation-begun", false, "begun"),
        ("undo-begun", false, "begun"),
        ("undo-moved", true, "begun"),
        // The server records the event, and so that it is done.
        ("undo-spooled", true, "done"),
        ("operation-acted", true, "done"),
    ] {
        let forge = TestForge::start(QUIRE);
        let tree = forge.tree_with("app", LINE);
        tree.push(&["main"]);
        let lost = tree.commit("topic");
        tree.push(&["main:topic"]);
        tree.push(&["--delete", "topic"]);
        forge.wait_for_quiet();
        let push = log(&forge).remove(0)["id"].clone();
        killed_at(&forge, &format!("undo {push}"), "", point);
        assert_eq!(topic(&forge), moved.then_some(lost.clone()), "{point}");
        if moved {
            // Found by the comparison of refs, if no event tells.
            wait_for("its run, the second one", || {
                let runs = forge.runs();
                let of_topic = runs.iter().filter(|run| run.ref_name.short() == "topic");
                (of_topic.count() == 2).then_some(())
            });
        }
        let row = || {
            let all = log(&forge);
            let row = all.iter().find(|one| one["undoes"] == push).cloned();
            row.unwrap_or_else(|| panic!("{point}: {all:?}"))
        };
        wait_for("the row", || (row()["state"] == state).then_some(()));
        settled_well(&forge);
        assert_eq!(row()["state"], state, "{point}");
        if moved {
            // What was moved without an event is found, and in the log as that.
            let found = log(&forge)
                .iter()
                .filter(|one| one["kind"] == "found-refs")
                .count();
            assert_eq!(found, usize::from(point == "undo-moved"), "{point}");
            forge.ssh_ok(&format!("undo {}", row()["id"]));
            assert_eq!(topic(&forge), None, "{point}");
        } else {
            forge.ssh_ok(&format!("undo {push}"));
            assert_eq!(topic(&forge), Some(lost), "{point}");
        }
        settled_well(&forge);
    }
}

#[test]
fn a_server_that_is_killed_before_and_after_it_records_a_push() {
    for point in ["intake-before-record", "intake-recorded"] {
        let mut forge = TestForge::new(QUIRE);
        forge.kill_once_at(point).serve();
        forge.tree_with("app", LINE).push(&["main"]);
        assert_eq!(forge.ended().signal(), Some(9), "{point}: {}", forge.log());
        forge.serve();
        settled_well(&forge);
        let pushes = log(&forge);
        assert_eq!(pushes.len(), 1, "{point}: {pushes:?}");
        assert_eq!(
            (&pushes[0]["kind"], &pushes[0]["actor"]),
            (&"push".into(), &"laptop".into())
        );
    }
}
