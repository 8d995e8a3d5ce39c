//! The queue is the table `runs`; this is who may touch its ends. Everything that enters asks
//! policy what it replaces; everything that changes wakes the runner and whoever watches.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::live::Live;
use crate::names::RunId;
use crate::pipeline::Group;
use crate::policy;
use crate::run::event::PushEvent;
use crate::run::{ExecutorKind, Run};
use crate::store::{NewRun, Recorded, RefsNow, Store, StoreError};

/// The queue of runs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    store: Store,
    live: Live,
    wake: Arc<[Notify; 4]>,
}

/// Who sleeps until something in the queue may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sleeper {
    /// Who claims runs.
    Runner,
    /// Who finds out the groups of runs.
    Examiner,
    /// Who starts runs by schedules.
    Schedules,
    /// Who finishes renames.
    Renaming,
}

impl Queue {
    /// A queue over the store, telling changes to `live`.
    #[must_use]
    pub fn new(store: Store, live: Live) -> Self {
        Self {
            store,
            live,
            wake: Arc::default(),
        }
    }

    /// Something may have changed: whoever sleeps looks.
    pub fn wake(&self) {
        self.wake.iter().for_each(Notify::notify_one);
    }

    /// Waits for a wake-up, at most so long. One that came since the last wait counts, so none is lost.
    pub async fn woken(&self, who: Sleeper, at_most: Duration) {
        // A time-out is the slow poll that makes a lost wake-up only late.
        let _ = tokio::time::timeout(at_most, self.wake[who as usize].notified()).await;
    }

    /// Records an event and its runs.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn record(
        &self,
        event: PushEvent,
        runs: Vec<NewRun>,
        refs_now: RefsNow,
    ) -> Result<Recorded, StoreError> {
        let recorded = self
            .store
            .call(move |store| store.record_event(&event, &runs, &refs_now, policy::settle))
            .await?;
        for run in recorded
            .replaced
            .iter()
            .chain(recorded.runs.iter().map(|(id, _)| id))
        {
            self.live.state_changed(*run);
        }
        self.wake();
        Ok(recorded)
    }

    /// Notes the group of a run whose pipeline was evaluated, and supersedes what that means.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn examined(&self, run: Run, group: Option<Group>) -> Result<(), StoreError> {
        self.changed(
            self.store
                .call(move |store| store.examined(&run, group.as_ref(), policy::settle))
                .await?,
        );
        self.wake();
        Ok(())
    }

    /// Notes why the group of a waiting run cannot be found out yet.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn note_unexamined(&self, run: RunId, why: String) -> Result<(), StoreError> {
        self.changed(
            self.store
                .call(move |store| store.note_unexamined(run, &why))
                .await?,
        );
        Ok(())
    }

    /// Ends a run that nobody drives any more, and queues it again where policy says so. Gives the new one.
    ///
    /// # Errors
    /// The run is not active, or its container is not confirmed gone.
    pub async fn orphan(
        &self,
        run: RunId,
        message: &'static str,
        requeue: bool,
    ) -> Result<Option<RunId>, StoreError> {
        let again = self
            .store
            .call(move |store| store.orphan(run, message, requeue, policy::settle))
            .await?;
        self.changed(again.into_iter().chain([run]).collect());
        self.wake();
        Ok(again)
    }

    /// Claims the next run that may start.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn claim(&self, executor: ExecutorKind) -> Result<Option<Run>, StoreError> {
        let run = self
            .store
            .call(move |store| store.claim_next(executor))
            .await?;
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
        self.changed(
            self.store
                .call(move |store| store.note_waiting(why.as_deref()))
                .await?,
        );
        Ok(())
    }

    /// Notes on waiting runs for which other run each waits, `otherwise` where that is none.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn note_blocked(&self, otherwise: Option<String>) -> Result<(), StoreError> {
        self.changed(
            self.store
                .call(move |store| store.note_blocked(otherwise.as_deref()))
                .await?,
        );
        Ok(())
    }

    fn changed(&self, runs: Vec<RunId>) {
        for run in runs {
            self.live.state_changed(run);
        }
    }
}
