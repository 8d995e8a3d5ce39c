//! Repositories as people have them: another default branch, histories that old programs wrote.

use quire_testkit::{TestForge, Tree, transcript, wait_for};

use super::GREEN;
use crate::QUIRE;

const NIGHTLY: &str = r#"
(local ci (require :quire.ci))
(local nightly (ci.cron :nightly "0 3 * * *"))
(ci.job :test [:quire/push :quire/manual nightly] (fn [{: sh}] (sh "echo all is well")))
"#;

/// What a clone of a repository checks out.
fn branch_of_clone(forge: &TestForge, tree: &Tree, repo: &str, nth: usize) -> String {
    let clone = forge.file(&format!("clone-{nth}"));
    let clone = clone.to_str().unwrap();
    tree.git_ok(&["clone", "-q", &format!("ssh://git@forge/{repo}"), clone]);
    tree.git_ok(&["-C", clone, "symbolic-ref", "--short", "HEAD"])
}

#[test]
fn the_first_branch_is_the_default_branch() {
    let mut forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", NIGHTLY);
    tree.git_ok(&["branch", "-m", "master"]);
    let reply = tree.push(&["master"]);
    assert!(
        reply.contains("quire: the default branch is master; `repo default app BRANCH` changes it"),
        "{reply}"
    );
    assert_eq!(branch_of_clone(&forge, &tree, "app", 1), "master");
    let list = forge.ssh_ok("repo list");
    assert!(list.contains("app         master"), "{list}");
    wait_for("the schedule", || {
        forge
            .ssh_ok("schedule list")
            .contains("nightly")
            .then_some(())
    });
    forge.ssh_ok("run start app");

    // It stays when another branch comes, until a person changes it.
    tree.push(&["master:main", "master:trunk"]);
    assert_eq!(branch_of_clone(&forge, &tree, "app", 2), "master");
    assert_eq!(
        forge.ssh_ok("repo default app trunk"),
        "the default branch of app is trunk\n"
    );
    assert_eq!(branch_of_clone(&forge, &tree, "app", 3), "trunk");
    let refused = transcript(&forge.ssh("repo default app nothing"));
    assert!(
        refused.contains("`app` has no branch `nothing`"),
        "{refused}"
    );
    let refused = tree.git(&["push", "origin", ":trunk"]);
    let words = "quire: trunk is the default branch and cannot be deleted; `repo default app BRANCH` sets another one";
    assert!(
        !refused.status.success() && transcript(&refused).contains(words),
        "{}",
        transcript(&refused)
    );
    // Others can be, and with another default branch this one.
    forge.ssh_ok("repo default app main");
    let reply = tree.push(&[":trunk"]);
    assert!(!reply.contains("default branch"), "{reply}");
    // Of several new branches: main, else master, else the first.
    for (nth, (pushed, expected)) in [
        (
            &["master:b", "master:a", "master:master", "master:main"][..],
            "main",
        ),
        (&["master:b", "master:master"], "master"),
        (&["master:topic"], "topic"),
        (&["master:refs/tags/v1"], "main"),
    ]
    .into_iter()
    .enumerate()
    {
        let repo = format!("several-{nth}");
        tree.git_ok(&[
            "remote",
            "set-url",
            "origin",
            &format!("ssh://git@forge/{repo}"),
        ]);
        tree.push(pushed);
        let head = std::fs::read_to_string(forge.paths.repos().join(format!("{repo}.git/HEAD")));
        assert_eq!(
            head.unwrap(),
            format!("ref: refs/heads/{expected}\n"),
            "{pushed:?}"
        );
    }
    // What no hook did, the comparison of refs does.
    forge.wait_for_quiet();
    assert!(forge.stop().success());
    let head = forge.paths.repos().join("app.git/HEAD");
    std::fs::write(&head, "ref: refs/heads/gone\n").unwrap();
    forge.serve();
    wait_for("the default branch", || {
        let head = std::fs::read_to_string(&head).unwrap();
        (head == "ref: refs/heads/main\n").then_some(())
    });
    forge.wait_for_quiet();
    forge.check_whole();
}

