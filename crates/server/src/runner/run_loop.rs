//! The loop that claims runs, starts a task for each, and stops runs on request.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::RunnerConfig;
use super::evaluations::Evaluations;
use crate::findings::Findings;
use crate::metrics::Metrics;
use crate::queue::{Queue, Waiter};
use crate::repo_settings::RepoSettingsReader;
use quire_executor::Executor;
use quire_git::Git;
use quire_pipeline::driver::CompiledCache;
use quire_runtime::changes::ChangeNotifier;
use quire_store::{Store, StoreError};
use quire_types::disk_space::{MinFree, free_bytes, has_inodes, make_a_file};
use quire_types::error_chain::with_sources;
use quire_types::failpoint;
use quire_types::names::RunId;
use quire_types::paths::Paths;
use quire_types::run::Run;
use quire_types::text::format_bytes;

/// The interval at which the loops poll, so that a lost wake-up only causes a delay.
pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// The interval at which orphaned runs and containers are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// How long a shutdown waits for active runs to reach a durable state.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(7);

/// Runs the pipelines of an appliance. Cheap to clone.
#[derive(Clone)]
pub struct Runner(pub(super) Arc<RunnerState>);

/// The parts of the server that a runner works with.
pub struct RunnerDeps {
    /// Git, with what the intake has read.
    pub git: Git,
    /// The database.
    pub store: Store,
    /// The queue of runs.
    pub queue: Queue,
    /// Notifies followers of runs.
    pub live: ChangeNotifier,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The paths of the data volume.
    pub paths: Paths,
    /// The first executor runs new runs. The others only clean up after a change of the configuration.
    pub executors: Vec<Arc<dyn Executor>>,
    /// The quire binary, which is executed again as the driver.
    pub program: PathBuf,
    /// What is wrong with repositories.
    pub findings: Findings,
    /// Reads what repositories say about their runs.
    pub repo_settings: RepoSettingsReader,
    /// The owner's settings.
    pub config: watch::Receiver<Arc<RunnerConfig>>,
}

pub(super) struct RunnerState {
    pub(super) deps: RunnerDeps,
    /// The compiled pipelines of earlier runs.
    pub(super) compiled: CompiledCache,
    /// The results of earlier evaluations.
    pub(super) evaluations: Evaluations,
    pub(super) active: Mutex<ActiveRuns>,
    /// Removals of workspaces whose runs have ended.
    pub(super) removals: TaskTracker,
}

/// An active run and the token that stops it.
pub(super) struct RunHandle {
    pub(super) run: RunId,
    stop: CancellationToken,
}

/// The active runs, by the task that drives each.
type ActiveRuns = HashMap<tokio::task::Id, RunHandle>;

/// What waiting runs say about why they wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WaitReason {
    /// Each names the run that it waits for.
    Queue,
    /// No run can start now: the disk is full, or the engine does not answer.
    NoRunCanStart,
}

impl Runner {
    /// Creates a runner; [`Runner::run`] starts it.
    #[must_use]
    pub fn new(deps: RunnerDeps) -> Self {
        Self(Arc::new(RunnerState {
            deps,
            compiled: CompiledCache::default(),
            evaluations: Evaluations::default(),
            active: Mutex::default(),
            removals: TaskTracker::new(),
        }))
    }

    pub(super) fn deps(&self) -> &RunnerDeps {
        &self.0.deps
    }

    /// Claims and drives runs until `shutdown` is cancelled, then brings the active runs to a durable state.
    pub async fn run(self, shutdown: CancellationToken) {
        // Runs that a crash left behind are ended before anything else runs.
        let reconciled = shutdown.run_until_cancelled(self.reconcile()).await;
        let Some(complete) = reconciled else {
            return;
        };
        tokio::join!(
            self.run_loop(&shutdown),
            shutdown.run_until_cancelled(self.reconcile_loop(complete)),
            shutdown.run_until_cancelled(self.group_loop()),
            shutdown.run_until_cancelled(self.schedule_loop()),
        );
    }

    /// Reconciles periodically, in parallel to the runs, because an engine that hangs must not block them.
    async fn reconcile_loop(&self, mut complete: bool) {
        loop {
            let interval = if complete {
                SWEEP_INTERVAL
            } else {
                POLL_INTERVAL
            };
            tokio::time::sleep(interval).await;
            complete = self.reconcile().await;
            self.remove_orphaned_caches().await;
        }
    }

