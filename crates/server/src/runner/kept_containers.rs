//! Keeps the container of a failed run, so that a person can attach to it.

use std::time::Duration;

use super::config::RunnerConfig;
use super::run_end::{Allocated, RunEnd};
use super::run_loop::Runner;
use quire_executor::Executor;
use quire_types::clock::Millis;
use quire_types::error_chain::with_sources;
use quire_types::names::RunId;
use quire_types::run::{FailureKind, Outcome, Run};

/// The most containers that are kept; the oldest are removed first.
const MAX_KEPT_CONTAINERS: u32 = 10;

/// How long a container is kept.
#[derive(Clone, Copy)]
pub(super) struct KeepTime {
    pub(super) until: Millis,
    pub(super) duration: Duration,
}

impl Runner {
    /// How long the container of a run is kept; `None` if it is not kept.
    pub(super) fn keep_time(
        &self,
        run: &Run,
        executor: &dyn Executor,
        end: &RunEnd,
        held: &Allocated,
        config: &RunnerConfig,
    ) -> Option<KeepTime> {
        let failed = matches!(
            end,
            RunEnd::Outcome(Outcome::Failed(
                FailureKind::Job | FailureKind::Timeout | FailureKind::Pipeline,
                _
            ))
        );
        let keeps = run.keep
            && failed
            && executor.capabilities().keeps_failed_workspaces
            && matches!(held, Allocated::Workspace(_))
            && !config.keep_failed.is_zero();
        let millis = i64::try_from(config.keep_failed.as_millis()).unwrap_or(i64::MAX);
        keeps.then(|| KeepTime {
            until: self.deps().store.clock().now().plus(millis),
            duration: config.keep_failed,
        })
    }

    /// Keeps the container after the end of the run, and records it. Returns false if it has to be removed.
    pub(super) async fn keep_container(
        &self,
        run: RunId,
        allocated: &Allocated,
        keep: KeepTime,
    ) -> bool {
        let Allocated::Workspace(workspace) = allocated else {
            return false;
        };
        if let Err(error) = workspace.keep(keep.duration).await {
            tracing::warn!(%run, %error, "cannot keep the container of a failed run");
            return false;
        }
        let until = keep.until;
        match self
            .deps()
            .store
            .call(move |store| store.kept_containers().keep(run, until))
            .await
        {
            Ok(kept) => kept,
            Err(error) => {
                tracing::error!(%run, error = with_sources(&error), "cannot keep the container of a failed run");
                false
            }
        }
    }

    /// The runs whose containers are kept. Containers whose time has passed are no longer kept, and the sweep removes them.
    pub(super) async fn kept_runs(&self) -> Result<Vec<RunId>, quire_store::StoreError> {
        let kept = self
            .deps()
            .store
            .call(|store| store.kept_containers().expire(MAX_KEPT_CONTAINERS))
            .await?;
        Ok(kept.into_iter().map(|kept| kept.run_id).collect())
    }
}
