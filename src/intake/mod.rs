//! From spooled push events to rows. Drains `spool/` in order, at start, at each poke and slowly
//! ever after; answers the hook on the event socket; compares refs with what it has seen.
//!
//! ```text
//! spool file ──parse──► plan (git: has the commit a pipeline?) ──one transaction──► file removed
//!     └─ damaged ─► spool/damaged/ (reported, never skipped in silence)
//! ```
//! An event is taken under one lock, so a poke and the drain cannot take it at the same time;
//! and its id is unique in the database, so a crash between transaction and removal is harmless.

mod caches;
mod compare;
mod plan;
mod socket;
mod spool;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

pub use socket::bind;
pub use spool::{Damage, parse as parse_event};

use crate::executor::Executor;
use crate::git::{Git, GitError};
use crate::housekeeping::Housekeeping;
use crate::meter::Meter;
use crate::names::EventId;
use crate::paths::Paths;
use crate::queue::Queue;
use crate::run::event::{AnsweredRun, PushEvent};
use crate::store::{Recorded, Store, StoreError};

/// How often the spool is looked at without a poke.
const SLOW_POLL: Duration = Duration::from_secs(2);

/// How often refs are compared after the start: what a push whose spool file could not be written waits.
const COMPARE_EVERY: Duration = Duration::from_secs(15 * 60);

/// Why an event could not be taken; it stays in the spool and is tried again.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The spool cannot be read or changed.
    #[error("{attempt} {path}")]
    Spool {
        /// What was attempted.
        attempt: &'static str,
        /// On what.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Git could not answer.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What became of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Its runs.
    pub runs: Vec<AnsweredRun>,
    /// Sentences for the pusher.
    pub notes: Vec<String>,
}

/// The intake. Cheap to clone.
#[derive(Clone)]
pub struct Intake(Arc<Inner>);

struct Inner {
    paths: Paths,
    store: Store,
    queue: Queue,
    git: Git,
    url: String,
    taking: Mutex<()>,
    damaged: AtomicU64,
    meter: Meter,
    executors: Vec<Arc<dyn Executor>>,
    housekeeping: Housekeeping,
}

impl Intake {
    /// An intake that names pages below `url`, and knows of caches by asking the executors.
    #[must_use]
    pub fn new(
        paths: Paths,
        store: Store,
        queue: Queue,
        meter: Meter,
        housekeeping: Housekeeping,
        executors: Vec<Arc<dyn Executor>>,
        url: String,
    ) -> Self {
        let git = Git::new(&paths);
        let (taking, damaged) = (Mutex::default(), AtomicU64::new(0));
        let inner = Inner { paths, store, queue, git, url, taking, damaged, meter, executors, housekeeping };
        Self(Arc::new(inner))
    }

    /// Damaged spool files set aside and still there.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.0.damaged.load(Ordering::Relaxed)
    }

    /// Takes everything that lies in the spool, oldest first. One event that cannot be taken now does not hold the others.
    pub async fn drain(&self) {
        let events = match spool::list(&self.0.paths) {
            Ok(events) => events,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the spool cannot be read");
                return;
            }
        };
        for event in events {
            if let Err(error) = self.take(event).await {
                tracing::error!(%event, error = &error as &dyn std::error::Error, "an event could not be taken; it stays in the spool");
            }
        }
        self.0.damaged.store(spool::count_damaged(&self.0.paths), Ordering::Relaxed);
    }

    /// Takes one event: records it with its runs, then removes its file.
    ///
    /// # Errors
    /// Git or the database could not answer; the file stays.
    pub async fn take(&self, event: EventId) -> Result<Taken, IntakeError> {
        let _one_at_a_time = self.0.taking.lock().await;
        let path = self.0.paths.spool_file(event);
        let Some(read) = spool::read(&path)? else {
            // Taken before, or never written; the database knows.
            let known = self.0.store.call(move |store| store.runs_of_event(event)).await?.unwrap_or_default();
            return Ok(self.answer(Recorded { runs: known, ..Recorded::default() }, Vec::new()));
        };
        let push = match read.and_then(|push| if push.id == event { Ok(push) } else { Err(spool::Damage::WrongId) }) {
            Ok(push) => push,
            Err(damage) => {
                tracing::error!(file = %path.display(), %damage, "a spool file is damaged; it was set aside in spool/damaged");
                spool::set_aside(&self.0.paths, &path)?;
                self.0.damaged.fetch_add(1, Ordering::Relaxed);
                return Ok(Taken {
                    runs: Vec::new(),
                    notes: vec![format!("the event of this push is damaged ({damage}); it was set aside")],
                });
            }
        };
        let taken = self.record(push).await?;
        crate::fault::point("intake-recorded");
        spool::remove(&path)?;
        self.0.meter.pushes.fetch_add(1, Ordering::Relaxed);
        Ok(taken)
    }

    /// Plans and records an event.
    async fn record(&self, push: PushEvent) -> Result<Taken, IntakeError> {
        let plan = plan::plan(&self.0.git, &self.0.paths, &push).await?;
        crate::fault::point("intake-before-record");
        let recorded = self.0.queue.record(push, plan.runs, plan.refs_now).await?;
        Ok(self.answer(recorded, plan.notes))
    }

    fn answer(&self, recorded: Recorded, notes: Vec<String>) -> Taken {
        let url = self.0.url.trim_end_matches('/');
        let runs =
            recorded.runs.into_iter().map(|(id, ref_name)| AnsweredRun { id: id.to_string(), ref_name, url: format!("{url}/runs/{id}") });
        Taken { runs: runs.collect(), notes }
    }

    /// Serves the event socket and polls the spool, until told to stop.
    pub async fn run(self, socket: tokio::net::UnixListener, stop: CancellationToken) {
        tokio::join!(socket::serve(&self, socket, &stop), self.poll(&stop));
    }

    async fn poll(&self, stop: &CancellationToken) {
        let mut compared = tokio::time::Instant::now();
        while stop.run_until_cancelled(tokio::time::sleep(SLOW_POLL)).await.is_some() {
            self.drain().await;
            if compared.elapsed() >= COMPARE_EVERY {
                self.compare_refs(false).await;
                compared = tokio::time::Instant::now();
            }
        }
    }
}
