//! Executes a planned run: starts the workspace and runs the jobs by the runner's own code.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::error::CiError;
use super::interrupt::StopSignals;
use super::progress::RunProgress;
use super::run_plan::RunPlan;
use super::scratch_dir::ScratchDir;
use crate::serve::resource_limits;
use quire_executor::{
    BuiltImage, ExecutorError, OutputSink, OwnedImage, StartObserver, Stream, Workspace,
};
use quire_git::Git;
use quire_run_files::artifacts::ArtifactStore;
use quire_run_files::logs::{RunLog, StepLog};
use quire_server::runner::ServiceLogSink;
use quire_server::runner::{Recorder as _, SecretResolver, StartContext};
use quire_server::runner::{RunContext, execute_jobs, failure_of};
use quire_types::paths::Paths;
use quire_types::run::Outcome;

/// What an execution leaves: a workspace that must be stopped, if one was started, and the outcome,
/// `None` if the run was stopped.
pub(super) struct Execution {
    pub(super) workspace: Option<Arc<dyn Workspace>>,
    pub(super) outcome: Option<Outcome>,
    /// The image that was built for this run. No row remembers it, so it is removed at the end; the
    /// engine's build cache makes the next build fast.
    pub(super) built: Option<OwnedImage>,
}

/// Starts the workspace and runs the jobs in it.
pub(super) async fn execute(
    plan: RunPlan,
    scratch: &ScratchDir,
    log: &RunLog,
    progress: &RunProgress,
    interrupt: &StopSignals,
) -> Result<Execution, CiError> {
    let git = Git::new(&Paths::new(scratch.path(), scratch.path()));
    // Progress in memory records everything.
    let _ = progress.jobs_registered(&plan.prepared.jobs());
    let checkout = plan.checkout.as_ref();
    let values = plan
        .push
        .values(&git, plan.run, &plan.tree, checkout, &plan.files)
        .await?;
    let history = plan.history(&git).await?;
    let limits = quire_config::CiConfig::default();
    let pipeline = &plan.prepared.pipeline;
    let timeout = pipeline.timeout_ms().map(Duration::from_millis);
    let context = StartContext {
        push: plan.push.pushed(plan.run),
        image: plan.image.clone(),
        tree: plan.commit_or_folder(git, history),
        limits: &resource_limits(&limits),
        run_dir: scratch.path(),
        may_be_kept: false,
        rebuild: false,
    };
    let spec = context.spec(pipeline);
    let env = spec.env.clone();
    let started_at = tokio::time::Instant::now();
    let mut observer = LogObserver {
        log: log.own().ok(),
        logs: log.clone(),
        built: None,
    };
    let executor = plan.executor.executor.clone();
    let stop = interrupt.stop.clone();
    let started = executor.start_workspace(spec, &mut observer, stop).await;
    let built = observer.finish();
    let workspace: Arc<dyn Workspace> = match started {
        Ok(workspace) => workspace.into(),
        Err(error) => {
            return Ok(Execution {
                workspace: None,
                outcome: outcome_of_start(&error),
                built,
            });
        }
    };
    // Without a folder of the user artifacts are stored all the same, so that failures to store them show.
    let folder = plan
        .artifacts
        .clone()
        .unwrap_or_else(|| scratch.path().join("artifacts"));
    let context = RunContext {
        recorder: Arc::new(progress.clone()),
        log: log.clone(),
        workspace: workspace.clone(),
        values: Map::from_iter([(plan.source.to_string(), Value::Object(values))]),
        env,
        secrets: environment_secrets(),
        artifacts: ArtifactStore::new(folder, limits.max_artifacts),
        started_at,
        timeout: timeout.unwrap_or(limits.timeout),
    };
    let outcome = execute_jobs(plan.prepared, context, interrupt.stop.clone()).await;
    Ok(Execution {
        workspace: Some(workspace),
        outcome,
        built,
    })
}

/// The outcome of a run whose workspace did not start; `None` if it was cancelled.
fn outcome_of_start(error: &ExecutorError) -> Option<Outcome> {
    match error {
        ExecutorError::Cancelled => None,
        error => {
            let (kind, message) = failure_of(error);
            Some(Outcome::Failed(kind, message))
        }
    }
}

/// Writes what happens while the workspace starts to the log of the run.
struct LogObserver {
    log: Option<StepLog>,
    /// Opens the logs of services.
    logs: RunLog,
    built: Option<OwnedImage>,
}

impl LogObserver {
    /// Ends the log and returns the image that was built.
    fn finish(self) -> Option<OwnedImage> {
        if let Some(log) = self.log {
            log.finish();
        }
        self.built
    }
}

impl StartObserver for LogObserver {
    fn line(&mut self, stream: Stream, bytes: &[u8]) {
        if let Some(log) = &mut self.log {
            log.write(stream, bytes);
        }
    }

    fn build_started(&mut self, _engine: &str, _tag: &str) {}

    fn build_finished(&mut self, image: &BuiltImage) {
        self.built = Some(OwnedImage::Built {
            tag: image.tag.clone(),
            id: Some(image.id.clone()),
        });
    }

    fn container_created(&mut self, _id: &str, _image: &str) {}

    fn container_started(&mut self) {}

    fn service_output(&mut self, service: &str) -> Box<dyn OutputSink> {
        Box::new(ServiceLogSink::open(&self.logs, service))
    }
}

/// Secrets from the environment: `deploy-key` is `QUIRE_SECRET_DEPLOY_KEY`.
fn environment_secrets() -> SecretResolver {
    Arc::new(|name| {
        let variable: String = name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_uppercase()
                } else {
                    '_'
                }
            })
            .collect();
        let source = quire_config::SecretSource::Environment(format!("QUIRE_SECRET_{variable}"));
        source
            .read(name, |variable| std::env::var(variable).ok())
            .map_err(|error| error.to_string())
    })
}
