//! The queue of runs, which is the table `runs`. A run that enters it is checked by the supersede policy,
//! and each change wakes the runner and notifies the followers of the run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::sequence::SequenceFile;
use quire_pipeline::Group;
use quire_runtime::changes::ChangeNotifier;
use quire_store::{PlannedEvent, RecordedEvent, Store, StoreError};
use quire_types::names::{RepoName, RunId};
use quire_types::run::{ExecutorName, Run};
use quire_types::supersede;

/// The queue of runs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    store: Store,
    live: ChangeNotifier,
    sequence: SequenceFile,
    wake: Arc<[Notify; 4]>,
}

/// The loops that wait for changes of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiter {
    /// Claims runs.
    Runner,
    /// Resolves the groups of runs.
    Groups,
    /// Starts the runs of schedules.
    Schedules,
    /// Completes renames.
    Renames,
}

impl Queue {
    /// Creates the queue of a store. Changes are notified by `live`.
    #[must_use]
    pub fn new(store: Store, live: ChangeNotifier, sequence: SequenceFile) -> Self {
        Self {
            store,
            live,
            sequence,
            wake: Arc::default(),
        }
    }

    /// Wakes all that wait, because a command or a page may have changed something, names of repositories included.
    pub fn wake(&self) {
        self.live.notify_names();
        self.wake_waiters();
    }

    fn wake_waiters(&self) {
        self.wake.iter().for_each(Notify::notify_one);
    }

    /// Waits for a wake-up, at most `at_most`. A wake-up since the last wait counts, so none is lost.
    pub async fn wait(&self, waiter: Waiter, at_most: Duration) {
        // The time-out turns a lost wake-up into a delay.
        let _ = tokio::time::timeout(at_most, self.wake[waiter as usize].notified()).await;
    }

    /// Records events, oldest first, with their runs. [`Queue::write_sequence`] has to follow, once for any number of events.
    pub async fn record(
        &self,
        planned: Vec<PlannedEvent>,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let repos: BTreeSet<RepoName> = planned
            .iter()
            .map(|planned| planned.event.repo.clone())
            .collect();
        let record = move |store: &Store| {
            let decide = supersede::superseded_runs;
            store.events().record_all(&planned, decide)
        };
        let recorded = self.store.call(record).await?;
        repos.iter().for_each(|repo| self.live.notify_repo(repo));
        for event in &recorded {
            let made = event.runs.iter().map(|(id, _)| id);
            for run in event.replaced.iter().chain(made) {
                self.live.notify_run(*run);
            }
        }
        self.wake_waiters();
        Ok(recorded)
    }

    /// Writes how many pushes are recorded to the file beside the repositories.
    pub async fn write_sequence(&self) {
        self.sequence.write(&self.store).await;
    }

    /// Records the group of a run whose pipeline was evaluated, and supersedes runs accordingly.
    pub async fn set_group(&self, run: Run, group: Option<Group>) -> Result<(), StoreError> {
        self.changed(
            self.store
                .call(move |store| {
                    store
                        .queue()
                        .set_group(&run, group.as_ref(), supersede::superseded_runs)
                })
                .await?,
        );
        self.wake_waiters();
        Ok(())
    }

    /// Records why the group of a waiting run cannot be resolved yet.
    pub async fn set_group_error(&self, run: RunId, why: String) -> Result<(), StoreError> {
        self.changed(
            self.store
                .call(move |store| store.queue().set_group_error(run, &why))
                .await?,
        );
        Ok(())
    }

    /// Ends a run without a task and requeues it if the policy says so. Returns the new run.
    pub async fn orphan(
        &self,
        run: RunId,
        message: &'static str,
        requeue: bool,
    ) -> Result<Option<RunId>, StoreError> {
        let again = self
            .store
            .call(move |store| {
                store
                    .runs()
                    .orphan(run, message, requeue, supersede::superseded_runs)
            })
            .await?;
        self.changed(again.into_iter().chain([run]).collect());
        self.wake_waiters();
        Ok(again)
    }

    /// Claims the next run that may start.
    pub async fn claim(&self, executor: &ExecutorName) -> Result<Option<Run>, StoreError> {
        let executor = executor.clone();
        let run = self
            .store
            .call(move |store| store.queue().claim_next(&executor))
            .await?;
        if let Some(run) = &run {
            self.live.notify_run(run.id);
            self.sequence.write(&self.store).await;
        }
        Ok(run)
    }

    /// Records on all waiting runs why they wait; `None` clears the reason.
    pub async fn set_wait_reason(&self, why: Option<String>) -> Result<(), StoreError> {
        self.changed(
            self.store
                .call(move |store| store.queue().set_wait_reason(why.as_deref()))
                .await?,
        );
        Ok(())
    }

    /// Records on each waiting run which other run it waits for, or `otherwise` if there is none.
    pub async fn set_block_reasons(&self, otherwise: Option<String>) -> Result<(), StoreError> {
        self.changed(
            self.store
                .call(move |store| store.queue().set_block_reasons(otherwise.as_deref()))
                .await?,
        );
        Ok(())
    }

    fn changed(&self, runs: Vec<RunId>) {
        for run in runs {
            self.live.notify_run(run);
        }
    }
}
