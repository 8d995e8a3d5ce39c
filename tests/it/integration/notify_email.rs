//! Mail of the ends of runs, submitted to a real mail server.

use nix::sys::signal::Signal;
use quire_testkit::{CertificateAuthority, MailServer, MailTls, TestForge, transcript, wait_for};
use serde_json::Value;

use super::notifications::{configure, forge_knowing, target, wait_until_told};
use super::{GREEN, one};

const PASSWORD: &str = "p4ssword-of-quire";

/// A target `mail` at a server, with further keys.
fn mail_target(scheme: &str, port: u16, keys: &str) -> String {
    format!(
        ":mail {{:type :email :to \"you@example.com\" :from \"quire <ci@example.org>\" :smtp \"{scheme}://127.0.0.1:{port}\" {keys}}}\n"
    )
}

/// A forge with one target that trusts this authority.
fn forge_mailing(target: &str, authority: &CertificateAuthority) -> TestForge {
    let file = authority.file().display().to_string();
    forge_knowing(target, &[("SSL_CERT_FILE", &file), ("PASSWORD", PASSWORD)])
}

/// Runs a pipeline that fails.
fn fail(forge: &TestForge) {
    forge.tree_with("app", &one("exit 1")).push(&["main"]);
    forge.wait_for_quiet();
}

/// Makes this the one target of the configuration in force, and returns what `notify test` prints of it, without the port.
fn tested_with(forge: &TestForge, name: &str, target: &str, port: u16) -> String {
    configure(forge, &target.replacen(":mail ", &format!(":{name} "), 1));
    forge.signal(Signal::SIGHUP);
    wait_for("the target", || {
        forge.ssh_ok("notify list").contains(name).then_some(())
    });
    let output = transcript(&forge.ssh(&format!("notify test {name}")));
    let data = format!("{}/", forge.paths.data().display());
    output
        .replace(&data, "")
        .replace(&format!(":{port}"), ":PORT")
}

fn wait_for_failures(forge: &TestForge, count: u32) -> String {
    wait_for("the failure", || {
        let target = target(forge, "mail");
        let problem = target["problem"].as_str().unwrap_or_default().to_owned();
        (target["failures"] == count).then_some(problem)
    })
}

