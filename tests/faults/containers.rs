//! Killed, or told to stop, while a run's container is made, runs and goes. On the shared engine,
//! under an appliance's id of its own.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Arc;

use quire_executor::{DockerConfig, DockerExecutor, Executor};
use quire_testkit::{TestForge, transcript, wait_for};
use quire_types::names::RunId;
use quire_types::run::{ExecutorName, FailureKind, RunState};

use super::settled_well;
use crate::QUIRE;

/// Whether `QUIRE_SKIP` names the engine.
pub(crate) fn skipped() -> bool {
    quire_testkit::skipped("docker")
}

/// The machine's engine.
pub(crate) fn endpoint() -> String {
    std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into())
}

/// A forge that executes runs in containers of an engine.
pub(crate) struct Contained {
    pub(crate) forge: TestForge,
    /// The engine itself, whatever stands before it.
    engine: String,
    runtime: Arc<tokio::runtime::Runtime>,
}

impl Contained {
    /// On the machine's engine, reached at this address.
    pub(crate) fn new(address: &str) -> Self {
        Self::on(&endpoint(), address)
    }

    /// On this engine, reached at this address.
    pub(crate) fn on(engine: &str, address: &str) -> Self {
        let mut forge = TestForge::new(QUIRE);
        forge
            .set("QUIRE_CI_EXECUTOR", "docker")
            .set("QUIRE_CI_ENGINE", address);
        // No network of their own to make and remove.
        forge
            .set("QUIRE_CI_NETWORK", "false")
            .set("QUIRE_CI_MEMORY", "256m")
            .set("QUIRE_CI_REGISTRIES", "127.0.0.1");
        Self {
            forge,
            engine: engine.to_owned(),
            runtime: Arc::new(tokio::runtime::Runtime::new().unwrap()),
        }
    }

    fn executor(&self) -> DockerExecutor {
        let instance = self.forge.store().instance().id().unwrap();
        DockerExecutor::new(DockerConfig::new(&self.engine, &instance))
    }

    /// Containers of this appliance.
    pub(crate) fn containers(&self) -> Vec<String> {
        let instance = self.forge.store().instance().id().unwrap();
        let engine = quire_executor::engine::Engine::new(
            &self.engine,
            quire_executor::engine::Timeouts::default(),
        );
        let label = vec![("io.quire.instance".to_owned(), instance)];
        let containers = self
            .runtime
            .block_on(async { engine.containers(&label).await })
            .unwrap();
        containers
            .into_iter()
            .map(|container| container.id)
            .collect()
    }

    /// How many things of this kind the engine has of this appliance.
    #[track_caller]
    pub(crate) fn count(&self, kind: &[&str]) -> usize {
        let label = format!(
            "label=io.quire.instance={}",
            self.forge.store().instance().id().unwrap()
        );
        let listed = Command::new("docker")
            .args(["--host", &self.engine])
            .args(kind)
            .args(["--quiet", "--filter", &label])
            .output();
        let listed = listed.unwrap();
        assert!(listed.status.success(), "{}", transcript(&listed));
        String::from_utf8_lossy(&listed.stdout).lines().count()
    }

    /// Waits until the engine has no container, network or volume of this appliance any more: they
    /// are removed after the run has ended.
    #[track_caller]
    pub(crate) fn nothing_left(&self) {
        for kind in [&["ps", "--all"][..], &["network", "ls"], &["volume", "ls"]] {
            wait_for(
                &format!("the removal of what `docker {}` lists", kind.join(" ")),
                || (self.count(kind) == 0).then_some(()),
            );
        }
    }

    /// Waits until the engine has no container of a run any more. A server that is told to end waits for removals for some seconds
    /// only, and leaves the rest to its next start.
    #[track_caller]
    pub(crate) fn wait_for_removal(&self, run: RunId) {
        let filter = format!("label=io.quire.run={run}");
        wait_for("the removal of a run's container", || {
            (self.count(&["ps", "--all", "--filter", &filter]) == 0).then_some(())
        });
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        if self.forge.paths.database().exists() {
            let executor = self.executor();
            self.runtime.block_on(executor.shut_down());
            if std::thread::panicking() {
                // A server that still runs spares nothing of its own; what is left here is of a failed test.
                let _ = self.runtime.block_on(Executor::sweep(&executor, &[]));
            }
        }
    }
}

const WELL: &str = r#"(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: sh}] (sh "echo all is well")))
"#;
const LONG: &str = r#"(local ci (require :quire.ci))
(ci.job :test [:quire/push] (fn [{: sh}] (sh "trap '' TERM; echo begun; sleep 300")))
"#;

