//! Keeping the container of a run that failed, for a person to look into.

use super::one::{End, Held};
use super::{Runner, RunnerConfig};
use crate::clock::Millis;
use crate::names::RunId;
use crate::run::{ExecutorKind, FailureKind, Outcome, Run};

/// So many are kept; the oldest go first.
const MOST: u32 = 10;

impl Runner {
    /// Until when a run's container is kept that came out like this; none where it is not.
    pub(super) fn keeps(
        &self,
        run: &Run,
        executor: ExecutorKind,
        end: &End,
        held: &Held,
        config: &RunnerConfig,
    ) -> Option<Millis> {
        let failed = matches!(
            end,
            End::Outcome(Outcome::Failed(
                FailureKind::Job | FailureKind::Timeout | FailureKind::Pipeline,
                _
            ))
        );
        let keeps = run.keep
            && failed
            && executor == ExecutorKind::Docker
            && matches!(held, Held::Workspace(_))
            && !config.keep_failed.is_zero();
        let millis = i64::try_from(config.keep_failed.as_millis()).unwrap_or(i64::MAX);
        keeps.then(|| self.0.store.clock().now().plus(millis))
    }

    /// Takes a run's container over, so that the run may end. False where it stays the run's, to be removed.
    pub(super) async fn keep(&self, run: RunId, until: Millis) -> bool {
        match self
            .0
            .store
            .call(move |store| store.keep_container(run, until))
            .await
        {
            Ok(kept) => kept,
            Err(error) => {
                tracing::error!(%run, error = &error as &dyn std::error::Error, "a failed run's container cannot be kept");
                false
            }
        }
    }

    /// The runs whose containers are kept; those whose time is up are so no more, and the sweep removes them.
    pub(super) async fn kept(&self) -> Result<Vec<RunId>, crate::store::StoreError> {
        let kept = self
            .0
            .store
            .call(|store| store.kept_containers(MOST))
            .await?;
        Ok(kept.into_iter().map(|kept| kept.run_id).collect())
    }
}
