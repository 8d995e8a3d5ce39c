//! The progress of a local run, in memory. It takes the place of the database rows of the appliance.

use std::sync::{Arc, Mutex};

use quire_run_files::artifacts::StoredArtifact;
use quire_runtime::changes::ChangeNotifier;
use quire_server::runner::{RecordError, Recorder};
use quire_store::JobResult;
use quire_types::clock::{Clock, Millis};
use quire_types::names::{JobName, RunId};
use quire_types::run::JobState;
use quire_types::sync::lock;

/// A job of the run.
#[derive(Debug, Clone)]
pub(super) struct JobProgress {
    pub(super) name: JobName,
    /// The names of its inputs.
    pub(super) inputs: Vec<String>,
    pub(super) state: JobState,
    pub(super) started: Option<Millis>,
    pub(super) ended: Option<Millis>,
    pub(super) message: Option<String>,
}

/// A step of the run.
#[derive(Debug, Clone)]
pub(super) struct StepProgress {
    pub(super) seq: u32,
    pub(super) job: JobName,
    /// The command as a person would type it, with secrets redacted.
    pub(super) command: String,
    pub(super) started: Millis,
    pub(super) ended: Option<Millis>,
    /// `None` while the step runs or if it was interrupted.
    pub(super) exit: Option<i32>,
}

/// An event of the run, with the job or step as it was then.
#[derive(Debug, Clone)]
pub(super) enum ProgressEvent {
    StepStarted(StepProgress),
    StepEnded(StepProgress),
    JobEnded(JobProgress),
}

impl ProgressEvent {
    /// The time of the event.
    pub(super) fn at(&self) -> Millis {
        match self {
            Self::StepStarted(step) => step.started,
            Self::StepEnded(step) => step.ended.unwrap_or(step.started),
            Self::JobEnded(job) => job.ended.or(job.started).unwrap_or(Millis(0)),
        }
    }
}

#[derive(Debug, Default)]
struct ProgressState {
    jobs: Vec<JobProgress>,
    steps: Vec<StepProgress>,
    events: Vec<ProgressEvent>,
    artifacts: Vec<(JobName, StoredArtifact)>,
}

/// The progress of a run. Clones share it.
#[derive(Clone)]
pub(super) struct RunProgress {
    state: Arc<Mutex<ProgressState>>,
    clock: Clock,
    live: ChangeNotifier,
    run: RunId,
}

impl RunProgress {
    /// Creates empty progress. Each change notifies the subscribers of the run.
    pub(super) fn new(clock: Clock, live: ChangeNotifier, run: RunId) -> Self {
        Self {
            state: Arc::default(),
            clock,
            live,
            run,
        }
    }

    /// The current time of the run's clock.
    pub(super) fn now(&self) -> Millis {
        self.clock.now()
    }

    /// The events after the first `known` ones.
    pub(super) fn events_from(&self, known: usize) -> Vec<ProgressEvent> {
        self.with(|state| state.events.get(known..).unwrap_or_default().to_vec())
    }

    /// Ends the run: active jobs become aborted, pending jobs skipped.
    pub(super) fn close(&self) {
        let now = self.clock.now();
        self.with(|state| {
            for job in state.jobs.iter_mut().filter(|job| !job.state.is_final()) {
                if job.state == JobState::Active {
                    job.state = JobState::Aborted;
                    job.ended = Some(now);
                } else {
                    job.state = JobState::Skipped;
                }
            }
            for step in state.steps.iter_mut().filter(|step| step.ended.is_none()) {
                step.ended = Some(now);
            }
        });
    }

    /// All jobs in the order of registration, all steps in the order of starting.
    pub(super) fn all(&self) -> (Vec<JobProgress>, Vec<StepProgress>) {
        self.with(|state| (state.jobs.clone(), state.steps.clone()))
    }

    /// The kept artifacts, oldest first.
    pub(super) fn artifacts(&self) -> Vec<StoredArtifact> {
        self.with(|state| {
            state
                .artifacts
                .iter()
                .map(|(_, kept)| kept.clone())
                .collect()
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut ProgressState) -> T) -> T {
        work(&mut lock(&self.state))
    }

    fn record(&self, change: impl FnOnce(&mut ProgressState, Millis)) -> Result<(), RecordError> {
        self.with(|state| change(state, self.clock.now()));
        self.live.notify_run(self.run);
        Ok(())
    }
}

impl Recorder for RunProgress {
    fn jobs_registered(&self, jobs: &[(JobName, Vec<String>)]) -> Result<(), RecordError> {
        self.record(|state, _| {
            let job = |(name, inputs): &(JobName, Vec<String>)| JobProgress {
                name: name.clone(),
                inputs: inputs.clone(),
                state: JobState::Pending,
                started: None,
                ended: None,
                message: None,
            };
            state.jobs = jobs.iter().map(job).collect();
        })
    }

    fn job_started(&self, job: &JobName) -> Result<(), RecordError> {
        self.record(|state, now| {
            if let Some(row) = state.jobs.iter_mut().find(|row| row.name == *job) {
                row.state = JobState::Active;
                row.started = Some(now);
            }
        })
    }

    fn job_ended(
        &self,
        job: &JobName,
        _from: JobState,
        end: &JobResult<'_>,
    ) -> Result<(), RecordError> {
        self.record(|state, now| {
            if let Some(row) = state.jobs.iter_mut().find(|row| row.name == *job) {
                row.state = end.state;
                row.ended = Some(now);
                row.message = end.message.map(str::to_owned);
                let row = row.clone();
                state.events.push(ProgressEvent::JobEnded(row));
            }
        })
    }

    fn step_started(&self, seq: u32, job: &JobName, command: &str) -> Result<(), RecordError> {
        self.record(|state, now| {
            let step = StepProgress {
                seq,
                job: job.clone(),
                command: command.to_owned(),
                started: now,
                ended: None,
                exit: None,
            };
            state.steps.push(step.clone());
            state.events.push(ProgressEvent::StepStarted(step));
        })
    }

    fn step_ended(&self, seq: u32, exit_code: Option<i32>) -> Result<(), RecordError> {
        self.record(|state, now| {
            // Most often one of the newest steps ends.
            if let Some(step) = state.steps.iter_mut().rev().find(|step| step.seq == seq) {
                step.ended = Some(now);
                step.exit = exit_code;
                let step = step.clone();
                state.events.push(ProgressEvent::StepEnded(step));
            }
        })
    }

    fn artifact_kept(&self, job: &JobName, kept: &StoredArtifact) -> Result<(), RecordError> {
        self.record(|state, _| state.artifacts.push((job.clone(), kept.clone())))
    }

    fn artifacts_discarded(&self, job: &JobName) -> Result<(), RecordError> {
        self.record(|state, _| state.artifacts.retain(|(keeper, _)| keeper != job))
    }
}
