//! Findings about health: what targets are told of them, and when.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use quire_testkit::{
    Answer, CertificateAuthority, HttpReceiver, MailServer, MailTls, ReceivedRequest, TestForge,
    wait_for,
};
use serde_json::Value;

use super::notifications::configure;
use crate::QUIRE;

/// A forge whose targets are told of what is wrong for a second, and the file of its clock.
fn forge_with(targets: &str, variables: &[(&str, &str)]) -> (TestForge, PathBuf) {
    let mut forge = TestForge::new(QUIRE);
    configure(&forge, targets);
    let clock = forge.file("clock");
    fs::write(&clock, "0").unwrap();
    forge
        .set("QUIRE_NOTIFY_ALLOWED_NETWORKS", "127.0.0.1")
        .set("QUIRE_NOTIFY_HEALTH_AFTER", "1s")
        .set("QUIRE_FAULT_CLOCK", clock.to_str().unwrap())
        .set("TOKEN", "t0ken-of-the-receiver");
    for (name, value) in variables {
        forge.set(name, value);
    }
    forge.serve();
    (forge, clock)
}

/// What makes the component `event-socket` degraded while it is there.
fn damaged_event(forge: &TestForge) -> PathBuf {
    let folder = forge.paths.data().join("spool/damaged");
    fs::create_dir_all(&folder).unwrap();
    folder.join("event")
}

/// The findings about a part that a webhook was told, oldest first.
fn told(receiver: &HttpReceiver, part: &str) -> Vec<Value> {
    let documents = receiver.requests().into_iter();
    let documents = documents.map(|request: ReceivedRequest| request.json());
    documents
        .filter(|document| document["finding"]["part"] == part)
        .collect()
}

fn wait_for_phase(receiver: &HttpReceiver, part: &str, phase: &str) -> Value {
    wait_for("the finding to be told", || {
        told(receiver, part)
            .into_iter()
            .find(|document| document["finding"]["phase"] == phase)
    })
}

fn phases(receiver: &HttpReceiver, part: &str) -> Vec<String> {
    let phase = |document: &Value| document["finding"]["phase"].as_str().unwrap().to_owned();
    told(receiver, part).iter().map(phase).collect()
}

/// Once when it begins, over a restart, daily, and once when it is over; to targets of each kind that are told of all runs.
#[test]
fn a_finding_is_told_once_until_it_is_over() {
    let receivers: [HttpReceiver; 7] = std::array::from_fn(|_| HttpReceiver::start());
    let [all, ntfy, gotify, slack, matrix, some, only] = &receivers;
    let mails = MailServer::start(MailTls::Never, None);
    let targets = format!(
        ":all {{:type :webhook :url \"{}\"}}\n\
         :phone {{:type :ntfy :url \"{}\"}}\n\
         :desk {{:type :gotify :url \"{}\" :token {{:env \"TOKEN\"}}}}\n\
         :team {{:type :slack :url \"{}\"}}\n\
         :room {{:type :matrix :url \"{}\" :room \"!id:example.org\" :token {{:env \"TOKEN\"}}}}\n\
         :mail {{:type :email :to \"you@example.com\" :from \"ci@example.org\" :smtp \"smtp://127.0.0.1:{}\" :starttls false}}\n\
         :some {{:type :webhook :url \"{}\" :runs [\"app\"]}}\n\
         :only {{:type :webhook :url \"{}\" :runs [\"app\"] :health true}}\n",
        all.url("/"),
        ntfy.url("/alerts"),
        gotify.url("/"),
        slack.url("/"),
        matrix.url(""),
        mails.port,
        some.url("/"),
        only.url("/"),
    );
    let (mut forge, clock) = forge_with(&targets, &[("QUIRE_HTTP_URL", "http://git.example.org")]);
    let damaged = damaged_event(&forge);
    fs::write(&damaged, "?").unwrap();
    let began = wait_for_phase(all, "event-socket", "began");
    assert_eq!(began["type"], "health");
    assert_eq!(began["title"], "Health: event-socket: degraded");
    assert_eq!(began["url"], "http://git.example.org/-/health");
    let text = began["finding"]["text"].as_str().unwrap();
    assert!(
        text.starts_with("1 damaged events are in spool/damaged"),
        "{text}"
    );
    forge.stop();
    forge.serve();
    fs::write(&clock, (25 * 3600 * 1000).to_string()).unwrap();
    let lasts = wait_for_phase(all, "event-socket", "lasts");
    assert_eq!(lasts["title"], "Health: event-socket: still degraded");
    fs::remove_file(&damaged).unwrap();
    wait_for_phase(all, "event-socket", "over");
    wait_for_phase(only, "event-socket", "over");
    let expected = ["began", "lasts", "over"];
    assert_eq!(phases(all, "event-socket"), expected);
    assert_eq!(phases(only, "event-socket"), expected);
    assert_eq!(some.requests().len(), 0);
    let titles = [
        "Health: event-socket: degraded",
        "Health: event-socket: still degraded",
        "Health: event-socket: ok again",
    ];
    for receiver in [ntfy, gotify, slack, matrix] {
        let bodies: Vec<String> = receiver
            .wait_for(3)
            .into_iter()
            .map(|one| one.body)
            .collect();
        for title in titles {
            assert!(bodies.iter().any(|body| body.contains(title)), "{bodies:?}");
        }
    }
    let mails = mails.wait_for(3);
    let thread = &mails[0]["headers"]["references"];
    let subjects = titles.map(|title| {
        let mut of_title = mails
            .iter()
            .filter(|mail| mail["headers"]["subject"] == title);
        of_title.all(|mail| mail["headers"]["references"] == *thread)
    });
    assert_eq!(subjects, [true; 3], "{mails:?}");
}

