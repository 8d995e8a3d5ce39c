//! The appliance on a swarm: pushed to, and killed while a run is executed on a node. These tests need the engines
//! of `scripts/other-engine --swarm`.

use std::process::Command;

use quire_testkit::{TestForge, free_port, transcript, wait_for};
use quire_types::run::{ExecutorName, FailureKind, RunState};

use super::settled_well;
use crate::QUIRE;

const WELL: &str = r#"(local ci (require :quire.ci))
(ci.image "10.77.0.1:5000/debian:trixie-slim")
(ci.job :test [:quire/push] (fn [{: sh}] (sh "echo begun; hostname")))
"#;

/// The first time it lasts; the second time it does not.
const LONG_ONCE: &str = r#"(local ci (require :quire.ci))
(ci.image "10.77.0.1:5000/debian:trixie-slim")
(ci.cache :marks "/marks")
(ci.job :test [:quire/push] (fn [{: sh}] (sh "test -e /marks/seen || { touch /marks/seen; echo begun; sleep 300; }")))
"#;

/// A forge that executes runs on the swarm.
fn forge() -> TestForge {
    let engine = std::env::var("DOCKER_HOST").unwrap();
    assert!(
        std::env::var_os("QUIRE_SWARM").is_some(),
        "this test needs a swarm: run it by `scripts/other-engine --swarm`"
    );
    let mut forge = TestForge::new(QUIRE);
    forge
        .set("QUIRE_CI_EXECUTOR", "swarm")
        .set("QUIRE_CI_CALLBACK", &format!("10.77.0.1:{}", free_port()))
        .set("QUIRE_CI_ENGINE", &engine)
        .set("QUIRE_CI_MEMORY", "256m");
    forge
}

/// The services of the swarm that this appliance made.
fn services(forge: &TestForge) -> usize {
    let instance = forge.store().instance().id().unwrap();
    let label = format!("label=io.quire.instance={instance}");
    let listed = Command::new("docker")
        .args(["service", "ls", "--quiet", "--filter", &label])
        .output()
        .unwrap();
    assert!(listed.status.success(), "{}", transcript(&listed));
    String::from_utf8_lossy(&listed.stdout).lines().count()
}

#[test]
fn a_push_is_run_on_a_node_and_its_service_removed() {
    let mut forge = forge();
    forge.serve();
    let tree = forge.tree_with("app", WELL);
    tree.push(&["main"]);
    settled_well(&forge);
    let runs = forge.runs();
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert_eq!(runs[0].executor, Some(ExecutorName::SWARM));
    wait_for("the removal", || (services(&forge) == 0).then_some(()));
    let health = forge.get("/healthz").json();
    assert_eq!(
        health["parts"]["docker"]["message"], "2 of 2 nodes can execute runs",
        "{health}"
    );
}

#[test]
fn a_server_that_is_killed_during_a_run_requeues_it_once() {
    let mut forge = forge();
    forge.serve();
    let tree = forge.tree_with("app", LONG_ONCE);
    tree.push(&["main"]);
    let run = forge.newest("app");
    let log = forge.run_folder(&run).join("jobs/test/1.log");
    wait_for("the command", || {
        let log = std::fs::read_to_string(&log).ok()?;
        log.contains("begun").then_some(())
    });
    forge.kill();
    assert_eq!(services(&forge), 1);
    forge.serve();
    settled_well(&forge);
    let states: Vec<_> = forge
        .runs()
        .iter()
        .map(|run| (run.state, run.failure_kind))
        .collect();
    assert_eq!(
        states,
        [
            (RunState::Failed, Some(FailureKind::Orphaned)),
            (RunState::Complete, None)
        ]
    );
    wait_for("the removal", || (services(&forge) == 0).then_some(()));
}