    async fn run_loop(&self, shutdown: &CancellationToken) {
        let mut tasks: JoinSet<()> = JoinSet::new();
        let mut reason = WaitReason::Queue;
        while !shutdown.is_cancelled() {
            self.cancel_requested_runs().await;
            match self.claim_up_to_limit(&mut tasks, reason, shutdown).await {
                Ok(now) => reason = now,
                Err(error) => {
                    tracing::error!(error = with_sources(&error), "cannot claim runs now")
                }
            }
            tokio::select! {
                () = self.deps().queue.wait(Waiter::Runner, POLL_INTERVAL) => {}
                Some(ended) = tasks.join_next_with_id() => self.on_task_ended(&ended).await,
                () = shutdown.cancelled() => {}
            }
        }
        let drained = async {
            while tasks.join_next().await.is_some() {}
            self.0.removals.close();
            self.0.removals.wait().await;
        };
        if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
            tracing::warn!("some runs did not end in time; the next start reconciles them");
        }
        for executor in &self.deps().executors {
            executor.shut_down().await;
        }
    }

    /// Forgets the run of an ended task. A run whose task panicked is reconciled like one that a crash left behind.
    async fn on_task_ended(&self, ended: &Result<(tokio::task::Id, ()), tokio::task::JoinError>) {
        let task = match ended {
            Ok((task, ())) => *task,
            Err(error) => {
                tracing::error!(%error, "internal error: the task of a run failed");
                error.id()
            }
        };
        self.0.active.lock().await.remove(&task);
        if ended.is_err() {
            self.reconcile().await;
        }
    }

    /// Stops the active runs whose rows carry a stop request.
    async fn cancel_requested_runs(&self) {
        let active = self.0.active.lock().await;
        if active.is_empty() {
            return;
        }
        let rows = self.deps().store.call(|store| store.runs().active()).await;
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => {
                tracing::error!(error = with_sources(&error), "cannot read the active runs");
                return;
            }
        };
        for row in rows.iter().filter(|row| row.stop_requested.is_some()) {
            for handle in active.values().filter(|handle| handle.run == row.id) {
                handle.stop.cancel();
            }
        }
    }

    /// Claims runs until the limit is reached or no run may start, and updates what the waiting runs say.
    async fn claim_up_to_limit(
        &self,
        tasks: &mut JoinSet<()>,
        mut reason: WaitReason,
        shutdown: &CancellationToken,
    ) -> Result<WaitReason, StoreError> {
        let deps = self.deps();
        let Some(executor) = deps.executors.first().cloned() else {
            return Ok(reason);
        };
        let limit = deps.config.borrow().concurrent_runs.max(1);
        while !shutdown.is_cancelled() {
            let is_full = self.0.active.lock().await.len() >= limit;
            let is_idle = is_full
                || !deps
                    .store
                    .call(|store| store.queue().has_claimable())
                    .await?;
            if is_idle {
                if reason == WaitReason::Queue {
                    let other = is_full.then(|| format!("waits for another run to end: at most {limit} at a time (`ci.concurrent-runs`)"));
                    deps.queue.set_block_reasons(other).await?;
                }
                return Ok(reason);
            }
            if let Some(blocker) = self.start_blocker(&*executor).await {
                let text = format!("waits: {blocker}");
                deps.queue.set_wait_reason(Some(text)).await?;
                return Ok(WaitReason::NoRunCanStart);
            }
            if reason == WaitReason::NoRunCanStart {
                deps.queue.set_wait_reason(None).await?;
                reason = WaitReason::Queue;
            }
            // The claim happens under the lock, so that reconciling never sees an active run without a task.
            let mut active = self.0.active.lock().await;
            let Some(run) = deps.queue.claim(executor.name()).await? else {
                return Ok(reason);
            };
            failpoint::hit("runner-claimed");
            let handle = RunHandle {
                run: run.id,
                stop: shutdown.child_token(),
            };
            let task = tasks.spawn({
                let runner = self.clone();
                let executor = executor.clone();
                let stop = handle.stop.clone();
                let shutdown = shutdown.clone();
                async move {
                    runner.drive(run, executor, stop, shutdown).await;
                    runner.deps().queue.wake();
                }
            });
            active.insert(task.id(), handle);
        }
        Ok(reason)
    }

    /// Why no run may start now: the disk, or the executor.
    async fn start_blocker(&self, executor: &dyn Executor) -> Option<String> {
        let paths = &self.deps().paths;
        let min_free = MinFree::read(paths);
        if let Ok(free) = free_bytes(paths.data())
            && min_free.blocks_runs(free)
        {
            executor.release_idle().await;
            return Some(format!(
                "the disk is nearly full: {} free, and runs need {} (`keep.min-free`)",
                format_bytes(free),
                format_bytes(min_free.0)
            ));
        }
        let data = paths.data().to_owned();
        let written = tokio::task::spawn_blocking(move || {
            if has_inodes(&data) {
                make_a_file(&data, "runner").map_err(|error| error.to_string())
            } else {
                Err("nearly no inode is free".to_owned())
            }
        });
        if let Ok(Err(reason)) = written.await {
            return Some(format!("the volume cannot be written: {reason}"));
        }
        let probed = executor.probe().await;
        probed.err().map(|error| error.to_string())
    }

    pub(super) fn run_dir(&self, run: &Run) -> PathBuf {
        self.deps().paths.run_dir(&run.repo, run.id)
    }
}
