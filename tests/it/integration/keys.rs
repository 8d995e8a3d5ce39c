//! Keys that are added and removed over SSH, through the sshd of a native appliance.

use std::fs;
use std::process::{Output, Stdio};

use quire_testkit::{generate_key, stderr, stdout, transcript, wait_for};
use serde_json::Value;

use super::native::Native;

/// A native appliance with the repositories `shop` and `other`, and a working tree of `shop`.
fn appliance() -> Native {
    let native = Native::start();
    wait_for("the appliance", || {
        native.ssh(&["status"]).status.success().then_some(())
    });
    let tree = native.path("tree");
    fs::create_dir_all(&tree).unwrap();
    native.git(&tree, &["init", "-q", "-b", "main"]);
    native.git(&tree, &["commit", "-q", "--allow-empty", "-m", "first"]);
    for repo in ["shop", "other"] {
        native.git(&tree, &["push", &native.url(repo), "main"]);
    }
    native
}

/// Runs a command over SSH with this text on its standard input.
pub(super) fn ssh_with(native: &Native, words: &[&str], input: &str) -> Output {
    let mut command = native.ssh_command("key", words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    // A command that has failed already reads nothing.
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Makes a key pair and adds its public half with these options.
fn add(native: &Native, name: &str, options: &[&str]) -> String {
    let line = generate_key(&native.path(name), name);
    let output = ssh_with(native, &[&["key", "add"], options].concat(), &line);
    assert!(output.status.success(), "{}", transcript(&output));
    stdout(&output)
}

/// Pushes to a repository with a key.
fn push(native: &Native, key: &str, repo: &str) -> Output {
    let branch = format!("HEAD:refs/heads/{key}");
    let arguments = ["push", &native.url(repo), &branch];
    native.git_as(key, &native.path("tree"), &arguments)
}

/// Whether git may fetch from a repository, and push to it, with a key.
fn reaches(native: &Native, key: &str, repo: &str) -> (bool, bool) {
    let arguments = ["ls-remote", &native.url(repo)];
    let fetch = native.git_as(key, &native.path("tree"), &arguments);
    let push = push(native, key, repo);
    for output in [&fetch, &push] {
        let may = format!("the key `{key}` may ");
        assert!(
            output.status.success() || stderr(output).contains(&may),
            "{}",
            transcript(output)
        );
    }
    (fetch.status.success(), push.status.success())
}

/// Every management command is refused to a key, with one sentence and without an effect.
fn refuses_management(native: &Native, key: &str) {
    for command in [
        "repo list",
        "repo new mine",
        "repo rm shop --yes",
        "repo undo shop",
        "run list",
        "run list --repo shop",
        "run logs latest",
        "run start shop",
        "run artifacts list latest",
        "schedule list",
        "cache list",
        "notify list",
        "key list",
        "key add x",
        "key rm laptop --yes",
        "secret list",
        "secret set x",
        "config show",
        "login",
        "login --token x",
        "login --list",
        "status",
        "gc",
        "backup",
        "reconcile --run",
        "help",
    ] {
        let output = native.ssh_as(key, &[command]);
        assert_eq!(
            output.status.code(),
            Some(128),
            "{command}: {}",
            transcript(&output)
        );
        assert_eq!(stdout(&output), "", "{command}");
        assert!(
            stderr(&output).starts_with(&format!("quire: the key `{key}` may ")),
            "{command}: {}",
            transcript(&output)
        );
    }
}

#[test]
fn a_key_reaches_what_its_limits_name_and_nothing_else() {
    let native = appliance();
    let added = add(&native, "full", &[]);
    assert!(added.contains("; it may do everything"), "{added}");
    let added = add(&native, "reader", &["--read"]);
    assert!(added.contains("; it may fetch only"), "{added}");
    add(&native, "shopper", &["--repo", "shop"]);
    add(&native, "both", &["--read", "--repo", "shop"]);
    assert!(native.ssh_as("full", &["repo", "list"]).status.success());
    for (key, shop, other) in [
        ("full", (true, true), (true, true)),
        ("reader", (true, false), (true, false)),
        ("shopper", (true, true), (false, false)),
        ("both", (true, false), (false, false)),
    ] {
        assert_eq!(reaches(&native, key, "shop"), shop, "{key}");
        assert_eq!(reaches(&native, key, "other"), other, "{key}");
        if key == "full" {
            continue;
        }
        if key == "shopper" {
            refuses_management(&native, key);
        }
        let new = push(&native, key, "new");
        assert!(
            stderr(&new).contains(&format!("the key `{key}` may ")),
            "{}",
            transcript(&new)
        );
        let greeting = stdout(&native.ssh_as(key, &[]));
        assert!(
            greeting.starts_with(&format!("quire: hello {key}. This key may ")),
            "{greeting}"
        );
        for operation in ["upload", "download"] {
            let words = ["git-lfs-transfer", "other", operation];
            let lfs = native.ssh_as(key, &words);
            let is_reader = key == "reader" && operation == "download";
            assert_eq!(lfs.status.success(), is_reader, "{}", transcript(&lfs));
        }
    }
    // A renamed repository is still the key's, under both names.
    assert!(
        native
            .ssh(&["repo", "rename", "shop", "store"])
            .status
            .success()
    );
    for repo in ["shop", "store"] {
        assert_eq!(reaches(&native, "shopper", repo), (true, true));
    }
    let listed = native.ssh(&["key", "list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let shopper = &listed["keys"][2];
    assert_eq!(shopper["name"], "shopper");
    assert_eq!(shopper["repos"][0], "shop");
    assert_eq!(
        shopper["options"],
        "restrict,command=\"quire exec --repo shop\""
    );
    assert!(shopper["last_used_at_ms"].as_i64() > Some(0), "{shopper}");
    assert_eq!(listed["keys"][4]["source"], "QUIRE_AUTHORIZED_KEYS");
}

#[test]
fn a_key_ends_with_its_time_and_with_its_removal() {
    let native = appliance();
    add(&native, "brief", &["--expires", "3s"]);
    wait_for("the key to end", || {
        (native.ssh_as("brief", &["status"]).status.code() == Some(255)).then_some(())
    });
    add(&native, "guest", &[]);
    assert!(native.ssh_as("guest", &["status"]).status.success());
    let removed = native.ssh(&["key", "rm", "guest"]);
    assert!(removed.status.success(), "{}", transcript(&removed));
    assert_eq!(native.ssh_as("guest", &["status"]).status.code(), Some(255));
    let shown = native.ssh(&["key", "show", "guest"]);
    assert_eq!(shown.status.code(), Some(3), "{}", transcript(&shown));
    // That of the environment is shown, and stays.
    let kept = native.ssh(&["key", "rm", "laptop"]);
    assert_eq!(
        stderr(&kept),
        "quire: the key `laptop` comes from QUIRE_AUTHORIZED_KEYS, so it cannot be removed here\nquire: remove it there\n",
        "{}",
        transcript(&kept)
    );
    assert!(native.ssh(&["status"]).status.success());
}
