//! The runner: claims runs, drives each from its claim to its outcome, and stops those it is asked to.
//!
//! ```text
//! claim ─► prepare (git, driver: is there a valid pipeline?) ─► start workspace ─► play (jobs, steps) ─► tear down ─► outcome
//!             │ rejected                                          │ image, engine        │ stopped, timed out, died
//!             └───────────────────────────────────────────────────┴──────────────────────┴──► tear down ─► outcome
//! ```
//! One loop is level-triggered on the database: woken or not, it looks for what to stop and what
//! to claim. A run ends in one place ([`one`]), after its workspace is confirmed gone.

mod attach;
mod examine;
mod keep;
mod one;
pub mod play;
pub mod prepare;
mod reconcile;
mod record;
mod reuse;
mod schedules;
pub mod service;
mod step;
mod tree;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use record::{RecordError, Recorder};
pub use tree::GitTree;

use crate::driver::CompiledCache;
use crate::executor::{Executor, ResourceLimits};
use crate::git::Git;
use crate::live::Live;
use crate::meter::Meter;
use crate::names::{RefName, RepoName, RunId};
use crate::paths::Paths;
use crate::queue::{Queue, Sleeper};
use crate::run::Run;
use crate::secret::Secret;
use crate::space::{Floor, free_bytes, in_words};
use crate::store::{Store, StoreError};

/// The slow poll: what a lost wake-up costs.
const SLOW_POLL: Duration = Duration::from_secs(2);
/// How often strays are looked for after the start.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How long a drain waits for runs to reach a durable end.
const DRAIN_GRACE: Duration = Duration::from_secs(7);

/// Finds a secret's value by name, or says in a sentence why there is none.
pub type SecretSource = Arc<dyn Fn(&str) -> Result<Secret, String> + Send + Sync>;

/// The same for a run of any ref of any repository.
pub type Secrets = Arc<dyn Fn(&RepoName, &RefName, &str) -> Result<Secret, String> + Send + Sync>;

/// What the owner decides about runs; replaced as a whole when the configuration is reloaded.
#[derive(Clone)]
pub struct RunnerConfig {
    /// Runs at the same time.
    pub concurrent_runs: usize,
    /// Jobs of one run at the same time.
    pub parallel_jobs: usize,
    /// Image of a pipeline that names none.
    pub default_image: String,
    /// Limit of a run; its pipeline can only lower it.
    pub run_timeout: Duration,
    /// What a run's container may use.
    pub limits: ResourceLimits,
    /// Whether an orphaned run is queued again, once.
    pub retry_orphaned: bool,
    /// How long the container of a failed run is kept that asked for it; zero for not at all.
    pub keep_failed: Duration,
    /// What the logs of one run may take, in bytes.
    pub log_cap: u64,
    /// What the artifacts of one run may take, in bytes.
    pub artifact_cap: u64,
    /// Where secrets come from.
    pub secrets: Secrets,
}

/// Everything a runner works with. Cheap to clone.
#[derive(Clone)]
pub struct Runner(Arc<Inner>);

/// What a runner is made of.
pub struct Parts {
    /// The database.
    pub store: Store,
    /// The queue in it.
    pub queue: Queue,
    /// Whom to wake.
    pub live: Live,
    /// Where to count.
    pub meter: Meter,
    /// Where things lie.
    pub paths: Paths,
    /// The first one runs new runs; the others only clean up after a change of configuration.
    pub executors: Vec<Arc<dyn Executor>>,
    /// The quire binary, re-executed as driver.
    pub program: std::path::PathBuf,
    /// What the owner decides.
    pub config: watch::Receiver<Arc<RunnerConfig>>,
}

struct Inner {
    parts: Parts,
    git: Git,
    /// What the pipelines of earlier runs compiled to.
    compiled: CompiledCache,
    running: Mutex<Running>,
}

impl std::ops::Deref for Inner {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// A run in progress and how to stop it.
struct InHand {
    run: RunId,
    stop: CancellationToken,
}

/// The runs in progress, by the task that drives each.
type Running = HashMap<tokio::task::Id, InHand>;

impl Runner {
    /// A runner of these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let git = Git::new(&parts.paths);
        Self(Arc::new(Inner {
            parts,
            git,
            compiled: CompiledCache::default(),
            running: Mutex::default(),
        }))
    }

    /// Claims and drives runs until told to stop, then brings what is in hand to a durable end.
    pub async fn run(self, shutdown: CancellationToken) {
        // Before anything else runs, what a crash left behind is put right.
        let Some(all_right) = shutdown.run_until_cancelled(self.reconcile()).await else {
            return;
        };
        tokio::join!(
            self.drive_all(&shutdown),
            shutdown.run_until_cancelled(self.keep_reconciling(all_right)),
            shutdown.run_until_cancelled(self.keep_examining()),
            shutdown.run_until_cancelled(self.keep_schedules()),
        );
    }

