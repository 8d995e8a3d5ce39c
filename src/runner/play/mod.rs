//! Playing a prepared pipeline in a started workspace: which job when, each `sh` it asks for, how
//! it comes out. One event loop a run; the driver's functions wait in the driver, not here.

mod budget;
mod files;
mod mouth;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use budget::Budget;
use files::Files;
use mouth::{Word, Writer, driver_failed, room, speak, unheard};

use super::SecretSource;
use super::prepare::Prepared;
use super::record::{RecordError, Recorder};
use super::step::{self, Output};
use crate::artifacts::Keeper;
use crate::causes::with_causes;
use crate::driver::protocol::{FromDriver, JobEnd, ShCommand, ShOptions, ShResult, ToDriver};
use crate::driver::{DriverError, DriverReceiver};
use crate::executor::{CommandEnd, ExecutorError, Stream, Workspace};
use crate::logs::{RunLog, StepLog};
use crate::names::JobName;
use crate::pipeline::{Input, Pipeline, Schedule, Verdict, format_duration, sentence};
use crate::run::{FailureKind, JobState, Outcome};
use crate::store::JobResult;

/// How often deadlines are looked at and unfinished lines shown.
const TICK: Duration = Duration::from_millis(100);
/// How much later than its driver the runner gives a job up: the driver's own words are better.
const JOB_GRACE: Duration = Duration::from_secs(2);
/// Commands of a whole run; each costs a row and a file.
const STEPS_PER_RUN: u32 = 1_000_000;

/// Where a pipeline is played.
pub struct Scene {
    /// Takes note.
    pub recorder: Arc<dyn Recorder>,
    /// Takes the output.
    pub log: RunLog,
    /// Runs the commands.
    pub workspace: Arc<dyn Workspace>,
    /// What `(jobs NAME)` gives from the start: what the source says, and results that are used again.
    pub values: Map<String, Value>,
    /// Variables of the run.
    pub env: Vec<(String, String)>,
    /// Finds secrets.
    pub secrets: SecretSource,
    /// Keeps artifacts.
    pub artifacts: Keeper,
    /// When the run began: image and container count.
    pub began: Instant,
    /// Limit of the whole run.
    pub timeout: Duration,
}

/// Why a run ends.
enum Stop {
    /// It came out like this.
    Outcome(Outcome),
    /// It was asked to stop; who asked knows the outcome.
    Asked,
}

impl From<RecordError> for Stop {
    fn from(error: RecordError) -> Self {
        // A full disk, most likely: the error says it, and it is no bug.
        Self::Outcome(Outcome::Failed(FailureKind::Internal, with_causes(&error)))
    }
}

fn failed(kind: FailureKind, message: impl Into<String>) -> Stop {
    Stop::Outcome(Outcome::Failed(kind, message.into()))
}

/// Plays a pipeline to its end. None where `stop` fired: who fired it knows what that means.
/// The workspace is still there afterwards; commands in it may still be ending.
pub async fn play(
    prepared: Prepared,
    mut scene: Scene,
    stop: CancellationToken,
) -> Option<Outcome> {
    let Prepared {
        pipeline,
        schedule,
        driver,
    } = prepared;
    let inputs = pipeline.jobs().iter().flat_map(|job| &job.inputs);
    let asked_for = inputs
        .filter_map(|input| {
            if let Input::Job(job) = input {
                Some(job.clone())
            } else {
                None
            }
        })
        .collect();
    let values = std::mem::take(&mut scene.values);
    let (sender, mut receiver) = driver.split();
    let (mouth, words) = mpsc::channel(room(values.len(), schedule.jobs().len()));
    let mut writer = tokio::spawn(speak(sender, words));
    let own = scene.log.own().ok();
    let mut play = Play {
        deadline: scene.began + scene.timeout,
        own,
        pipeline,
        schedule,
        asked_for,
        scene,
        mouth,
        jobs: HashMap::new(),
        steps: JoinSet::new(),
        open: HashMap::new(),
        files: Files::default(),
        troubles: Vec::new(),
        seq: 0,
        messages: Vec::new(),
        deaf: false,
        budget: Budget::default(),
    };
    for (name, value) in values {
        play.tell(ToDriver::Value { name, value });
    }
    let end = play.until_it_ends(&mut receiver, &mut writer, &stop).await;
    play.cancel_all();
    writer.abort();
    receiver.kill().await;
    // Each command answers once its process tree is gone, or when the workspace under it is.
    let ended = async {
        while play.steps.join_next().await.is_some() {}
        play.forget_files().await;
    };
    let _ = tokio::time::timeout(JOB_GRACE, ended).await;
    match end {
        Stop::Outcome(outcome) => Some(outcome),
        Stop::Asked => None,
    }
}

