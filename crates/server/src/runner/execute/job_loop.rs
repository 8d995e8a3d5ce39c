//! The event loop of one run: it owns the state of the run's jobs and steps and handles one event at a
//! time. The handlers of the events are in the sibling files.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::db_quota::DbQuota;
use super::driver_writer::{Outgoing, Writer, channel_capacity, write_loop, writer_stopped};
use super::exit::{JOB_GRACE, LoopExit, driver_exited, driver_failed, failed, internal_error};
use super::file_requests::FileRequests;
use crate::runner::job_recorder::Recorder;
use crate::runner::prepare::Prepared;
use crate::runner::secrets::SecretResolver;
use crate::runner::step::StepOutput;
use quire_executor::{CommandEnd, ExecutorError, Stream, Workspace};
use quire_pipeline::driver::protocol::{FromDriver, ToDriver};
use quire_pipeline::driver::{DriverError, DriverReceiver};
use quire_pipeline::{Input, JobTracker, JobsOutcome, Pipeline, format_duration};
use quire_run_files::artifacts::ArtifactStore;
use quire_run_files::logs::{RunLog, StepLog};
use quire_types::names::JobName;
use quire_types::run::{FailureKind, Outcome};

/// The interval at which deadlines are checked and unfinished lines are flushed.
const TICK: Duration = Duration::from_millis(100);

/// A job waits for one reply at a time. The reply before may be written and not yet counted as written.
const MAX_PENDING_REPLIES: usize = 1;

/// What the jobs of a run work with.
pub struct RunContext {
    /// Records the progress of the run.
    pub recorder: Arc<dyn Recorder>,
    /// Receives the output.
    pub log: RunLog,
    /// Runs the commands.
    pub workspace: Arc<dyn Workspace>,
    /// What `(jobs NAME)` returns from the start: the values of the source and reused job results.
    pub values: Map<String, Value>,
    /// The variables of the run.
    pub env: Vec<(String, String)>,
    /// Resolves secrets by name.
    pub secrets: SecretResolver,
    /// Stores artifacts.
    pub artifacts: ArtifactStore,
    /// When the run started; the time for image and container counts towards the limit.
    pub started_at: Instant,
    /// The time limit of the whole run.
    pub timeout: Duration,
}

/// Runs the jobs of a pipeline to their end. Returns `None` if `stop` was cancelled; the caller knows
/// what that means. The workspace still exists afterwards, and commands in it may still be ending.
pub async fn execute_jobs(
    prepared: Prepared,
    mut context: RunContext,
    stop: CancellationToken,
) -> Option<Outcome> {
    let values = std::mem::take(&mut context.values);
    let (sender, mut receiver) = prepared.driver.split();
    let capacity = channel_capacity(values.len(), prepared.tracker.jobs().len());
    let (to_driver, outgoing) = mpsc::channel(capacity);
    let mut writer = tokio::spawn(write_loop(sender, outgoing));
    let mut jobs = JobLoop::new(prepared.pipeline, prepared.tracker, context, to_driver);
    for (name, value) in values {
        jobs.send(ToDriver::Value { name, value });
    }
    let exit = match jobs.handle_events(&mut receiver, &mut writer, &stop).await {
        Ok(never) => match never {},
        Err(exit) => exit,
    };
    jobs.cancel_all();
    writer.abort();
    receiver.kill().await;
    // A command ends when its process tree has ended, or when its workspace is removed.
    let ended = async {
        while jobs.steps.join_next().await.is_some() {}
        jobs.drain_files().await;
    };
    let _ = tokio::time::timeout(JOB_GRACE, ended).await;
    match exit {
        LoopExit::Outcome(outcome) => Some(outcome),
        LoopExit::Stopped => None,
    }
}

/// A job whose function has been called and has not ended.
pub(super) struct ActiveJob {
    pub(super) deadline: Option<Instant>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) timed_out: bool,
    pub(super) cancel: CancellationToken,
    /// Shared with each reply to the job that is not written to the driver yet.
    pub(super) pending_replies: Arc<()>,
}

impl ActiveJob {
    /// Whether the job can have received the replies to its earlier requests.
    fn is_caught_up(&self) -> bool {
        Arc::strong_count(&self.pending_replies) - 1 <= MAX_PENDING_REPLIES
    }
}

/// A command of a job that has not ended.
pub(super) struct RunningStep {
    pub(super) seq: u32,
    pub(super) job: JobName,
    pub(super) output: StepOutput,
    pub(super) timeout: Option<Duration>,
}

