//! The appliance on a swarm: pushed to, and killed while a run is executed on a node. These tests need the engines
//! of `scripts/other-engine --swarm`.

use std::process::Command;

use nix::sys::signal::Signal;
use quire_testkit::{TestForge, free_port, run_ok, transcript, wait_for};
use quire_types::run::{ExecutorName, FailureKind, Run, RunState};

use super::settled_well;
use super::undo::is_stopped;
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

const CACHED: &str = r#"(local ci (require :quire.ci))
(ci.image "10.77.0.1:5000/debian:trixie-slim")
(ci.cache :marks "/marks")
(ci.job :test [:quire/push] (fn [{: sh}] (sh "touch /marks/seen")))
"#;

const LONG: &str = r#"(local ci (require :quire.ci))
(ci.image "10.77.0.1:5000/debian:trixie-slim")
(ci.job :test [:quire/push] (fn [{: sh}] (sh "echo begun; sleep 300")))
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
        .set("QUIRE_CI_MEMORY", "256m")
        .set("QUIRE_CI_WARM", "0");
    forge
}

/// The services of the swarm that this appliance made.
fn services(forge: &TestForge) -> usize {
    let instance = forge.store().instance().id().unwrap();
    let label = format!("label=io.quire.instance={instance}");
    let listed = docker(&["service", "ls", "--quiet", "--filter", &label]);
    listed.lines().count()
}

fn docker(arguments: &[&str]) -> String {
    run_ok(Command::new("docker").args(arguments))
}

fn id_of_node(node: u32) -> String {
    let folder = std::env::var("QUIRE_SWARM").unwrap();
    let socket = format!("unix://{folder}/{node}/sock");
    let told = docker(&["--host", &socket, "info", "--format", "{{.Swarm.NodeID}}"]);
    told.trim().to_owned()
}

/// A node that takes no tasks until this is dropped.
struct Drained(String);

impl Drained {
    fn node(node: u32) -> Self {
        let drained = Self(id_of_node(node));
        docker(&["node", "update", "--availability", "drain", &drained.0]);
        drained
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        docker(&["node", "update", "--availability", "active", &self.0]);
    }
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

/// Waits until the newest run of the repository has begun its command.
fn begun(forge: &TestForge) {
    let run = forge.newest("app");
    let log = forge.run_folder(&run).join("jobs/test/1.log");
    wait_for("the command", || {
        let log = std::fs::read_to_string(&log).ok()?;
        log.contains("begun").then_some(())
    });
}

#[test]
fn runs_of_a_swarm_that_is_not_used_any_more_are_ended() {
    let mut forge = forge();
    forge.serve();
    let tree = forge.tree_with("app", LONG);
    tree.push(&["main"]);
    begun(&forge);
    forge.kill();
    assert_eq!(services(&forge), 1);
    forge
        .set("QUIRE_CI_EXECUTOR", "docker")
        .set("QUIRE_CI_CALLBACK", "")
        .serve();
    wait_for("the second run", || (forge.runs().len() == 2).then_some(()));
    begun(&forge);
    let runs = forge.runs();
    let executors = runs.iter().map(|run| run.executor.clone());
    let expected = [ExecutorName::SWARM, ExecutorName::DOCKER].map(Some);
    assert_eq!(executors.collect::<Vec<_>>(), expected);
    assert_eq!(runs[0].failure_kind, Some(FailureKind::Orphaned));
    assert_eq!(services(&forge), 0);
}

/// Runs a command in the network of a node.
fn in_network_of_node(node: u32, command: &[&str]) {
    let folder = std::path::PathBuf::from(std::env::var_os("QUIRE_SWARM").unwrap());
    let engine = std::fs::read_to_string(folder.join(node.to_string()).join("pid")).unwrap();
    let network = format!("--net=/proc/{}/ns/net", engine.trim());
    let _ = run_ok(Command::new("nsenter").arg(network).args(command));
}

#[test]
fn doctor_tries_a_run_on_each_node_and_names_the_one_that_fails() {
    let mut forge = forge();
    forge
        .set("QUIRE_CI_IMAGE", "10.77.0.1:5000/debian:trixie-slim")
        .serve();
    let grades = |output: &str| -> Vec<(String, String)> {
        let is_finding = |line: &&str| line.starts_with("container on ") && !line.contains("): ");
        let lines = output.lines().filter(is_finding);
        let grade = |line: &str| {
            let (part, rest) = line.split_once(')').unwrap();
            let grade = rest.split_whitespace().next().unwrap_or_default();
            (part.to_owned(), grade.to_owned())
        };
        lines.map(grade).collect()
    };
    let output = forge.ssh_ok("doctor");
    let found = grades(&output);
    assert!(
        found.len() == 2 && found.iter().all(|(_, grade)| grade == "ok"),
        "{output}"
    );
    assert_eq!(services(&forge), 0);
    // The second node does not reach the appliance any more; the image it has.
    let route = ["ip", "route", "add", "unreachable", "10.77.0.1"];
    in_network_of_node(2, &route);
    let output = forge.ssh("doctor");
    in_network_of_node(2, &["ip", "route", "del", "unreachable", "10.77.0.1"]);
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let id = id_of_node(2);
    let found = grades(&output);
    assert_eq!(found.len(), 2, "{output}");
    for (part, grade) in found {
        let expected = if part.ends_with(&id) { "failed" } else { "ok" };
        assert_eq!(grade, expected, "{output}");
    }
    assert!(
        output.contains("it could not connect to 10.77.0.1:"),
        "{output}"
    );
    assert_eq!(services(&forge), 0);
    let _drained = [Drained::node(1), Drained::node(2)];
    let output = forge.ssh("doctor");
    let told = transcript(&output);
    assert!(
        !output.status.success() && told.contains("runs wait: no node of the swarm can execute"),
        "{told}"
    );
}

/// How many services were created for a run since a time, in seconds.
fn services_created(run: &Run, since: u64) -> usize {
    let until = seconds_now() + 1;
    let since = since.to_string();
    let until = until.to_string();
    let events = docker(&[
        "events",
        "--since",
        &since,
        "--until",
        &until,
        "--filter",
        "type=service",
        "--filter",
        "event=create",
        "--format",
        "{{.Actor.Attributes.name}}",
    ]);
    let name = format!("quire-{}", run.id);
    events.lines().filter(|line| *line == name).count()
}

fn seconds_now() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed();
    since.unwrap().as_secs()
}

