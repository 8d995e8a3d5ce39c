//! Other clients than git itself: dulwich, which is Python, libgit2 with its own client of SSH, and jj.

use std::path::Path;
use std::process::Command;

use quire_git::Git;
use quire_testkit::{TestForge, git_in, run, transcript};
use quire_types::ref_pattern::RefPattern;

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

/// Where `scripts/setup jj` installs it.
const JJ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/bin/jj");

const JJ_CONFIG: &str = r#"
user.name = "A Person"
user.email = "person@example.org"
ui.paginate = "never"
ui.color = "never"
"#;

#[test]
#[ignore = "needs jj, which takes minutes to compile: the nightly tier has it"]
fn jj_clones_pushes_rewrites_and_fetches() {
    let forge = TestForge::new(QUIRE).sshd();
    let tree = forge.tree("work", "app");
    forge.git_ok(&tree, &["push", "-q", "origin", "main"]);
    forge.take_events();
    let home = forge.file("client");
    let (clone, config) = (home.join("by-jj"), home.join("jj.toml"));
    std::fs::write(&config, JJ_CONFIG).unwrap();
    let jj = |folder: &Path, arguments: &[&str]| {
        let mut command = Command::new(JJ);
        command.args(arguments).current_dir(folder);
        command.env("HOME", &home).env("JJ_CONFIG", &config);
        run(command.env("GIT_SSH_COMMAND", forge.ssh_command("owner")))
    };
    let done = |arguments: &[&str]| {
        let output = jj(&clone, arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            transcript(&output)
        );
        transcript(&output)
    };
    let cloned = jj(
        &home,
        &["git", "clone", &forge.url("app"), clone.to_str().unwrap()],
    );
    assert!(
        cloned.status.success(),
        "{}\nsshd: {}",
        transcript(&cloned),
        forge.log()
    );
    let bare = forge.paths.repos().join("app.git");
    let subject = || git_in(&bare, &["log", "-1", "--format=%s", "jj"]);

    // A new branch, and a commit in the place of its commit.
    std::fs::write(clone.join("jj"), "made by jj\n").unwrap();
    done(&["commit", "-m", "Commit of jj"]);
    done(&["bookmark", "create", "jj", "-r", "@-"]);
    done(&["git", "push", "--bookmark", "jj"]);
    assert_eq!(subject(), "Commit of jj");
    done(&["describe", "-r", "@-", "-m", "The same change"]);
    done(&["git", "push", "--bookmark", "jj"]);
    assert_eq!(subject(), "The same change");
    assert_eq!(git_in(&bare, &["show", "jj:jj"]), "made by jj");
    let commit = git_in(&bare, &["cat-file", "-p", "jj"]);
    assert!(commit.contains("\nchange-id "), "{commit}");
    assert_eq!(forge.take_events().len(), 2, "each push has its event");

    // What is refused is told, and changes nothing.
    let git = Git::new(&forge.paths);
    let pattern = RefPattern::from_user("jj").unwrap();
    git.set_protected_refs(&"app".parse().unwrap(), &[pattern])
        .unwrap();
    done(&["describe", "-r", "@-", "-m", "Once more"]);
    let refused = jj(&clone, &["git", "push", "--bookmark", "jj"]);
    assert!(!refused.status.success(), "{}", transcript(&refused));
    assert!(
        transcript(&refused).contains("jj is protected by the pattern `jj`"),
        "{}",
        transcript(&refused)
    );
    assert_eq!(subject(), "The same change");

    // What git pushes, jj fetches, and a deletion the other way round.
    forge.commit(&tree, "by git");
    forge.git_ok(&tree, &["push", "-q", "origin", "main", "main:gone"]);
    done(&["git", "fetch"]);
    let fetched = done(&[
        "log",
        "-r",
        "main@origin",
        "--no-graph",
        "-T",
        "description",
    ]);
    assert!(fetched.contains("by git"), "{fetched}");
    done(&["bookmark", "track", "gone@origin"]);
    done(&["bookmark", "delete", "gone"]);
    done(&["git", "push", "--deleted"]);
    assert_eq!(git_in(&bare, &["for-each-ref", "refs/heads/gone"]), "");
    git_in(&bare, &["fsck", "--strict"]);
}