/// The call id of a step and how its command ended.
pub(super) type StepEnd = (u64, Result<CommandEnd, ExecutorError>);

/// A failed job, for the outcome of the run.
pub(super) struct FailedJob {
    pub(super) job: JobName,
    pub(super) message: String,
    pub(super) timed_out: bool,
}

/// The state of the run. The fields are shared with the handlers in the sibling files.
pub(super) struct JobLoop {
    pub(super) pipeline: Pipeline,
    pub(super) tracker: JobTracker,
    pub(super) context: RunContext,
    /// Its capacity suffices for a driver that reads.
    to_driver: mpsc::Sender<Outgoing>,
    /// The channel was full, so the driver does not read.
    driver_stalled: bool,
    /// What the run may still write to the database.
    pub(super) quota: DbQuota,
    /// The log of the run itself.
    pub(super) run_log: Option<StepLog>,
    pub(super) jobs: HashMap<JobName, ActiveJob>,
    /// Jobs that are inputs of other jobs.
    pub(super) needed_outputs: HashSet<JobName>,
    pub(super) steps: JoinSet<StepEnd>,
    pub(super) running_steps: HashMap<u64, RunningStep>,
    pub(super) files: FileRequests,
    /// Failures of services that are in the log already.
    service_failures: Vec<String>,
    /// The number of the newest step.
    pub(super) seq: u32,
    deadline: Instant,
    /// In the order in which they failed.
    pub(super) failed_jobs: Vec<FailedJob>,
}

impl JobLoop {
    fn new(
        pipeline: Pipeline,
        tracker: JobTracker,
        context: RunContext,
        to_driver: mpsc::Sender<Outgoing>,
    ) -> Self {
        let inputs = pipeline.jobs().iter().flat_map(|job| &job.inputs);
        let needed_outputs = inputs
            .filter_map(|input| match input {
                Input::Job(job) => Some(job.clone()),
                Input::Source(_) => None,
            })
            .collect();
        Self {
            deadline: context.started_at + context.timeout,
            run_log: context.log.own().ok(),
            pipeline,
            tracker,
            context,
            to_driver,
            driver_stalled: false,
            quota: DbQuota::default(),
            jobs: HashMap::new(),
            needed_outputs,
            steps: JoinSet::new(),
            running_steps: HashMap::new(),
            files: FileRequests::default(),
            service_failures: Vec::new(),
            seq: 0,
            failed_jobs: Vec::new(),
        }
    }

