//! A whole day of a user, through a real client of SSH and a real git, from the first key to the restored appliance.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use quire_testkit::{TestForge, generate_key, git_in, run_ok, transcript, wait_for};
use serde_json::Value;

use super::keys::ssh_with;
use super::native::Native;
use crate::QUIRE;

/// Fails until there is a file, then uses a secret and makes an artifact.
const PIPELINE: &str = r#"
(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: sh}] (sh "echo testing; test -e fixed")))
(ci.job :release [:test]
  (fn [{: sh : secret : artifact : jobs}]
    (let [push (jobs :quire/push)]
      (when push.tag
        (sh "echo with $TOKEN; echo $RELEASE > release.txt" {:env {:TOKEN (secret :token) :RELEASE push.tag}})
        (artifact "release.txt")))))
"#;

const SECRET: &str = "a-token-of-the-user";

struct Day {
    native: Native,
    tree: PathBuf,
}

impl Day {
    fn ok(&self, words: &[&str]) -> String {
        let output = self.native.ssh(words);
        assert!(
            output.status.success(),
            "{words:?}: {}\n{}",
            transcript(&output),
            self.native.log()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[words, &["--json"]].concat())).unwrap()
    }

    fn git(&self, arguments: &[&str]) -> String {
        self.native.git(&self.tree, arguments)
    }

    fn commit(&self, message: &str) {
        git_in(&self.tree, &["add", "-A"]);
        git_in(&self.tree, &["commit", "-q", "-m", message]);
    }

    fn newest(&self) -> Value {
        self.json(&["run", "list", "--limit", "1"])["runs"][0].clone()
    }
}

/// An appliance that answers, with an address of this machine allowed as a remote.
fn appliance(prepare: impl FnOnce(&Path)) -> Native {
    let native = Native::start_with(|data, _| {
        prepare(data);
        fs::create_dir_all(data).unwrap();
        let config = "{:mirrors {:allowed-networks [\"127.0.0.1\"]}}";
        fs::write(data.join("config.fnl"), config).unwrap();
    });
    wait_for("the appliance", || {
        native.ssh(&["status"]).status.success().then_some(())
    });
    native
}

/// A repository on another machine, with a history and a tag.
fn elsewhere(day: &Day) -> quire_testkit::SshForge {
    let nas = TestForge::new(QUIRE).plain_sshd();
    nas.allow(day.ok(&["mirror", "key"]).trim());
    let tree = nas.tree("tree", "shop");
    for n in 0..20 {
        fs::write(tree.join(format!("file-{n}")), n.to_string()).unwrap();
        nas.commit(&tree, &format!("Commit {n}"));
    }
    nas.git_ok(&tree, &["tag", "-a", "v0", "-m", "zero"]);
    nas.git_ok(&tree, &["push", "-q", "origin", "main", "v0"]);
    nas
}

/// What is compared with a restored appliance.
fn facts(native: &Native) -> Vec<String> {
    let facts = [
        &["repo", "list", "--json"][..],
        &["run", "list", "--json"],
        &["key", "list", "--json"],
        &["run", "logs", "shop#3"],
    ];
    let mut facts: Vec<String> = facts
        .iter()
        .map(|words| {
            let output = native.ssh(words);
            assert!(output.status.success(), "{}", transcript(&output));
            String::from_utf8(output.stdout).unwrap()
        })
        .collect();
    // The last use is that of the comparison.
    let mut keys: Value = serde_json::from_str(&facts[2]).unwrap();
    for key in keys["keys"].as_array_mut().unwrap() {
        key["last_used_at_ms"] = Value::Null;
        key["source"] = Value::Null;
    }
    facts[2] = keys.to_string();
    facts.push(git_in(
        &native.path("data/repos/shop.git"),
        &["for-each-ref", "--format=%(refname) %(objectname)"],
    ));
    facts
}

