//! What must not be possible.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use quire_testkit::{SshForge, TestForge, stderr, stdout, transcript};

use crate::QUIRE;

/// Whether anything happened in the data folder that a refused command may not do.
fn untouched(forge: &SshForge) {
    assert_eq!(
        fs::read_dir(forge.paths.repos()).unwrap().count(),
        0,
        "no repository was made"
    );
    assert_eq!(fs::read_dir(forge.paths.spool()).unwrap().count(), 0);
    assert!(
        !forge.file("data/pwned").exists() && !std::path::Path::new("/tmp/quire-pwned").exists()
    );
}

#[test]
fn hostile_commands_are_refused_in_one_line() {
    let forge = TestForge::new(QUIRE).sshd();
    let long = format!("git-receive-pack {}", "x".repeat(90_000));
    let commands = [
        "sh",
        "bash -i",
        "id",
        "git",
        "git gc",
        "git init pwned",
        "git -c core.sshCommand=id upload-pack x",
        "git --exec-path=/tmp upload-pack x",
        "git-shell",
        "git-receive-pack",
        "git-receive-pack a b",
        "git-receive-pack ../pwned",
        "git-receive-pack repo/../x",
        "git-receive-pack 'repo/../../x'",
        "git-receive-pack /etc/ssh/sshd_config",
        "git-receive-pack --stateless-rpc",
        "git-upload-pack --upload-pack=id",
        "git-upload-archive --exec=id",
        "git-receive-pack -x",
        "git-receive-pack .hidden",
        "git-receive-pack a/b/c",
        "git-receive-pack x.lock",
        "git-receive-pack ''",
        "git-receive-pack a; touch pwned",
        "git-receive-pack a;touch${IFS}pwned",
        "git-receive-pack `touch pwned`",
        "git-receive-pack $(touch pwned)",
        "git-receive-pack a && touch pwned",
        "git-receive-pack a | touch pwned",
        "git-receive-pack a > pwned",
        "git-receive-pack a\ntouch pwned",
        "git-receive-pack 'a\ntouch pwned'",
        "git-receive-pack 'a",
        "git-receive-pack \u{1b}[2J",
        "git-receive-pack ä",
        "/usr/bin/git-upload-pack x",
        "exec git-upload-pack x",
        "quire serve",
        "serve",
        "hook post-receive",
        "rsync --server -e.LsfxC . .",
        "scp -t .",
        &long,
    ];
    for command in commands {
        let output = forge.ssh(&[command]);
        let code = output.status.code().unwrap();
        // A name that is none is a usage fault of an allowed command; all else is refused.
        assert_eq!(code, 128, "{command:?}: {}", transcript(&output));
        assert_eq!(stdout(&output), "", "{command:?}");
        let reply = stderr(&output);
        let lines = reply.lines().filter(|line| line.starts_with("quire: "));
        // The second one suggests a command.
        assert!((1..=2).contains(&lines.count()), "{command:?}: {reply}");
        assert!(!reply.contains('\u{1b}'), "{command:?}: {reply:?}");
    }
    // Bytes that are no text.
    let raw =
        <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"git-receive-pack \xff\xfe");
    let output = forge.ssh_as("owner", &[], &[]).arg(raw).output().unwrap();
    assert_eq!(output.status.code(), Some(128), "{}", transcript(&output));
    for command in ["repo frobnicate", "run detach x", "key add x", "key put x"] {
        assert_eq!(forge.ssh(&[command]).status.code(), Some(2), "{command}");
    }
    untouched(&forge);
}

