//! Each kind of target: what its receiver gets, and what a person sees if it does not.

use quire_testkit::{Answer, HttpReceiver, ReceivedRequest, TestForge, transcript, wait_for};

use super::notifications::{forge_knowing, forge_with, target, wait_until_told};
use super::{GREEN, one};

const TOKEN: &str = "t0ken-of-the-receiver";

/// A forge that tells these receivers, each by another kind of target.
fn forge_telling(receivers: &[HttpReceiver; 4]) -> TestForge {
    let [ntfy, gotify, slack, matrix] = receivers;
    let targets = format!(
        ":phone {{:type :ntfy :url \"{}\" :token {{:env \"TOKEN\"}}}}\n\
         :desk {{:type :gotify :url \"{}\" :token {{:env \"TOKEN\"}}}}\n\
         :team {{:type :slack :url {{:env \"SLACK_URL\"}}}}\n\
         :room {{:type :matrix :url \"{}\" :room \"!id:example.org\" :token {{:env \"TOKEN\"}}}}\n",
        ntfy.url("/alerts"),
        gotify.url("/gotify/"),
        matrix.url(""),
    );
    let slack = slack.url("/services/T01234567/B01234567/s3cretOfSlack");
    forge_knowing(&targets, &[("TOKEN", TOKEN), ("SLACK_URL", &slack)])
}

/// A request without what differs from run to run.
fn shown(forge: &TestForge, request: &ReceivedRequest) -> String {
    let mut text = format!("{} {}\n", request.method, request.path);
    for (name, value) in &request.headers {
        if ["authorization", "content-type", "x-gotify-key"].contains(&name.as_str()) {
            text += &format!("{name}: {value}\n");
        }
    }
    text += &serde_json::to_string_pretty(&request.json()).unwrap();
    for (index, run) in forge.runs_of("app").iter().enumerate() {
        text = text
            .replace(&run.id.to_string(), &format!("RUN{index}"))
            .replace(&run.sha.short().to_string(), "COMMIT");
    }
    let mut parts = text.split(", took ");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |text, part| {
        let end = part.find(['\\', '"', '<']).unwrap();
        format!("{text}, took TIME{}", &part[end..])
    })
}

#[test]
fn each_kind_gets_what_its_documentation_says() {
    let receivers: [HttpReceiver; 4] = std::array::from_fn(|_| HttpReceiver::start());
    let forge = forge_telling(&receivers);
    let tree = forge.tree_with("app", &one("echo 'expected <b> & \"c\"'; exit 3"));
    tree.push(&["main"]);
    forge.wait_for_quiet();
    tree.write(".quire/ci.fnl", GREEN);
    tree.push_new("Größe & <Maß>");
    forge.wait_for_quiet();
    let mut requests = Vec::new();
    for (name, receiver) in ["phone", "desk", "team", "room"].iter().zip(&receivers) {
        wait_until_told(&forge, name);
        let of_target: Vec<String> = receiver
            .wait_for(2)
            .iter()
            .map(|request| shown(&forge, request))
            .collect();
        assert_eq!(of_target.len(), 2, "{name}");
        requests.push(format!("{name}\n{}", of_target.join("\n")));
    }
    insta::assert_snapshot!(requests.join("\n\n"));
}

/// A mirror may be slower than a run, so the service may not know the commit yet.
#[test]
fn the_state_of_a_commit_is_sent_again_while_the_service_does_not_know_it() {
    let service = HttpReceiver::start();
    let forge = forge_knowing(
        &format!(
            ":hub {{:type :github-status :url \"{}\" :repo \"you/app\" :token {{:env \"TOKEN\"}} :runs [\"app\"]}}\n",
            service.url("/api")
        ),
        &[("TOKEN", TOKEN)],
    );
    service.plan([Answer::status(
        "422 Unprocessable Entity",
        "{\"message\": \"No commit found for SHA\"}",
    )]);
    let tree = forge.tree_with("app", &one("exit 3"));
    tree.push(&["main"]);
    forge.wait_for_quiet();
    wait_until_told(&forge, "hub");
    tree.write(".quire/ci.fnl", GREEN);
    tree.push_new("Repair it");
    forge.tree_with("other", GREEN).push(&["main"]);
    forge.wait_for_quiet();
    wait_until_told(&forge, "hub");
    let requests = service.wait_for(3);
    let runs = forge.runs_of("app");
    let seen: Vec<String> = requests
        .iter()
        .map(|request| {
            let body = request.json();
            format!(
                "{} {} {} {}",
                request.method, request.path, body["state"], body["context"]
            )
        })
        .collect();
    let status = |sha: &str, state: &str| {
        format!("POST /api/repos/you/app/statuses/{sha} \"{state}\" \"quire/push\"")
    };
    let failed = runs.iter().find(|run| run.number == 1).unwrap();
    let green = runs.iter().find(|run| run.number == 2).unwrap();
    assert_eq!(
        seen,
        [
            status(failed.sha.as_str(), "failure"),
            status(failed.sha.as_str(), "failure"),
            status(green.sha.as_str(), "success"),
        ]
    );
    assert_eq!(requests[0].json(), requests[1].json());
    forge.ssh_ok("notify test hub");
    let test = &service.wait_for(4)[3];
    assert_eq!((&*test.method, &*test.path), ("GET", "/api/repos/you/app"));
}

