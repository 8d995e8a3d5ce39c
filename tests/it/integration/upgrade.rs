//! A volume that an earlier version wrote, under the current binary. tests/upgrade/0.1.0/README.md says what is in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use quire_testkit::{transcript, wait_for};
use serde_json::Value;

use super::native::Native;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/upgrade/0.1.0")
        .join(name)
}

/// What version 0.1 answered.
fn old_answer(name: &str) -> Value {
    let text = fs::read_to_string(fixture("answers").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// What the current version answers.
#[track_caller]
fn answer(native: &Native, words: &[&str]) -> Value {
    let output = native.ssh(words);
    assert!(
        output.status.success(),
        "{words:?}: {}",
        transcript(&output)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn unpack(data: &Path) {
    let parent = data.parent().unwrap();
    let output = Command::new("tar")
        .args(["-xzf"])
        .arg(fixture("volume.tar.gz"))
        .arg("--no-same-owner")
        .arg("-C")
        .arg(parent)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", transcript(&output));
}

/// The new value is the old one; its objects, at any depth, may have more keys.
#[track_caller]
fn assert_has_all_of(new: &Value, old: &Value) {
    match old {
        Value::Object(entries) => {
            for (key, old) in entries {
                let value = new
                    .get(key)
                    .unwrap_or_else(|| panic!("`{key}` is missing in {new}"));
                assert_has_all_of(value, old);
            }
        }
        Value::Array(items) => {
            assert_eq!(new.as_array().map(Vec::len), Some(items.len()), "{new}");
            for (index, old) in items.iter().enumerate() {
                assert_has_all_of(&new[index], old);
            }
        }
        _ => assert_eq!(new, old),
    }
}

#[test]
fn a_volume_of_version_0_1_keeps_all_it_has_and_runs_new_pushes() {
    let host_key = "ssh/ssh_host_ed25519_key.pub";
    let mut old_host_key = String::new();
    let native = Native::start_with(|data, command| {
        unpack(data);
        old_host_key = fs::read_to_string(data.join(host_key)).unwrap();
        // The runs are as old as the volume.
        command
            .env("QUIRE_KEEP_DAYS", "0")
            .env("QUIRE_KEEP_MIN_FREE", "0");
    });
    wait_for("the appliance", || {
        native.ssh(&["status"]).status.success().then_some(())
    });

    // Keys: those of the volume, and the one that this test connects with.
    let data = native.path("data");
    assert_eq!(
        fs::read_to_string(data.join(host_key)).unwrap(),
        old_host_key
    );
    let keys = answer(&native, &["key", "list", "--json"]);
    for old in old_answer("key-list.json")["keys"].as_array().unwrap() {
        let same = |new: &&Value| new["fingerprint"] == old["fingerprint"];
        let new = keys["keys"].as_array().unwrap().iter().find(same);
        assert_has_all_of(new.unwrap_or_else(|| panic!("{old} is missing")), old);
    }

    // Repositories, schedules, caches.
    let repos = answer(&native, &["repo", "list", "--json"]);
    let old_repos = old_answer("repo-list.json");
    for (new, old) in repos["repos"]
        .as_array()
        .unwrap()
        .iter()
        .zip(old_repos["repos"].as_array().unwrap())
    {
        for key in ["repo", "default_branch", "last_push_ms"] {
            assert_eq!(new[key], old[key]);
        }
    }
    assert_eq!(repos["repos"].as_array().unwrap().len(), 4);
    let schedules = answer(&native, &["schedule", "list", "--json"]);
    assert_has_all_of(
        &schedules["schedules"],
        &old_answer("schedule-list.json")["schedules"],
    );
    let caches = answer(&native, &["cache", "list", "--json"]);
    assert_has_all_of(&caches["caches"], &old_answer("cache-list.json")["caches"]);

    // The redirect of the renamed repository.
    let redirected = answer(&native, &["run", "list", "--repo", "shop", "--json"]);
    assert_eq!(redirected["runs"][0]["repo"], "work/shop");

    // Runs that had finished are the same, with jobs, steps, logs and artifacts.
    let old_runs = old_answer("run-list.json");
    for old in old_runs["runs"].as_array().unwrap() {
        let id = old["id"].as_str().unwrap();
        let new = answer(&native, &["run", "show", id, "--json"]);
        if ["complete", "failed", "superseded"].contains(&old["state"].as_str().unwrap()) {
            assert_has_all_of(&new["run"], old);
        }
    }
    let old = old_answer("run-show.json");
    let failed = old["run"]["id"].as_str().unwrap();
    assert_has_all_of(&answer(&native, &["run", "show", failed, "--json"]), &old);
    // Each line of the log is still there. There are more: commands without output, and how each one ended.
    let logs = native.ssh(&["run", "logs", failed]);
    let logs = String::from_utf8_lossy(&logs.stdout);
    let mut new_lines = logs.lines();
    for old in fs::read_to_string(fixture("answers/run-logs.txt"))
        .unwrap()
        .lines()
    {
        assert!(new_lines.any(|new| new == old), "{old}: {logs}");
    }
    let old = old_answer("run-artifacts-list.json");
    let complete = old["artifacts"][0]["run_id"].as_str().unwrap();
    let artifacts = answer(&native, &["run", "artifacts", "list", complete, "--json"]);
    assert_has_all_of(&artifacts["artifacts"], &old["artifacts"]);
    let artifact = native.ssh(&["run", "artifacts", "get", complete, "app.txt"]);
    assert_eq!(artifact.stdout, b"built\n");

    // The run that was active was requeued, and can be canceled. Then the run that was pending is executed.
    let with_state = |state: &str| {
        let mut runs = old_runs["runs"].as_array().unwrap().iter();
        &runs.find(|run| run["state"] == state).unwrap()["id"]
    };
    let state = |id: &str| answer(&native, &["run", "show", id, "--json"])["run"]["state"].clone();
    let queue = answer(&native, &["run", "list", "--repo", "queue", "--json"]);
    let mut runs = queue["runs"].as_array().unwrap().iter();
    let retry = runs.find(|run| run["retry_of"] == *with_state("active"));
    let retry = retry.unwrap_or_else(|| panic!("no retry in {queue}"));
    let retry = retry["id"].as_str().unwrap();
    let canceled = native.ssh(&["run", "cancel", retry]);
    assert!(canceled.status.success(), "{}", transcript(&canceled));
    wait_for("the cancel", || (state(retry) == "canceled").then_some(()));
    let pending = with_state("pending").as_str().unwrap();
    wait_for("the pending run", || {
        (state(pending) == "complete").then_some(())
    });

    // A clone has what was pushed, and a push runs.
    let tree = native.path("tree");
    fs::create_dir_all(&tree).unwrap();
    native.git(&tree, &["clone", "-q", &native.url("app"), "."]);
    fs::remove_file(tree.join("broken")).unwrap();
    native.git(&tree, &["commit", "-q", "-a", "-m", "Repair the tests"]);
    let printed = native.git(&tree, &["push", "-o", "ci.wait", "origin", "main"]);
    assert!(printed.contains("complete"), "{printed}");
    let health = native.get("/healthz").json();
    assert_ne!(health["status"], "starting", "{health}");
}