    /// Looks for strays again and again, beside the runs: an engine that hangs must not hold them.
    async fn keep_reconciling(&self, mut all_right: bool) {
        loop {
            tokio::time::sleep(if all_right { SWEEP_EVERY } else { SLOW_POLL }).await;
            all_right = self.reconcile().await;
            self.remove_caches_of_none().await;
        }
    }

    async fn drive_all(&self, shutdown: &CancellationToken) {
        let mut tasks: JoinSet<()> = JoinSet::new();
        let mut held = false;
        while !shutdown.is_cancelled() {
            self.stop_what_was_asked().await;
            if let Err(error) = self.claim_what_fits(&mut tasks, &mut held, shutdown).await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "no run can be claimed now"
                );
            }
            tokio::select! {
                () = self.0.queue.woken(Sleeper::Runner, SLOW_POLL) => {}
                Some(ended) = tasks.join_next_with_id() => self.ended(&ended).await,
                () = shutdown.cancelled() => {}
            }
        }
        let drained = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_GRACE, drained).await.is_err() {
            tracing::warn!("some runs did not end in time; they are put right at the next start");
        }
        for executor in &self.0.executors {
            executor.leave().await;
        }
    }

    /// Forgets a run whose task ended. One that panicked is put right like one that a crash left behind.
    async fn ended(&self, ended: &Result<(tokio::task::Id, ()), tokio::task::JoinError>) {
        let task = match ended {
            Ok((task, ())) => *task,
            Err(error) => {
                tracing::error!(%error, "internal error: the task of a run broke off");
                error.id()
            }
        };
        self.0.running.lock().await.remove(&task);
        if ended.is_err() {
            self.reconcile().await;
        }
    }

    async fn stop_what_was_asked(&self) {
        let running = self.0.running.lock().await;
        if running.is_empty() {
            return;
        }
        match self.0.store.call(|store| store.active_runs()).await {
            Ok(active) => {
                let asked = |run: RunId| {
                    active
                        .iter()
                        .any(|row| row.id == run && row.stop_requested.is_some())
                };
                for in_hand in running.values().filter(|in_hand| asked(in_hand.run)) {
                    in_hand.stop.cancel();
                }
            }
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "the active runs cannot be read"
            ),
        }
    }

    /// Claims as many runs as there is room for. `held` is whether the waiting runs say that the engine is away.
    async fn claim_what_fits(
        &self,
        tasks: &mut JoinSet<()>,
        held: &mut bool,
        shutdown: &CancellationToken,
    ) -> Result<(), StoreError> {
        let Some(executor) = self.0.executors.first().cloned() else {
            return Ok(());
        };
        let limit = self.0.config.borrow().concurrent_runs.max(1);
        while !shutdown.is_cancelled() {
            let full = self.0.running.lock().await.len() >= limit;
            if full || !self.0.store.call(|store| store.has_claimable()).await? {
                let place = full.then(|| format!("waits for a free place: no more than {limit} at a time (`ci.concurrent-runs`)"));
                return if *held {
                    Ok(())
                } else {
                    self.0.queue.note_blocked(place).await
                };
            }
            if let Some(why) = self.hindrance(&*executor).await {
                *held = true;
                return self
                    .0
                    .queue
                    .note_waiting(Some(format!("waits: {why}")))
                    .await;
            }
            if std::mem::take(held) {
                self.0.queue.note_waiting(None).await?;
            }
            // Under the lock, so that reconciling never sees a run active and in nobody's hands.
            let mut running = self.0.running.lock().await;
            let Some(run) = self.0.queue.claim(executor.kind()).await? else {
                return Ok(());
            };
            crate::fault::point("runner-claimed");
            let (id, stop) = (run.id, shutdown.child_token());
            let (runner, executor, shutdown, stopped) = (
                self.clone(),
                executor.clone(),
                shutdown.clone(),
                stop.clone(),
            );
            let task = tasks.spawn(async move {
                runner.drive(run, executor, stopped, shutdown).await;
                runner.0.queue.wake();
            });
            running.insert(task.id(), InHand { run: id, stop });
        }
        Ok(())
    }

    /// Why no run may start now: the disk, or the executor.
    async fn hindrance(&self, executor: &dyn Executor) -> Option<String> {
        let (floor, free) = (Floor::told(&self.0.paths), free_bytes(self.0.paths.data()));
        match free {
            Ok(free) if floor.holds_runs(free) => {
                let (is, needed) = (in_words(free), in_words(floor.0));
                Some(format!(
                    "the disk is nearly full: {is} free, and runs start from {needed} on"
                ))
            }
            _ => executor.probe().await.err().map(|error| error.to_string()),
        }
    }

    fn run_folder(&self, run: &Run) -> std::path::PathBuf {
        self.0.paths.run(&run.repo, run.id)
    }
}