#[test]
fn old_histories_are_accepted_and_dangerous_trees_refused() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("old", GREEN);
    let committer = "committer A U Thor <a@example.org> 1112911993 -0700";
    let id = tree.git_ok(&["rev-parse", "HEAD^{tree}"]);
    let mut parent = tree.git_ok(&["rev-parse", "HEAD"]);
    for headers in [
        format!("author A U Thor<a@example.org> 1112911993 -0700\n{committer}"),
        format!("author A U Thor <a@example.org> 0112911993 -0700\n{committer}"),
        format!("author A U Thor <a@example.org> 99999999999999999999 -0700\n{committer}"),
        format!("author A U Thor <a@example.org> 1112911993 -700\n{committer}"),
        format!("author A <a@b> 1112911993 -0700\nauthor B <a@b> 1112911993 -0700\n{committer}"),
    ] {
        let text = format!("tree {id}\nparent {parent}\n{headers}\n\nold\n");
        let arguments = [
            "hash-object",
            "-t",
            "commit",
            "-w",
            "--stdin",
            "--literally",
        ];
        parent = tree.git_with(&arguments, text.as_bytes());
    }
    tree.git_ok(&["update-ref", "refs/heads/main", &parent]);
    let reply = tree.push(&["main"]);
    assert!(!reply.contains("warning"), "{reply}");
    forge.wait_for_quiet();

    let blob = tree.git_with(&["hash-object", "-w", "--stdin"], b"x");
    for name in [".git", "..", "a/b"] {
        let raw: Vec<u8> = (0..40)
            .step_by(2)
            .map(|at| u8::from_str_radix(&blob[at..at + 2], 16).unwrap())
            .collect();
        let bytes = [format!("100644 {name}\0").as_bytes(), &raw].concat();
        let arguments = ["hash-object", "-t", "tree", "-w", "--stdin", "--literally"];
        let bad = tree.git_with(&arguments, &bytes);
        let text = format!("tree {bad}\nauthor A <a@b> 1112911993 -0700\n{committer}\n\nbad\n");
        let arguments = [
            "hash-object",
            "-t",
            "commit",
            "-w",
            "--stdin",
            "--literally",
        ];
        let commit = tree.git_with(&arguments, text.as_bytes());
        let refused = tree.git(&["push", "origin", &format!("{commit}:refs/heads/bad")]);
        assert!(
            !refused.status.success(),
            "{name}: {}",
            transcript(&refused)
        );
    }
}

#[test]
fn skip_ci_in_a_commit_does_not_silence_its_tag() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree_with("app", GREEN);
    tree.commit("release [skip ci]");
    tree.git_ok(&["tag", "v1"]);
    let reply = tree.push(&["main", "v1"]);
    assert!(
        reply.contains("main: the commit message says [skip ci]"),
        "{reply}"
    );
    let runs = forge.runs();
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert_eq!(runs[0].ref_name.as_str(), "refs/tags/v1");
    forge.wait_for_quiet();
}

#[test]
fn the_jobs_of_a_push_are_started_by_hand() {
    let forge = TestForge::start(QUIRE);
    let text = r#"
(local ci (require :quire.ci))
(ci.job :test [:quire/push]
  (fn [{: sh : jobs}]
    (let [push (jobs :quire/push)]
      (sh (.. "echo " (or push.tag push.branch) " " (length push.files-changed) " files")))))
"#;
    let tree = forge.tree_with("app", text);
    tree.git_ok(&["tag", "v1"]);
    tree.push(&["main", "v1", "-o", "ci.skip"]);
    let refused = transcript(&forge.ssh("run start app"));
    assert!(
        refused.contains("`--source push` runs those of a push"),
        "{refused}"
    );
    for (command, words) in [
        ("run start app --source push", "main 1 files\n"),
        (
            "run start app --source push --ref refs/tags/v1",
            "v1 1 files\n",
        ),
    ] {
        forge.ssh_ok(command);
        let run = forge.end_of(forge.newest("app").id);
        let log = forge.ssh_ok(&format!("run logs {}", run.id));
        assert!(log.contains(words), "{log}");
    }
    let refused = transcript(&forge.ssh("run start app --source push --param a=b"));
    assert!(
        refused.contains("a run of the jobs of a push has no parameters"),
        "{refused}"
    );
}

