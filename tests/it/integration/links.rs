//! A push finds the pipeline through the same links and names as `quire ci check`.

use quire_testkit::TestForge;
use quire_types::run::{FailureKind, RunState};

use super::GREEN;
use crate::QUIRE;

#[test]
fn a_pipeline_behind_a_link_runs_after_a_push() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree("app", "app");
    tree.write("build/ci.fnl", GREEN);
    std::fs::create_dir(tree.path.join(".quire")).unwrap();
    std::os::unix::fs::symlink("../build/ci.fnl", tree.path.join(".quire/ci.fnl")).unwrap();
    tree.push_new("a link");
    let run = forge.end_of(forge.newest("app").id);
    assert_eq!(run.state, RunState::Complete, "{run:?}");

    std::fs::remove_file(tree.path.join(".quire/ci.fnl")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", tree.path.join(".quire/ci.fnl")).unwrap();
    tree.push_new("a link out");
    let run = forge.end_of(forge.newest("app").id);
    assert_eq!(run.failure_kind, Some(FailureKind::Pipeline), "{run:?}");
    assert_eq!(
        run.message.as_deref(),
        Some(
            ".quire/ci.fnl is a symbolic link to `/etc/passwd`, which is outside of the repository"
        )
    );
}

#[test]
fn a_push_names_files_that_are_not_used() {
    let forge = TestForge::start(QUIRE);
    let tree = forge.tree("app", "app");
    tree.write(".quire/CI.fnl", GREEN);
    tree.commit("another name");
    let reply = tree.push(&["main"]);
    let warning = "quire: warning: .quire/CI.fnl is not used: its name has to be .quire/ci.fnl";
    assert!(reply.contains(warning), "{reply}");
    assert!(forge.runs().is_empty());

    tree.git_ok(&["mv", ".quire/CI.fnl", ".quire/ci.fnl"]);
    tree.write(".quire/dockerfile", "FROM scratch\n");
    tree.commit("the right name");
    let reply = tree.push(&["main"]);
    let warning =
        "quire: warning: .quire/dockerfile is not used: its name has to be .quire/Dockerfile";
    assert!(reply.contains(warning), "{reply}");
    let run = forge.end_of(forge.newest("app").id);
    assert_eq!(run.state, RunState::Complete, "{run:?}");
    let log = std::fs::read_to_string(forge.run_folder(&run).join("run.log")).unwrap();
    assert!(log.contains(warning), "{log}");
}
