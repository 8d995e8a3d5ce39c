//! One attempt to run a claimed run: prepare its pipeline, start its workspace, execute its jobs.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::checkout::{CheckoutError, CheckoutPlanner, PlannedCheckout};
use super::config::RunnerConfig;
use super::execute::{RunContext, execute_jobs, failure_of};
use super::git_tree::{GitTree, StartedArchive, UnreadableReport};
use super::group;
use super::job_recorder::{RecordError, Recorder, StoreRecorder};
use super::prepare::{self, Prepared, PushContext};
use super::run_end::{Allocated, RunEnd, internal_error, recording_failed};
use super::run_loop::Runner;
use super::secrets::{SecretResolver, SecretUser};
use super::start_observer::RunStartObserver;
use super::start_spec::{StartContext, image, power_notes};
use crate::findings::RepoTask;
use quire_executor::{Executor, ExecutorError, StartSpec, Stream, Workspace};
use quire_git::{GitError, PipelineFiles};
use quire_pipeline::driver::DriverHandle;
use quire_pipeline::{Diagnostic, MAX_QUOTED, format_duration};
use quire_run_files::artifacts::ArtifactStore;
use quire_run_files::logs::RunLog;
use quire_types::error_chain;
use quire_types::failpoint;
use quire_types::names::ObjectId;
use quire_types::run::{FailureKind, Outcome, Run};

/// What `(jobs SOURCE)` returns, gathered by a task.
type SourceValues = AbortOnDropHandle<Result<Map<String, Value>, GitError>>;

/// A run with all that one attempt works with.
pub(super) struct Attempt<'a> {
    pub(super) run: &'a Run,
    pub(super) executor: &'a dyn Executor,
    pub(super) config: &'a RunnerConfig,
    pub(super) log: &'a RunLog,
    pub(super) stop: &'a CancellationToken,
}

/// A pipeline that is ready to run, with its tree and the values of its source.
struct Ready {
    prepared: Prepared,
    tree: GitTree,
    values: SourceValues,
    extras: CheckoutExtras,
}

/// What a commit has beside its files.
#[derive(Debug, Clone, Copy)]
struct CheckoutExtras {
    /// Whether it has a `.gitmodules`.
    submodules: bool,
    /// Whether files of it are in Git LFS.
    lfs: bool,
}

impl Runner {
    /// Prepares, starts and executes a run. The returned [`Allocated`] is what must be removed, also if
    /// the attempt failed half-way.
    pub(super) async fn run_to_end(&self, attempt: &Attempt<'_>) -> (RunEnd, Allocated) {
        let mut allocated = Allocated::None;
        let end = self.try_run(attempt, &mut allocated).await;
        (end.unwrap_or_else(|end| end), allocated)
    }