#[test]
fn a_preferred_node_that_goes_away_is_not_waited_for() {
    let mut forge = forge();
    forge.stop_once_at("swarm-node-preferred").serve();
    let drained = Drained::node(1);
    let tree = forge.tree_with("app", CACHED);
    tree.push(&["main"]);
    settled_well(&forge);
    drop(drained);
    let since = seconds_now();
    let mut starting = tree
        .command(&["push", "-q", "origin", "main:second"])
        .spawn()
        .unwrap();
    wait_for("the server to stop", || {
        (forge.came_to_fault_point() && is_stopped(forge.pid())).then_some(())
    });
    // The node was chosen, and takes no task any more when the service is created.
    let _drained = Drained::node(2);
    forge.signal(Signal::SIGCONT);
    assert!(starting.wait().unwrap().success());
    settled_well(&forge);
    let run = forge.newest("app");
    assert_eq!(run.state, RunState::Complete, "{run:?}");
    assert_eq!(services_created(&run, since), 2);
    wait_for("the removal", || (services(&forge) == 0).then_some(()));
}

#[test]
fn a_server_that_is_killed_during_a_run_requeues_it_once() {
    // The caches of the manager are those of its engine.
    let _drained = Drained::node(1);
    let mut forge = forge();
    forge.serve();
    let tree = forge.tree_with("app", LONG_ONCE);
    tree.push(&["main"]);
    begun(&forge);
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
    // Its cache is on a node, whose engine cannot be asked.
    let listed = forge.ssh_ok("cache list");
    assert!(
        listed.contains("marks") && listed.contains("marks of app: quire-"),
        "{listed}"
    );
    let cleared = forge.ssh("cache clear app");
    let told = String::from_utf8_lossy(&cleared.stderr).into_owned();
    assert!(
        !cleared.status.success()
            && told.contains("remove them on each node with `docker volume rm quire-"),
        "{told}"
    );
    assert_eq!(forge.ssh_ok("cache list"), "no caches\n");
    wait_for("the removal", || (services(&forge) == 0).then_some(()));
}
