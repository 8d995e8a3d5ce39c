//! Attempts to log in by other means than a key that is allowed, and connections that never log in.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use quire_testkit::{SshForge, TestForge, stderr, stdout, transcript};

use crate::QUIRE;

/// More than `PerSourceMaxStartups` allows one address.
const HALF_OPEN: usize = 100;
/// `LoginGraceTime` and what a busy machine adds.
const MAX_HELD: Duration = Duration::from_secs(30);

#[track_caller]
fn is_refused(forge: &SshForge, key: &str, options: &[&str]) {
    let output = forge
        .ssh_as(key, options, &["repo", "list"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(255), "{}", transcript(&output));
    assert!(
        stderr(&output).contains("Permission denied (publickey)"),
        "{options:?}: {}",
        transcript(&output)
    );
    assert_eq!(stdout(&output), "");
}

#[test]
fn no_other_user_no_password_and_no_key_that_has_gone_or_ended() {
    let forge = TestForge::new(QUIRE).sshd();
    // The key would be allowed, but the user is another one.
    for user in ["root", "nobody", "daemon", "quire", "admin", "no-such-user"] {
        is_refused(&forge, "owner", &["-l", user]);
    }
    for methods in [
        "password",
        "keyboard-interactive",
        "hostbased",
        "gssapi-with-mic",
        "none",
    ] {
        let methods = format!("PreferredAuthentications={methods}");
        let options = ["-o", &methods, "-o", "PubkeyAuthentication=no"];
        is_refused(&forge, "owner", &options);
    }
    // What sshd reads, without the key, and with its line in a form that does not hold any more.
    let merged = forge.paths.merged_authorized_keys();
    let all = fs::read_to_string(&merged).unwrap();
    let key = fs::read_to_string(forge.file("client/second.pub")).unwrap();
    let body = key.split(' ').nth(1).unwrap();
    let others: Vec<&str> = all.lines().filter(|line| !line.contains(body)).collect();
    assert!(
        forge
            .ssh_as("second", &[], &["repo", "list"])
            .status()
            .unwrap()
            .success(),
        "before"
    );
    for line in [
        String::new(),
        format!("expiry-time=\"20200101Z\" {key}"),
        format!("from=\"192.0.2.0/24\" {key}"),
        key.replacen("AAAA", "AAAB", 1),
    ] {
        fs::write(&merged, format!("{}\n{line}\n", others.join("\n"))).unwrap();
        is_refused(&forge, "second", &[]);
        assert!(forge.ssh(&["repo", "list"]).status.success(), "{line}");
    }
}

#[test]
fn a_hundred_half_open_connections_keep_nobody_else_out() {
    let forge = TestForge::new(QUIRE).sshd();
    let address = SocketAddr::from(([127, 0, 0, 1], forge.port));
    let half_open: Vec<_> = (0..HALF_OPEN)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    // Several logins in a row, from another address: a connection that is dropped at random would be seen.
    let log_in = || {
        let options = ["-b", "127.0.0.9"];
        forge
            .ssh_as("owner", &options, &["repo", "list"])
            .output()
            .unwrap()
    };
    for _ in 0..8 {
        let listed = log_in();
        assert!(listed.status.success(), "{}", transcript(&listed));
    }
    // None of them stays for much longer than a client may take to log in.
    for mut stream in half_open {
        stream.set_read_timeout(Some(MAX_HELD)).unwrap();
        let mut rest = Vec::new();
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "it is held");
        }
    }
    assert!(log_in().status.success());
}