/// A receiver that quotes the token or its URL, as many do.
#[test]
fn no_token_is_in_an_error() {
    let receivers: [HttpReceiver; 4] = std::array::from_fn(|_| HttpReceiver::start());
    let forge = forge_telling(&receivers);
    for receiver in &receivers {
        let path = match receiver.port == receivers[2].port {
            true => "/services/T01234567/B01234567/s3cretOfSlack",
            false => "/alerts",
        };
        let words = format!("no: {path} s3cretOfSlack Bearer {TOKEN}");
        receiver.plan(std::iter::repeat_n(
            Answer::status("401 Unauthorized", &words),
            9,
        ));
    }
    forge.tree_with("app", &one("exit 1")).push(&["main"]);
    forge.wait_for_quiet();
    let mut said = Vec::new();
    for name in ["phone", "desk", "team", "room"] {
        wait_for("the problem", || {
            (target(&forge, name)["failures"] != 0).then_some(())
        });
        said.push(target(&forge, name)["problem"].to_string());
        said.push(transcript(&forge.ssh(&format!("notify test {name}"))));
    }
    let status = wait_for("the findings", || {
        let status = transcript(&forge.ssh("status"));
        (status.matches("attempt").count() >= 4).then_some(status)
    });
    said.push(status);
    said.push(forge.log());
    said.push(forge.get("/healthz").body);
    let said = said.join("\n");
    for secret in [TOKEN, "s3cretOfSlack", "T01234567"] {
        assert!(!said.contains(secret), "{secret} is in {said}");
    }
    assert!(
        said.contains("{{ desk.token }}") && said.contains("{{ team.url }}"),
        "{said}"
    );
}

/// Each is a finding with its line, and the target that is right is told.
#[test]
fn what_is_wrong_with_a_target_of_any_kind_is_a_finding() {
    let receiver = HttpReceiver::start();
    let targets = ":topic {:type :ntfy :url \"https://ntfy.example.org/\"}\n\
        :secret-topic {:type :ntfy :url {:env \"HOOK_KEY\"}}\n\
        :tokenless {:type :gotify :url \"https://gotify.example.org\"}\n\
        :query {:type :gotify :token {:env \"HOOK_KEY\"}\n :url \"https://gotify.example.org/?token=s3cret\"}\n\
        :plain {:type :gotify :url \"https://gotify.example.org\"\n :token \"pla1n-token\"}\n\
        :slackless {:type :slack}\n\
        :unset {:type :slack :url {:env \"NO_SUCH_VARIABLE\"}}\n\
        :alias {:type :matrix :url \"https://matrix.example.org\" :token {:env \"HOOK_KEY\"}\n :room \"#ci:example.org\"}\n\
        :well {:type :ntfy :url \"URL\"}\n"
        .replace("URL", &receiver.url("/alerts"));
    let forge = forge_with(&targets);
    forge.tree_with("app", &one("exit 1")).push(&["main"]);
    forge.wait_for_quiet();
    wait_until_told(&forge, "well");
    assert_eq!(receiver.wait_for(1)[0].json()["topic"], "alerts");
    let data = format!("{}/", forge.paths.data().display());
    let findings = wait_for("the findings", || {
        let status = transcript(&forge.ssh("status")).replace(&data, "");
        let lines: Vec<&str> = status
            .lines()
            .filter(|line| line.starts_with("notifications: "))
            .collect();
        (lines.len() >= 8).then(|| lines.join("\n"))
    });
    assert!(
        !findings.contains("s3cret") && !findings.contains("pla1n"),
        "{findings}"
    );
    insta::assert_snapshot!(findings);
}
