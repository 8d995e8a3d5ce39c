//! Incoming webhooks: from a request to the run that it starts.

use std::fs;

use quire_testkit::{Response, TestForge, transcript};
use quire_types::run::RunState;
use serde_json::json;

use crate::QUIRE;

const SECRET: &str = "It's a Secret to Everybody";
const BEARER: (&str, &str) = ("Authorization", "Bearer It's a Secret to Everybody");
const JSON: (&str, &str) = ("Content-Type", "application/json");

const PIPELINE: &str = r#"
(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: sh}] (sh "echo pushed")))
(ci.job :deploy [:quire/hook/deploy]
  (fn [{: sh : log : jobs}]
    (let [hook (jobs :quire/hook/deploy)]
      (log (.. hook.name " " hook.branch " " (or hook.delivery "-") " " (or hook.content-type "-")))
      (if (= (type hook.body) :table)
          (log (.. hook.body.action " " (. hook.body.items 2) " " (type hook.body.nothing)))
          (log (tostring hook.body)))
      (sh "echo deployed"))))
"#;

/// A forge with a repository, and webhooks of this configuration.
fn forge_with(hooks: &str) -> TestForge {
    let mut forge = TestForge::new(QUIRE);
    let text = format!("{{:hooks {{{hooks}}}}}");
    fs::write(forge.paths.config_fennel(), text).unwrap();
    forge.set("HOOK_SECRET", SECRET).serve();
    forge.tree_with("app", PIPELINE).push(&["main"]);
    forge.wait_for_quiet();
    forge
}

const DEPLOY: &str = ":deploy {:repo \"app\" :secret {:env \"HOOK_SECRET\"}}";

fn deliver(forge: &TestForge, headers: &[(&str, &str)], body: &str) -> Response {
    forge.post("/-/hook/deploy", headers, body)
}

#[test]
fn a_request_with_the_secret_starts_a_run() {
    let forge = forge_with(DEPLOY);
    let body = r#"{"action":"published","items":[1,"two"],"nothing":null}"#;
    let headers = [BEARER, JSON, ("X-GitHub-Delivery", "d-1")];
    let accepted = deliver(&forge, &headers, body);
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    let answer = accepted.json();
    assert_eq!(
        (&answer["run"], &answer["repeated"]),
        (&json!("app#2"), &json!(false))
    );
    assert!(
        answer["url"]
            .as_str()
            .unwrap()
            .ends_with(&format!("/runs/{}", answer["id"].as_str().unwrap()))
    );
    forge.wait_for_quiet();
    let run = forge
        .runs_of("app")
        .into_iter()
        .find(|run| run.number == 2)
        .unwrap();
    assert_eq!(
        (run.state, run.source.as_str(), run.pusher.as_deref()),
        (
            RunState::Complete,
            "quire/hook/deploy",
            Some("webhook deploy")
        )
    );
    let log = forge.ssh_ok("run logs app#2");
    assert!(log.contains("deploy main d-1 application/json"), "{log}");
    assert!(
        log.contains("published two nil") && log.contains("deployed"),
        "{log}"
    );
    // The same delivery again, whatever its body is.
    let again = deliver(&forge, &headers, "{}");
    assert_eq!(again.status, 202);
    assert_eq!(
        (&again.json()["id"], &again.json()["repeated"]),
        (&answer["id"], &json!(true))
    );
    // Without an id each request is one of its own.
    let text = deliver(&forge, &[BEARER, ("Content-Type", "text/plain")], "hello");
    assert_eq!(text.json()["run"], "app#3");
    forge.wait_for_quiet();
    assert!(forge.ssh_ok("run logs app#3").contains("hello"));
    assert_eq!(forge.runs_of("app").len(), 3);
    let metrics = forge.get("/metrics").body;
    assert!(
        metrics.contains("quire_hooks_accepted_total 3"),
        "{metrics}"
    );
    // Restarted, the delivery is still known, and a retry has the same body.
    forge.ssh_ok("run retry app#2");
    forge.wait_for_quiet();
    assert!(forge.ssh_ok("run logs app#4").contains("published two nil"));
}

