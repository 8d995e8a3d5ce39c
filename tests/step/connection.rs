//! A helper that connects: how it finds the appliance, what it accepts as an answer, and what the end of the connection is.

use std::io::Write as _;

use quire_step::{ChannelToken, REPLY_LENGTH, TOKEN_BYTES, ToHelper, answer_helper};

use crate::client::{Appliance, Container, DEBIAN, Event, Helper, LinkKind, Spec, docker};

/// An address at which nothing listens.
const CLOSED: &str = "127.0.0.1:1";

#[test]
fn wrong_variables_end_the_helper_with_a_line() {
    let token = ChannelToken::from_random(&[1; TOKEN_BYTES]).to_hex();
    let ends = |addresses: &str, token: &str| {
        let addresses = format!("QUIRE_CONNECT={addresses}");
        let token = format!("QUIRE_TOKEN={token}");
        let options = ["--network", "none", "--env", &addresses, "--env", &token];
        let (code, stderr) = Container::start(DEBIAN, &options).wait();
        format!("{code:?} {stderr}")
    };
    let lines = [
        ends("", &token),
        ends("appliance:7000", &token),
        ends("127.0.0.1", &token),
        ends("127.0.0.1:1,", &token),
        ends(CLOSED, ""),
        ends(CLOSED, &token[1..]),
    ];
    insta::assert_snapshot!(lines.concat());
}

#[test]
fn a_helper_without_an_answer_ends_after_its_time_limit() {
    let (silent, closing, other) = (Appliance::new(), Appliance::new(), Appliance::new());
    let closed = format!("{CLOSED},[::1]:1");
    let mut containers = [
        silent.container(&closed, DEBIAN, &[]),
        silent.container(&silent.address(), DEBIAN, &[]),
        closing.container(&closing.address(), DEBIAN, &[]),
        // Another token with the same id: the appliance says nothing.
        other.container(&other.address(), DEBIAN, &[]),
    ];
    std::thread::spawn(move || {
        loop {
            drop(closing.accept());
        }
    });
    std::thread::spawn(move || {
        let mut wrong = [9; TOKEN_BYTES];
        wrong[..16].copy_from_slice(&other.token.id());
        let wrong = ChannelToken::from_random(&wrong);
        loop {
            let (_stream, message) = other.accept();
            assert!(answer_helper(&wrong, &message, [8; 32]).is_err());
        }
    });
    let lines = containers.each_mut().map(|container| {
        let (code, stderr) = container.wait();
        let (problem, address) = stderr.split_once("; ").unwrap();
        let (_, reason) = address.rsplit_once(": ").unwrap();
        format!("{code:?} {problem}: {reason}")
    });
    insta::assert_snapshot!(lines.concat());
}

#[test]
fn a_wrong_answer_ends_the_helper_at_once() {
    let appliance = Appliance::new();
    let addresses = format!("{},{CLOSED}", appliance.address());
    let mut container = appliance.container(&addresses, DEBIAN, &[]);
    let (mut stream, _) = appliance.accept();
    stream.write_all(&[0; REPLY_LENGTH]).unwrap();
    let (code, stderr) = container.wait();
    assert_eq!(code, Some(70));
    let expected = "the answer to the handshake does not match the token\n";
    assert!(stderr.ends_with(expected), "{stderr}");
}

#[test]
fn a_helper_tries_all_addresses_each_time_with_a_new_message() {
    let appliance = Appliance::new();
    let addresses = format!("{CLOSED},[::1]:1,{}", appliance.address());
    let container = appliance.container(&addresses, DEBIAN, &[]);
    let (first, first_message) = appliance.accept();
    // An appliance that has too many connections closes this one without an answer.
    drop(first);
    let (stream, message) = appliance.accept();
    assert_ne!(message, first_message);
    let (stream, channel) = appliance.answer(stream, &message);
    let mut helper = Helper::with_connection(container, stream, channel);
    helper.send(0, &ToHelper::Ping { nonce: 3, lease: 0 });
    assert_eq!(helper.event(), (0, Event::Pong(3)));
}

#[test]
fn neither_commands_nor_the_environment_have_the_token() {
    let mut helper = Helper::over(LinkKind::Connection, DEBIAN, &["--cap-add", "SYS_PTRACE"]);
    assert_eq!(helper.tree(0, &[]).error, None);
    // With this capability root can look into the helper.
    let script = "env; ls /proc/self/fd; cat /proc/net/tcp >/dev/null; tr '\\0' '\\n' </proc/1/environ; echo end";
    let outcome = helper.run(&Spec::shell(script));
    let stdout = outcome.stdout();
    assert!(stdout.contains("QUIRE_CONNECT=127.0.0.1:"), "{outcome:?}");
    assert!(stdout.contains("QUIRE_TOKEN=\n\n"), "{stdout}");
    assert!(stdout.contains("\n0\n1\n2\n3\n"), "{stdout}");
    let token = Appliance::new().token.to_hex();
    assert!(!stdout.contains(&token[..32]), "{stdout}");
}

#[test]
fn bytes_that_are_no_records_end_the_helper_without_a_word() {
    for bytes in [
        &[0, 3, 1, 2, 3][..],
        &[
            0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
        ],
    ] {
        let mut helper = Helper::debian_over(LinkKind::Connection, &[]);
        let id = helper.begin(&Spec::shell("echo ready; sleep 1000"));
        helper.wait_for(id, "ready");
        helper.write_to_connection(bytes);
        assert_eq!(helper.next_event(), None);
        assert_eq!(helper.wait(), Some(0));
    }
}

#[test]
fn a_reset_or_closed_connection_ends_the_helper_despite_a_lease() {
    for (lease, is_reset) in [(0, true), (3600, true), (3600, false)] {
        let mut helper = Helper::debian_over(LinkKind::Connection, &[]);
        let script = "setsid sh -c 'trap \"\" HUP TERM; while echo alive; do sleep 0.05; done'";
        let id = helper.begin(&Spec::shell(script));
        helper.wait_for(id, "alive");
        helper.send(0, &ToHelper::Ping { nonce: 1, lease });
        while helper.event() != (0, Event::Pong(1)) {}
        if is_reset {
            helper.reset_connection();
        } else {
            helper.close_input();
        }
        assert_eq!(helper.wait(), Some(0));
        let filter = format!("name={}", helper.name);
        assert_eq!(docker(&["ps", "--all", "--quiet", "--filter", &filter]), "");
    }
}

#[test]
fn a_lease_that_expires_ends_a_connected_helper() {
    let mut helper = Helper::debian_over(LinkKind::Connection, &[]);
    let id = helper.begin(&Spec::shell("while echo alive; do sleep 0.05; done"));
    helper.wait_for(id, "alive");
    helper.send(0, &ToHelper::Ping { nonce: 1, lease: 1 });
    while helper.next_event().is_some() {}
    assert_eq!(helper.wait(), Some(0));
}

#[test]
fn commands_cannot_gain_privileges() {
    let mut helper = Helper::debian(&[]);
    for uid in [0, 1000] {
        let spec = Spec::shell("grep NoNewPrivs /proc/self/status").uid(uid);
        assert_eq!(helper.run(&spec).stdout(), "NoNewPrivs:\t1\n");
    }
}
