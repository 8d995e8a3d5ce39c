//! What happens to the keys of the volume, and to connections that are older than a change of their key.

use std::fs;
use std::io::Write;
use std::process::{Output, Stdio};

use quire_testkit::{SshForge, TestForge, generate_key, own, stderr, stdout, transcript};

use crate::QUIRE;

/// A forge whose volume has these lines of keys.
fn with_stored_keys(lines: &str) -> SshForge {
    let forge = TestForge::new(QUIRE).sshd();
    fs::write(forge.paths.authorized_keys(), lines).unwrap();
    own(&forge.paths.authorized_keys());
    forge
}

fn stored(forge: &SshForge) -> String {
    fs::read_to_string(forge.paths.authorized_keys()).unwrap()
}

/// `key add` with this on its standard input.
fn add(forge: &SshForge, options: &[&str], input: &[u8]) -> Output {
    let mut command = forge.ssh_as("owner", &[], &[&["key", "add"], options].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[test]
fn what_is_no_key_is_refused_and_changes_nothing() {
    let lines = "# mine\n\nnonsense stays";
    let forge = with_stored_keys(lines);
    let public = generate_key(&forge.file("client/ci"), "ci");
    let private = fs::read(forge.file("client/ci")).unwrap();
    let owner = fs::read(forge.file("client/owner.pub")).unwrap();
    let typo = public.replacen("AAAA", "AAA", 1).into_bytes();
    let twice = [public.as_bytes(), &owner].concat();
    let huge = vec![b'x'; 10 << 20];
    let public = public.into_bytes();
    let mut replies = String::new();
    for (options, input) in [
        (&[][..], &[][..]),
        (&[], &typo),
        (&[], &twice),
        (&[], &private),
        (&[], b"\xff\xfe\x00"),
        (&[], &owner),
        (&[], &huge),
        (&["--repo", "none"], &public),
        (&["--repo", "../app"], &public),
        (&["--expires", "soon"], &public),
        (&["--expires", "2020-01-01"], &public),
    ] {
        let output = add(&forge, options, input);
        assert_eq!(stdout(&output), "", "{}", transcript(&output));
        assert_eq!(stored(&forge), lines);
        let code = output.status.code().unwrap();
        replies += &format!("exit code {code}\n{}\n", stderr(&output));
    }
    insta::assert_snapshot!(replies);
}

#[test]
fn the_file_of_keys_keeps_everything_else() {
    let lines = "# mine\r\n\n  # off: x\nnonsense stays";
    let forge = with_stored_keys(lines);
    let line = generate_key(&forge.file("client/ci"), "ci");
    assert!(forge.ssh(&["repo", "new", "shop"]).status.success());
    let options = ["--read", "--repo", "shop", "--expires", "2099-12-31"];
    let added = add(&forge, &options, line.as_bytes());
    assert_eq!(added.status.code(), Some(0), "{}", transcript(&added));
    let limits =
        "restrict,command=\"quire exec --read --repo shop\",expiry-time=\"20991231235959Z\"";
    let expected = format!("{lines}\n{limits} {line}");
    assert_eq!(stored(&forge), expected);
    // It is no key of sshd before `quire init` has merged it.
    assert!(
        stdout(&added).contains("it takes effect when `quire init` runs"),
        "{}",
        transcript(&added)
    );
    let again = add(&forge, &[], line.as_bytes());
    assert_eq!(again.status.code(), Some(1), "{}", transcript(&again));
    assert!(stderr(&again).contains("the key `ci` is there already"));
    let removed = forge.ssh(&["key", "rm", "ci"]);
    assert_eq!(removed.status.code(), Some(0), "{}", transcript(&removed));
    assert_eq!(stored(&forge), format!("{lines}\n"));
}

#[test]
fn keys_that_are_added_at_once_are_all_kept() {
    let forge = with_stored_keys("");
    let added: Vec<_> = (0..8)
        .map(|index| {
            let name = format!("key{index}");
            let line = generate_key(&forge.file(&format!("client/{name}")), &name);
            let mut command = forge.ssh_as("owner", &[], &["key", "add", line.trim()]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            (line, command.spawn().unwrap())
        })
        .collect();
    for (line, child) in added {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", transcript(&output));
        assert!(stored(&forge).contains(&line), "{line}");
    }
}

#[test]
fn the_last_key_that_may_do_everything_stays() {
    let forge = with_stored_keys("");
    // sshd accepts only what the volume has.
    let owner = fs::read_to_string(forge.file("client/owner.pub")).unwrap();
    fs::write(forge.paths.merged_authorized_keys(), &owner).unwrap();
    fs::write(forge.paths.authorized_keys(), &owner).unwrap();
    for options in [&["--read"][..], &["--expires", "9d"]] {
        let name = options[0].trim_start_matches('-');
        let line = generate_key(&forge.file(&format!("client/{name}")), name);
        assert!(add(&forge, options, line.as_bytes()).status.success());
    }
    let kept = forge.ssh(&["key", "rm", "'laptop, the new one'"]);
    assert_eq!(kept.status.code(), Some(2), "{}", transcript(&kept));
    assert_eq!(
        stderr(&kept),
        "quire: `laptop, the new one` is the last key that may do everything, without an end\nquire: add another key first, or add `--yes` to remove it all the same\n"
    );
    let removed = forge.ssh(&["key", "rm", "read"]);
    assert!(removed.status.success(), "{}", transcript(&removed));
    let removed = forge.ssh(&["key", "rm", "'laptop, the new one'", "--yes"]);
    assert!(removed.status.success(), "{}", transcript(&removed));
    assert!(!stored(&forge).contains("laptop"));
}

#[test]
fn a_connection_is_no_way_around_a_change_of_its_key() {
    let forge = TestForge::new(QUIRE).sshd();
    let merged = forge.paths.merged_authorized_keys();
    let owner = fs::read_to_string(forge.file("client/owner.pub")).unwrap();
    let second = fs::read_to_string(forge.file("client/second.pub")).unwrap();
    let socket = format!("ControlPath={}", forge.file("client/master").display());
    // A connection of the second key, on which further sessions are opened.
    let mut master = forge
        .ssh_as("second", &["-N", "-M", "-o", &socket], &[])
        .spawn()
        .unwrap();
    quire_testkit::wait_for("the connection", || {
        let check = forge
            .ssh_as("second", &["-O", "check", "-o", &socket], &[])
            .output();
        check.unwrap().status.success().then_some(())
    });
    let over_it = |words: &[&str]| {
        let options = ["-o", &socket, "-o", "ControlMaster=no"];
        forge.ssh_as("second", &options, words).output().unwrap()
    };
    assert!(over_it(&["repo", "list"]).status.success());
    for (line, reply) in [
        (
            format!("command=\"quire exec --read\" {second}"),
            "quire: the key `desktop` may fetch only",
        ),
        (
            format!("expiry-time=\"20200101Z\" {second}"),
            "quire: the key of this connection may not connect any more",
        ),
        (
            format!("from=\"192.0.2.0/24\" {second}"),
            "quire: the key of this connection may not connect any more",
        ),
        (
            String::new(),
            "quire: the key of this connection may not connect any more",
        ),
    ] {
        fs::write(&merged, format!("{owner}{line}")).unwrap();
        let output = over_it(&["repo", "list"]);
        assert_eq!(output.status.code(), Some(128), "{}", transcript(&output));
        assert!(stderr(&output).contains(reply), "{}", transcript(&output));
    }
    master.kill().unwrap();
    master.wait().unwrap();
}

#[test]
fn a_session_without_a_known_key_gets_nothing_if_keys_have_limits() {
    let forge = TestForge::new(QUIRE);
    let exec = || {
        let mut command = forge.quire(&["exec"]);
        command.env("SSH_ORIGINAL_COMMAND", "repo list");
        command.output().unwrap()
    };
    assert!(exec().status.success());
    let line = generate_key(&forge.file("ci"), "ci");
    let limited = format!("command=\"quire exec --read\" {line}");
    fs::write(forge.paths.merged_authorized_keys(), limited).unwrap();
    let output = exec();
    assert_eq!(output.status.code(), Some(128), "{}", transcript(&output));
    assert!(stderr(&output).contains("sshd did not report the key"));
    fs::remove_file(forge.paths.merged_authorized_keys()).unwrap();
    fs::create_dir(forge.paths.merged_authorized_keys()).unwrap();
    let output = exec();
    assert_eq!(output.status.code(), Some(128), "{}", transcript(&output));
    assert!(stderr(&output).contains("could not be checked"));
}