#[test]
fn a_signature_of_the_body_is_enough() {
    let forge = forge_with(DEPLOY);
    // The example of GitHub's documentation.
    let body = "Hello, World!";
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let signed = deliver(&forge, &[("X-Hub-Signature-256", signature)], body);
    assert_eq!(signed.status, 202, "{}", signed.body);
    let other = deliver(
        &forge,
        &[("X-Hub-Signature-256", signature)],
        "Hello, World?",
    );
    assert_eq!(other.status, 401, "{}", other.body);
}

#[test]
fn a_wrong_secret_and_an_unknown_name_have_the_same_answer() {
    let forge = forge_with(&format!(
        "{DEPLOY} :unset {{:repo \"app\" :secret {{:env \"NO_SUCH_VARIABLE\"}}}} :wrong {{:repo 5}}"
    ));
    let answers: Vec<_> = [
        ("/-/hook/deploy", None),
        ("/-/hook/deploy", Some(("Authorization", "Bearer wrong"))),
        ("/-/hook/deploy", Some(("Authorization", "Bearer "))),
        ("/-/hook/none", None),
        ("/-/hook/none", Some(BEARER)),
        ("/-/hook/unset", Some(BEARER)),
        ("/-/hook/wrong", Some(BEARER)),
        ("/-/hook/%2e%2e", Some(BEARER)),
    ]
    .into_iter()
    .map(|(path, header)| {
        let mut answer = forge.post(path, header.as_slice(), "{}");
        answer.headers.retain(|(name, _)| name != "date");
        (answer.status, answer.headers, answer.body)
    })
    .collect();
    assert_eq!(answers[0].0, 401, "{answers:?}");
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    assert_eq!(forge.runs_of("app").len(), 1);
    let status = transcript(&forge.ssh("status"));
    assert!(
        status.contains("webhook `unset`: the environment variable NO_SUCH_VARIABLE"),
        "{status}"
    );
    assert!(
        status.contains("webhook `wrong`: `repo` must be the name of a repository"),
        "{status}"
    );
}

#[test]
fn what_cannot_be_run_says_why() {
    let forge = forge_with(&format!(
        "{DEPLOY} :none {{:repo \"none\" :secret {{:env \"HOOK_SECRET\"}}}}\n\
         :side {{:repo \"app\" :ref \"side\" :secret {{:env \"HOOK_SECRET\"}}}}\n\
         :rare {{:repo \"app\" :per-minute 1 :secret {{:env \"HOOK_SECRET\"}}}}"
    ));
    let large = "x".repeat(70_000);
    let deep = "[".repeat(100) + &"]".repeat(100);
    let long_id = "x".repeat(300);
    let lines: Vec<String> = [
        forge.post("/-/hook/deploy", &[BEARER], &large),
        forge.post("/-/hook/deploy", &[BEARER, JSON], "{"),
        forge.post("/-/hook/deploy", &[BEARER, JSON], &deep),
        forge.post(
            "/-/hook/deploy",
            &[BEARER, ("Idempotency-Key", &long_id)],
            "",
        ),
        forge.post("/-/hook/none", &[BEARER], ""),
        forge.post("/-/hook/side", &[BEARER], ""),
        forge.post("/-/hook/rare", &[BEARER, ("Idempotency-Key", "a")], ""),
        forge.post("/-/hook/rare", &[BEARER, ("Idempotency-Key", "b")], ""),
        // A repetition does not count.
        forge.post("/-/hook/rare", &[BEARER, ("Idempotency-Key", "a")], ""),
    ]
    .iter()
    .map(|answer| {
        let document = answer.json();
        let said = document["error"].as_str().unwrap_or("accepted");
        let later = if answer.header("retry-after").is_some() {
            ", later"
        } else {
            ""
        };
        format!("{}{later}: {said}", answer.status)
    })
    .collect();
    insta::assert_snapshot!(lines.join("\n"));
}