/// A job in progress.
struct ActiveJob {
    deadline: Option<Instant>,
    timeout_ms: Option<u64>,
    timed_out: bool,
    cancel: CancellationToken,
    /// Shared with each answer for the job that is not written to the driver yet.
    unheard: Arc<()>,
}

/// A job asks for one thing at a time. What it asked for before may be written and not yet counted as such.
const MOST_UNHEARD: usize = 1;

impl ActiveJob {
    /// Whether it can have what it asked for before.
    fn has_heard(&self) -> bool {
        Arc::strong_count(&self.unheard) - 1 <= MOST_UNHEARD
    }
}

/// A step in progress.
struct OpenStep {
    seq: u32,
    job: JobName,
    output: Output,
    timeout: Option<Duration>,
}

type Ended = (u64, Result<CommandEnd, ExecutorError>);

struct Play {
    pipeline: Pipeline,
    schedule: Schedule,
    scene: Scene,
    /// Has room for all that a driver which listens can be told at once.
    mouth: mpsc::Sender<Word>,
    /// It had no room: the driver does not listen.
    deaf: bool,
    /// What may still go into the database.
    budget: Budget,
    /// The run's own log.
    own: Option<StepLog>,
    jobs: HashMap<JobName, ActiveJob>,
    /// The jobs that others wait for.
    asked_for: HashSet<JobName>,
    steps: JoinSet<Ended>,
    open: HashMap<u64, OpenStep>,
    /// Files on their way.
    files: Files,
    /// What went wrong beside the commands, as far as it is noted.
    troubles: Vec<String>,
    seq: u32,
    deadline: Instant,
    /// Of each job that failed, in that order: why, and whether its time was up.
    messages: Vec<(JobName, String, bool)>,
}

impl Play {
    async fn until_it_ends(
        &mut self,
        receiver: &mut DriverReceiver,
        writer: &mut Writer,
        stop: &CancellationToken,
    ) -> Stop {
        match self.events(receiver, writer, stop).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn events(
        &mut self,
        receiver: &mut DriverReceiver,
        writer: &mut Writer,
        stop: &CancellationToken,
    ) -> Result<std::convert::Infallible, Stop> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.start_ready()?;
        loop {
            if self.deaf {
                return Err(failed(
                    FailureKind::Internal,
                    "internal error: the driver does not take what it is told",
                ));
            }
            if let Some(verdict) = self.schedule.verdict() {
                return Err(Stop::Outcome(self.outcome(verdict)));
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(Stop::Asked),
                Some(ended) = self.steps.join_next() => self.step_ended(ended)?,
                Some(ended) = self.files.next() => self.file_ended(ended)?,
                // Before what the driver says: one that never stops talking must not outlast its time.
                _ = ticks.tick() => self.tick()?,
                said = receiver.recv() => self.heard(said)?,
                spoken = &mut *writer => return Err(unheard(spoken, receiver).await),
            }
        }
    }

    /// Starts every job that may start.
    fn start_ready(&mut self) -> Result<(), Stop> {
        for job in self.schedule.ready() {
            self.scene.recorder.job_started(&job)?;
            self.schedule.started(&job);
            self.call(&job);
        }
        Ok(())
    }

    /// Has the driver call a job's function.
    fn call(&mut self, job: &JobName) {
        let timeout_ms = self
            .pipeline
            .job(job)
            .and_then(|job| job.options.timeout_ms);
        let deadline = timeout_ms.map(|millis| Instant::now() + Duration::from_millis(millis));
        let cancel = CancellationToken::new();
        self.jobs.insert(
            job.clone(),
            ActiveJob {
                deadline,
                timeout_ms,
                timed_out: false,
                cancel,
                unheard: Arc::default(),
            },
        );
        let mut env = self.scene.env.clone();
        env.extend(self.job_env(job).cloned());
        self.tell(ToDriver::RunJob {
            job: job.to_string(),
            timeout_ms,
            env,
        });
    }

