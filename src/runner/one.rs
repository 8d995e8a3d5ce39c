//! One claimed run, from claim to outcome. Its outcome is written in one place, after its
//! workspace is confirmed gone, and only by the task that drives it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::examine;
use super::play::{Scene, executor_failed, play};
use super::prepare::{self, Prepared, Pushed, Unprepared};
use super::record::{RecordError, Recorder, StoreRecorder};
use super::service::ServiceOutput;
use super::tree::GitTree;
use super::{Runner, RunnerConfig};
use crate::artifacts::Keeper;
use crate::causes::with_causes;
use crate::clock::Millis;
use crate::driver::Driver;
use crate::executor::{
    BuiltLayer, Executor, ExecutorError, OutputSink, StartObserver, StartSpec, Stream, Workspace,
};
use crate::git::GitError;
use crate::logs::{RunLog, StepLog};
use crate::meter::Histogram;
use crate::names::{ObjectId, RunId};
use crate::pipeline::{MAX_QUOTED, format_duration};
use crate::policy;
use crate::run::{ExecutorKind, FailureKind, Outcome, Run};
use crate::secret::{Redactor, Secret};
use crate::store::{Store, StoreError};

/// How long a step that must succeed waits before it is tried again, at most.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How a driven run came out, before its stop request is looked at.
pub(super) enum End {
    Outcome(Outcome),
    Stopped,
}

/// What `(jobs SOURCE)` gives, once git has said it.
type SourceValues = AbortOnDropHandle<Result<Map<String, Value>, GitError>>;

impl From<Unprepared> for End {
    fn from(unprepared: Unprepared) -> Self {
        Self::Outcome(unprepared.outcome)
    }
}

impl End {
    /// The machine that stops ends our container and us together: that is no fault of the run's.
    fn cut_by_shutdown(self) -> Self {
        match self {
            Self::Outcome(Outcome::Failed(
                FailureKind::ContainerDied | FailureKind::DockerUnavailable,
                _,
            )) => Self::Stopped,
            end => end,
        }
    }
}

/// What there is of a run outside the database.
pub(super) enum Held {
    /// Nothing: no start was tried.
    Nothing,
    /// A start was tried and handed nothing out: the engine may have something all the same.
    Perhaps,
    Workspace(Arc<dyn Workspace>),
}

impl Held {
    async fn remove(&self, executor: &dyn Executor, run: RunId) -> Result<(), ExecutorError> {
        match self {
            Self::Nothing => Ok(()),
            Self::Perhaps => executor.clear(run).await,
            Self::Workspace(workspace) => workspace.stop().await,
        }
    }
}

pub(super) fn internal(error: &dyn std::error::Error) -> End {
    End::Outcome(Outcome::Failed(
        FailureKind::Internal,
        format!("internal error: {}", with_causes(error)),
    ))
}