/// A mail without what differs from run to run.
fn shown(forge: &TestForge, mail: &Value) -> String {
    let mut text = mail["text"].as_str().unwrap().replace("\r\n", "\n");
    for (index, run) in forge.runs_of("app").iter().enumerate() {
        text = text
            .replace(&run.id.to_string(), &format!("RUN{index}"))
            .replace(&run.sha.short().to_string(), "COMMIT");
    }
    let lines = text.lines().map(|line| match line {
        line if line.starts_with("Date: ") => "Date: DATE",
        line if line.contains(", took ") => line.split(", took ").next().unwrap(),
        line => line,
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    format!(
        "from {} to {} as {}\n{text}",
        mail["from"], mail["to"], mail["user"]
    )
}

#[test]
fn a_failure_and_its_repair_are_one_thread() {
    let authority = CertificateAuthority::new();
    let certificate = authority.certificate("127.0.0.1");
    let server = MailServer::start_with_login(MailTls::StartTls, &certificate, "quire", PASSWORD);
    let keys = ":user \"quire\" :password {:env \"PASSWORD\"}";
    let forge = forge_mailing(&mail_target("smtp", server.port, keys), &authority);
    let tree = forge.tree_with("app", &one("echo erwartet: größer; exit 3"));
    tree.push(&["main"]);
    forge.wait_for_quiet();
    tree.write(".quire/ci.fnl", GREEN);
    tree.push_new(
        "Größe prüfen: 10 €, sonst geht der Betreff über mehr als eine Zeile der Nachricht",
    );
    forge.wait_for_quiet();
    wait_until_told(&forge, "mail");
    let mails = server.wait_for(2);
    assert!(
        mails.len() == 2 && mails.iter().all(|mail| mail["tls"] == true),
        "{mails:?}"
    );
    let [failed, fixed] = [&mails[0], &mails[1]].map(|mail| &mail["headers"]);
    assert_eq!(failed["subject"], "app#1 failed: first");
    assert_eq!(
        fixed["subject"],
        "app#2 is complete again: Größe prüfen: 10 €, sonst geht der Betreff über mehr als eine Zeile der Nachricht"
    );
    assert!(
        mails[0]["body"]
            .as_str()
            .unwrap()
            .contains("  erwartet: größer\r\n"),
        "{mails:?}"
    );
    assert_eq!(failed["references"], fixed["references"]);
    assert_ne!(failed["message-id"], fixed["message-id"]);
    let mails: Vec<String> = mails.iter().map(|mail| shown(&forge, mail)).collect();
    insta::assert_snapshot!(mails.join("\n\n"));
}

/// Only a server whose certificate is valid for its name gets the password and the mail.
#[test]
fn the_certificate_of_a_mail_server_is_judged() {
    let authority = CertificateAuthority::new();
    let stranger = CertificateAuthority::new();
    let certificates = [
        authority.certificate("127.0.0.1"),
        authority.certificate("mail.example.org"),
        authority.expired_certificate("127.0.0.1"),
        stranger.certificate("127.0.0.1"),
    ];
    let forge = forge_mailing("", &authority);
    let mut said = Vec::new();
    for (tls, scheme) in [(MailTls::Implicit, "smtps"), (MailTls::StartTls, "smtp")] {
        for (number, certificate) in certificates.iter().enumerate() {
            let server = MailServer::start(tls, Some(certificate));
            let target = mail_target(scheme, server.port, "");
            let name = format!("{scheme}-{number}");
            said.push(tested_with(&forge, &name, &target, server.port));
            let accepted = usize::from(number == 0);
            let mails = server.wait_for(accepted);
            assert_eq!(mails.len(), accepted);
            assert!(mails.iter().all(|mail| mail["tls"] == true));
        }
    }
    // The error of an expired certificate has the time.
    let said = said.join("\n");
    let said: Vec<&str> = said
        .lines()
        .map(|line| line.split(": verification time").next().unwrap())
        .collect();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn nothing_is_sent_without_tls_unless_the_owner_says_so() {
    let authority = CertificateAuthority::new();
    let server = MailServer::start(MailTls::Never, None);
    let forge = forge_mailing(&mail_target("smtp", server.port, ""), &authority);
    fail(&forge);
    let problem = wait_for_failures(&forge, 1);
    insta::assert_snapshot!(problem.replace(&server.port.to_string(), "PORT"), @"smtp://127.0.0.1:PORT does not offer STARTTLS, so nothing was sent; use smtps:// if it has TLS from the beginning, or `:starttls false` if the network between is yours");
    assert!(server.mails().is_empty());
    configure(&forge, &mail_target("smtp", server.port, ":starttls false"));
    forge.signal(Signal::SIGHUP);
    assert_eq!(server.wait_for(1)[0]["tls"], false);
    wait_until_told(&forge, "mail");
}

/// The mail is not what is refused, so it is sent once the password is right.
#[test]
fn a_login_that_is_refused_is_tried_again() {
    let authority = CertificateAuthority::new();
    let certificate = authority.certificate("127.0.0.1");
    let server = MailServer::start_with_login(MailTls::Implicit, &certificate, "quire", PASSWORD);
    let keys = |name: &str| format!(":user \"quire\" :password {{:env \"{name}\"}}");
    let file = authority.file().display().to_string();
    let variables = [
        ("SSL_CERT_FILE", file.as_str()),
        ("PASSWORD", PASSWORD),
        ("WRONG", "wr0ng-password"),
    ];
    let wrong = mail_target("smtps", server.port, &keys("WRONG"));
    let forge = forge_knowing(&wrong, &variables);
    fail(&forge);
    let problem = wait_for_failures(&forge, 1);
    insta::assert_snapshot!(problem.replace(&server.port.to_string(), "PORT"), @"smtps://127.0.0.1:PORT answered 535 5.7.8 Authentication credentials invalid");
    assert!(!forge.log().contains("wr0ng"), "{}", forge.log());
    configure(
        &forge,
        &mail_target("smtps", server.port, &keys("PASSWORD")),
    );
    forge.signal(Signal::SIGHUP);
    assert_eq!(server.wait_for(1)[0]["user"], "quire");
    wait_until_told(&forge, "mail");
    assert_eq!(target(&forge, "mail")["given_up"], 0);
}

#[test]
fn mail_is_sent_again_after_a_transient_failure() {
    let authority = CertificateAuthority::new();
    let certificate = authority.certificate("127.0.0.1");
    let server = MailServer::start(MailTls::Implicit, Some(&certificate));
    server.plan("RCPT", "450 4.2.1 Greylisted");
    server.plan("DATA", "451 4.3.0 Out of order");
    server.plan("DATA", "close");
    let forge = forge_mailing(&mail_target("smtps", server.port, ""), &authority);
    fail(&forge);
    for (attempt, words) in [
        (1, "answered 450 4.2.1 Greylisted"),
        (2, "answered 451 4.3.0 Out of order"),
        (3, "the connection to smtps://127.0.0.1:"),
    ] {
        let problem = wait_for_failures(&forge, attempt);
        assert!(problem.contains(words), "{problem}");
        // Allows the next attempt at once.
        forge.signal(Signal::SIGHUP);
    }
    wait_until_told(&forge, "mail");
    let mails = server.mails();
    assert_eq!(mails.len(), 3);
    let id = &mails[0]["headers"]["message-id"];
    assert!(
        mails
            .iter()
            .all(|mail| mail["headers"]["message-id"] == *id),
        "{mails:?}"
    );
    let target = target(&forge, "mail");
    assert!(
        target["failures"] == 0 && target["given_up"] == 0,
        "{target}"
    );
}

/// What a server refuses for good is given up, its words are shown, and the next mail is sent.
#[test]
fn mail_that_is_refused_is_given_up_at_once() {
    let authority = CertificateAuthority::new();
    let certificate = authority.certificate("127.0.0.1");
    let server = MailServer::start(MailTls::Implicit, Some(&certificate));
    server.plan("RCPT", "550 5.1.1 No such user here");
    let forge = forge_mailing(&mail_target("smtps", server.port, ":on :every"), &authority);
    let tree = forge.tree_with("app", GREEN);
    tree.push(&["main"]);
    forge.wait_for_quiet();
    wait_until_told(&forge, "mail");
    let refused = target(&forge, "mail");
    assert!(
        refused["given_up"] == 1 && refused["failures"] == 1,
        "{refused}"
    );
    let said = "refused the message: 550 5.1.1 No such user here";
    assert!(
        refused["problem"].as_str().unwrap().ends_with(said),
        "{refused}"
    );
    let listed = forge.ssh_ok("notify list");
    assert!(
        listed.contains("failing  0        1") && listed.contains(said),
        "{listed}"
    );
    wait_for("the finding", || {
        let status = transcript(&forge.ssh("status"));
        status
            .contains("the last message was given up: smtps://")
            .then_some(())
    });
    tree.push(&["main:other"]);
    server.wait_for(1);
    wait_until_told(&forge, "mail");
    assert_eq!(target(&forge, "mail")["problem"], Value::Null);
}

/// The address rule of all notifications holds for mail.
#[test]
fn mail_goes_to_no_address_that_is_not_permitted() {
    let server = MailServer::start(MailTls::Never, None);
    let authority = CertificateAuthority::new();
    let mut forge = forge_mailing("", &authority);
    forge.stop();
    forge
        .set("QUIRE_NOTIFY_ALLOWED_NETWORKS", "10.0.0.0/8")
        .serve();
    let mut said = Vec::new();
    for (number, host) in ["127.0.0.1", "localhost", "[::1]"].iter().enumerate() {
        let target = mail_target("smtp", server.port, ":starttls false");
        let target = target.replace("127.0.0.1", host);
        said.push(tested_with(
            &forge,
            &format!("mail-{number}"),
            &target,
            server.port,
        ));
    }
    let said = said.join("\n");
    assert_eq!(
        said.matches("of this machine, of its link").count(),
        3,
        "{said}"
    );
    assert!(server.mails().is_empty());
}