    /// The variables that a job's commands see beside those of the run.
    fn job_env(&self, job: &JobName) -> impl Iterator<Item = &(String, String)> {
        self.pipeline
            .job(job)
            .into_iter()
            .flat_map(|job| &job.options.env)
    }

    fn tell(&mut self, message: ToDriver) {
        self.say(Word {
            message,
            _for: None,
        });
    }

    /// Tells a job what it asked for. One that ended meanwhile has no use for it.
    fn answer(&mut self, job: &JobName, message: ToDriver) {
        if let Some(active) = self.jobs.get(job) {
            let answer = Word {
                message,
                _for: Some(active.unheard.clone()),
            };
            self.say(answer);
        }
    }

    fn say(&mut self, word: Word) {
        // A writer that is gone has said why, or is about to: the loop hears it.
        self.deaf |= matches!(
            self.mouth.try_send(word),
            Err(mpsc::error::TrySendError::Full(_))
        );
    }

    /// The job that asks for something. A driver asks once for each job at a time, and only when the
    /// job has what it asked for before; one gone wild need not.
    fn asker(&self, call: u64, job: &str) -> Result<(JobName, CancellationToken), Stop> {
        let job = job
            .parse::<JobName>()
            .ok()
            .filter(|job| self.open.values().all(|step| step.job != *job) && !self.files.has(job));
        let active = job.and_then(|job| {
            self.jobs
                .get(&job)
                .filter(|active| active.has_heard())
                .map(|active| (job, active.cancel.clone()))
        });
        let is_new = !self.open.contains_key(&call) && !self.files.has_call(call);
        active.filter(|_| is_new).ok_or_else(|| {
            let message = "internal error: the driver asked for something in no job of its, or before it took the last answer";
            failed(FailureKind::Internal, message)
        })
    }

    fn heard(&mut self, said: Result<Option<FromDriver>, DriverError>) -> Result<(), Stop> {
        match said.map_err(|error| driver_failed(&error))? {
            Some(FromDriver::Sh {
                call,
                job,
                cmd,
                opts,
            }) => self.sh(call, &job, cmd, opts),
            Some(FromDriver::Secret { call, job, name }) => self.secret(call, &job, &name),
            Some(FromDriver::Log { job, text }) => {
                if let Some(own) = &mut self.own {
                    own.line(Stream::Stdout, &format!("{job}: {text}"));
                }
                Ok(())
            }
            Some(FromDriver::ReadFile { call, job, path }) => self.read_file(call, &job, path),
            Some(FromDriver::WriteFile {
                call,
                job,
                path,
                content,
            }) => self.write_file(call, &job, path, content),
            Some(FromDriver::Artifact {
                call,
                job,
                path,
                name,
            }) => self.artifact(call, &job, path, name),
            Some(FromDriver::JobEnded { job, end }) => self.job_ended(&job, end),
            Some(
                FromDriver::Compiled { .. }
                | FromDriver::Registered(_)
                | FromDriver::Rejected { .. },
            ) => Err(failed(
                FailureKind::Internal,
                "internal error: the driver registered a pipeline twice",
            )),
            None => Err(failed(
                FailureKind::Pipeline,
                "the process that evaluates the pipeline ended before its jobs did",
            )),
        }
    }

    /// A job wants a command run.
    fn sh(&mut self, call: u64, job: &str, cmd: ShCommand, opts: ShOptions) -> Result<(), Stop> {
        let (job, cancel) = self.asker(call, job)?;
        if self.seq >= STEPS_PER_RUN {
            return Err(failed(
                FailureKind::Pipeline,
                format!("the run has more than {STEPS_PER_RUN} commands"),
            ));
        }
        self.seq += 1;
        let seq = self.seq;
        let shown = self.scene.log.redactor().redact_text(&step::display(&cmd));
        let shown = self.budget.command(shown);
        self.scene.recorder.step_started(seq, &job, &shown)?;
        crate::fault::point("runner-step-recorded");
        let log = self
            .scene
            .log
            .step(&job, seq)
            .map_err(|error| log_failed(&error))?;
        let output = Output::new(log);
        let command = step::command(cmd, opts, self.job_env(&job));
        self.open.insert(
            call,
            OpenStep {
                seq,
                job,
                output: output.clone(),
                timeout: command.timeout,
            },
        );
        let workspace = self.scene.workspace.clone();
        self.steps
            .spawn(async move { (call, workspace.run(command, Box::new(output), cancel).await) });
        Ok(())
    }

