//! The program of the image, which `client` sends to machines with an older system than the image.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use quire_testkit::{newest_glibc, run_ok, stderr, text, transcript, versions_loaded};

use crate::appliance::Appliance;
use crate::docker::{docker, image};

/// The newest minor version of glibc 2 that machines are expected to have.
const NEWEST: u32 = 31;

#[test]
fn its_symbols_are_those_of_an_old_glibc() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("quire");
    let container = docker(&["create", &image()]);
    let from = format!("{container}:/usr/local/bin/quire");
    docker(&["cp", &from, program.to_str().unwrap()]);
    docker(&["rm", "--volumes", &container]);
    let symbols = run_ok(Command::new("objdump").arg("-T").arg(&program));
    // In parentheses, unless it is the version by which a symbol is found.
    let words = symbols.split([' ', '\t', '\n', '(', ')']);
    let versions: Vec<&str> = words.filter(|word| word.starts_with("GLIBC_")).collect();
    let newest = newest_glibc(&versions).unwrap();
    let newer: Vec<&str> = symbols
        .lines()
        .filter(|line| line.contains(&format!("GLIBC_2.{newest}")))
        .collect();
    assert!(versions.len() > 50 && newest <= NEWEST, "{newer:#?}");
}

#[test]
fn what_it_sends_needs_an_old_glibc_and_runs() {
    let (appliance, client) = Appliance::with_client();
    let sent = client.ssh(&["client"]);
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let program = appliance.folder.path().join("received");
    fs::write(&program, &sent.stdout).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let versions = versions_loaded(&program);
    let newest = newest_glibc(&versions).unwrap();
    assert!(newest <= NEWEST, "{versions:?}");
    assert!(
        !versions.iter().any(|name| name.starts_with("GLIBC_ABI")),
        "{versions:?}"
    );
    let said = stderr(&sent);
    let promise = format!("with glibc 2.{newest} or newer");
    assert!(said.contains(&promise), "{said}");
    // It evaluates a pipeline.
    let created = Command::new(&program)
        .args(["ci", "init"])
        .current_dir(appliance.folder.path())
        .output()
        .unwrap();
    assert!(created.status.success(), "{}", transcript(&created));
    let checked = Command::new(&program)
        .args(["ci", "check"])
        .current_dir(appliance.folder.path())
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", transcript(&checked));
}
