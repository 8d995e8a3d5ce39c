//! Other implementations of git than git itself: dulwich, which is Python, and libgit2 with its own client of SSH.

use std::process::Command;

use quire_testkit::{TestForge, transcript};

use crate::QUIRE;

#[test]
fn other_implementations_of_git_clone_fetch_and_push() {
    let forge = TestForge::new(QUIRE).sshd();
    let tree = forge.tree("work", "app");
    forge.git_ok(&tree, &["tag", "-a", "v1", "-m", "one"]);
    forge.git_ok(&tree, &["push", "-q", "origin", "main", "v1"]);
    forge.take_events();
    let key = forge.file("client/owner");
    for name in ["dulwich", "pygit2"] {
        let folder = forge.file(&format!("client/by-{name}"));
        // Debian's Python has the packages, whatever other one is first in the path.
        let mut client = Command::new("/usr/bin/python3");
        client
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/it/ssh/clients.py"
            ))
            .args([name, &forge.url("app")])
            .args([&folder, &key])
            .env("HOME", forge.file("client"))
            .env("GIT_SSH_COMMAND", forge.ssh_command("owner"));
        let output = client.output().unwrap();
        assert!(
            output.status.success(),
            "{name}: {}\nsshd: {}",
            transcript(&output),
            forge.log()
        );
        let bare = forge.paths.repos().join("app.git");
        let bare = ["--git-dir", bare.to_str().unwrap()];
        let pushed = forge.git_ok(&tree, &[&bare[..], &["log", "--format=%s", name]].concat());
        assert!(pushed.starts_with("Commit of "), "{name}: {pushed}");
        let found = forge.git_ok(
            &tree,
            &[&bare[..], &["show", &format!("{name}:{name}")]].concat(),
        );
        assert!(found.starts_with("made by "), "{name}: {found}");
        assert_eq!(
            forge.take_events().len(),
            1,
            "{name}: each push has its event"
        );
        forge.git_ok(&tree, &[&bare[..], &["fsck", "--strict"]].concat());
    }
    // What they pushed, git fetches.
    forge.git_ok(&tree, &["fetch", "-q", "origin"]);
    forge.git_ok(&tree, &["rev-parse", "origin/dulwich", "origin/pygit2"]);
}