/// The others are, and what waits for it is delivered with its own id.
#[test]
fn a_target_is_not_told_that_it_fails_itself() {
    let (well, failing) = (HttpReceiver::start(), HttpReceiver::start());
    failing.plan(std::iter::repeat_n(
        Answer::status("503 Service Unavailable", ""),
        3,
    ));
    let targets = format!(
        ":well {{:type :webhook :url \"{}\"}}\n:failing {{:type :webhook :url \"{}\"}}\n",
        well.url("/"),
        failing.url("/")
    );
    let (forge, _) = forge_with(&targets, &[]);
    let damaged = damaged_event(&forge);
    fs::write(&damaged, "?").unwrap();
    let told = wait_for_phase(&well, "notifications", "began");
    assert_eq!(told["finding"]["subject"], "failing");
    let text = told["finding"]["text"].as_str().unwrap();
    assert!(
        text.contains("config.fnl:") && text.contains("503"),
        "{text}"
    );
    wait_for_phase(&well, "notifications", "over");
    fs::remove_file(&damaged).unwrap();
    wait_for_phase(&failing, "event-socket", "over");
    assert_eq!(phases(&failing, "notifications"), [""; 0]);
    let ids: Vec<String> = failing
        .requests()
        .iter()
        .map(|request| request.header("webhook-id").to_owned())
        .collect();
    // Four attempts with the first message, and one with the second.
    assert!(
        ids.len() == 5 && ids[..4].iter().all(|id| *id == ids[0]),
        "{ids:?}"
    );
}

/// What clients of the published address see, or cannot see from here.
#[test]
fn the_certificate_of_the_published_address_is_a_finding() {
    let (authority, stranger) = (CertificateAuthority::new(), CertificateAuthority::new());
    let [well, expired, named, unknown] = [
        authority.certificate("127.0.0.1"),
        authority.expired_certificate("127.0.0.1"),
        authority.certificate("git.example.org"),
        stranger.certificate("127.0.0.1"),
    ]
    .map(|certificate| HttpReceiver::start_tls(&certificate));
    let (told, plain) = (HttpReceiver::start(), HttpReceiver::start());
    let file = authority.file().display().to_string();
    let targets = format!(":all {{:type :webhook :url \"{}\"}}\n", told.url("/"));
    let (forge, _) = forge_with(&targets, &[("SSL_CERT_FILE", &file)]);
    let certificate = |url: &str, words: &str| {
        let text = format!("{{:http {{:url \"{url}\"}} :notify {{:targets {{{targets}}}}}}}");
        fs::write(forge.paths.config_fennel(), text).unwrap();
        forge.signal(Signal::SIGHUP);
        wait_for("the certificate to be looked at", || {
            let part = forge.health()["parts"]["certificate"].clone();
            let is_said = part["message"].as_str()?.contains(words);
            is_said.then(|| part["status"].as_str().unwrap().to_owned())
        })
    };
    let at = |receiver: &HttpReceiver| receiver.url("").trim_end_matches('/').to_owned();
    assert_eq!(
        certificate(&at(&expired), "certificate expired"),
        "degraded"
    );
    let began = wait_for_phase(&told, "certificate", "began");
    let text = began["finding"]["text"].as_str().unwrap();
    assert!(
        text.starts_with("clients do not accept the certificate of https://127.0.0.1:"),
        "{text}"
    );
    assert_eq!(certificate(&at(&named), "not valid for name"), "degraded");
    assert_eq!(certificate(&at(&well), "ends in"), "ok");
    wait_for_phase(&told, "certificate", "over");
    assert_eq!(phases(&told, "certificate"), ["began", "over"]);
    assert_eq!(
        certificate(&at(&unknown), "its issuer is not known here"),
        "ok"
    );
    let without_tls = at(&plain).replace("http://", "https://");
    assert_eq!(
        certificate(&without_tls, "cannot be looked at from here"),
        "ok"
    );
    assert_eq!(certificate("http://git.example.org", "not used"), "ok");
    // Nothing was asked of any of them.
    for receiver in [&well, &expired, &named, &unknown] {
        assert_eq!(receiver.requests().len(), 0);
    }
}
