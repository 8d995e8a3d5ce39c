//! The queue is the table `runs`; this is who may touch its ends. Everything that enters asks
//! policy what it replaces; everything that changes wakes the runner and whoever watches.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::live::Live;
use crate::names::RunId;
use crate::policy;
use crate::run::event::PushEvent;
use crate::run::{ExecutorKind, Run};
use crate::store::{NewRun, Recorded, RefsNow, Store, StoreError};

/// The queue of runs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    store: Store,
    live: Live,
    wake: Arc<Notify>,
}

impl Queue {
    /// A queue over the store, telling changes to `live`.
    #[must_use]
    pub fn new(store: Store, live: Live) -> Self {
        Self { store, live, wake: Arc::default() }
    }

    /// Something may have changed: the runner looks.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits for a wake-up, at most so long. One that came since the last wait counts, so none is lost.
    pub async fn woken(&self, at_most: Duration) {
        // A time-out is the slow poll that makes a lost wake-up only late.
        let _ = tokio::time::timeout(at_most, self.wake.notified()).await;
    }

    /// Records an event and its runs.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn record(&self, event: PushEvent, runs: Vec<NewRun>, refs_now: RefsNow) -> Result<Recorded, StoreError> {
        let recorded = self.store.call(move |store| store.record_event(&event, &runs, &refs_now, policy::on_new_run)).await?;
        for run in recorded.replaced.iter().chain(recorded.runs.iter().map(|(id, _)| id)) {
            self.live.state_changed(*run);
        }
        self.wake();
        Ok(recorded)
    }

    /// Claims the next run that may start.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn claim(&self, executor: ExecutorKind) -> Result<Option<Run>, StoreError> {
        let run = self.store.call(move |store| store.claim_next(executor)).await?;
        if let Some(run) = &run {
            self.live.state_changed(run.id);
        }
        Ok(run)
    }

    /// Notes on the waiting runs why they wait, or that nothing holds them any more.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn note_waiting(&self, why: Option<String>) -> Result<(), StoreError> {
        self.changed(self.store.call(move |store| store.note_waiting(why.as_deref())).await?);
        Ok(())
    }

    fn changed(&self, runs: Vec<RunId>) {
        for run in runs {
            self.live.state_changed(run);
        }
    }
}
