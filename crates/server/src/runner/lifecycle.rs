//! A claimed run from its claim to its outcome. The outcome is written in one place, after it is confirmed that
//! nothing of the run is running, and only by the task that drives the run. The workspace is removed after that;
//! what a crash leaves of it is removed by the next sweep.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::attempt::Attempt;
use super::config::RunnerConfig;
use super::kept_containers::KeepTime;
use super::run_end::{Allocated, RunEnd, internal_error};
use super::run_loop::Runner;
use crate::housekeeping::remove_surplus_builds;
use crate::metrics::Histogram;
use quire_executor::{Executor, Stream};
use quire_run_files::logs::RunLog;
use quire_runtime::blocking::run_blocking;
use quire_store::{STOPPED_WITH_QUIRE, Store, StoreError};
use quire_types::backoff::Backoff;
use quire_types::clock::Millis;
use quire_types::error_chain::with_sources;
use quire_types::names::RunId;
use quire_types::run::{FailureKind, Outcome, Run};
use quire_types::secret::{Redactor, Secret};
use quire_types::{failpoint, supersede};

/// The waits between attempts of an operation that must succeed.
const RETRY_BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));

/// What an attempt left to finish.
struct Attempted {
    end: RunEnd,
    allocated: Allocated,
    /// Until when the container is kept, if it is kept.
    keep: Option<KeepTime>,
    log_bytes: u64,
}

impl Runner {
    /// Drives a claimed run to its outcome.
    pub(super) async fn drive(
        &self,
        run: Run,
        executor: Arc<dyn Executor>,
        stop: CancellationToken,
        shutdown: CancellationToken,
    ) {
        tracing::info!(run = %run.id, repo = %run.repo, ref_name = %run.ref_name, "run started");
        let config = self.config_of(&run).await;
        let attempted = self
            .attempt_and_log(&run, executor.as_ref(), &config, &stop, &shutdown)
            .await;
        let end = if shutdown.is_cancelled() {
            attempted.end.during_shutdown()
        } else {
            attempted.end
        };
        failpoint::hit("runner-before-teardown");
        let allocated = attempted.allocated;
        let is_kept = match attempted.keep {
            Some(keep) => self.keep_container(run.id, &allocated, keep).await,
            None => false,
        };
        let has_ended = is_kept
            || self
                .end_container(&run, executor.as_ref(), &allocated, &shutdown)
                .await;
        if !has_ended {
            return;
        }
        failpoint::hit("runner-before-outcome");
        self.record_outcome(&run, end, &config, &shutdown).await;
        failpoint::hit("runner-outcome-written");
        self.deps().live.notify_run(run.id);
        self.record_durations(run.id, attempted.log_bytes).await;
        if !is_kept {
            self.remove_workspace(&run, allocated, executor, shutdown);
        }
    }

    /// The owner's settings, with the limits that the repository sets. Limits that cannot be read are the owner's.
    async fn config_of(&self, run: &Run) -> RunnerConfig {
        let config = self.deps().config.borrow().clone();
        let (reader, repo) = (self.deps().repo_settings.clone(), run.repo.clone());
        match run_blocking(move || reader.read(&repo)).await {
            Ok(Ok(current)) => config.tightened(&current.settings.limits),
            // A commit that cannot be read either is the end of the run.
            _ => RunnerConfig::clone(&config),
        }
    }

    /// Runs the jobs of a run and writes the reason of its failure to its log.
    async fn attempt_and_log(
        &self,
        run: &Run,
        executor: &dyn Executor,
        config: &RunnerConfig,
        stop: &CancellationToken,
        shutdown: &CancellationToken,
    ) -> Attempted {
        let log = RunLog::create(
            self.run_dir(run),
            Redactor::new(std::iter::empty::<(String, &Secret)>()),
            config.log_cap,
            self.deps().store.clock().clone(),
            self.deps().live.clone(),
            run.id,
        );
        let log = match log {
            Ok(log) => log,
            Err(error) => {
                return Attempted {
                    end: internal_error(&error),
                    allocated: Allocated::None,
                    keep: None,
                    log_bytes: 0,
                };
            }
        };
        let attempt = Attempt {
            run,
            executor,
            config,
            log: &log,
            stop,
        };
        let (end, allocated) = self.run_to_end(&attempt).await;
        // The log already holds the reason why a job failed.
        if let RunEnd::Outcome(Outcome::Failed(kind, message)) = &end
            && *kind != FailureKind::Job
        {
            write_note(&log, message);
        }
        let keep = self
            .keep_time(run, executor, &end, &allocated, config)
            .filter(|_| !shutdown.is_cancelled());
        if let Some(KeepTime { until, .. }) = keep {
            let id = run.id;
            write_note(
                &log,
                &format!(
                    "the container is kept until {until}; `run attach {id}` opens a shell in it"
                ),
            );
        }
        if let Some(error) = log.take_error() {
            tracing::error!(run = %run.id, %error, "cannot write all of the run's log");
        }
        Attempted {
            end,
            allocated,
            keep,
            log_bytes: log.bytes(),
        }
    }

