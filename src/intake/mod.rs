//! From spooled push events to rows. Drains `spool/` in order, at start, at each poke and slowly
//! ever after; answers the hook on the event socket; compares refs with what it has seen.
//!
//! ```text
//! spool file ──parse──► plan (git: has the commit a pipeline?) ──one transaction──► file removed
//!     └─ damaged ─► spool/damaged/ (reported, never skipped in silence)
//! ```
//! Events of one repository are taken one after the other, so that what git says of its refs is still true
//! when it is recorded; a repository whose disk hangs holds up no other. An event's id is unique in the
//! database, so one that is taken twice (by a poke and the drain, or after a crash) is taken once.

mod caches;
mod compare;
mod plan;
mod socket;
mod spool;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
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
use crate::names::{EventId, RepoName};
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
    /// It was cut off, by the end of the server or by a fault of its own.
    #[error("the work on it was cut off")]
    Interrupted,
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

/// One lock for each repository, roughly: few share one, and none is ever to be removed.
struct RepoLocks([Mutex<()>; 64]);

impl Default for RepoLocks {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl RepoLocks {
    fn of(&self, repo: &RepoName) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        repo.hash(&mut hasher);
        &self.0[usize::try_from(hasher.finish() % self.0.len() as u64).unwrap_or_default()]
    }
}

/// Does what asks the disk, which may hang, where it holds nobody up.
async fn disk<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, IntakeError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| IntakeError::Interrupted)
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
    taking: RepoLocks,
    /// Repositories that the last comparison of refs did not find.
    gone: Mutex<BTreeSet<RepoName>>,
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
        let (taking, gone, damaged) = (RepoLocks::default(), Mutex::default(), AtomicU64::new(0));
        let inner = Inner {
            paths,
            store,
            queue,
            git,
            url,
            taking,
            gone,
            damaged,
            meter,
            executors,
            housekeeping,
        };
        Self(Arc::new(inner))
    }

    /// Damaged spool files set aside and still there.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.0.damaged.load(Ordering::Relaxed)
    }

    /// Takes everything that lies in the spool, oldest first. One event that cannot be taken now does not hold the others.
    pub async fn drain(&self) {
        let paths = self.0.paths.clone();
        let events = match disk(move || spool::list(&paths)).await.flatten() {
            Ok(events) => events,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the spool cannot be read"
                );
                return;
            }
        };
        for event in events {
            if let Err(error) = self.take(event).await {
                tracing::error!(%event, error = &error as &dyn std::error::Error, "an event could not be taken; it stays in the spool");
            }
        }
        let paths = self.0.paths.clone();
        if let Ok(damaged) = disk(move || spool::count_damaged(&paths)).await {
            self.0.damaged.store(damaged, Ordering::Relaxed);
        }
    }

    /// Takes one event: records it with its runs, then removes its file.
    ///
    /// # Errors
    /// Git or the database could not answer; the file stays.
    pub async fn take(&self, event: EventId) -> Result<Taken, IntakeError> {
        let path = self.0.paths.spool_file(event);
        let file = path.clone();
        let Some(read) = disk(move || spool::read(&file)).await.flatten()? else {
            // Taken before, or never written; the database knows.
            let known = self
                .0
                .store
                .call(move |store| store.runs_of_event(event))
                .await?
                .unwrap_or_default();
            return Ok(self.answer(
                Recorded {
                    runs: known,
                    ..Recorded::default()
                },
                Vec::new(),
            ));
        };
        let push = match read.and_then(|push| {
            if push.id == event {
                Ok(push)
            } else {
                Err(spool::Damage::WrongId)
            }
        }) {
            Ok(push) => push,
            Err(damage) => {
                tracing::error!(file = %path.display(), %damage, "a spool file is damaged; it was set aside in spool/damaged");
                let paths = self.0.paths.clone();
                disk(move || spool::set_aside(&paths, &path))
                    .await
                    .flatten()?;
                self.0.damaged.fetch_add(1, Ordering::Relaxed);
                return Ok(Taken {
                    runs: Vec::new(),
                    notes: vec![format!(
                        "the event of this push is damaged ({damage}); it was set aside"
                    )],
                });
            }
        };
        let _one_at_a_time = self.0.taking.of(&push.repo).lock().await;
        let taken = self.record(push).await?;
        crate::fault::point("intake-recorded");
        // The other one who was taking it at the same time, if there was one, counts it.
        if disk(move || spool::remove(&path)).await.flatten()? {
            self.0.meter.pushes.fetch_add(1, Ordering::Relaxed);
        }
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
        let runs = recorded.runs.into_iter().map(|(id, ref_name)| AnsweredRun {
            id: id.to_string(),
            ref_name,
            url: format!("{url}/runs/{id}"),
        });
        Taken {
            runs: runs.collect(),
            notes,
        }
    }

    /// Answers hooks and commands on the event socket, until told to stop.
    pub async fn listen(&self, socket: tokio::net::UnixListener, stop: &CancellationToken) {
        socket::serve(self, socket, stop).await;
    }

    /// Looks at spool and refs by itself now and then, until told to stop.
    pub async fn poll(&self, stop: &CancellationToken) {
        let mut compared = tokio::time::Instant::now();
        while stop
            .run_until_cancelled(tokio::time::sleep(SLOW_POLL))
            .await
            .is_some()
        {
            self.drain().await;
            if compared.elapsed() >= COMPARE_EVERY {
                self.compare_refs().await;
                compared = tokio::time::Instant::now();
            }
        }
    }
}
