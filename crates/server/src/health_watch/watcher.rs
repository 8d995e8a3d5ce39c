//! Writes what has to be told of the health of the appliance into the outbox.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::observed::ObservedPart;
use super::policy::{FindingTimes, Moment};
use crate::notify::NotifySettings;
use quire_runtime::changes::ChangeNotifier;
use quire_store::{HealthReport, Store, StoreError};
use quire_types::failpoint;

/// Compares what the checks say with what was told.
pub struct HealthWatcher {
    store: Store,
    /// Wakes the workers of targets.
    changes: ChangeNotifier,
    settings: watch::Receiver<Arc<NotifySettings>>,
    times: FindingTimes,
}

impl HealthWatcher {
    #[must_use]
    pub fn new(
        store: Store,
        changes: ChangeNotifier,
        settings: watch::Receiver<Arc<NotifySettings>>,
    ) -> Self {
        Self {
            store,
            changes,
            settings,
            times: FindingTimes::default(),
        }
    }

    /// Tells what has to be told of this. What cannot be written is told at the next call.
    pub async fn observe(&mut self, parts: &[ObservedPart]) -> Result<(), StoreError> {
        let told = self
            .store
            .call(|store| store.health_findings().told())
            .await?;
        let now = Moment {
            instant: Instant::now(),
            time: self.store.clock().now(),
            after: self.settings.borrow().health_after,
        };
        let reports: Vec<HealthReport> = self.times.reports(parts, &told, now);
        if reports.is_empty() {
            return Ok(());
        }
        failpoint::hit("health-before-report");
        let tell = move |store: &Store| store.health_findings().tell(&reports);
        self.store.call(tell).await?;
        failpoint::hit("health-reported");
        self.changes.notify_outbox();
        Ok(())
    }
}
