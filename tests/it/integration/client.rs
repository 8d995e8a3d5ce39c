//! The program for another machine, and the commands that it runs on the appliance.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use quire_testkit::{
    TestForge, newest_glibc, run, run_ok, stderr, stdout, transcript, versions_loaded, wait_for,
};

use super::native::Native;
use crate::QUIRE;

#[test]
fn the_program_is_sent_although_its_user_may_not_read_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let installed = folder.path().join("quire");
    fs::copy(QUIRE, &installed).unwrap();
    // As in the image.
    fs::set_permissions(&installed, fs::Permissions::from_mode(0o711)).unwrap();
    let mut forge = TestForge::new(installed.to_str().unwrap());
    forge.drop_privileges();
    forge.serve();
    let output = forge.ssh("client");
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("for Linux on "), "{said}");
    // Several at once do not disturb each other.
    let same = std::thread::scope(|scope| {
        let sent = [(); 3].map(|()| scope.spawn(|| forge.ssh("client").stdout == output.stdout));
        sent.map(|thread| thread.join().unwrap())
    });
    assert_eq!(same, [true; 3]);
    let received = folder.path().join("received");
    fs::write(&received, &output.stdout).unwrap();
    fs::set_permissions(&received, fs::Permissions::from_mode(0o755)).unwrap();
    let version = run(Command::new(&received).arg("--version"));
    assert_eq!(
        stdout(&version),
        stdout(&run(Command::new(QUIRE).arg("--version")))
    );
    // With its tables of functions, which are what is relocated.
    let check = run(Command::new(&received)
        .args(["ci", "check"])
        .current_dir(folder.path()));
    assert!(
        transcript(&check).contains("quire ci init"),
        "{}",
        transcript(&check)
    );
    let loaded = versions_loaded(&received);
    assert!(!loaded.iter().any(|name| name == "GLIBC_ABI_DT_RELR"));
    assert_eq!(newest_glibc(&loaded), Some(said_version(&said)));
    let packed = |program: &Path| {
        let listed = run_ok(Command::new("readelf").arg("-dW").arg(program));
        listed.contains("(RELR)")
    };
    assert_eq!([packed(QUIRE.as_ref()), packed(&received)], [true, false]);
}

/// The version in what `client` says.
fn said_version(said: &str) -> u32 {
    let version = said.split("with glibc 2.").nth(1);
    let digits = version.and_then(|rest| rest.split(' ').next());
    digits.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
}

#[test]
fn commands_of_a_remote_run_there() {
    let native = Native::start();
    wait_for("the appliance", || {
        native.ssh(&["status"]).status.success().then_some(())
    });
    // A laptop with a home of its own, whose ssh has the key.
    let home = native.path("home");
    fs::create_dir_all(home.join("bin")).unwrap();
    let ssh = native.ssh_options_of("key").join(" ");
    let script = format!("#!/bin/sh\nexec /usr/bin/ssh {ssh} \"$@\"\n");
    fs::write(home.join("bin/ssh"), script).unwrap();
    fs::set_permissions(home.join("bin/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!(
        "{}:{}",
        home.join("bin").display(),
        std::env::var("PATH").unwrap()
    );
    let quire = |words: &[&str]| {
        let mut command = Command::new(QUIRE);
        command.args(words).env("HOME", &home).env("PATH", &path);
        run(command.env_remove("XDG_CONFIG_HOME"))
    };
    let address = native.url("");
    assert_eq!(stdout(&quire(&["remote", "list"])), "no remotes");
    let unknown = quire(&["--remote", "home", "repo", "list"]);
    assert_eq!(unknown.status.code(), Some(3), "{}", transcript(&unknown));
    let added = quire(&["remote", "add", "home", &address]);
    assert!(added.status.success(), "{}", transcript(&added));
    let listed = quire(&["remote", "list", "--json"]);
    assert!(
        stdout(&listed).contains("\"name\":\"home\""),
        "{}",
        transcript(&listed)
    );
    let made = quire(&["--remote", "home", "repo", "new", "shop"]);
    assert_eq!(
        stdout(&made),
        "created repository shop",
        "{}",
        transcript(&made)
    );
    // Words, output and exit codes are those of the other side.
    let there = quire(&["--remote=home", "repo", "list", "--json"]);
    let same = native.ssh(&["repo", "list", "--json"]);
    assert_eq!(stdout(&there), stdout(&same));
    let missing = quire(&["--remote", "home", "repo", "show", "no such name"]);
    assert_eq!(missing.status.code(), Some(2), "{}", transcript(&missing));
    let local = quire(&["--remote", "home", "ci", "check"]);
    assert_eq!(local.status.code(), Some(128), "{}", transcript(&local));
    assert!(quire(&["remote", "rm", "home"]).status.success());
    assert_eq!(stdout(&quire(&["remote", "list"])), "no remotes");
}