    async fn try_run(
        &self,
        attempt: &Attempt<'_>,
        allocated: &mut Allocated,
    ) -> Result<RunEnd, RunEnd> {
        let Attempt {
            run,
            executor,
            config,
            log,
            stop,
        } = *attempt;
        let started_at = Instant::now();
        let ready = stop
            .run_until_cancelled(self.prepare(run, executor, log))
            .await;
        let Ready {
            mut prepared,
            mut tree,
            values,
            extras,
        } = ready.ok_or(RunEnd::Stopped)??;
        let artifacts = self.artifacts(run, config);
        let reused = self.reuse(run, &mut prepared.tracker, &artifacts).await?;
        prepared.tracker = prepared.tracker.with_limit(config.parallel_jobs);
        let recorder = self.store_recorder(run);
        recorder
            .jobs_registered(&prepared.jobs())
            .map_err(|error| recording_failed(&error))?;

        refuse_what_is_not_granted(run, config, &prepared)?;
        let limit = (config.run_timeout, config.is_timeout_of_repo);
        let (timeout, lowered) = prepare::timeout(&prepared.pipeline, limit);
        let deadline = started_at + timeout;
        let planning = self.plan_checkout(run, config, &prepared, &mut tree, extras);
        let mut checkout = within(planning, stop, deadline, timeout).await??;
        let spec = self.start_spec(run, config, &prepared, tree);
        let env = spec.env.clone();
        let mut observer = self.start_observer(run, log);
        let notes = lowered.into_iter().chain(checkout.notes.drain(..));
        observer.notes(notes.chain(power_notes(&prepared.pipeline)));
        if executor.capabilities().workspace_on_disk {
            self.record_workspace(run, &spec).await?;
        }
        observer.caches_used(executor.name(), &spec);
        *allocated = Allocated::Unknown;
        failpoint::hit("runner-before-start");
        let started = start_with_deadline(executor, spec, &mut observer, stop, deadline).await;
        drop(observer);
        drop(checkout);
        let workspace: Arc<dyn Workspace> = match started {
            Ok(workspace) => workspace.into(),
            Err(error) => return Ok(start_failed(&error, stop, timeout)),
        };
        failpoint::hit("runner-workspace-ready");
        *allocated = Allocated::Workspace(workspace.clone());
        let Some(values) = stop.run_until_cancelled(values).await else {
            return Ok(RunEnd::Stopped);
        };
        let values = values
            .map_err(|error| internal_error(&error))?
            .map_err(|error| internal_error(&error))?;
        let mut initial_values = reused;
        initial_values.insert(run.source.clone(), Value::Object(values));
        let context = RunContext {
            recorder: Arc::new(recorder),
            log: log.clone(),
            workspace,
            values: initial_values,
            env,
            secrets: self.secrets_of(run, config),
            artifacts,
            started_at,
            timeout,
        };
        let outcome = execute_jobs(prepared, context, stop.clone()).await;
        Ok(outcome.map_or(RunEnd::Stopped, RunEnd::Outcome))
    }

    /// The secrets that a run may use.
    pub(super) fn secrets_of(&self, run: &Run, config: &RunnerConfig) -> SecretResolver {
        let secrets = config.secrets.clone();
        let settings = self.deps().repo_settings.clone();
        let user = SecretUser::from(run);
        Arc::new(move |name| {
            settings.check_secret(&user.repo, name)?;
            secrets(&user, name)
        })
    }

    fn store_recorder(&self, run: &Run) -> StoreRecorder {
        StoreRecorder {
            store: self.deps().store.clone(),
            live: self.deps().live.clone(),
            run: run.id,
        }
    }

    /// Reads, evaluates and checks the pipeline of a run.
    async fn prepare(
        &self,
        run: &Run,
        executor: &dyn Executor,
        log: &RunLog,
    ) -> Result<Ready, RunEnd> {
        // The driver starts while git reads.
        let driver = DriverHandle::spawn(&self.deps().program)
            .map_err(|error| internal_error(&error))?
            .with_cache(self.0.compiled.clone());
        let git = &self.deps().git;
        let paths = &self.deps().paths;
        let files = match prepare::files(git, paths, &run.repo, &run.sha).await {
            Ok(files) => files,
            // Git's message for a removed repository would read like an internal error.
            Err(_) if prepare::was_removed(git, &run.repo).await => {
                let message = format!("the repository {} was removed", run.repo);
                let outcome = Outcome::Failed(FailureKind::Internal, message);
                return Err(RunEnd::Outcome(outcome));
            }
            Err(error) => {
                let reason = error_chain::chain(&error);
                let message = format!("the commit cannot be read from its repository: {reason}");
                let findings = &self.deps().findings;
                findings.add(&run.repo, RepoTask::ReadCommit, reason);
                let outcome = Outcome::Failed(FailureKind::Internal, message);
                return Err(RunEnd::Outcome(outcome));
            }
        };
        let source = prepare::source(&files)?;
        if !files.misnamed.is_empty()
            && let Ok(mut log) = log.own()
        {
            for misnamed in &files.misnamed {
                log.line(Stream::Stderr, &format!("quire: warning: {misnamed}"));
            }
            log.finish();
        }
        let tree = self.tree(run, executor, &files);
        let values = self.gather_values(run, files.message.clone(), files.parents.clone());
        let only_job = run.only_job.as_deref();
        let prepared =
            prepare::prepare(driver, source, files.dockerfile, &run.source, only_job).await;
        let prepared = prepared.inspect_err(|error| {
            if let Ok(mut log) = log.own() {
                for diagnostic in &error.diagnostics {
                    log.line(Stream::Stderr, &format_diagnostic(diagnostic));
                }
                log.finish();
            }
        })?;
        group::verify_declarations(run, &prepared.pipeline, &files)?;
        Ok(Ready {
            prepared,
            tree,
            values,
            extras: CheckoutExtras {
                submodules: files.has_submodules,
                lfs: files.uses_lfs,
            },
        })
    }

