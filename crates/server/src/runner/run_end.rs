//! How a claimed run ends, and what has to be ended and removed for it.

use std::error::Error;
use std::sync::Arc;

use super::job_recorder::RecordError;
use super::prepare::PrepareError;
use quire_executor::{Executor, ExecutorError, Workspace};
use quire_types::error_chain;
use quire_types::names::RunId;
use quire_types::run::{FailureKind, Outcome};

/// The end of a run, before its stop request is taken into account.
pub(super) enum RunEnd {
    Outcome(Outcome),
    Stopped,
}

impl From<PrepareError> for RunEnd {
    fn from(error: PrepareError) -> Self {
        Self::Outcome(error.outcome)
    }
}

impl RunEnd {
    /// The end of a run while quire shuts down. A host that shuts down ends the run's container and quire
    /// at the same time, which is not a failure of the run.
    pub(super) fn during_shutdown(self) -> Self {
        match self {
            Self::Outcome(Outcome::Failed(
                FailureKind::ContainerDied | FailureKind::DockerUnavailable,
                _,
            )) => Self::Stopped,
            end => end,
        }
    }
}

/// What a run may have on the executor.
pub(super) enum Allocated {
    /// Nothing, because no start was attempted.
    None,
    /// A start was attempted and returned no workspace. The executor may have something all the same.
    Unknown,
    Workspace(Arc<dyn Workspace>),
}

impl Allocated {
    /// Ends everything of the run that may be running; returns once that is confirmed.
    pub(super) async fn end(
        &self,
        executor: &dyn Executor,
        run: RunId,
    ) -> Result<(), ExecutorError> {
        match self {
            Self::None => Ok(()),
            Self::Unknown => executor.destroy_run(run).await,
            Self::Workspace(workspace) => workspace.stop().await,
        }
    }

    /// Removes what is left of a run that has ended.
    pub(super) async fn remove(&self) -> Result<(), ExecutorError> {
        match self {
            Self::None | Self::Unknown => Ok(()),
            Self::Workspace(workspace) => workspace.remove().await,
        }
    }
}

pub(super) fn internal_error(error: &dyn Error) -> RunEnd {
    RunEnd::Outcome(Outcome::Failed(
        FailureKind::Internal,
        format!("internal error: {}", error_chain::chain(error)),
    ))
}

/// The end of a run whose progress could not be recorded. The cause is most likely a full disk, not a bug.
pub(super) fn recording_failed(error: &RecordError) -> RunEnd {
    RunEnd::Outcome(Outcome::Failed(
        FailureKind::Internal,
        error_chain::chain(error),
    ))
}
