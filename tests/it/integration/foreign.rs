//! What a run leaves behind is foreign: in a terminal, in the database, in the folders of others.

use quire_testkit::TestForge;
use quire_types::run::{FailureKind, JobState, Run, RunState};

use super::GREEN;
use crate::QUIRE;

/// Pushes a pipeline and waits for its run.
fn run(forge: &TestForge, repo: &str, text: &str) -> Run {
    let tree = forge.tree(repo, &repo.replace('/', "-"));
    tree.write(
        ".quire/ci.fnl",
        &format!("(local ci (require :quire.ci))\n{text}"),
    );
    tree.push_new("first");
    forge.end_of(forge.newest(repo).id)
}

#[test]
fn a_terminal_gets_colours_and_nothing_else_to_act_on() {
    let forge = TestForge::start(QUIRE);
    let run = run(
        &forge,
        "app",
        r#"(ci.job :a [:quire/push] (fn [{: sh}] (sh "printf '\\033]0;title\\007\\033[2J\\033[32mgreen\\033[0m\\n'")))"#,
    );
    assert_eq!(run.state, RunState::Complete, "{run:?}");
    let log = forge.ssh_ok(&format!("run logs {}", run.id));
    assert!(log.contains("\n\u{1b}[32mgreen\u{1b}[0m\n"), "{log:?}");
    assert!(
        !log.contains("\u{1b}]") && !log.contains('\u{7}') && !log.contains("\u{1b}[2J"),
        "{log:?}"
    );
    let raw = forge.ssh_ok(&format!("run logs --raw {}", run.id));
    assert!(
        raw.contains("\u{1b}]0;title\u{7}\u{1b}[2J\u{1b}[32mgreen\u{1b}[0m\n"),
        "{raw:?}"
    );
}

#[test]
fn a_pipeline_lowers_the_owners_time_limit_and_does_not_lift_it() {
    let mut forge = TestForge::new(QUIRE);
    forge.set("QUIRE_CI_TIMEOUT", "1s");
    forge.serve();
    let run = run(
        &forge,
        "app",
        r#"(ci.timeout "366d")
(ci.job :a [:quire/push] (fn [{: sh}] (sh "sleep 600")))"#,
    );
    assert_eq!(
        (run.state, run.failure_kind),
        (RunState::Failed, Some(FailureKind::Timeout)),
        "{run:?}"
    );
    assert_eq!(run.message.as_deref(), Some("the run timed out after 1s"));
    let log = forge.ssh_ok(&format!("run logs {}", run.id));
    assert!(
        log.contains("the pipeline requests a time limit of 366d, but the configuration (`:ci {:timeout}`) allows only 1s, which is used"),
        "{log}"
    );
}

#[test]
fn a_long_command_runs_as_a_whole_and_is_kept_in_part() {
    let forge = TestForge::start(QUIRE);
    let run = run(
        &forge,
        "app",
        r#"(ci.job :a [:quire/push] (fn [{: sh}] (sh (.. ": " (string.rep :x 20000) "; echo the end"))))"#,
    );
    assert_eq!(run.state, RunState::Complete, "{run:?}");
    let steps = forge.steps(run.id);
    assert!(
        steps[0].command.len() < 9000 && steps[0].command.ends_with("bytes was run)"),
        "{}",
        steps[0].command.len()
    );
    assert!(
        forge
            .ssh_ok(&format!("run logs {}", run.id))
            .contains("the end\n")
    );
}

#[test]
fn what_all_jobs_return_has_a_limit() {
    let forge = TestForge::start(QUIRE);
    let job = |n: u32| {
        format!("(ci.job :j{n} [:quire/push] (fn [] {{:text (string.rep :x 4000000)}}))\n")
    };
    let run = run(&forge, "app", &(0..18).map(job).collect::<String>());
    assert_eq!(
        (run.state, run.failure_kind),
        (RunState::Failed, Some(FailureKind::Job)),
        "{run:?}"
    );
    let failed: Vec<_> = forge
        .jobs(run.id)
        .into_iter()
        .filter(|job| job.state == JobState::Failed)
        .collect();
    assert!(
        failed.len() == 2
            && failed[0]
                .message
                .as_deref()
                .unwrap()
                .contains("64m together"),
        "{}",
        failed.len()
    );
    // Pages and lists do not read what nobody sees there; programs get it.
    assert!(forge.get(&format!("/runs/{}", run.id)).body.len() < 200_000);
}

#[test]
fn removing_one_repository_leaves_the_runs_of_others() {
    let forge = TestForge::start(QUIRE);
    let push = |repo: &str| {
        let tree = forge.tree(&repo.replace('/', "-"), repo);
        tree.write(".quire/ci.fnl", GREEN);
        tree.push_new("first");
        forge.end_of(forge.newest(repo).id)
    };
    let (app, below) = (push("app"), push("app/lib"));
    let (app_folder, below_folder) = (forge.run_folder(&app), forge.run_folder(&below));
    // The folder of a run is no repository's.
    let refused = forge.ssh(&format!("repo rm app/{} --yes", app.id));
    assert!(
        !refused.status.success() && app_folder.join("run.log").exists(),
        "{refused:?}"
    );
    for attempt in [
        format!("repo new app/{}", app.id),
        format!("repo new {}/x", app.id),
    ] {
        let refused = forge.ssh(&attempt);
        assert!(
            String::from_utf8_lossy(&refused.stderr).contains("looks like the id of a run"),
            "{refused:?}"
        );
    }
    forge.ssh_ok("repo rm app --yes");
    assert!(!app_folder.exists() && below_folder.join("run.log").exists());
    // What is left is a group, and no repository.
    let refused = forge.ssh("repo rm app --yes");
    assert!(
        !refused.status.success() && below_folder.join("run.log").exists(),
        "{refused:?}"
    );
    forge.ssh_ok("repo rm app/lib --yes");
    assert!(!below_folder.exists());
}