    /// The tree of the run's commit. If its files are all that the workspace on this machine gets, git starts to read them while
    /// the pipeline is evaluated.
    fn tree(&self, run: &Run, executor: &dyn Executor, files: &PipelineFiles) -> GitTree {
        let tree = GitTree {
            git: self.deps().git.clone(),
            repo: self.deps().paths.repo(&run.repo),
            sha: run.sha.clone(),
            dockerfile: files.dockerfile,
            tree: files.tree.clone(),
            assembled: None,
            history: None,
            lfs: Vec::new(),
            started: StartedArchive::default(),
            unreadable: self.unreadable_report(run),
        };
        let is_plain = !files.has_submodules && !files.uses_lfs;
        if is_plain && executor.capabilities().workspace_on_disk {
            tree.start();
        }
        tree
    }

    /// Makes a finding of a tree that cannot be read.
    fn unreadable_report(&self, run: &Run) -> UnreadableReport {
        let (findings, repo) = (self.deps().findings.clone(), run.repo.clone());
        Arc::new(move |error| {
            findings.add(&repo, RepoTask::ReadCommit, error_chain::chain(error));
        })
    }

    /// Gathers the values of the source while the pipeline is evaluated and the workspace starts.
    fn gather_values(&self, run: &Run, message: String, parents: Vec<ObjectId>) -> SourceValues {
        let git = self.deps().git.clone();
        let repo = self.deps().paths.repo(&run.repo);
        let run = run.clone();
        let gather = async move {
            match prepare::started_values(&run, &message) {
                Some(values) => Ok(values),
                None => {
                    let push = PushContext::from(&run);
                    prepare::push_values(&git, &repo, &push, &message, &parents).await
                }
            }
        };
        AbortOnDropHandle::new(tokio::spawn(gather))
    }

    fn artifacts(&self, run: &Run, config: &RunnerConfig) -> ArtifactStore {
        let folder = self.deps().paths.run_artifacts(&run.repo, run.id);
        ArtifactStore::new(folder, config.artifact_cap)
    }

    /// Plans what the workspace holds beside the files of the commit, and adds it to the tree.
    async fn plan_checkout(
        &self,
        run: &Run,
        config: &RunnerConfig,
        prepared: &Prepared,
        tree: &mut GitTree,
        extras: CheckoutExtras,
    ) -> Result<PlannedCheckout, RunEnd> {
        let pipeline = &prepared.pipeline;
        let planner = CheckoutPlanner {
            git: &self.deps().git,
            repo: &run.repo,
            folder: tree.repo.clone(),
            commit: &run.sha,
            ref_name: &run.ref_name,
            has_submodules: extras.submodules,
            uses_lfs: extras.lfs,
            options: pipeline.checkout(),
            network: config.limits.network && pipeline.network().unwrap_or(true),
            forge: &config.addresses,
        };
        let planned = planner.plan().await.map_err(|error| {
            let kind = match error {
                CheckoutError::Submodule { .. } => FailureKind::Pipeline,
                CheckoutError::Git(_) => FailureKind::Internal,
            };
            RunEnd::Outcome(Outcome::Failed(kind, error_chain::chain(&error)))
        });
        let mut planned = planned?;
        tree.assembled = planned.tree.take();
        tree.history = planned.history.take();
        tree.lfs = std::mem::take(&mut planned.lfs);
        Ok(planned)
    }

    fn start_spec(
        &self,
        run: &Run,
        config: &RunnerConfig,
        prepared: &Prepared,
        tree: GitTree,
    ) -> StartSpec {
        let context = StartContext {
            push: PushContext::from(run),
            image: image(&prepared.pipeline, &config.default_image),
            tree: Arc::new(tree),
            limits: &config.limits,
            run_dir: &self.run_dir(run),
            may_be_kept: run.keep,
            rebuild: run.rebuild,
        };
        context.spec(&prepared.pipeline)
    }

