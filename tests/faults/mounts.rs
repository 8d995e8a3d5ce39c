//! Tests that mount disks of their own: each starts itself again in a mount namespace that
//! nobody else sees, and that goes with it.

use std::path::PathBuf;
use std::process::Command;

use super::forge::said;

/// Set where the test runs within.
const INSIDE: &str = "QUIRE_TEST_OWN_MOUNTS";

/// Whether `QUIRE_SKIP` names this need.
pub(crate) fn skips(need: &str) -> bool {
    std::env::var("QUIRE_SKIP").is_ok_and(|list| list.split([',', ' ']).any(|named| named == need))
}

/// Whether disks that only root may mount can be had; fails where they cannot and nobody said so.
pub(crate) fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    assert!(root || skips("root"), "only root can mount this disk: run as root, or name `root` in QUIRE_SKIP");
    root
}

/// Runs this test again where it may mount; gives the folder to do so in, within.
pub(crate) fn within(test: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(INSIDE) {
        return Some(folder.into());
    }
    let folder = tempfile::Builder::new().prefix("quire-disk-").tempdir().unwrap();
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--mount").arg(std::env::current_exe().unwrap()).args(["--exact", "--nocapture", test]);
    let output = command.env(INSIDE, folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("1 passed"), "{}", said(&output));
    println!("{}", said(&output));
    None
}

/// Runs this test again with a small disk in memory; gives its folder, within.
pub(crate) fn on_a_small_disk(test: &str, megabytes: u32) -> Option<PathBuf> {
    let folder = within(test)?;
    run("mount", &["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs", folder.to_str().unwrap()]);
    Some(folder)
}

/// Runs a program that must succeed.
#[track_caller]
pub(crate) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", said(&output));
}
