//! The history in the workspace of a run: a repository of its own, as git clients expect it.

use quire_testkit::{TestForge, Tree};
use quire_types::run::{Run, RunState};

use crate::QUIRE;

/// A tree with three commits, a tag at the second and a pipeline with these settings.
fn tree(forge: &TestForge, repo: &str, settings: &str, commands: &str) -> Tree {
    let tree = forge.tree(repo, repo);
    let pipeline = format!(
        "(local ci (require :quire.ci))\n{settings}\n(ci.job :a [:quire/push] (fn [{{: sh}}] (sh {commands:?})))\n"
    );
    tree.write(".quire/ci.fnl", &pipeline);
    tree.commit("first");
    tree.write("file", "second\n");
    tree.commit("second");
    tree.git_ok(&["tag", "-a", "v1.0", "-m", "v1.0"]);
    tree.write("file", "third\n");
    tree.commit("third");
    tree
}

fn end(forge: &TestForge, run: &Run) -> String {
    let run = forge.end_of(run.id);
    let log = forge.ssh_ok(&format!("run logs {}", run.id));
    assert_eq!(run.state, RunState::Complete, "{log}");
    log
}

#[test]
fn a_workspace_has_the_history_that_is_asked_for() {
    let mut forge = TestForge::new(QUIRE);
    forge.set("QUIRE_SSH_HOST", "forge.example");
    forge.serve();
    let commands = "set -e\n\
         git status --porcelain --branch | sed s/^/status:/\n\
         echo \"describe: $(git describe --tags --always | sed s/-g.*//)\"\n\
         echo \"commits: $(git rev-list --count HEAD)\"\n\
         echo \"refs: $(git for-each-ref --format='%(refname)' | tr '\\n' ' ')\"\n\
         echo \"url: $(git remote get-url origin)\"\n\
         test ! -e .git/objects/info/alternates\n\
         git fsck --no-progress --strict\n\
         git show HEAD~0:file\n\
         if git push origin HEAD 2>/dev/null; then exit 1; fi\n\
         git -c user.name=a -c user.email=a@b commit -q --allow-empty -m more";
    let full = tree(&forge, "full", "(ci.checkout {:history :full})", commands);
    full.git_ok(&["branch", "other", "HEAD~2"]);
    full.push(&["main", "other", "v1.0", "-o", "ci.skip"]);
    full.commit("fourth");
    full.push(&["main"]);
    let log = end(&forge, &forge.newest("full"));
    for line in [
        "status:## main...origin/main\n",
        "describe: v1.0-2\n",
        "commits: 4\n",
        "refs: refs/heads/main refs/remotes/origin/main refs/remotes/origin/other refs/tags/v1.0 \n",
        "url: ssh://git@forge.example:",
        "/full.git\n",
    ] {
        assert!(log.contains(line), "{line:?} in {log}");
    }
    assert!(
        !log.contains("status:?") && !log.contains("status: M"),
        "{log}"
    );

    for (repo, history, commits, describe) in
        [("one", "1", 1, None), ("two", "2", 2, Some("v1.0-1"))]
    {
        let settings = format!("(ci.checkout {{:history {history}}})");
        let tree = tree(&forge, repo, &settings, commands);
        tree.push(&["v1.0", "-o", "ci.skip"]);
        tree.push(&["main"]);
        let log = end(&forge, &forge.newest(repo));
        assert!(log.contains(&format!("commits: {commits}\n")), "{log}");
        assert!(log.contains("status:## main...origin/main\n"), "{log}");
        if let Some(describe) = describe {
            assert!(log.contains(&format!("describe: {describe}\n")), "{log}");
        }
    }

    // A run for a tag has no branch, and its tag.
    let commands =
        "git describe --exact-match && git rev-parse --abbrev-ref HEAD && git fsck --strict";
    let tag = tree(&forge, "tag", "(ci.checkout {:history 1})", commands);
    tag.push(&["v1.0"]);
    let log = end(&forge, &forge.newest("tag"));
    assert!(log.contains("v1.0\nHEAD\n"), "{log}");
    let scratch = forge.paths.repos().join(".new");
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0);

    // Without the setting there is no repository.
    let plain = tree(&forge, "plain", "", "test ! -e .git && echo no repository");
    plain.push(&["main"]);
    let log = end(&forge, &forge.newest("plain"));
    assert!(log.contains("no repository\n"), "{log}");
}