    fn start_observer(&self, run: &Run, log: &RunLog) -> RunStartObserver {
        RunStartObserver {
            store: self.deps().store.clone(),
            run: run.id,
            repo: run.repo.clone(),
            live: self.deps().live.clone(),
            log: log.own().ok(),
            logs: log.clone(),
        }
    }

    /// Records the folder of a workspace on the host before it is created.
    async fn record_workspace(&self, run: &Run, spec: &StartSpec) -> Result<(), RunEnd> {
        let id = run.id;
        let path = spec.workspace.to_string_lossy().into_owned();
        let recorded = self
            .deps()
            .store
            .call(move |store| store.runs().workspace_created(id, &path))
            .await;
        recorded.map_err(|error| recording_failed(&RecordError::from(error)))
    }
}

/// Ends a run that asks for more than the owner grants it.
fn refuse_what_is_not_granted(
    run: &Run,
    config: &RunnerConfig,
    prepared: &Prepared,
) -> Result<(), RunEnd> {
    let grants = (config.grants)(&run.repo, &run.ref_name);
    let Some(setting) = grants.refused(&prepared.pipeline) else {
        return Ok(());
    };
    let (repo, ref_name) = (&run.repo, &run.ref_name);
    let message = format!(
        "the configuration grants no {setting} to runs of {repo} at {ref_name}; its owner can add \"{repo}@{ref_name}\" to `:ci {{:{setting} […]}}`"
    );
    let outcome = Outcome::Failed(FailureKind::Pipeline, message);
    Err(RunEnd::Outcome(outcome))
}

/// The end of a run whose workspace did not start.
fn start_failed(error: &ExecutorError, stop: &CancellationToken, timeout: Duration) -> RunEnd {
    match error {
        ExecutorError::Cancelled if stop.is_cancelled() => RunEnd::Stopped,
        ExecutorError::Cancelled => timed_out(timeout),
        error => {
            let (kind, message) = failure_of(error);
            RunEnd::Outcome(Outcome::Failed(kind, message))
        }
    }
}

/// The end of a run whose time limit passed before it could start.
fn timed_out(timeout: Duration) -> RunEnd {
    let limit = format_duration(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    let message =
        format!("the run timed out after {limit}, before its image and container were ready");
    RunEnd::Outcome(Outcome::Failed(FailureKind::Timeout, message))
}

/// Waits for a part of the start, at most until the run is stopped or its time limit has passed.
async fn within<T>(
    part: impl Future<Output = T>,
    stop: &CancellationToken,
    deadline: Instant,
    timeout: Duration,
) -> Result<T, RunEnd> {
    let part = tokio::time::timeout_at(deadline, part);
    let part = stop.run_until_cancelled(part).await;
    part.ok_or(RunEnd::Stopped)?.map_err(|_| timed_out(timeout))
}

/// Starts a workspace, and cancels the start at the deadline.
async fn start_with_deadline(
    executor: &dyn Executor,
    spec: StartSpec,
    observer: &mut RunStartObserver,
    stop: &CancellationToken,
    deadline: Instant,
) -> Result<Box<dyn Workspace>, ExecutorError> {
    let cancel = stop.child_token();
    let start = executor.start_workspace(spec, observer, cancel.clone());
    tokio::pin!(start);
    tokio::select! {
        started = &mut start => started,
        () = tokio::time::sleep_until(deadline) => {
            cancel.cancel();
            start.await
        }
    }
}

/// A diagnostic as the log shows it: the message, the source line, the hint.
fn format_diagnostic(diagnostic: &Diagnostic) -> String {
    let mut text = diagnostic.to_string();
    if let Some(line) = &diagnostic.source_line {
        text.push_str(&format!("\n    {line}"));
        let location = diagnostic.location.as_ref();
        let column = location.map_or(1, |location| location.column.max(1)) as usize;
        // The location comes from the driver, and long lines are shortened.
        if column <= MAX_QUOTED {
            text.push_str(&format!("\n    {}^", " ".repeat(column - 1)));
        }
    }
    if let Some(hint) = &diagnostic.hint {
        text.push_str(&format!("\n    {hint}"));
    }
    text
}