    /// Handles events until one of them ends the run.
    async fn handle_events(
        &mut self,
        receiver: &mut DriverReceiver,
        writer: &mut Writer,
        stop: &CancellationToken,
    ) -> Result<Infallible, LoopExit> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.start_ready()?;
        loop {
            if self.driver_stalled {
                return Err(internal_error("the driver does not read its messages"));
            }
            if let Some(jobs_outcome) = self.tracker.outcome() {
                return Err(LoopExit::Outcome(self.outcome(jobs_outcome)));
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(LoopExit::Stopped),
                Some(ended) = self.steps.join_next() => self.step_ended(ended)?,
                Some(ended) = self.files.next() => self.file_ended(ended)?,
                // Before the messages of the driver: a driver that never stops sending must not outlast the time limit.
                _ = ticks.tick() => self.tick()?,
                message = receiver.recv() => self.on_driver_message(message)?,
                result = &mut *writer => return Err(writer_stopped(result, receiver).await),
            }
        }
    }

    /// Sends a message to the driver.
    pub(super) fn send(&mut self, message: ToDriver) {
        self.enqueue(Outgoing {
            message,
            _pending: None,
        });
    }

    /// Replies to a request of a job. A job that has ended meanwhile gets no reply.
    pub(super) fn reply(&mut self, job: &JobName, message: ToDriver) {
        if let Some(active) = self.jobs.get(job) {
            let reply = Outgoing {
                message,
                _pending: Some(active.pending_replies.clone()),
            };
            self.enqueue(reply);
        }
    }

    fn enqueue(&mut self, message: Outgoing) {
        // If the writer has stopped, the loop learns the reason from its task.
        let sent = self.to_driver.try_send(message);
        self.driver_stalled |= matches!(sent, Err(mpsc::error::TrySendError::Full(_)));
    }

    /// Returns the job that sends a request, and its cancellation token. A correct driver sends one
    /// request of a job at a time, after the job has received the reply before; the driver is foreign
    /// code, so anything else ends the run.
    pub(super) fn validate_call(
        &self,
        call: u64,
        job: &str,
    ) -> Result<(JobName, CancellationToken), LoopExit> {
        let is_idle = |job: &JobName| {
            let has_step = self.running_steps.values().any(|step| step.job == *job);
            !has_step && !self.files.has(job)
        };
        let job = job.parse::<JobName>().ok().filter(is_idle);
        let active = job.and_then(|job| {
            let active = self.jobs.get(&job)?;
            active.is_caught_up().then(|| (job, active.cancel.clone()))
        });
        let is_new = !self.running_steps.contains_key(&call) && !self.files.has_call(call);
        active.filter(|_| is_new).ok_or_else(|| {
            internal_error(
                "the driver sent a request of an unknown job, or while another request is pending",
            )
        })
    }

    fn on_driver_message(
        &mut self,
        message: Result<Option<FromDriver>, DriverError>,
    ) -> Result<(), LoopExit> {
        let message = message.map_err(|error| driver_failed(&error))?;
        match message.ok_or_else(driver_exited)? {
            FromDriver::Sh {
                call,
                job,
                cmd,
                opts,
            } => self.start_step(call, &job, cmd, opts),
            FromDriver::Secret {
                call,
                job,
                name,
                json,
            } => self.reply_secret(call, &job, &name, json),
            FromDriver::Log { job, text } => {
                if let Some(log) = &mut self.run_log {
                    log.line(Stream::Stdout, &format!("{job}: {text}"));
                }
                Ok(())
            }
            FromDriver::ReadFile { call, job, path } => self.read_file(call, &job, path),
            FromDriver::WriteFile {
                call,
                job,
                path,
                content,
            } => self.write_file(call, &job, path, content),
            FromDriver::Artifact {
                call,
                job,
                path,
                name,
            } => self.keep_artifact(call, &job, path, name),
            FromDriver::JobEnded { job, end } => self.job_ended(&job, end),
            FromDriver::Compiled { .. }
            | FromDriver::Registered(_)
            | FromDriver::Rejected { .. } => {
                Err(internal_error("the driver registered a pipeline twice"))
            }
        }
    }

    /// Writes a line of quire to the log of the run.
    pub(super) fn note(&mut self, text: &str) {
        if let Some(log) = &mut self.run_log {
            log.line(Stream::Stderr, &format!("quire: {text}"));
        }
    }

    /// Flushes unfinished lines, notes failed services, and checks deadlines.
    fn tick(&mut self) -> Result<(), LoopExit> {
        for step in self.running_steps.values() {
            step.output.tick();
        }
        let failures = self.context.workspace.service_failures();
        for failure in failures.into_iter().skip(self.service_failures.len()) {
            self.note(&failure);
            self.service_failures.push(failure);
        }
        let now = Instant::now();
        if now >= self.deadline {
            let limit = u64::try_from(self.context.timeout.as_millis()).unwrap_or(u64::MAX);
            let message = format!("the run timed out after {}", format_duration(limit));
            return Err(failed(FailureKind::Timeout, message));
        }
        for (job, active) in &mut self.jobs {
            let Some(deadline) = active.deadline.filter(|deadline| now >= *deadline) else {
                continue;
            };
            if !active.timed_out {
                active.timed_out = true;
                active.cancel.cancel();
                continue;
            }
            let has_step = self.running_steps.values().any(|step| step.job == *job);
            if now >= deadline + JOB_GRACE && !has_step {
                let message =
                    format!("job `{job}` timed out and its function could not be stopped");
                return Err(failed(FailureKind::Timeout, message));
            }
        }
        Ok(())
    }

    fn cancel_all(&mut self) {
        for active in self.jobs.values() {
            active.cancel.cancel();
        }
    }

    fn outcome(&self, jobs_outcome: JobsOutcome) -> Outcome {
        let JobsOutcome::Failed(jobs) = jobs_outcome else {
            return Outcome::Complete;
        };
        let Some(first) = jobs.first() else {
            return Outcome::Complete;
        };
        let failure = self.failed_jobs.iter().find(|failed| failed.job == *first);
        let kind = match failure {
            Some(failure) if failure.timed_out => FailureKind::Timeout,
            _ => FailureKind::Job,
        };
        let reason = failure.map_or("", |failure| failure.message.as_str());
        let more = if jobs.len() > 1 {
            format!(" (and {} more)", jobs.len() - 1)
        } else {
            String::new()
        };
        let services: String = self
            .context
            .workspace
            .service_failures()
            .iter()
            .map(|failure| format!("; {failure}"))
            .collect();
        Outcome::Failed(
            kind,
            format!("job `{first}` failed: {reason}{more}{services}"),
        )
    }
}