#[test]
fn no_shell_not_even_on_a_terminal_and_no_copying() {
    let forge = TestForge::new(QUIRE).sshd();
    let terminal = forge.ssh_as("owner", &["-tt"], &[]).output().unwrap();
    assert!(
        terminal.status.success() && stdout(&terminal).contains("hello laptop, the new one"),
        "{}",
        transcript(&terminal)
    );
    let greeting = forge.ssh(&[]);
    assert!(greeting.status.success(), "{}", transcript(&greeting));
    assert!(
        stdout(&greeting).contains("hello laptop, the new one"),
        "{}",
        transcript(&greeting)
    );
    let host = format!("{}@127.0.0.1", forge.user);
    fs::write(forge.file("client/secret"), "x").unwrap();
    let from = forge.file("client/secret").display().to_string();
    for (program, arguments) in [
        (
            "sftp",
            vec!["-b".to_owned(), "/dev/null".to_owned(), host.clone()],
        ),
        ("scp", vec![from.clone(), format!("{host}:pwned")]),
        ("scp", vec!["-O".to_owned(), from, format!("{host}:pwned")]),
        (
            "scp",
            vec![
                "-O".to_owned(),
                format!("{host}:/etc/passwd"),
                forge.file("client/stolen").display().to_string(),
            ],
        ),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = forge.copy_program(program, &arguments);
        assert!(
            !output.status.success(),
            "{program} {arguments:?}: {}",
            transcript(&output)
        );
    }
    assert!(!forge.file("client/stolen").exists());
    let other = forge.ssh_as("owner", &["-s"], &["sftp"]).output().unwrap();
    assert!(
        stderr(&other).contains("subsystem request failed"),
        "{}",
        transcript(&other)
    );
    untouched(&forge);
}

#[test]
fn nothing_is_forwarded() {
    let forge = TestForge::new(QUIRE).sshd();
    // Something that a forwarded connection would reach.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let direct = forge
        .ssh_as("owner", &["-W", &target], &[])
        .output()
        .unwrap();
    assert!(
        !direct.status.success() && stderr(&direct).contains("administratively prohibited"),
        "{}",
        transcript(&direct)
    );
    let strict = ["-N", "-o", "ExitOnForwardFailure=yes"];
    let back = forge
        .ssh_as(
            "owner",
            &[&strict[..], &["-R", &format!("0:{target}")]].concat(),
            &[],
        )
        .output()
        .unwrap();
    assert!(
        !back.status.success() && stderr(&back).contains("remote port forwarding failed"),
        "{}",
        transcript(&back)
    );
    let socket = format!("{}:{target}", forge.file("client/forwarded").display());
    let back = forge
        .ssh_as("owner", &[&strict[..], &["-R", &socket]].concat(), &[])
        .output()
        .unwrap();
    assert!(!back.status.success(), "{}", transcript(&back));
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "nobody came through");
    // -L and -D open the same channel as -W once they are used; agent, X11 and tunnel are seen in what is in force.
    let test = Command::new("/usr/sbin/sshd")
        .args(["-T", "-f"])
        .arg(forge.paths.sshd_config())
        .output()
        .unwrap();
    let force = stdout(&test);
    for line in [
        "disableforwarding yes",
        "allowtcpforwarding no",
        "allowstreamlocalforwarding no",
        "allowagentforwarding no",
        "x11forwarding no",
        "permittunnel no",
        "permittty yes",
        "permituserrc no",
        "permituserenvironment no",
        "passwordauthentication no",
        "kbdinteractiveauthentication no",
        "exposeauthinfo yes",
        "maxstartups 64:30:256",
    ] {
        assert!(
            force.lines().any(|found| found == line),
            "{line}: {}",
            transcript(&test)
        );
    }
    assert!(!force.contains("subsystem"), "{force}");
}

#[test]
fn only_known_keys_and_only_keys() {
    let forge = TestForge::new(QUIRE).sshd();
    for command in [&["repo", "list"][..], &[], &["git-upload-pack", "x"]] {
        let output = forge.ssh_as("stranger", &[], command).output().unwrap();
        assert_eq!(output.status.code(), Some(255), "{}", transcript(&output));
        assert!(
            stderr(&output).contains("Permission denied (publickey)"),
            "{}",
            transcript(&output)
        );
    }
    let second = forge.ssh_as("second", &[], &[]).output().unwrap();
    assert!(
        stdout(&second).contains("hello desktop"),
        "{}",
        transcript(&second)
    );
    // Nothing that a client sends as environment arrives but the protocol.
    let sent = forge
        .ssh_as(
            "owner",
            &["-o", "SetEnv=QUIRE_DATA=/tmp LD_PRELOAD=/tmp/x"],
            &["repo", "list"],
        )
        .output()
        .unwrap();
    assert_eq!(
        stdout(&sent),
        "no repositories yet; push to a new name to create one",
        "{}",
        transcript(&sent)
    );
}
