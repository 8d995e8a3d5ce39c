//! Transitions of jobs and steps that no other test comes by; docs/state.md lists all.

use std::fs;

use quire_testkit::{TestForge, wait_for};
use quire_types::run::{JobState, RunState};

use super::gate;
use crate::QUIRE;

#[test]
fn jobs_that_are_tried_again_skipped_and_aborted() {
    let forge = TestForge::start(QUIRE);
    let (folder, counted) = (forge.file("gate"), forge.file("count"));
    let tree = forge.tree("app", "app");
    let flaky = format!("echo x >> {0}; test $(wc -l < {0}) = 2", counted.display());
    let jobs = [
        format!(
            "(ci.job :flaky [:quire/push] {{:retry 1}} (fn [{{: sh}}] (let [r (sh {flaky:?})] (assert (= r.exit 0)))))"
        ),
        "(ci.job :idle [:flaky] (fn [] nil))".to_owned(),
        r#"(ci.job :slow [:flaky] (fn [{: sh}] (sh "sleep 600" {:timeout "100ms"})))"#.to_owned(),
        format!(
            "(ci.job :waits [:flaky] (fn [{{: sh}}] (sh {:?})))",
            gate(&folder)
        ),
        r#"(ci.job :after [:waits] (fn [{: sh}] (sh "true")))"#.to_owned(),
    ];
    tree.write(
        ".quire/ci.fnl",
        &format!("(local ci (require :quire.ci))\n{}\n", jobs.join("\n")),
    );
    tree.push_new("all of them");
    let run = forge.newest("app");
    let ended = || forge.run(run.id).state.is_final().then_some(());
    let slow = || {
        forge
            .jobs(run.id)
            .iter()
            .any(|job| job.job_id.as_str() == "slow" && job.state.is_final())
    };
    wait_for("all but the last", || {
        (folder.join("started").exists() && slow())
            .then_some(())
            .or_else(ended)
    });
    assert_eq!(
        forge.run(run.id).state,
        RunState::Active,
        "{:?}",
        forge.run(run.id)
    );
    forge.ssh_ok(&format!("run cancel {}", run.id));
    assert_eq!(forge.end_of(run.id).state, RunState::Canceled);
    let states: Vec<_> = forge
        .jobs(run.id)
        .into_iter()
        .map(|job| (job.job_id.to_string(), job.state))
        .collect();
    let of = |id: &str| states.iter().find(|(job, _)| job == id).unwrap().1;
    assert_eq!(of("flaky"), JobState::Complete);
    assert_eq!(of("idle"), JobState::Skipped);
    assert_eq!(of("slow"), JobState::Failed);
    assert_eq!(of("waits"), JobState::Aborted);
    assert_eq!(of("after"), JobState::Skipped);
    assert_eq!(
        fs::read_to_string(counted).unwrap(),
        "x\nx\n",
        "tried twice"
    );
    // The one that was cut has no exit code, and an end.
    let cut = forge
        .steps(run.id)
        .into_iter()
        .find(|step| step.command.contains("sleep 600"))
        .unwrap();
    assert!(
        cut.exit_code.is_none() && cut.finished_at_ms.is_some(),
        "{cut:?}"
    );
    forge.check_whole();
}
