//! One round of removal: its limits, and what it removed so far.
//!
//! The steps are in `retention.rs`, `trash.rs`, `undo.rs`, `caches.rs` and `images.rs`. A step that fails does not keep the others
//! from running.

use std::time::Duration;

use crate::control::protocol::GcReport;
use quire_executor::ExecutorError;
use quire_store::{Store, StoreError};
use quire_types::clock::Millis;
use quire_types::error_chain::chain;

use super::deps::{HousekeepingDeps, RetentionLimits};
use super::error::HousekeepingError;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// How many operations the log has.
const MAX_OPERATIONS: u32 = 100_000;
const CLOCK_JUMPED: &str = "the system clock is far ahead of the time last recorded; \
    age-based cleanup is paused for 24 hours (check the clock of the host)";

pub(super) struct CleanupPass<'a> {
    pub(super) deps: &'a HousekeepingDeps,
    pub(super) limits: RetentionLimits,
    /// What was last used before this time is too old. `None` if nothing is removed because of its age.
    pub(super) cutoff: Option<Millis>,
    /// What a build left before this time is removed; a failed build may be retried until then. `None` if the
    /// clock is not plausible.
    pub(super) build_cutoff: Option<Millis>,
    /// Repositories that were removed before this time are deleted from the trash. `None` if the clock is not plausible.
    pub(super) trash_cutoff: Option<Millis>,
    /// The same for what pushes overwrote.
    pub(super) undo_cutoff: Option<Millis>,
    pub(super) freed: GcReport,
}

/// The time so long before another one.
fn ago(now: Millis, time: Duration) -> Millis {
    now.plus(i64::try_from(time.as_millis()).map_or(i64::MIN, |millis| -millis))
}

impl<'a> CleanupPass<'a> {
    pub(super) fn new(deps: &'a HousekeepingDeps, clock_plausible: bool) -> Self {
        let limits = *deps.limits.borrow();
        let now = deps.store.clock().now();
        let days_ago = |days: u32| clock_plausible.then(|| now.plus(-i64::from(days) * DAY_MS));
        let mut freed = GcReport::default();
        if !clock_plausible {
            freed.problems.push(CLOCK_JUMPED.to_owned());
        }
        Self {
            deps,
            limits,
            cutoff: days_ago(limits.days).filter(|_| limits.days > 0),
            build_cutoff: days_ago(1),
            trash_cutoff: clock_plausible.then(|| ago(now, limits.times.trash)),
            undo_cutoff: clock_plausible.then(|| ago(now, limits.times.undo)),
            freed,
        }
    }

    pub(super) async fn run(mut self) -> GcReport {
        let results = [
            self.remove_old_runs().await,
            self.empty_trash().await,
            self.release_overwritten().await,
            self.expire_operations().await,
            self.remove_leftovers().await,
            self.call(|store| store.retention().clamp_future_usage())
                .await
                .map_err(HousekeepingError::from),
            // Last, because a container engine may be slow.
            self.remove_caches().await,
            self.remove_images().await,
        ];
        for error in results.into_iter().filter_map(Result::err) {
            self.freed.problems.push(chain(&error));
        }
        self.freed
    }

    /// Deletes the operations that are older than the log goes back.
    async fn expire_operations(&self) -> Result<(), HousekeepingError> {
        let time = self.limits.operations;
        let is_limited = self.build_cutoff.is_some() && !time.is_zero();
        let cutoff = is_limited.then(|| ago(self.deps.store.clock().now(), time));
        self.call(move |store| store.operations().expire(cutoff, MAX_OPERATIONS))
            .await?;
        Ok(())
    }

    /// Records an error of an executor; the next round retries. An engine that is down has a health check of its
    /// own, so that is not recorded here.
    pub(super) fn record_problem(&mut self, attempt: &str, error: &ExecutorError) {
        match error {
            ExecutorError::Unavailable(_) => {
                tracing::debug!(%error, "{attempt}: the container engine is not available")
            }
            _ => self.freed.problems.push(format!("{attempt}: {error}")),
        }
    }

    /// Records a file or folder that could not be removed; the next round retries.
    pub(super) fn record_kept_file(&mut self, path: &std::path::Path, error: &std::io::Error) {
        self.freed
            .problems
            .push(format!("cannot remove {}: {error}", path.display()));
    }

    pub(super) async fn call<T, F>(&self, call: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    {
        self.deps.store.call(call).await
    }
}