/// A full disk, most likely: the error says it, and it is no bug.
pub(super) fn unrecorded(error: &RecordError) -> End {
    End::Outcome(Outcome::Failed(FailureKind::Internal, with_causes(error)))
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
        let config = self.0.config.borrow().clone();
        let redactor = Redactor::new(std::iter::empty::<(String, &Secret)>());
        let folder = self.run_folder(&run);
        let log = RunLog::create(
            folder,
            redactor,
            config.log_cap,
            self.0.store.clock().clone(),
            self.0.live.clone(),
            run.id,
        );
        let mut held = Held::Nothing;
        let mut log_bytes = 0;
        let mut until = None;
        let end = match log {
            Ok(log) => {
                let end = self
                    .attempt(&run, executor.as_ref(), &config, &log, &stop, &mut held)
                    .await
                    .unwrap_or_else(|end| end);
                // Why a job failed stands in the log already.
                if let End::Outcome(Outcome::Failed(kind, message)) = &end
                    && *kind != FailureKind::Job
                    && let Ok(mut own) = log.own()
                {
                    own.line(Stream::Stderr, &format!("quire: {message}"));
                    own.finish();
                }
                until = self
                    .keeps(&run, executor.kind(), &end, &held, &config)
                    .filter(|_| !shutdown.is_cancelled());
                if let Some(until) = until
                    && let Ok(mut own) = log.own()
                {
                    own.line(
                        Stream::Stderr,
                        &format!("quire: the container is kept until {until}; `run attach {}` opens a shell in it", run.id),
                    );
                    own.finish();
                }
                log_bytes = log.bytes();
                if let Some(error) = log.take_error() {
                    tracing::error!(run = %run.id, %error, "some of the run's log could not be written");
                }
                end
            }
            Err(error) => internal(&error),
        };
        let end = if shutdown.is_cancelled() {
            end.cut_by_shutdown()
        } else {
            end
        };
        crate::fault::point("runner-before-teardown");
        let kept = match until {
            Some(until) => self.keep(run.id, until).await,
            None => false,
        };
        if !kept
            && !self
                .tear_down(&run, executor.as_ref(), held, &shutdown)
                .await
        {
            return;
        }
        crate::fault::point("runner-before-outcome");
        self.conclude(&run, end, &config, &shutdown).await;
        crate::fault::point("runner-outcome-written");
        self.0.live.state_changed(run.id);
        self.measure(run.id, log_bytes).await;
    }

    /// Counts how long things took, from the rows as they stand in the end.
    async fn measure(&self, run: RunId, log_bytes: u64) {
        let rows = self
            .0
            .store
            .call(move |store| Ok((store.run(run)?, store.jobs_without_outputs(run)?)))
            .await;
        let Ok((Some(run), jobs)) = rows else { return };
        let meter = &self.0.meter;
        let between = |from: Option<Millis>, to: Option<Millis>| {
            Some(Duration::from_millis(to?.since(from?)))
        };
        let add = |histogram: &Histogram, took: Option<Duration>| {
            if let Some(took) = took {
                histogram.add(took);
            }
        };
        add(
            &meter.wait,
            between(Some(run.queued_at_ms), run.started_at_ms),
        );
        add(&meter.run, between(run.started_at_ms, run.finished_at_ms));
        for job in jobs {
            add(&meter.job, between(job.started_at_ms, job.finished_at_ms));
        }
        meter.log_bytes.fetch_add(log_bytes, Ordering::Relaxed);
    }

    /// Prepares, starts and plays. What there may be of a workspace is noted as soon as it may be, so it is torn down on every path.
    async fn attempt(
        &self,
        run: &Run,
        executor: &dyn Executor,
        config: &RunnerConfig,
        log: &RunLog,
        stop: &CancellationToken,
        held: &mut Held,
    ) -> Result<End, End> {
        let began = Instant::now();
        let prepared = stop.run_until_cancelled(self.prepare(run, log));
        let (mut prepared, tree, values) = prepared.await.ok_or(End::Stopped)??;
        let artifacts = Keeper::new(
            self.0.paths.run_artifacts(&run.repo, run.id),
            config.artifact_cap,
        );
        let outputs = self.reuse(run, &mut prepared.schedule, &artifacts).await?;
        prepared.schedule = prepared.schedule.with_limit(config.parallel_jobs);
        let recorder = StoreRecorder {
            store: self.0.store.clone(),
            live: self.0.live.clone(),
            run: run.id,
        };
        recorder
            .jobs_registered(&prepared.jobs())
            .map_err(|error| unrecorded(&error))?;

        let spec = self.start_spec(run, config, &prepared, tree);
        let mut observer = Observer {
            store: self.0.store.clone(),
            run: run.id,
            live: self.0.live.clone(),
            log: log.own().ok(),
            logs: log.clone(),
        };
        let (timeout, cut) = prepare::timeout(&prepared.pipeline, config.run_timeout);
        if let (Some(cut), Some(own)) = (cut, &mut observer.log) {
            own.line(Stream::Stderr, &format!("quire: {cut}"));
        }
        if executor.kind() == ExecutorKind::Host {
            let (id, path) = (run.id, spec.workspace.to_string_lossy().into_owned());
            let made = self
                .0
                .store
                .call(move |store| store.workspace_made(id, &path))
                .await;
            made.map_err(|error| unrecorded(&RecordError::from(error)))?;
        }
        observer.caches_used(executor.kind(), &spec);
        *held = Held::Perhaps;
        let env = spec.env.clone();
        crate::fault::point("runner-before-start");
        let started = start_within(executor, spec, &mut observer, stop, began + timeout).await;
        drop(observer);
        let started: Arc<dyn Workspace> = match started {
            Ok(started) => {
                crate::fault::point("runner-workspace-ready");
                started.into()
            }
            Err(ExecutorError::Cancelled) if stop.is_cancelled() => return Ok(End::Stopped),
            Err(ExecutorError::Cancelled) => {
                let limit = format_duration(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
                let message = format!(
                    "the run timed out after {limit}, before its image and container were ready"
                );
                return Ok(End::Outcome(Outcome::Failed(FailureKind::Timeout, message)));
            }
            Err(error) => {
                let (kind, message) = executor_failed(&error);
                return Ok(End::Outcome(Outcome::Failed(kind, message)));
            }
        };
        *held = Held::Workspace(started.clone());
        let mut sources = outputs;
        let Some(values) = stop.run_until_cancelled(values).await else {
            return Ok(End::Stopped);
        };
        let values = values
            .map_err(|error| internal(&error))?
            .map_err(|error| internal(&error))?;
        sources.insert(run.source.clone(), Value::Object(values));
        let (secrets, repo, ref_name) = (
            config.secrets.clone(),
            run.repo.clone(),
            run.ref_name.clone(),
        );
        let scene = Scene {
            recorder: Arc::new(recorder),
            log: log.clone(),
            workspace: started,
            values: sources,
            env,
            secrets: Arc::new(move |name| secrets(&repo, &ref_name, name)),
            artifacts,
            began,
            timeout,
        };
        Ok(play(prepared, scene, stop.clone())
            .await
            .map_or(End::Stopped, End::Outcome))
    }

    async fn prepare(
        &self,
        run: &Run,
        log: &RunLog,
    ) -> Result<(Prepared, GitTree, SourceValues), End> {
        // The driver starts while git reads.
        let driver = Driver::spawn(&self.0.program)
            .map_err(|error| internal(&error))?
            .with_cache(self.0.compiled.clone());
        let files = prepare::files(&self.0.git, &self.0.paths, &run.repo, &run.sha)
            .await
            .map_err(|error| {
                // Git's own words for it would be those of a fault of ours.
                let gone = || {
                    End::Outcome(Outcome::Failed(
                        FailureKind::Internal,
                        format!("the repository {} is gone", run.repo),
                    ))
                };
                if self.0.git.is_reached_by(&run.repo).unwrap_or(true) {
                    internal(&error)
                } else {
                    gone()
                }
            })?;
        let source = prepare::source(&files)?;
        let values = self.gather_values(run, files.message.clone(), files.parents.clone());
        let prepared = prepare::prepare(
            driver,
            source,
            files.dockerfile,
            &run.source,
            run.only_job.as_deref(),
        )
        .await;
        let prepared = prepared.inspect_err(|unprepared| {
            if let Ok(mut own) = log.own() {
                for diagnostic in &unprepared.diagnostics {
                    own.line(Stream::Stderr, &explain(diagnostic));
                }
                own.finish();
            }
        })?;
        examine::fits(run, &prepared.pipeline, &files)?;
        let tree = GitTree {
            git: self.0.git.clone(),
            repo: self.0.paths.repo(&run.repo),
            sha: run.sha.clone(),
            dockerfile: files.dockerfile,
            tree: files.tree,
        };
        Ok((prepared, tree, values))
    }

    /// Gathers what the pipeline may ask of its source, while the pipeline is evaluated and the workspace starts.
    fn gather_values(&self, run: &Run, message: String, parents: Vec<ObjectId>) -> SourceValues {
        let (git, repo, run) = (
            self.0.git.clone(),
            self.0.paths.repo(&run.repo),
            run.clone(),
        );
        let gather = async move {
            match prepare::started_values(&run, &message) {
                Some(values) => Ok(values),
                None => {
                    prepare::push_values(&git, &repo, &Pushed::from(&run), &message, &parents).await
                }
            }
        };
        AbortOnDropHandle::new(tokio::spawn(gather))
    }

    fn start_spec(
        &self,
        run: &Run,
        config: &RunnerConfig,
        prepared: &Prepared,
        tree: GitTree,
    ) -> StartSpec {
        StartSpec {
            run: run.id,
            repo: run.repo.clone(),
            image: prepare::image(&prepared.pipeline, &config.default_image),
            tree: Arc::new(tree),
            limits: prepare::limits(&prepared.pipeline, &config.limits),
            caches: prepare::caches(&prepared.pipeline),
            services: prepare::services(&prepared.pipeline),
            env: Pushed::from(run).environment(prepared.pipeline.env()),
            workspace: crate::paths::Paths::workspace(&self.run_folder(run)),
        }
    }

    /// Removes the run's workspace, however long the engine takes. False where the appliance stops
    /// meanwhile: the run stays active, and the next start puts it right.
    async fn tear_down(
        &self,
        run: &Run,
        executor: &dyn Executor,
        held: Held,
        shutdown: &CancellationToken,
    ) -> bool {
        let mut wait = Duration::from_millis(200);
        while let Err(error) = held.remove(executor, run.id).await {
            tracing::warn!(run = %run.id, %error, "the run's workspace cannot be removed yet");
            if shutdown
                .run_until_cancelled(tokio::time::sleep(wait))
                .await
                .is_none()
            {
                return false;
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        let id = run.id;
        self.insist(run, shutdown, move |store| store.container_gone(id))
            .await
    }

    async fn conclude(
        &self,
        run: &Run,
        end: End,
        config: &RunnerConfig,
        shutdown: &CancellationToken,
    ) {
        let id = run.id;
        let (requeue, outcome) = (config.retry_orphaned, end);
        match outcome {
            End::Outcome(outcome) => {
                tracing::info!(run = %id, outcome = ?outcome, "run ended");
                self.insist(run, shutdown, move |store| store.finish(id, &outcome))
                    .await;
            }
            // Asked to stop, or cut by our own shutdown: the row knows which.
            End::Stopped => {
                let message = "quire was stopped while the run was active";
                self.insist(run, shutdown, move |store| {
                    store.orphan(id, message, requeue, policy::settle).map(drop)
                })
                .await;
                tracing::info!(run = %id, "run stopped");
            }
        }
    }

    /// Writes to the database until it takes it (a full disk may be emptied) or it cannot any more.
    async fn insist(
        &self,
        run: &Run,
        shutdown: &CancellationToken,
        change: impl Fn(&Store) -> Result<(), StoreError> + Clone + Send + 'static,
    ) -> bool {
        let mut wait = Duration::from_millis(200);
        loop {
            match self.0.store.call(change.clone()).await {
                Ok(()) => return true,
                Err(error @ StoreError::IllegalTransition { .. }) => {
                    tracing::error!(run = %run.id, error = &error as &dyn std::error::Error, "internal error: the run's end does not fit its state");
                    return false;
                }
                Err(error) => {
                    tracing::error!(run = %run.id, error = &error as &dyn std::error::Error, "the run's end cannot be recorded yet");
                }
            }
            if shutdown
                .run_until_cancelled(tokio::time::sleep(wait))
                .await
                .is_none()
            {
                return false;
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

/// Starts a workspace, and gives it up at the deadline.
async fn start_within(
    executor: &dyn Executor,
    spec: StartSpec,
    observer: &mut Observer,
    stop: &CancellationToken,
    deadline: Instant,
) -> Result<Box<dyn Workspace>, ExecutorError> {
    let give_up = stop.child_token();
    let start = executor.start(spec, observer, give_up.clone());
    tokio::pin!(start);
    tokio::select! {
        started = &mut start => started,
        () = tokio::time::sleep_until(deadline) => {
            give_up.cancel();
            start.await
        }
    }
}

/// A diagnostic as the log shows it: message, the line itself, advice.
fn explain(diagnostic: &crate::pipeline::Diagnostic) -> String {
    let mut text = diagnostic.to_string();
    if let Some(line) = &diagnostic.source_line {
        text.push_str(&format!("\n    {line}"));
        let column = diagnostic
            .place
            .as_ref()
            .map_or(1, |place| place.column.max(1)) as usize;
        // A place comes from the driver, and long lines are cut.
        if column <= MAX_QUOTED {
            text.push_str(&format!("\n    {}^", " ".repeat(column - 1)));
        }
    }
    if let Some(hint) = &diagnostic.hint {
        text.push_str(&format!("\n    {hint}"));
    }
    text
}

/// Writes what happens while a workspace starts to its row and log.
struct Observer {
    store: Store,
    run: RunId,
    live: crate::live::Live,
    log: Option<StepLog>,
    /// Where services' logs are opened.
    logs: RunLog,
}

impl Observer {
    /// Notes what is only of use to housekeeping.
    fn note(&self, change: impl FnOnce(&Store) -> Result<(), StoreError>) {
        if let Err(error) = tokio::task::block_in_place(|| change(&self.store)) {
            tracing::error!(run = %self.run, error = &error as &dyn std::error::Error, "what a run uses cannot be noted");
        }
    }

    fn caches_used(&self, executor: ExecutorKind, spec: &StartSpec) {
        if !spec.caches.is_empty() {
            let names: Vec<String> = spec.caches.iter().map(|cache| cache.name.clone()).collect();
            self.note(|store| store.caches_used(executor, &spec.repo, &names));
        }
    }

    fn record(&self, change: impl FnOnce(&Store) -> Result<(), StoreError>) {
        if let Err(error) = tokio::task::block_in_place(|| change(&self.store)) {
            // The container carries the run's id as a label, so reconciling finds it without the row.
            tracing::error!(run = %self.run, error = &error as &dyn std::error::Error, "a run's progress cannot be recorded");
        }
        self.live.state_changed(self.run);
    }
}

impl StartObserver for Observer {
    fn line(&mut self, stream: Stream, bytes: &[u8]) {
        if let Some(log) = &mut self.log {
            log.write(stream, bytes);
        }
    }

    fn build_started(&mut self) {
        self.record(|store| store.build_started(self.run));
    }

    fn build_finished(&mut self, tag: &str) {
        self.record(|store| store.build_finished(self.run, tag));
    }

    fn container_created(&mut self, id: &str, image: &str) {
        self.record(|store| store.container_created(self.run, id, image));
        crate::fault::point("runner-container-created");
    }

    fn container_started(&mut self) {
        self.record(|store| store.container_started(self.run));
        crate::fault::point("runner-container-started");
    }

    fn image_used(&mut self, name: &str) {
        self.note(|store| store.image_used(name));
    }

    fn image_pulled(&mut self, engine: &str, name: &str, id: &str) {
        self.note(|store| store.image_owned(engine, name, id));
    }

    fn layer_built(&mut self, layer: &BuiltLayer) {
        self.note(|store| {
            store.layer_built(
                &layer.engine,
                &layer.id,
                Millis(layer.since_ms),
                &layer.built_for,
            )
        });
    }

    fn service_output(&mut self, service: &str) -> Box<dyn OutputSink> {
        Box::new(ServiceOutput::open(&self.logs, service))
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        if let Some(log) = self.log.take() {
            log.finish();
        }
    }
}