#[test]
fn the_server_killed_at_each_point_of_a_containers_life() {
    if skipped() {
        return;
    }
    // Where, and how many containers are left to be put right.
    for (point, expected) in [
        ("runner-claimed", 0),
        ("runner-before-start", 0),
        ("runner-container-created", 1),
        ("runner-container-started", 1),
        ("runner-workspace-ready", 1),
        ("runner-step-recorded", 1),
        ("runner-step-ended", 1),
        ("runner-before-teardown", 1),
        ("runner-before-outcome", 1),
        ("runner-outcome-written", 1),
    ] {
        let mut contained = Contained::new(&endpoint());
        let forge = &mut contained.forge;
        forge.kill_once_at(point).serve();
        let tree = forge.tree_with("app", WELL);
        tree.push(&["main"]);
        let status = forge.ended();
        assert_eq!(status.signal(), Some(9), "{point}: {}", forge.log());
        assert_eq!(
            contained.containers().len(),
            expected,
            "{point} leaves something to put right"
        );
        contained.forge.serve();
        settled_well(&contained.forge);
        contained.nothing_left();
        let runs = contained.forge.runs();
        let kinds: Vec<_> = runs
            .iter()
            .map(|run| (run.state, run.failure_kind))
            .collect();
        let all = [
            (RunState::Failed, Some(FailureKind::Orphaned)),
            (RunState::Complete, None),
        ];
        assert_eq!(
            kinds,
            all[usize::from(point == "runner-outcome-written")..],
            "{point}"
        );
        assert!(
            runs.iter()
                .all(|run| run.executor == Some(ExecutorName::DOCKER))
        );
    }
}

#[test]
fn stopped_during_a_run_it_requeues_the_run_and_leaves_no_container() {
    if skipped() {
        return;
    }
    let mut contained = Contained::new(&endpoint());
    contained.forge.serve();
    let tree = contained.forge.tree_with("app", LONG);
    tree.push(&["main"]);
    let run = contained.forge.newest("app");
    let log = contained.forge.run_folder(&run).join("jobs/test/1.log");
    wait_for("the command", || {
        std::fs::read_to_string(&log)
            .ok()
            .filter(|log| log.contains("begun"))
    });
    assert_eq!(contained.containers().len(), 1);
    assert!(contained.forge.stop().success());
    assert_eq!(contained.containers(), Vec::<String>::new());
    let runs = contained.forge.runs();
    assert_eq!(runs.len(), 2, "{runs:?}");
    assert_eq!(
        runs[0].failure_kind,
        Some(FailureKind::Orphaned),
        "{runs:?}"
    );
    assert_eq!(runs[1].state, RunState::Pending, "{runs:?}");
    assert_eq!(runs[1].retry_of, Some(runs[0].id));
    // A person has it not run again after all.
    contained
        .forge
        .store()
        .runs()
        .request_cancel(runs[1].id)
        .unwrap();
    contained.forge.serve();
    contained.forge.wait_for_quiet();
    contained.forge.check_whole();
    assert!(contained.forge.stop().success());
}

#[test]
fn the_server_killed_with_a_run_going_and_a_container_ready() {
    if skipped() {
        return;
    }
    let mut contained = Contained::new(&endpoint());
    contained.forge.set("QUIRE_CI_WARM", "1").serve();
    let tree = contained.forge.tree_with("app", LONG);
    tree.push(&["main"]);
    let run = contained.forge.newest("app");
    let running = |contained: &Contained| contained.count(&["ps"]);
    let log = contained.forge.run_folder(&run).join("jobs/test/1.log");
    wait_for("the run's container and the next", || {
        let log = std::fs::read_to_string(&log).ok()?;
        (log.contains("begun") && running(&contained) == 2).then_some(())
    });
    contained.forge.kill();
    // Without quire: the helper of each ends with its connection.
    wait_for("their ends", || (running(&contained) == 0).then_some(()));
    contained.forge.serve();
    let again = wait_for("the second attempt", || {
        let runs = contained.forge.runs_of("app");
        let next = runs.into_iter().find(|next| next.id != run.id);
        next.filter(|next| next.state == RunState::Active)
    });
    contained
        .forge
        .store()
        .runs()
        .request_cancel(again.id)
        .unwrap();
    contained.forge.end_of(again.id);
    assert!(contained.forge.stop().success());
    contained.nothing_left();
}