#[test]
fn a_push_of_many_tags_makes_no_run_for_each() {
    let mut forge = TestForge::new(QUIRE);
    forge.set("QUIRE_CI_MAX_RUNS_PER_PUSH", "3");
    forge.serve();
    let tree = forge.tree_with("app", GREEN);
    for tag in ["v1", "v2", "v3"] {
        tree.git_ok(&["tag", tag]);
    }
    let reply = tree.push(&["main", "--tags"]);
    let words = "quire: 4 refs have a pipeline, and a push makes at most 3 runs (`ci.max-runs-per-push`): 1 runs of branches were made; `run start app --source push --ref REF` makes others";
    assert!(reply.contains(words), "{reply}");
    assert_eq!(forge.runs().len(), 1);
    tree.git_ok(&["push", "-q", "origin", ":v1", ":v2", ":v3"]);
    tree.push(&["--tags"]);
    assert_eq!(forge.runs().len(), 4);
    forge.wait_for_quiet();
}

#[test]
fn a_repository_with_sha256_ids_works_as_others_do() {
    let mut forge = TestForge::start(QUIRE);
    forge.ssh_ok("repo new by-hand --object-format sha256");
    let tree = forge.tree("app", "new");
    std::fs::remove_dir_all(tree.path.join(".git")).unwrap();
    tree.git_ok(&["init", "-q", "-b", "trunk", "--object-format=sha256"]);
    tree.git_ok(&["remote", "add", "origin", "ssh://git@forge/new"]);
    let text = r#"
(local ci (require :quire.ci))
(ci.checkout {:history :full})
(ci.job :test [:quire/push] (fn [{: sh}] (sh "git describe --always --abbrev=64; git status --porcelain; cat left-out")))
"#;
    tree.write(".quire/ci.fnl", text);
    tree.write("left-out", "in a checkout\n");
    tree.write(".gitattributes", "left-out export-ignore\n");
    let id = tree.commit("first");
    assert_eq!(id.len(), 64);
    let reply = tree.push(&["trunk"]);
    assert!(reply.contains("the default branch is trunk"), "{reply}");
    tree.git_ok(&["push", "-q", "ssh://git@forge/by-hand", "trunk"]);
    let run = forge.end_of(forge.newest("by-hand").id);
    assert_eq!(run.sha.as_str(), id);
    let run = forge.end_of(forge.newest("new").id);
    let log = forge.ssh_ok(&format!("run logs {}", run.id));
    assert!(log.contains(&format!("{id}\nin a checkout\n")), "{log}");
    assert_eq!(branch_of_clone(&forge, &tree, "new", 1), "trunk");
    let page = forge.get(&format!("/runs/{}", run.id));
    assert!(page.body.contains(&id[..12]), "{}", page.body);
    // What the comparison of refs and maintenance do with it.
    forge.wait_for_quiet();
    assert!(forge.stop().success());
    let trunk = forge.paths.repos().join("new.git/refs/heads/trunk");
    std::fs::write(trunk.with_file_name("other"), format!("{id}\n")).unwrap();
    forge.serve();
    wait_for("the run of the other branch", || {
        (forge.runs_of("new").len() == 2).then_some(())
    });
    forge.wait_for_quiet();
    forge.ssh_ok("gc");
    forge.check_whole();
}