#[test]
fn a_whole_day_of_a_user() {
    // Install, and another key.
    let native = appliance(|_| ());
    let day = Day {
        tree: native.path("tree"),
        native,
    };
    let phone = generate_key(&day.native.path("phone"), "phone");
    let added = ssh_with(&day.native, &["key", "add"], &phone);
    assert!(added.status.success(), "{}", transcript(&added));
    assert!(day.native.ssh_as("phone", &["status"]).status.success());

    // Import.
    let nas = elsewhere(&day);
    let imported = day.ok(&["repo", "import", &nas.url("shop")]);
    assert!(imported.contains("1 branch, 1 tag"), "{imported}");
    day.native.git(
        &day.native.path(""),
        &["clone", "-q", &day.native.url("shop"), "tree"],
    );
    assert_eq!(git_in(&day.tree, &["rev-list", "--count", "HEAD"]), "21");

    // A pipeline, and a red run.
    fs::create_dir_all(day.tree.join(".quire")).unwrap();
    fs::write(day.tree.join(".quire/ci.fnl"), PIPELINE).unwrap();
    run_ok(
        Command::new(QUIRE)
            .args(["ci", "check"])
            .current_dir(&day.tree),
    );
    day.commit("Test it");
    let reply = day.git(&["push", "-o", "ci.wait", "origin", "HEAD"]);
    assert!(
        reply.contains("testing") && reply.contains("failed"),
        "{reply}"
    );
    assert_eq!(day.newest()["state"], "failed");
    let shown = day.ok(&["run", "show", "latest"]);
    assert!(shown.contains("test -e fixed"), "{shown}");
    let greeting = day.ok(&[]);
    assert!(greeting.contains("Failing:"), "{greeting}");
    // Runs of the host have no container to attach to, and say so.
    let attached = day.native.ssh(&["run", "attach", "latest"]);
    assert!(!attached.status.success(), "{}", transcript(&attached));

    // The fix.
    fs::write(day.tree.join("fixed"), "").unwrap();
    day.commit("Fix it");
    day.git(&["push", "-o", "ci.wait", "origin", "HEAD"]);
    assert_eq!(day.newest()["state"], "complete");

    // A secret, and a release that uses it.
    let set = ssh_with(
        &day.native,
        &["secret", "set", "token", "--repo", "shop"],
        SECRET,
    );
    assert!(set.status.success(), "{}", transcript(&set));
    git_in(&day.tree, &["tag", "-a", "v1", "-m", "one"]);
    day.git(&["push", "-o", "ci.wait", "origin", "v1"]);
    let log = day.ok(&["run", "logs", "latest"]);
    assert!(
        log.contains("with {{ token }}") && !log.contains(SECRET),
        "{log}"
    );
    let release = day.ok(&["run", "artifacts", "get", "latest", "release.txt"]);
    assert_eq!(release, "v1\n");

    // A forced push, and its undo.
    let lost = git_in(&day.tree, &["rev-parse", "HEAD"]);
    git_in(&day.tree, &["reset", "-q", "--hard", "HEAD~5"]);
    day.git(&["push", "-q", "-o", "ci.skip", "--force", "origin", "HEAD"]);
    let log = day.json(&["log", "--limit", "1"]);
    let operation = log["operations"][0]["id"].to_string();
    assert_eq!(log["operations"][0]["kind"], "push");
    day.ok(&["undo", &operation]);
    let bare = day.native.path("data/repos/shop.git");
    assert_eq!(git_in(&bare, &["rev-parse", "main"]), lost);
    wait_for("the runs to end", || {
        let runs = day.json(&["run", "list"]);
        let mut runs = runs["runs"].as_array().unwrap().iter();
        runs.all(|run| run["finished_at_ms"].is_u64()).then_some(())
    });

    // A backup, and the same appliance elsewhere.
    let backup = day.native.ssh(&["backup"]);
    assert!(backup.status.success(), "{}", transcript(&backup));
    let archive = day.native.path("backup.tar.zst");
    fs::write(&archive, &backup.stdout).unwrap();
    let other = appliance(|data| {
        let mut restore = Command::new(QUIRE);
        restore.arg("restore").arg(&archive).env("QUIRE_DATA", data);
        run_ok(&mut restore);
    });
    let mut expected = facts(&day.native);
    // The key of the environment is another one there.
    let mut found = facts(&other);
    expected.remove(2);
    let keys = found.remove(2);
    assert!(keys.contains("\"phone\""), "{keys}");
    assert_eq!(found, expected);
    let adopted = other.ssh(&["reconcile", "--adopt"]);
    assert!(adopted.status.success(), "{}", transcript(&adopted));
}
