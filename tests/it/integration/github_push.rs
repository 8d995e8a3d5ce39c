//! Pushes as GitHub tells them: from a push to what a receiver of GitHub's webhooks gets.

use std::process::Command;

use quire_testkit::{Answer, HttpReceiver, ReceivedRequest, TestForge, run_ok, wait_for};
use serde_json::{Value, json};

use super::notifications::{forge_knowing, target, wait_until_told};
use super::{GREEN, one};

const SECRET: &str = "It's a Secret to Everybody";

fn forge_with(receiver: &HttpReceiver, keys: &str) -> TestForge {
    let target = format!(
        ":hub {{:type :github-push :url \"{}\" :key {{:env \"HUB_SECRET\"}} {keys}}}\n",
        receiver.url("/github-webhook/")
    );
    forge_knowing(&target, &[("HUB_SECRET", SECRET)])
}

/// The signature of a body, by another program.
fn signature(body: &str) -> String {
    const SCRIPT: &str = "import hmac, sys; print(hmac.new(sys.argv[1].encode(), sys.argv[2].encode(), 'sha256').hexdigest())";
    let mut python = Command::new("/usr/bin/python3");
    let code = run_ok(python.args(["-c", SCRIPT, SECRET, body]));
    format!("sha256={}", code.trim())
}

#[track_caller]
fn checked(request: &ReceivedRequest, event: &str) -> Value {
    assert_eq!(request.header("x-github-event"), event);
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(
        request.header("x-hub-signature-256"),
        signature(&request.body)
    );
    assert_eq!(request.header("x-github-delivery").len(), 36);
    request.json()
}

#[test]
fn each_push_is_told_as_github_tells_it() {
    let receiver = HttpReceiver::start();
    let forge = forge_with(&receiver, "");
    let tree = forge.tree("work", "group/app");
    let first = tree.commit("first");
    tree.push(&["-o", "ci.skip", "main"]);
    let created = checked(&receiver.wait_for(1)[0], "push");
    let zeros = "0".repeat(40);
    assert_eq!(
        json!([
            created["ref"],
            created["before"],
            created["after"],
            created["created"],
            created["deleted"],
            created["forced"]
        ]),
        json!(["refs/heads/main", zeros, first, true, false, false])
    );
    let repository = &created["repository"];
    assert_eq!(
        json!([
            repository["name"],
            repository["full_name"],
            repository["owner"]["login"],
            repository["html_url"],
            repository["clone_url"]
        ]),
        json!([
            "app",
            "group/app",
            "group",
            "https://git.example.org/group/app",
            "https://git.example.org/group/app.git"
        ])
    );
    assert_eq!(repository["default_branch"], "main");
    assert!(
        repository["ssh_url"]
            .as_str()
            .unwrap()
            .ends_with("/group/app.git"),
        "{repository}"
    );
    // An update with a run, by one person with files.
    tree.write("new", "x");
    tree.write(".quire/ci.fnl", GREEN);
    let second = tree.push_new("second");
    let update = checked(&receiver.wait_for(2)[1], "push");
    let commit = &update["commits"][0];
    assert_eq!(
        json!([
            update["before"],
            update["after"],
            update["created"],
            commit["id"],
            commit["message"],
            commit["added"]
        ]),
        json!([
            first,
            second,
            false,
            second,
            "second",
            [".quire/ci.fnl", "new"]
        ])
    );
    assert_eq!(&update["head_commit"], commit);
    assert_eq!(
        update["compare"],
        format!("https://git.example.org/group/app/-/compare/{first}...{second}")
    );
    forge.wait_for_quiet();
    // Several refs are several requests: a tag, a branch that is moved back, one that is made and deleted.
    tree.git_ok(&["tag", "-a", "-m", "One", "v1", &first]);
    tree.push(&["v1", "+main~1:main", "main:side"]);
    tree.push(&[":side"]);
    let rest: Vec<Value> = receiver.wait_for(6)[2..]
        .iter()
        .map(|request| {
            let push = checked(request, "push");
            json!([
                push["ref"],
                push["created"],
                push["deleted"],
                push["forced"],
                push["commits"].as_array().unwrap().len(),
                push["head_commit"]["id"]
            ])
        })
        .collect();
    for expected in [
        json!(["refs/tags/v1", true, false, false, 0, first]),
        json!(["refs/heads/main", false, false, true, 0, first]),
        json!(["refs/heads/side", true, false, false, 1, second]),
        json!(["refs/heads/side", false, true, false, 0, null]),
    ] {
        assert!(rest.contains(&expected), "{expected} {rest:#?}");
    }
    let requests = receiver.requests();
    let mut ids: Vec<&str> = requests
        .iter()
        .map(|request| request.header("x-github-delivery"))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 6);
    assert_eq!(
        forge.ssh_ok("notify test hub"),
        "a test message was delivered to hub\n"
    );
    checked(&receiver.wait_for(7)[6], "ping");
}

/// Pushes and ends of runs wait in one order, and each target takes its own.
#[test]
fn pushes_wait_over_a_restart_and_are_selected() {
    let (hub, all) = (HttpReceiver::start(), HttpReceiver::start());
    hub.plan([Answer::status("503 Service Unavailable", "")]);
    let targets = format!(
        ":hub {{:type :github-push :url \"{}\" :runs [\"app@refs/heads/main\"]}}\n:all {{:type :webhook :url \"{}\" :on :every}}\n",
        hub.url("/"),
        all.url("/")
    );
    let mut forge = forge_knowing(&targets, &[]);
    let tree = forge.tree_with("app", &one("exit 1"));
    tree.push(&["main", "main:other"]);
    forge.tree_with("else", GREEN).push(&["main"]);
    forge.wait_for_quiet();
    hub.wait_for(1);
    wait_for("the failure", || {
        (target(&forge, "hub")["failures"] == 1).then_some(())
    });
    assert!(forge.stop().success());
    forge.serve();
    for name in ["hub", "all"] {
        wait_until_told(&forge, name);
    }
    let requests = hub.requests();
    assert_eq!(requests.len(), 2);
    assert!(
        requests
            .iter()
            .all(|request| request.json()["ref"] == "refs/heads/main")
    );
    assert_eq!(
        requests[0].header("x-github-delivery"),
        requests[1].header("x-github-delivery")
    );
    let told: Vec<Value> = all
        .requests()
        .iter()
        .map(|request| request.json()["type"].clone())
        .collect();
    assert_eq!(told, vec![json!("run-ended"); 3]);
    // What was removed meanwhile is not told any more, and holds up nothing.
    hub.plan([Answer::Hang]);
    tree.push_new("more");
    hub.wait_for(3);
    forge.wait_for_quiet();
    forge.ssh_ok("repo rm app --yes");
    assert!(forge.stop().success());
    forge.serve();
    wait_until_told(&forge, "hub");
}
