//! How the job loop of a run exits.

use std::time::Duration;

use quire_executor::ExecutorError;
use quire_pipeline::driver::DriverError;
use quire_types::error_chain;
use quire_types::run::{FailureKind, Outcome};

use crate::runner::job_recorder::RecordError;

/// How much longer than the driver the runner waits for a job that timed out. The driver's message is better.
pub(super) const JOB_GRACE: Duration = Duration::from_secs(2);

/// Why the job loop of a run exits.
pub(super) enum LoopExit {
    /// The run has this outcome.
    Outcome(Outcome),
    /// The run was asked to stop; the caller knows the outcome.
    Stopped,
}

impl From<RecordError> for LoopExit {
    fn from(error: RecordError) -> Self {
        // The cause is most likely a full disk, which the message names; it is not a bug.
        Self::Outcome(Outcome::Failed(
            FailureKind::Internal,
            error_chain::chain(&error),
        ))
    }
}

/// An exit with a failed run.
pub(super) fn failed(kind: FailureKind, message: impl Into<String>) -> LoopExit {
    LoopExit::Outcome(Outcome::Failed(kind, message.into()))
}

/// An exit because of a bug of quire, or of a driver that violates the protocol.
pub(super) fn internal_error(message: &str) -> LoopExit {
    failed(FailureKind::Internal, format!("internal error: {message}"))
}

/// An exit because the driver failed, which is the fault of the pipeline unless it was killed.
pub(super) fn driver_failed(error: &DriverError) -> LoopExit {
    let kind = match error {
        DriverError::Killed(_) => FailureKind::Orphaned,
        _ => FailureKind::Pipeline,
    };
    failed(kind, error_chain::chain(error))
}

/// An exit because the driver process ended too early.
pub(super) fn driver_exited() -> LoopExit {
    failed(
        FailureKind::Pipeline,
        "the process that evaluates the pipeline exited before its jobs ended",
    )
}

pub(super) fn log_failed(error: &std::io::Error) -> LoopExit {
    failed(
        FailureKind::Internal,
        format!("cannot write the log: {error}"),
    )
}

/// The failure kind and the message of a run whose executor failed.
#[must_use]
pub fn failure_of(error: &ExecutorError) -> (FailureKind, String) {
    let kind = match error {
        ExecutorError::Unavailable(_)
        | ExecutorError::EngineFailed { .. }
        | ExecutorError::NoSwarmManager
        | ExecutorError::NoCallback => FailureKind::DockerUnavailable,
        ExecutorError::NodeLost { .. } => FailureKind::Orphaned,
        ExecutorError::Image(_) => FailureKind::Image,
        ExecutorError::ContainerDied(_) => FailureKind::ContainerDied,
        ExecutorError::ServiceNotReady { .. } => FailureKind::Timeout,
        ExecutorError::Command(_) => FailureKind::Pipeline,
        ExecutorError::Cancelled
        | ExecutorError::File(_)
        | ExecutorError::CacheInUse { .. }
        | ExecutorError::Failed { .. } => FailureKind::Internal,
    };
    (kind, error.to_string())
}
