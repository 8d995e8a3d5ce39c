//! What repositories say about targets: their occasions and refs, and nothing else.

use quire_testkit::{HttpReceiver, TestForge, Tree, transcript, wait_for};

use super::notifications::{forge_with, wait_until_told};
use super::{GREEN, one};

/// Pushes a commit whose pipeline fails or not, and waits until a target has been told of its run.
fn push(forge: &TestForge, tree: &Tree, branch: &str, is_green: bool, message: &str) {
    let pipeline = match is_green {
        true => GREEN.to_owned(),
        false => one("exit 1"),
    };
    tree.write(".quire/ci.fnl", &format!("{pipeline}\n; {message}"));
    tree.commit(message);
    tree.push(&[&format!("HEAD:{branch}")]);
    forge.wait_for_quiet();
    wait_until_told(forge, "ops");
}

/// What a receiver was told of, and why.
fn told(receiver: &HttpReceiver) -> Vec<String> {
    let requests = receiver.requests().into_iter();
    let line = |document: serde_json::Value| {
        let subject = document["run"]["subject"].as_str().unwrap().to_owned();
        format!("{}: {subject}", document["reason"].as_str().unwrap())
    };
    requests.map(|request| line(request.json())).collect()
}

#[test]
fn a_repository_says_when_targets_are_told_of_its_runs() {
    let (ops, muted) = (HttpReceiver::start(), HttpReceiver::start());
    let targets = format!(
        ":ops {{:type :webhook :url \"{}\"}}\n:muted {{:type :webhook :url \"{}\" :on :never}}\n",
        ops.url("/ops"),
        muted.url("/muted")
    );
    let forge = forge_with(&targets);
    let (app, other) = (forge.tree("app", "app"), forge.tree("other", "other"));
    // What a branch says does not count until it is on the default branch.
    app.write(
        ".quire/config.fnl",
        "{:notify {:targets {:ops {:on [:failed] :refs [\"refs/heads/main\"]} :muted {:on :every}}}}",
    );
    push(&forge, &app, "main", false, "Fail on main");
    push(&forge, &app, "main", true, "Repair main");
    push(&forge, &app, "side", false, "Fail on side");
    push(&forge, &other, "main", false, "Fail in other");
    push(&forge, &other, "main", true, "Repair other");
    app.write(
        ".quire/config.fnl",
        "{:notify {:targets {:ops {:on :every}}}}",
    );
    push(&forge, &app, "side", true, "Say more on side");
    push(&forge, &app, "main", true, "Say more on main");
    assert_eq!(
        told(&ops),
        [
            "failed: Fail on main",
            "failed: Fail in other",
            "fixed: Repair other",
            "complete: Say more on main"
        ]
    );
    // A target that is told of nothing stays so.
    assert_eq!(muted.requests().len(), 0);
}

/// Each is a finding with its line; nothing is sent to another address, and every target is told as the owner says.
#[test]
fn what_is_wrong_in_the_settings_of_a_repository_is_a_finding() {
    let (ops, foreign) = (HttpReceiver::start(), HttpReceiver::start());
    let targets = format!(
        ":ops {{:type :webhook :url \"{}\"}}\n:board {{:type :webhook :url \"{}\" :runs [\"shop\"]}}\n:notes {{:type :git-notes}}\n",
        ops.url("/ops"),
        ops.url("/board")
    );
    let forge = forge_with(&targets);
    let tree = forge.tree("app", "app");
    let settings = format!(
        "{{:public true\n :notify {{:targets {{:board {{:on :every}}\n :notes {{:on :never}}\n :opps {{}}\n :new {{:type :webhook\n :url \"{}\" :key {{:file \"/etc/shadow\"}}}}\n :ops {{:on :red}}}}}}}}",
        foreign.url("/")
    );
    tree.write(".quire/config.fnl", &settings);
    push(&forge, &tree, "main", false, "Fail");
    assert_eq!(told(&ops), ["failed: Fail"]);
    let findings = |count: usize| {
        wait_for("the finding", || {
            let status = transcript(&forge.ssh("status"));
            let lines: Vec<String> = status
                .lines()
                .filter_map(|line| line.strip_prefix("repositories: app: "))
                .map(|line| line.replace("; .quire", "\n.quire"))
                .collect();
            (lines.len() == count).then(|| lines.join("\n"))
        })
    };
    insta::assert_snapshot!(findings(1));
    let data = forge.ssh_ok("repo show app --json");
    let shown: serde_json::Value = serde_json::from_str(&data).unwrap();
    assert_eq!(shown["public"], true, "{shown}");
    // A file that cannot be read at all says nothing.
    tree.write(
        ".quire/config.fnl",
        "{:notify {:targets {:ops {:on :never}}}",
    );
    push(&forge, &tree, "main", true, "Repair");
    assert_eq!(told(&ops), ["failed: Fail", "fixed: Repair"]);
    let broken = wait_for("the other finding", || {
        let found = findings(1);
        found.contains("cannot be parsed").then_some(found)
    });
    assert!(broken.contains(".quire/config.fnl:1:"), "{broken}");
    tree.write(".quire/config.fnl", "{}");
    push(&forge, &tree, "main", true, "Say nothing");
    findings(0);
    assert_eq!(foreign.connections(), 0);
}
