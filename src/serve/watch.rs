//! Checks that only this level can make: the engine and the intake. Results go to the health
//! board, from which the health endpoint answers without waiting for anything.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::executor::Executor;
use crate::housekeeping::{Findings, Housekeeping};
use crate::intake::Intake;
use crate::meter::Meter;
use crate::run::ExecutorKind;
use crate::web::{Figure, HealthBoard, Part, Status};

/// How often the engine is asked.
const EVERY: Duration = Duration::from_secs(10);

/// Asks the executor that runs new runs whether it could, again and again.
pub(super) async fn engine(executors: &[Arc<dyn Executor>], health: &HealthBoard, meter: &Meter) {
    let Some(executor) = executors.first() else {
        return;
    };
    loop {
        let asked = std::time::Instant::now();
        let answer = executor.probe().await;
        if answer.is_ok() && executor.kind() == ExecutorKind::Docker {
            meter.engine_micros.store(
                u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX),
                Ordering::Relaxed,
            );
        }
        match (answer, executor.kind()) {
            (Ok(()), ExecutorKind::Docker) => {
                health.set(Part::Docker, Status::Ok, "the engine answers", None)
            }
            (Ok(()), ExecutorKind::Host) => {
                health.set(
                    Part::Docker,
                    Status::Ok,
                    "not used: runs are executed on the host, without isolation",
                    None,
                );
            }
            (Err(error), _) => health.set(
                Part::Docker,
                Status::Degraded,
                format!("runs wait: {error}"),
                None,
            ),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Reports damaged spool files until somebody has looked at them.
pub(super) async fn intake(intake: &Intake, health: &HealthBoard) {
    loop {
        let damaged = intake.damaged();
        let figure = Some(Figure {
            what: "damaged_events",
            value: damaged,
        });
        if damaged == 0 {
            health.set(Part::EventSocket, Status::Ok, "listening", figure);
        } else {
            let message = format!(
                "{damaged} damaged events lie in spool/damaged of the volume; look at them, then remove them"
            );
            health.set(Part::EventSocket, Status::Degraded, message, figure);
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Reports what housekeeping and the reading of schedules could not do. What everybody may read names no repository.
pub(super) async fn upkeep(housekeeping: &Housekeeping, health: &HealthBoard) {
    loop {
        match housekeeping.findings().await {
            Ok(Findings {
                maintenance,
                schedules,
            }) => {
                report(
                    health,
                    Part::Maintenance,
                    "problems",
                    maintenance,
                    "nothing is in its way",
                    |n| {
                        format!(
                            "{n} of its tasks failed, and are tried again: `status` over SSH names them"
                        )
                    },
                );
                report(health, Part::Schedules, "unread", schedules, "read", |n| {
                    format!(
                        "{n} of the pipelines with schedules cannot be read, the old ones stay: `status` over SSH names them"
                    )
                });
            }
            // The reading of the database says so.
            Err(error) => tracing::error!("health: {}", crate::causes::with_causes(&error)),
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn report(
    health: &HealthBoard,
    part: Part,
    what: &'static str,
    details: Vec<String>,
    well: &str,
    words: impl Fn(usize) -> String,
) {
    let figure = Some(Figure {
        what,
        value: details.len() as u64,
    });
    let (status, message) = match details.len() {
        0 => (Status::Ok, well.to_owned()),
        n => (Status::Degraded, words(n)),
    };
    health.set_in_detail(part, status, message, figure, details);
}
