//! The health checks of the engine, the intake and the housekeeping. They write to the health board,
//! from which the health endpoint answers without waiting for anything.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quire_executor::{Executor, ExecutorNode};
use quire_server::backup::{BackupState, ScheduledBackups};
use quire_server::doctor::{Doctor, DoctorReport};
use quire_server::hooks::Hooks;
use quire_server::housekeeping::{Housekeeping, ProblemsByComponent};
use quire_server::intake::Intake;
use quire_server::metrics::Metrics;
use quire_server::mirror::MirrorService;
use quire_server::notify::Notifications;
use quire_server::part_problem::PartProblem;
use quire_types::clock::Millis;
use quire_types::text::{format_bytes, format_elapsed};
use quire_web::{Component, HealthRegistry, Measurement, Status};

/// How often each check is repeated.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);

/// Probes the executor of new runs at intervals.
pub(super) async fn engine(
    executors: &[Arc<dyn Executor>],
    address: &str,
    health: &HealthRegistry,
    metrics: &Arc<Metrics>,
) {
    let Some(executor) = executors.first() else {
        return;
    };
    loop {
        let started = std::time::Instant::now();
        let result = executor.probe().await;
        if result.is_ok() && executor.capabilities().isolated {
            metrics.engine_micros.store(
                u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
                Ordering::Relaxed,
            );
        }
        match (result, executor.capabilities().isolated) {
            (Ok(()), true) => report_engine(executor, health).await,
            (Ok(()), false) => {
                health.set(
                    Component::Docker,
                    Status::Ok,
                    "not used: runs are executed on the host, without isolation",
                    None,
                );
            }
            (Err(error), _) => health.set(
                Component::Docker,
                Status::Degraded,
                match is_replaced(address) {
                    true => "runs wait: the socket of the engine was replaced on the host since the container was started, \
                             so nothing answers at the mounted one; restart the container of quire"
                        .to_owned(),
                    false => format!("runs wait: {error}"),
                },
                None,
            ),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Reports an engine that answers, and the nodes of a swarm.
async fn report_engine(executor: &Arc<dyn Executor>, health: &HealthRegistry) {
    let nodes = match executor.nodes().await {
        Ok(nodes) => nodes,
        Err(error) => {
            let message = format!("runs wait: {error}");
            return health.set(Component::Docker, Status::Degraded, message, None);
        }
    };
    if nodes.is_empty() {
        return health.set(Component::Docker, Status::Ok, "the engine answers", None);
    }
    let usable = nodes.iter().filter(|node| node.is_usable).count();
    let (status, message) = match usable {
        0 => (
            Status::Degraded,
            "runs wait: no node of the swarm can execute them".to_owned(),
        ),
        _ => (
            Status::Ok,
            format!("{usable} of {} nodes can execute runs", nodes.len()),
        ),
    };
    // What is wrong is that of all of them, and the details are what targets are told then.
    let details = match usable {
        0 => Vec::new(),
        _ => nodes.iter().map(node_sentence).collect(),
    };
    health.set_with_details(Component::Docker, status, message, None, details);
}

fn node_sentence(node: &ExecutorNode) -> PartProblem {
    let ExecutorNode {
        name,
        state,
        tasks,
        milli_cpus,
        memory,
        engine,
        ..
    } = node;
    let cpus = milli_cpus / 1000;
    let memory = format_bytes(*memory);
    let text = format!(
        "node {name}: {state}; running tasks: {tasks}; CPUs: {cpus}; memory: {memory}; engine {engine}"
    );
    PartProblem::new(name, text)
}

/// Whether the socket at this address has no name any more: a file that is mounted stays the one that it was, also if the
/// engine makes a new one under its name.
fn is_replaced(address: &str) -> bool {
    address
        .strip_prefix("unix://")
        .and_then(|path| std::fs::metadata(path).ok())
        .is_some_and(|found| found.nlink() == 0)
}

/// Reports damaged spool files until they are removed.
pub(super) async fn intake(intake: &Intake, health: &HealthRegistry) {
    loop {
        let damaged = intake.damaged();
        let figure = Some(Measurement {
            what: "damaged_events",
            value: damaged,
        });
        if damaged == 0 {
            health.set(Component::EventSocket, Status::Ok, "listening", figure);
        } else {
            let message = format!(
                "{damaged} damaged events are in spool/damaged on the volume; examine them, then remove them"
            );
            health.set(Component::EventSocket, Status::Degraded, message, figure);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Reports the scheduled backups.
pub(super) async fn backups(backups: &ScheduledBackups, health: &HealthRegistry) {
    loop {
        let (status, message, figure) = backup_health(&backups.state(), backups.clock().now());
        health.set(Component::Backup, status, message, figure);
        tokio::time::sleep(INTERVAL).await;
    }
}

fn backup_health(state: &BackupState, now: Millis) -> (Status, String, Option<Measurement>) {
    let (proved, problem, overdue) = match state {
        BackupState::NotConfigured => {
            let message = "no scheduled backups are configured (:backup)";
            return (Status::Ok, message.to_owned(), None);
        }
        BackupState::First => {
            return (
                Status::Ok,
                "the first backup is being made".to_owned(),
                None,
            );
        }
        BackupState::Known {
            proved,
            problem,
            overdue,
        } => (proved, problem, *overdue),
    };
    let (newest, figure) = match proved {
        Some(backup) => {
            let age = now.since(backup.made_at);
            let figure = Measurement {
                what: "age_seconds",
                value: age / 1000,
            };
            let size = format_bytes(backup.size);
            let message = format!(
                "the newest proved backup is {} old and has {size}",
                format_elapsed(age)
            );
            (message, Some(figure))
        }
        None => ("there is no proved backup yet".to_owned(), None),
    };
    match problem {
        Some(problem) => (
            Status::Degraded,
            format!("{newest}; the last attempt failed: {problem}"),
            figure,
        ),
        None if overdue => (
            Status::Degraded,
            format!("{newest}, although one was due"),
            figure,
        ),
        None => (Status::Ok, newest, figure),
    }
}

/// Reports the problems of housekeeping and schedules. The message names no repository, because
/// everybody can read it.
pub(super) async fn upkeep(housekeeping: &Housekeeping, health: &HealthRegistry) {
    loop {
        match housekeeping.problems().await {
            Ok(ProblemsByComponent {
                maintenance,
                schedules,
                repositories,
            }) => {
                report(
                    health,
                    Component::Repositories,
                    "unreadable",
                    repositories,
                    "readable",
                    |n| match n {
                        1 => "1 problem with a repository; `status` over SSH names it".to_owned(),
                        n => {
                            format!("{n} problems with repositories; `status` over SSH names them")
                        }
                    },
                );
                report(
                    health,
                    Component::Maintenance,
                    "problems",
                    maintenance,
                    "no problems",
                    |n| match n {
                        1 => "1 task failed and will be retried; `status` over SSH names it"
                            .to_owned(),
                        n => format!(
                            "{n} tasks failed and will be retried; `status` over SSH names them"
                        ),
                    },
                );
                report(
                    health,
                    Component::Schedules,
                    "unread",
                    schedules,
                    "read",
                    |n| {
                        match n {
                        1 => "1 pipeline with schedules cannot be read, so its previous schedules stay in force; `status` over SSH names it".to_owned(),
                        n => format!(
                            "{n} pipelines with schedules cannot be read, so their previous schedules stay in force; `status` over SSH names them"
                        ),
                    }
                    },
                );
            }
            // The check of the database reports this as well.
            Err(error) => tracing::error!("health: {}", quire_types::error_chain::chain(&error)),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Reports targets that fail.
pub(super) async fn notifications(notifications: &Notifications, health: &HealthRegistry) {
    loop {
        match notifications.problems().await {
            Ok(problems) => report(
                health,
                Component::Notifications,
                "failing",
                problems,
                "no problems",
                |n| match n {
                    1 => "1 target fails; `status` over SSH names it".to_owned(),
                    n => format!("{n} targets fail; `status` over SSH names them"),
                },
            ),
            // The check of the database reports this as well.
            Err(error) => tracing::error!("health: {}", quire_types::error_chain::chain(&error)),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Reports mirrors that fail.
pub(super) async fn mirrors(mirrors: &MirrorService, health: &HealthRegistry) {
    loop {
        match mirrors.problems().await {
            Ok(problems) => report(
                health,
                Component::Mirrors,
                "failing",
                problems,
                "no problems",
                |n| match n {
                    1 => "1 mirror is not in sync; `status` over SSH names it".to_owned(),
                    n => format!("{n} mirrors are not in sync; `status` over SSH names them"),
                },
            ),
            // The check of the database reports this as well.
            Err(error) => tracing::error!("health: {}", quire_types::error_chain::chain(&error)),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Reports incoming webhooks that cannot accept anything.
pub(super) async fn hooks(hooks: &Hooks, health: &HealthRegistry) {
    loop {
        report(
            health,
            Component::Hooks,
            "unusable",
            hooks.problems().await,
            "no problems",
            |n| match n {
                1 => "1 webhook accepts nothing; `status` over SSH names it".to_owned(),
                n => format!("{n} webhooks accept nothing; `status` over SSH names them"),
            },
        );
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Reports the newest result of `doctor`. A check that failed is a finding: it degrades nothing, since the part that fails does so itself
/// for as long as it fails.
pub(super) async fn doctor(doctor: &Doctor, health: &HealthRegistry) {
    let mut newest = doctor.newest();
    loop {
        let report = newest.borrow_and_update().clone();
        let (message, figure, details) = doctor_health(report.as_ref());
        health.set_with_details(Component::Doctor, Status::Ok, message, figure, details);
        tokio::select! {
            changed = newest.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

fn doctor_health(report: Option<&DoctorReport>) -> (String, Option<Measurement>, Vec<PartProblem>) {
    let Some(report) = report else {
        let message = "never run; `doctor` over SSH checks everything";
        return (message.to_owned(), None, Vec::new());
    };
    let at = report.examined_at;
    let parts: Vec<&str> = report.failed().map(|found| found.part.as_str()).collect();
    let message = match parts.as_slice() {
        [] => format!("nothing failed at {at}"),
        parts => format!(
            "failed at {at}: {}; `doctor` over SSH checks again",
            parts.join(", ")
        ),
    };
    let figure = Measurement {
        what: "failed",
        value: parts.len() as u64,
    };
    (message, Some(figure), report.problems())
}

fn report(
    health: &HealthRegistry,
    component: Component,
    what: &'static str,
    details: Vec<PartProblem>,
    ok_message: &str,
    message: impl Fn(usize) -> String,
) {
    let figure = Some(Measurement {
        what,
        value: details.len() as u64,
    });
    let (status, message) = match details.len() {
        0 => (Status::Ok, ok_message.to_owned()),
        n => (Status::Degraded, message(n)),
    };
    health.set_with_details(component, status, message, figure, details);
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::*;

    /// A file without a name, as the socket of an engine that was started again is in the container that mounts it.
    #[test]
    fn a_socket_that_was_replaced_is_recognized() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let mounted = File::create(&path).unwrap();
        let address = format!("unix:///proc/self/fd/{}", mounted.as_raw_fd());
        assert!(!is_replaced(&address));
        std::fs::remove_file(&path).unwrap();
        File::create(&path).unwrap();
        assert!(is_replaced(&address));
        assert!(!is_replaced(&format!("unix://{}", path.display())));
        assert!(!is_replaced("unix:///nonexistent/docker.sock") && !is_replaced("tcp://h:1"));
    }
}
