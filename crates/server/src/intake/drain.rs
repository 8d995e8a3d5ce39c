//! The spool as a whole: what lies in it is taken oldest first, at the start and at intervals. Events of one repository that
//! follow each other are recorded in one transaction.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::error::IntakeError;
use super::event_intake::{Intake, SpoolEntry};
use super::spool;
use crate::findings::RepoTask;
use quire_runtime::blocking::run_blocking;
use quire_types::error_chain::with_sources;
use quire_types::names::{EventId, RepoName};
use quire_types::push_event::PushEvent;

/// How often the spool is read when no hook announces an event.
const SPOOL_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// How often refs are compared after the start: what a push whose spool file could not be written waits.
const COMPARE_EVERY: Duration = Duration::from_secs(15 * 60);

/// The same while a repository cannot be compared.
const COMPARE_AGAIN: Duration = Duration::from_secs(30);

/// At most so many events, and about so many refs, are recorded in one transaction.
const MAX_EVENTS: usize = 50;
const MAX_REFS: usize = 1000;

/// What a pass over the spool left in it.
#[derive(Debug, Default)]
pub struct Drained {
    /// How many events.
    pub(super) left: usize,
    /// The repositories that cannot be read, so that their events wait.
    pub(super) waiting: BTreeSet<RepoName>,
}

impl Drained {
    /// Notes that an event stays in the spool.
    fn leave(&mut self, event: EventId, error: &IntakeError) {
        self.left += 1;
        match error.repo() {
            // It is among the findings.
            Some(repo) => drop(self.waiting.insert(repo.clone())),
            None => {
                tracing::error!(%event, error = with_sources(error), "an event could not be taken; it stays in the spool");
            }
        }
    }
}

impl Intake {
    /// Takes everything that lies in the spool, oldest first. One event that cannot be taken now does not hold the others.
    pub async fn drain(&self) -> Drained {
        let mut drained = Drained::default();
        let paths = self.0.paths.clone();
        let listed = run_blocking(move || spool::list(&paths)).await;
        let events = match listed.map_err(IntakeError::from).flatten() {
            Ok(events) => events,
            Err(error) => {
                tracing::error!(error = with_sources(&error), "the spool cannot be read");
                return drained;
            }
        };
        let found_any = !events.is_empty();
        let mut batch = Vec::new();
        for event in events {
            match self.read(event).await {
                Ok(SpoolEntry::Push(push)) => {
                    if !fits(&batch, &push) {
                        let full = std::mem::take(&mut batch);
                        self.take_batch(full, &mut drained).await;
                    }
                    batch.push(push);
                }
                Ok(SpoolEntry::Gone | SpoolEntry::Damaged(_)) => {}
                Err(error) => drained.leave(event, &error),
            }
        }
        self.take_batch(batch, &mut drained).await;
        // Once for all. Until then the file is behind the database, which is harmless.
        if found_any {
            self.0.queue.write_sequence().await;
        }
        let is_waiting = |name: &str| drained.waiting.iter().any(|repo| repo.as_str() == name);
        self.0
            .findings
            .clear_others(RepoTask::RecordPush, is_waiting);
        let paths = self.0.paths.clone();
        if let Ok(damaged) = run_blocking(move || spool::count_damaged(&paths)).await {
            self.0.damaged.store(damaged, Ordering::Relaxed);
        }
        drained
    }

    async fn take_batch(&self, batch: Vec<PushEvent>, drained: &mut Drained) {
        let ids: Vec<EventId> = batch.iter().map(|push| push.id).collect();
        match self.take_all(batch).await {
            Ok(taken) => {
                for (event, taken) in taken {
                    if let Err(error) = taken {
                        drained.leave(event, &error);
                    }
                }
            }
            Err(error) => ids.into_iter().for_each(|id| drained.leave(id, &error)),
        }
    }

    /// Reads the spool and compares refs at intervals, until `stop` is cancelled.
    pub async fn poll(&self, stop: &CancellationToken) {
        let mut compared = tokio::time::Instant::now();
        while stop
            .run_until_cancelled(tokio::time::sleep(SPOOL_POLL_INTERVAL))
            .await
            .is_some()
        {
            let drained = self.drain().await;
            self.apply_decision().await;
            self.compare_marked(&drained).await;
            let failed = [RepoTask::Look, RepoTask::CompareRefs];
            let interval = if self.0.findings.has_any(&failed) {
                COMPARE_AGAIN
            } else {
                COMPARE_EVERY
            };
            if compared.elapsed() >= interval {
                self.compare_refs().await;
                compared = tokio::time::Instant::now();
            }
        }
    }
}

/// Whether a push is recorded in the same transaction as these.
fn fits(batch: &[PushEvent], push: &PushEvent) -> bool {
    let refs: usize = batch.iter().map(|push| push.refs.len()).sum();
    batch.first().is_none_or(|first| first.repo == push.repo)
        && batch.len() < MAX_EVENTS
        && refs < MAX_REFS
}
