//! Killed while a run has services: containers beside its own, on a network of its own.

use std::os::unix::process::ExitStatusExt;

use quire_testkit::{WAIT_TIMEOUT, wait_until};
use quire_types::run::{FailureKind, RunState};

use super::containers::{Contained, endpoint, skipped};
use super::engine::behind_a_proxy;
use super::proxy::Mode;
use super::settled_well;

/// Two services, one that is asked whether it is ready and one that is not.
const WITH_SERVICES: &str = r#"
(local ci (require :quire.ci))
(ci.service :db {:image "debian:trixie-slim" :command ["sleep" "300"] :ready "true"})
(ci.service :queue {:image "debian:trixie-slim" :command ["sleep" "300"]})
(ci.job :test [:quire/push] (fn [{: sh}] (sh "getent hosts db queue && echo all is well")))
"#;

/// Kills the server at this point of the first run, in this process or in the one that is started then.
fn killed_at(contained: &mut Contained, point: &str) {
    contained.forge.kill_once_at(point).serve();
    contained
        .forge
        .tree_with("app", WITH_SERVICES)
        .push(&["main"]);
    let status = contained.forge.ended();
    assert_eq!(
        status.signal(),
        Some(9),
        "{point}: {}",
        contained.forge.log()
    );
}

#[test]
fn the_server_killed_at_each_point_of_their_life() {
    if skipped() {
        return;
    }
    // Where, and how many containers and networks are left to be put right. Services start side by side.
    for (point, containers, networks) in [
        ("services-network-made", 0..=0, 1),
        ("service-created", 1..=2, 1),
        ("service-started", 1..=2, 1),
        ("services-ready", 2..=2, 1),
        ("runner-container-created", 3..=3, 1),
        ("runner-container-started", 3..=3, 1),
        ("runner-step-recorded", 3..=3, 1),
        ("runner-step-ended", 3..=3, 1),
        ("runner-before-teardown", 3..=3, 1),
        ("runner-before-outcome", 3..=3, 1),
        ("runner-outcome-written", 3..=3, 1),
        ("services-containers-removed", 0..=0, 1),
    ] {
        let mut contained = Contained::new(&endpoint());
        killed_at(&mut contained, point);
        let left = (
            contained.count(&["ps", "--all"]),
            contained.count(&["network", "ls"]),
        );
        assert!(
            containers.contains(&left.0) && left.1 == networks,
            "{point} leaves {left:?}"
        );
        contained.forge.serve();
        settled_well(&contained.forge);
        contained.nothing_left();
        let runs: Vec<_> = contained
            .forge
            .runs()
            .iter()
            .map(|run| (run.state, run.failure_kind))
            .collect();
        let all = [
            (RunState::Failed, Some(FailureKind::Orphaned)),
            (RunState::Complete, None),
        ];
        let is_after_outcome =
            ["runner-outcome-written", "services-containers-removed"].contains(&point);
        assert_eq!(runs, all[usize::from(is_after_outcome)..], "{point}");
        assert!(contained.forge.stop().success());
    }
}

#[test]
fn killed_before_the_container_is_recorded_and_no_engine_at_restart() {
    if skipped() {
        return;
    }
    let (_folder, proxy, mut contained) = behind_a_proxy();
    killed_at(&mut contained, "services-ready");
    let run = contained.forge.newest("app");
    assert_eq!(run.container_id, None);
    proxy.set(Mode::Cut);
    contained.forge.serve();
    contained.forge.wait_for_log("cannot end orphaned runs yet");
    // Its services may be there still: it is not called ended.
    assert_eq!(contained.forge.run(run.id).state, RunState::Active);
    assert_eq!(contained.count(&["ps", "--all"]), 2);
    proxy.set(Mode::Through);
    let ended = wait_until(WAIT_TIMEOUT * 2, || {
        Some(contained.forge.run(run.id)).filter(|run| run.state.is_final())
    })
    .unwrap();
    assert_eq!(ended.failure_kind, Some(FailureKind::Orphaned), "{ended:?}");
    settled_well(&contained.forge);
    contained.nothing_left();
    assert!(contained.forge.stop().success());
}
