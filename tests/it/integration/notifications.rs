//! Notifications: from the end of a run to what a receiver gets, and what a person sees if it does not.

use std::fs;

use nix::sys::signal::Signal;
use quire_testkit::{
    Answer, CertificateAuthority, HttpReceiver, TestForge, free_port, transcript, wait_for,
};
use serde_json::json;

use super::{GREEN, one};
use crate::QUIRE;

/// A forge that may send to loopback, with these targets in its configuration.
pub(super) fn forge_with(targets: &str) -> TestForge {
    forge_knowing(targets, &[])
}

/// The same, with further environment variables.
pub(super) fn forge_knowing(targets: &str, variables: &[(&str, &str)]) -> TestForge {
    let mut forge = TestForge::new(QUIRE);
    configure(&forge, targets);
    forge
        .set("QUIRE_NOTIFY_ALLOWED_NETWORKS", "127.0.0.1")
        .set("QUIRE_HTTP_URL", "https://git.example.org")
        .set("HOOK_KEY", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    for (name, value) in variables {
        forge.set(name, value);
    }
    forge.serve();
    forge
}

pub(super) fn configure(forge: &TestForge, targets: &str) {
    let text = format!("{{:notify {{:targets\n{{{targets}}}}}}}");
    fs::write(forge.paths.config_fennel(), text).unwrap();
}

/// A target with this name at a receiver, with further keys.
fn hook(name: &str, receiver: &HttpReceiver, keys: &str) -> String {
    let url = receiver.url(&format!("/{name}?token=1"));
    format!(":{name} {{:type :webhook :url \"{url}\" {keys}}}\n")
}

/// What waits for a target, as `notify list` has it.
pub(super) fn target(forge: &TestForge, name: &str) -> serde_json::Value {
    let list: serde_json::Value =
        serde_json::from_str(&forge.ssh_ok("notify list --json")).unwrap();
    let targets = list["targets"].as_array().unwrap();
    let found = targets.iter().find(|target| target["name"] == name);
    found.unwrap_or_else(|| panic!("{list}")).clone()
}

pub(super) fn wait_until_told(forge: &TestForge, name: &str) {
    wait_for("the target to be told of everything", || {
        (target(forge, name)["waiting"] == 0).then_some(())
    });
}

#[test]
fn a_failure_and_its_repair_are_told() {
    let receiver = HttpReceiver::start();
    let targets = hook("ops", &receiver, ":key {:env \"HOOK_KEY\"}")
        + &hook("all", &receiver, ":on [:every]")
        + &hook("tags", &receiver, ":on :every :runs [\"*@refs/tags/*\"]");
    let forge = forge_with(&targets);
    let tree = forge.tree_with("app", &one("echo one; echo two >&2; exit 3"));
    tree.push(&["main"]);
    for (message, pipeline) in [("Fix it", GREEN), ("Go on", GREEN)] {
        forge.wait_for_quiet();
        tree.write(".quire/ci.fnl", &format!("{pipeline}\n; {message}"));
        tree.push_new(message);
    }
    forge.wait_for_quiet();
    for name in ["ops", "all", "tags"] {
        wait_until_told(&forge, name);
    }
    let told: Vec<_> = receiver
        .requests()
        .iter()
        .map(|request| {
            let document = request.json();
            (
                request.path.clone(),
                document["reason"].as_str().unwrap().to_owned(),
                document["title"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let of = |path: &str| -> Vec<String> {
        let of_path = told.iter().filter(|(of, ..)| of.starts_with(path));
        of_path
            .map(|(_, reason, title)| format!("{reason}: {title}"))
            .collect()
    };
    insta::assert_debug_snapshot!((of("/ops"), of("/all"), of("/tags")));
    let failed = receiver.requests();
    let failed = failed
        .iter()
        .find(|request| request.path == "/ops?token=1")
        .unwrap();
    let document = failed.json();
    let run = forge
        .runs_of("app")
        .into_iter()
        .min_by_key(|run| run.id)
        .unwrap();
    assert_eq!(document["run"]["id"], run.id.to_string());
    assert_eq!(document["id"], failed.header("webhook-id"));
    assert_eq!(
        document["url"],
        format!("https://git.example.org/runs/{}", run.id)
    );
    assert_eq!(document["failed_jobs"][0]["lines"], json!(["one", "two"]));
    assert_eq!(document["failed_jobs"][0]["exit_code"], 3);
    assert!(failed.header("webhook-signature").starts_with("v1,"));
    assert!(failed.header("content-type") == "application/json");
    let metrics = forge.get("/metrics").body;
    assert!(
        metrics.contains("quire_notifications_delivered_total 5"),
        "{metrics}"
    );
}

#[test]
fn a_receiver_that_fails_is_asked_again_and_holds_up_no_other() {
    let (failing, silent, well) = (
        HttpReceiver::start(),
        HttpReceiver::start(),
        HttpReceiver::start(),
    );
    failing.plan([
        Answer::status("500 Internal Server Error", "out of order"),
        Answer::Close,
        Answer::Status(
            "429 Too Many Requests\r\nRetry-After: 600\r\n".to_owned(),
            String::new(),
        ),
    ]);
    silent.plan(std::iter::repeat_n(Answer::Hang, 9));
    let targets =
        hook("failing", &failing, "") + &hook("silent", &silent, "") + &hook("well", &well, "");
    let forge = forge_with(&targets);
    let tree = forge.tree_with("app", &one("exit 1"));
    tree.push(&["main"]);
    forge.wait_for_quiet();
    wait_until_told(&forge, "well");
    silent.wait_for(1);
    // Each reload allows the next attempt at once.
    for (attempt, words) in [
        (1, "500 Internal Server Error: out of order"),
        (2, "the request failed"),
        (3, "429"),
    ] {
        failing.wait_for(attempt);
        let problem = wait_for("the problem", || {
            let target = target(&forge, "failing");
            let problem = target["problem"].as_str().unwrap_or_default().to_owned();
            (target["failures"] == attempt).then_some(problem)
        });
        assert!(problem.contains(words), "{problem}");
        if attempt == 3 {
            let next = target(&forge, "failing")["next_attempt_ms"]
                .as_i64()
                .unwrap();
            let now = forge.store().clock().now();
            assert!((500_000..601_000).contains(&(next - now.0)), "{next} {now}");
            let listed = forge.ssh_ok("notify list");
            assert!(
                listed.contains("failing") && listed.contains("429"),
                "{listed}"
            );
            wait_for("the finding", || {
                let status = transcript(&forge.ssh("status"));
                (status.contains("target `failing`: 3 attempts in a row failed")
                    && status.contains("config.fnl:2:"))
                .then_some(())
            });
            let health = wait_for("the health", || {
                let health = forge.health();
                (health["parts"]["notifications"]["status"] == "degraded").then_some(health)
            });
            assert!(!health.to_string().contains("target `failing`"), "{health}");
        }
        forge.signal(Signal::SIGHUP);
    }
    wait_until_told(&forge, "failing");
    let slow = wait_for("the time of the attempt to be over", || {
        target(&forge, "silent")["problem"]
            .as_str()
            .map(str::to_owned)
    });
    assert_eq!(slow, "there was no answer within 30 seconds");
    let requests = failing.requests();
    let id = requests[0].header("webhook-id");
    assert!(
        requests.len() == 4
            && requests
                .iter()
                .all(|request| request.header("webhook-id") == id)
    );
    assert_eq!(target(&forge, "failing")["failures"], 0);
}

/// The delay before the next attempt survives the restart as well.
#[test]
fn a_receiver_that_was_down_is_told_after_a_restart() {
    let port = free_port();
    let target_of = format!(":ops {{:type :webhook :url \"http://127.0.0.1:{port}/ops\"}}\n");
    let mut forge = forge_with(&target_of);
    let tree = forge.tree_with("app", &one("exit 1"));
    tree.push(&["main"]);
    forge.wait_for_quiet();
    tree.push(&["main:side"]);
    forge.wait_for_quiet();
    let down = wait_for("the attempt", || {
        let target = target(&forge, "ops");
        target["next_attempt_ms"].is_i64().then_some(target)
    });
    let problem = down["problem"].as_str().unwrap();
    assert!(
        problem.contains("cannot connect to 127.0.0.1:"),
        "{problem}"
    );
    forge.kill();
    let receiver = HttpReceiver::start_on(port);
    forge.serve();
    let refs: Vec<String> = receiver
        .wait_for(2)
        .iter()
        .map(|request| {
            request.json()["run"]["ref_name"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(refs, ["refs/heads/main", "refs/heads/side"]);
    wait_until_told(&forge, "ops");
    assert_eq!(receiver.requests().len(), 2);
}

#[test]
fn a_test_says_what_is_wrong() {
    let receiver = HttpReceiver::start();
    let targets = hook("well", &receiver, "")
        + &hook("key", &receiver, ":key {:file \"/nonexistent/key\"}")
        + &format!(
            ":down {{:type :webhook :url \"http://127.0.0.1:{}/x\"}}\n",
            free_port()
        )
        + &format!(
            ":private {{:type :webhook :url \"http://127.0.0.2:{}/x\"}}\n",
            receiver.port
        )
        + &format!(
            ":link {{:type :webhook :url \"http://169.254.169.254:{}/x\"}}\n",
            receiver.port
        )
        + ":name {:type :webhook :url \"http://no.such.host.invalid/x\"}\n"
        + ":wrong {:type :pigeon}\n";
    let forge = forge_with(&targets);
    let test = |name: &str| {
        let output = transcript(&forge.ssh(&format!("notify test {name}")));
        let data = forge.paths.data().display().to_string();
        let output = output.replace(&format!("{data}/"), "");
        output.replace(&format!(":{}", receiver.port), ":PORT")
    };
    let mut said = vec![test("well"), test("nosuch")];
    for answer in [
        Answer::status("404 Not Found", "no such topic\nsecond line"),
        Answer::status("400 Bad Request", "{\"error\": \"invalid\"}"),
        Answer::Status(
            "302 Found\r\nLocation: http://127.0.0.1:1/\r\n".to_owned(),
            String::new(),
        ),
        Answer::Close,
    ] {
        receiver.plan([answer]);
        said.push(test("well"));
    }
    said.extend(["key", "private", "link", "wrong"].map(test));
    insta::assert_snapshot!(said.join("\n"));
    assert!(
        test("down").contains("cannot connect to 127.0.0.1:"),
        "{}",
        test("down")
    );
    assert!(
        test("name").contains("the address of no.such.host.invalid cannot be found"),
        "{}",
        test("name")
    );
    // Nothing was sent to the addresses that are not permitted, and no redirect was followed.
    assert_eq!(receiver.requests().len(), 5);
    assert_eq!(receiver.requests()[0].json()["type"], "test");
}

/// A target that is wrong is a finding with its line, and the others are told.
#[test]
fn a_target_that_is_wrong_affects_no_other() {
    let receiver = HttpReceiver::start();
    let targets = ":wrong {:type :pigeon}\n:url {:type :webhook\n :url \"htp://x\"}\n".to_owned()
        + &hook("keyless", &receiver, ":key {:env \"NO_SUCH_VARIABLE\"}")
        + &hook("well", &receiver, "");
    let forge = forge_with(&targets);
    forge.tree_with("app", &one("exit 1")).push(&["main"]);
    forge.wait_for_quiet();
    wait_until_told(&forge, "well");
    let data = format!("{}/", forge.paths.data().display());
    let findings = wait_for("the findings", || {
        let status = transcript(&forge.ssh("status")).replace(&data, "");
        let lines = status
            .lines()
            .filter(|line| line.starts_with("notifications: "));
        let lines: Vec<&str> = lines.collect();
        (lines.len() >= 3).then(|| lines.join("\n"))
    });
    insta::assert_snapshot!(findings);
    let page = wait_for("the health page", || {
        let page = forge.get("/-/health").body;
        page.contains("target `wrong`").then_some(page)
    });
    for words in [
        "config.fnl:2:10: target `wrong`: ",
        "config.fnl:4:2: target `url`: ",
        "target `keyless`: ",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let metrics = forge.get("/metrics").body;
    let failing = "quire_notification_targets_failing 3";
    assert!(metrics.contains(failing), "{metrics}");
    // Corrected, it is told of what waited.
    configure(
        &forge,
        &targets.replace(
            ":type :pigeon",
            &format!(":type :webhook :url \"{}\"", receiver.url("/wrong")),
        ),
    );
    forge.signal(Signal::SIGHUP);
    wait_until_told(&forge, "wrong");
    assert!(
        receiver
            .requests()
            .iter()
            .any(|request| request.path == "/wrong")
    );
    // Removed, it is not listed, and nothing waits for it.
    configure(&forge, &hook("well", &receiver, ""));
    forge.signal(Signal::SIGHUP);
    wait_for("the targets to be removed", || {
        (forge
            .ssh_ok("notify list --json")
            .matches("\"name\"")
            .count()
            == 1)
            .then_some(())
    });
}

#[test]
fn no_secret_is_in_a_message() {
    let receiver = HttpReceiver::start();
    let mut forge = TestForge::new(QUIRE);
    let text = format!(
        "{{:secrets {{:token {{:env \"TOKEN\"}}}} :notify {{:targets {{{}}}}}}}",
        hook("ops", &receiver, ":key {:env \"HOOK_KEY\"}")
    );
    fs::write(forge.paths.config_fennel(), text).unwrap();
    let (token, key) = ("tok3n-of-the-owner", "k3y-of-the-signature");
    forge
        .set("QUIRE_NOTIFY_ALLOWED_NETWORKS", "127.0.0.1")
        .set("TOKEN", token)
        .set("HOOK_KEY", key)
        .serve();
    let tree = forge.tree("app", "app");
    // The pipeline asks for no secret, so its log is not redacted.
    tree.write(
        ".quire/ci.fnl",
        &one(&format!("echo {token}; echo {key} >&2; false {token}")),
    );
    tree.push_new(&format!("Use {token}"));
    let request = &receiver.wait_for(1)[0];
    assert!(
        !request.body.contains(token) && !request.body.contains(key),
        "{}",
        request.body
    );
    assert!(
        request.body.contains("Use {{ token }}") && request.body.contains("{{ ops.key }}"),
        "{}",
        request.body
    );
}

#[test]
fn what_is_refused_or_too_old_is_given_up() {
    let (refusing, failing) = (HttpReceiver::start(), HttpReceiver::start());
    refusing.plan([Answer::status("422 Unprocessable Content", "no")]);
    failing.plan([Answer::status("503 Service Unavailable", "")]);
    let targets =
        hook("refusing", &refusing, ":on :every") + &hook("failing", &failing, ":on :every");
    let mut forge = forge_with(&targets);
    // Everything is too old at once, but it is attempted once.
    forge.stop();
    forge.set("QUIRE_NOTIFY_GIVE_UP_AFTER", "1ms").serve();
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main"]);
    refusing.wait_for(1);
    failing.wait_for(1);
    for name in ["refusing", "failing"] {
        wait_until_told(&forge, name);
        assert_eq!(target(&forge, name)["given_up"], 1, "{name}");
    }
    // A message that is attempted and delivered ends the failures.
    tree.push(&["main:other"]);
    refusing.wait_for(2);
    wait_until_told(&forge, "refusing");
    assert_eq!(target(&forge, "refusing")["failures"], 0);
    assert!(forge.stop().success());
}

/// The certificate of a receiver is judged as a browser does, and a redirect is not followed, to wherever it leads.
#[test]
fn the_certificate_of_a_receiver_is_judged() {
    let (authority, stranger) = (CertificateAuthority::new(), CertificateAuthority::new());
    let receivers = [
        authority.certificate("127.0.0.1"),
        authority.certificate("hooks.example.org"),
        authority.expired_certificate("127.0.0.1"),
        stranger.certificate("127.0.0.1"),
    ]
    .map(|certificate| HttpReceiver::start_tls(&certificate));
    let names = ["well", "name", "expired", "stranger"];
    let targets: String = names
        .iter()
        .zip(&receivers)
        .map(|(name, receiver)| hook(name, receiver, ""))
        .collect();
    let file = authority.file().display().to_string();
    let forge = forge_knowing(&targets, &[("SSL_CERT_FILE", &file)]);
    let test = |name: &str| transcript(&forge.ssh(&format!("notify test {name}")));
    assert!(forge.ssh("notify test well").status.success());
    for (name, words) in [
        ("name", "not valid for name"),
        ("expired", "certificate expired"),
        ("stranger", "UnknownIssuer"),
    ] {
        let said = test(name);
        assert!(
            said.contains("invalid peer certificate") && said.contains(words),
            "{name}: {said}"
        );
    }
    let loopback = HttpReceiver::start();
    for location in [loopback.url("/inside"), receivers[0].url("/elsewhere")] {
        let head = format!("307 Temporary Redirect\r\nLocation: {location}\r\n");
        receivers[0].plan([Answer::Status(head, String::new())]);
        let said = test("well");
        assert!(said.contains("redirect"), "{said}");
    }
    let received = receivers.map(|receiver| receiver.requests().len());
    assert_eq!(received, [3, 0, 0, 0]);
    assert_eq!(loopback.requests().len(), 0);
}

/// A name of this machine is no way around the addresses that need permission, and neither is a redirect to one.
#[test]
fn a_name_that_leads_to_this_machine_needs_permission() {
    let receiver = HttpReceiver::start();
    let mut forge = TestForge::new(QUIRE);
    let url = |host: &str| format!("http://{host}:{}/", receiver.port);
    let target =
        |name: &str, host: &str| format!(":{name} {{:type :webhook :url \"{}\"}}\n", url(host));
    // The last two are other ways to write addresses of this machine.
    let hosts = [
        ("name", "localhost"),
        ("mapped", "[::ffff:127.0.0.1]"),
        ("any", "0.0.0.0"),
    ];
    configure(
        &forge,
        &hosts.map(|(name, host)| target(name, host)).concat(),
    );
    forge.serve();
    for (name, _) in hosts {
        let said = transcript(&forge.ssh(&format!("notify test {name}")));
        assert!(
            said.contains(":notify {:allowed-networks ["),
            "{name}: {said}"
        );
    }
    assert_eq!(receiver.connections(), 0);
}