    /// Adds the durations of a run and its jobs to the metrics, from the rows as they are at the end.
    async fn record_durations(&self, run: RunId, log_bytes: u64) {
        let read = move |store: &Store| {
            let jobs = store.jobs().list_without_outputs(run)?;
            Ok((store.runs().get(run)?, jobs))
        };
        let Ok((Some(run), jobs)) = self.deps().store.call(read).await else {
            return;
        };
        let metrics = &self.deps().metrics;
        let add = |histogram: &Histogram, from: Option<Millis>, to: Option<Millis>| {
            if let (Some(from), Some(to)) = (from, to) {
                histogram.add(Duration::from_millis(to.since(from)));
            }
        };
        add(&metrics.wait, Some(run.queued_at_ms), run.started_at_ms);
        add(&metrics.run, run.started_at_ms, run.finished_at_ms);
        for job in jobs {
            add(&metrics.job, job.started_at_ms, job.finished_at_ms);
        }
        metrics.log_bytes.fetch_add(log_bytes, Ordering::Relaxed);
    }

    /// Ends everything of a run that is running, with retries until that is confirmed. Returns false if
    /// the appliance stops meanwhile: the run stays active, and the next start reconciles it.
    async fn end_container(
        &self,
        run: &Run,
        executor: &dyn Executor,
        allocated: &Allocated,
        shutdown: &CancellationToken,
    ) -> bool {
        let mut backoff = RETRY_BACKOFF;
        while let Err(error) = allocated.end(executor, run.id).await {
            tracing::warn!(run = %run.id, %error, "cannot end the run's commands yet");
            let slept = shutdown.run_until_cancelled(tokio::time::sleep(backoff.next_delay()));
            if slept.await.is_none() {
                return false;
            }
        }
        let id = run.id;
        self.write_until_recorded(run, shutdown, move |store| store.runs().container_ended(id))
            .await
    }

    /// Removes the workspace of a run that has ended, beside the next runs, with retries; then the
    /// images of its repository that are too many.
    fn remove_workspace(
        &self,
        run: &Run,
        allocated: Allocated,
        executor: Arc<dyn Executor>,
        shutdown: CancellationToken,
    ) {
        let (run, repo) = (run.id, run.repo.clone());
        let store = self.deps().store.clone();
        self.0.removals.spawn(async move {
            let mut backoff = RETRY_BACKOFF;
            while let Err(error) = allocated.remove().await {
                tracing::warn!(%run, %error, "cannot remove the run's workspace yet");
                let slept = shutdown.run_until_cancelled(tokio::time::sleep(backoff.next_delay()));
                if slept.await.is_none() {
                    return;
                }
            }
            if let Err(error) = remove_surplus_builds(&store, executor.as_ref(), &repo).await {
                tracing::error!(%run, error = with_sources(&error), "cannot remove older images of a repository");
            }
        });
    }

    async fn record_outcome(
        &self,
        run: &Run,
        end: RunEnd,
        config: &RunnerConfig,
        shutdown: &CancellationToken,
    ) {
        let id = run.id;
        match end {
            // Something else ended it, such as a kill of its driver.
            RunEnd::Outcome(Outcome::Failed(FailureKind::Orphaned, message)) => {
                tracing::warn!(run = %id, message, "run orphaned");
                let requeue = config.retry_orphaned;
                self.write_until_recorded(run, shutdown, move |store| {
                    store
                        .runs()
                        .orphan(id, &message, requeue, supersede::superseded_runs)
                        .map(drop)
                })
                .await;
            }
            RunEnd::Outcome(outcome) => {
                tracing::info!(run = %id, outcome = ?outcome, "run ended");
                self.write_until_recorded(run, shutdown, move |store| {
                    store.runs().finish(id, &outcome)
                })
                .await;
            }
            // Stopped on request, or by a shutdown of quire: the row says which.
            RunEnd::Stopped => {
                let requeue = config.retry_orphaned;
                self.write_until_recorded(run, shutdown, move |store| {
                    store
                        .runs()
                        .orphan(id, STOPPED_WITH_QUIRE, requeue, supersede::superseded_runs)
                        .map(drop)
                })
                .await;
                tracing::info!(run = %id, "run stopped");
            }
        }
    }

    /// Repeats a write to the database until it succeeds (a full disk may get space) or cannot succeed.
    /// Returns whether it succeeded.
    async fn write_until_recorded(
        &self,
        run: &Run,
        shutdown: &CancellationToken,
        change: impl Fn(&Store) -> Result<(), StoreError> + Clone + Send + 'static,
    ) -> bool {
        let mut backoff = RETRY_BACKOFF;
        loop {
            match self.deps().store.call(change.clone()).await {
                Ok(()) => return true,
                Err(error @ StoreError::IllegalTransition { .. }) => {
                    tracing::error!(run = %run.id, error = with_sources(&error), "internal error: the run's end does not match its state");
                    return false;
                }
                Err(error) => {
                    tracing::error!(run = %run.id, error = with_sources(&error), "cannot record the run's end yet");
                }
            }
            let slept = shutdown.run_until_cancelled(tokio::time::sleep(backoff.next_delay()));
            if slept.await.is_none() {
                return false;
            }
        }
    }
}

/// Writes a line of quire to the log of a run.
fn write_note(log: &RunLog, text: &str) {
    if let Ok(mut log) = log.own() {
        log.line(Stream::Stderr, &format!("quire: {text}"));
        log.finish();
    }
}