    fn step_ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) -> Result<(), Stop> {
        let (call, end) = ended.map_err(|error| {
            failed(
                FailureKind::Internal,
                format!("internal error: a step broke off: {error}"),
            )
        })?;
        let Some(step) = self.open.remove(&call) else {
            return Ok(());
        };
        let active = self.jobs.get(&step.job);
        let job_timed_out = active
            .filter(|active| active.timed_out)
            .and_then(|active| active.timeout_ms);
        match end {
            Ok(end) => {
                let exit = if let CommandEnd::Exited(code) = end {
                    Some(code)
                } else {
                    None
                };
                let error = step::cut_short(&end, step.timeout, job_timed_out);
                if let Some(error) = &error {
                    step.output.line(&format!("quire: {error}"));
                }
                self.close(&step, exit, error, call)
            }
            Err(ExecutorError::Command(message)) => {
                step.output.line(&format!("quire: {message}"));
                self.close(&step, None, Some(message), call)
            }
            Err(error) => {
                let (kind, message) = executor_failed(&error);
                step.output.line(&format!("quire: {message}"));
                step.output.finish(-1, None, self.scene.log.redactor());
                self.scene.recorder.step_ended(step.seq, None)?;
                Err(failed(kind, message))
            }
        }
    }

    /// Records a step's end and tells the driver.
    fn close(
        &mut self,
        step: &OpenStep,
        exit: Option<i32>,
        error: Option<String>,
        call: u64,
    ) -> Result<(), Stop> {
        let result: ShResult =
            step.output
                .finish(exit.unwrap_or(-1), error, self.scene.log.redactor());
        self.scene.recorder.step_ended(step.seq, exit)?;
        crate::fault::point("runner-step-ended");
        self.answer(&step.job, ToDriver::ShEnded { call, result });
        Ok(())
    }

    fn secret(&mut self, call: u64, job: &str, name: &str) -> Result<(), Stop> {
        let (job, _) = self.asker(call, job)?;
        let value = (self.scene.secrets)(name);
        let value = value.inspect(|secret| {
            self.scene.log.redactor().add(name, secret);
            if secret.is_too_short() {
                self.note(&format!(
                    "secret `{name}` is shorter than 8 characters, so it is not replaced in the log"
                ));
            }
        });
        self.answer(&job, ToDriver::SecretValue { call, value });
        Ok(())
    }

    fn note(&mut self, text: &str) {
        if let Some(own) = &mut self.own {
            own.line(Stream::Stderr, &format!("quire: {text}"));
        }
    }

    fn job_ended(&mut self, job: &str, end: JobEnd) -> Result<(), Stop> {
        let Some((job, active)) = job
            .parse::<JobName>()
            .ok()
            .and_then(|job| self.jobs.remove_entry(&job))
        else {
            return Err(failed(
                FailureKind::Internal,
                "internal error: the driver ended a job that does not run",
            ));
        };
        active.cancel.cancel();
        if let JobEnd::Failed { message, .. } = &end
            && !active.timed_out
            && self.schedule.retry(&job)
        {
            self.note(&format!(
                "job `{job}` failed and is tried again: {}",
                sentence(message)
            ));
            self.discard_artifacts(&job)?;
            self.call(&job);
            return Ok(());
        }
        let redactor = self.scene.log.redactor().clone();
        let mut timed_out = active.timed_out;
        let (state, exit_code, message, output) = match end {
            JobEnd::Complete { output } => {
                let output = redactor.redact_json(output);
                match self.budget.output(&output) {
                    Ok(()) => (JobState::Complete, None, None, Some(output)),
                    Err(why) => (JobState::Failed, None, Some(why), None),
                }
            }
            JobEnd::Skipped => (JobState::Skipped, None, None, None),
            JobEnd::Failed {
                message,
                exit_code,
                place,
            } => (
                JobState::Failed,
                exit_code,
                Some(located(&message, place.as_ref())),
                None,
            ),
            JobEnd::TimedOut { message, place } => {
                timed_out = true;
                (
                    JobState::Failed,
                    None,
                    Some(located(&message, place.as_ref())),
                    None,
                )
            }
        };
        let message = message.map(|message| sentence(&redactor.redact_text(&message)));
        let result = JobResult {
            state,
            exit_code,
            message: message.as_deref(),
            output: output.as_ref(),
        };
        self.scene
            .recorder
            .job_ended(&job, JobState::Active, &result)?;
        if let Some(message) = message {
            self.note(&format!("job `{job}` failed: {message}"));
            self.messages.push((job.clone(), message, timed_out));
        }
        if let Some(output) = output {
            // What no job can ask for stays here.
            if self.asked_for.contains(&job) {
                self.tell(ToDriver::Value {
                    name: job.to_string(),
                    value: output,
                });
            }
        }
        for skipped in self.schedule.ended(&job, state) {
            let message = format!("`{job}` failed");
            let result = JobResult {
                message: Some(&message),
                ..JobResult::plain(JobState::Skipped)
            };
            self.scene
                .recorder
                .job_ended(&skipped, JobState::Pending, &result)?;
        }
        self.start_ready()
    }

    /// Deadlines, and unfinished lines that nobody adds to.
    fn tick(&mut self) -> Result<(), Stop> {
        for step in self.open.values() {
            step.output.tick();
        }
        for trouble in self
            .scene
            .workspace
            .troubles()
            .into_iter()
            .skip(self.troubles.len())
        {
            self.note(&trouble);
            self.troubles.push(trouble);
        }
        let now = Instant::now();
        if now >= self.deadline {
            let limit = u64::try_from(self.scene.timeout.as_millis()).unwrap_or(u64::MAX);
            return Err(failed(
                FailureKind::Timeout,
                format!("the run timed out after {}", format_duration(limit)),
            ));
        }
        for (job, active) in &mut self.jobs {
            let Some(deadline) = active.deadline.filter(|deadline| now >= *deadline) else {
                continue;
            };
            if !active.timed_out {
                active.timed_out = true;
                active.cancel.cancel();
            } else if now >= deadline + JOB_GRACE && self.open.values().all(|step| step.job != *job)
            {
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

    fn outcome(&self, verdict: Verdict) -> Outcome {
        let Verdict::Failed(jobs) = verdict else {
            return Outcome::Complete;
        };
        let Some(first) = jobs.first() else {
            return Outcome::Complete;
        };
        let (why, timed_out) = self
            .messages
            .iter()
            .find(|(job, ..)| job == first)
            .map_or(("", false), |(_, why, timed_out)| {
                (why.as_str(), *timed_out)
            });
        let kind = if timed_out {
            FailureKind::Timeout
        } else {
            FailureKind::Job
        };
        let beside: String = self
            .scene
            .workspace
            .troubles()
            .iter()
            .map(|trouble| format!("; {trouble}"))
            .collect();
        let more = if jobs.len() > 1 {
            format!(" (and {} more)", jobs.len() - 1)
        } else {
            String::new()
        };
        Outcome::Failed(kind, format!("job `{first}` failed: {why}{more}{beside}"))
    }
}

fn located(message: &str, place: Option<&crate::pipeline::Place>) -> String {
    place.map_or_else(|| message.to_owned(), |place| format!("{place}: {message}"))
}

fn log_failed(error: &std::io::Error) -> Stop {
    failed(
        FailureKind::Internal,
        format!("the log cannot be written: {error}"),
    )
}

/// What an executor's error means for the run.
#[must_use]
pub fn executor_failed(error: &ExecutorError) -> (FailureKind, String) {
    let kind = match error {
        ExecutorError::Unavailable(_) | ExecutorError::Faulty { .. } => {
            FailureKind::DockerUnavailable
        }
        ExecutorError::Image(_) => FailureKind::Image,
        ExecutorError::ContainerDied(_) => FailureKind::ContainerDied,
        ExecutorError::NotReady(_) => FailureKind::Timeout,
        ExecutorError::Command(_) => FailureKind::Pipeline,
        ExecutorError::Cancelled
        | ExecutorError::File(_)
        | ExecutorError::Busy(_)
        | ExecutorError::Other { .. } => FailureKind::Internal,
    };
    (kind, error.to_string())
}

#[cfg(test)]
mod tests;
