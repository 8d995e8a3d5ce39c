//! What happened in a run so far, in memory: where the appliance has rows, `ci run` has this.

use std::sync::{Arc, Mutex, PoisonError};

use crate::artifacts::Kept;
use crate::clock::{Clock, Millis};
use crate::live::Live;
use crate::names::{JobName, RunId};
use crate::run::JobState;
use crate::runner::{RecordError, Recorder};
use crate::store::JobResult;

/// A job of the run.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) name: JobName,
    /// What it waits for.
    pub(super) inputs: Vec<String>,
    pub(super) state: JobState,
    pub(super) started: Option<Millis>,
    pub(super) ended: Option<Millis>,
    pub(super) message: Option<String>,
}

/// A step of the run.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) seq: u32,
    pub(super) job: JobName,
    /// As a person would type it, secrets redacted.
    pub(super) command: String,
    pub(super) started: Millis,
    pub(super) ended: Option<Millis>,
    /// None while it runs, and where it was cut.
    pub(super) exit: Option<i32>,
}

/// Something that happened, with all there is to tell of it.
#[derive(Debug, Clone)]
pub(super) enum Event {
    StepStarted(Step),
    StepEnded(Step),
    JobEnded(Job),
}

impl Event {
    /// When it happened.
    pub(super) fn at(&self) -> Millis {
        match self {
            Self::StepStarted(step) => step.started,
            Self::StepEnded(step) => step.ended.unwrap_or(step.started),
            Self::JobEnded(job) => job.ended.or(job.started).unwrap_or(Millis(0)),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    jobs: Vec<Job>,
    steps: Vec<Step>,
    events: Vec<Event>,
    artifacts: Vec<(JobName, Kept)>,
}

/// The run's progress. A clone is the same one.
#[derive(Clone)]
pub(super) struct Board {
    state: Arc<Mutex<State>>,
    clock: Clock,
    live: Live,
    run: RunId,
}

impl Board {
    /// Nothing has happened yet. Who watches the run on `live` is woken whenever something does.
    pub(super) fn new(clock: Clock, live: Live, run: RunId) -> Self {
        Self {
            state: Arc::default(),
            clock,
            live,
            run,
        }
    }

    /// What time it is for the run.
    pub(super) fn now(&self) -> Millis {
        self.clock.now()
    }

    /// What happened after the first `known` events.
    pub(super) fn events_from(&self, known: usize) -> Vec<Event> {
        self.with(|state| state.events.get(known..).unwrap_or_default().to_vec())
    }

    /// The run is over: what still runs was aborted, and what waits will not run.
    pub(super) fn close(&self) {
        let now = self.clock.now();
        self.with(|state| {
            for job in state.jobs.iter_mut().filter(|job| !job.state.is_final()) {
                let ran = job.state == JobState::Active;
                (job.state, job.ended) = (
                    if ran {
                        JobState::Aborted
                    } else {
                        JobState::Skipped
                    },
                    ran.then_some(now),
                );
            }
            for step in state.steps.iter_mut().filter(|step| step.ended.is_none()) {
                step.ended = Some(now);
            }
        });
    }

    /// All jobs in the order of registration, all steps in the order of starting.
    pub(super) fn all(&self) -> (Vec<Job>, Vec<Step>) {
        self.with(|state| (state.jobs.clone(), state.steps.clone()))
    }

    /// What was kept, in the order of coming.
    pub(super) fn artifacts(&self) -> Vec<Kept> {
        self.with(|state| {
            state
                .artifacts
                .iter()
                .map(|(_, kept)| kept.clone())
                .collect()
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn record(&self, change: impl FnOnce(&mut State, Millis)) -> Result<(), RecordError> {
        self.with(|state| change(state, self.clock.now()));
        self.live.state_changed(self.run);
        Ok(())
    }
}

impl Recorder for Board {
    fn jobs_registered(&self, jobs: &[(JobName, Vec<String>)]) -> Result<(), RecordError> {
        self.record(|state, _| {
            let job = |(name, inputs): &(JobName, Vec<String>)| Job {
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
                (row.state, row.started) = (JobState::Active, Some(now));
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
                (row.state, row.ended, row.message) =
                    (end.state, Some(now), end.message.map(str::to_owned));
                let row = row.clone();
                state.events.push(Event::JobEnded(row));
            }
        })
    }

    fn step_started(&self, seq: u32, job: &JobName, command: &str) -> Result<(), RecordError> {
        self.record(|state, now| {
            let step = Step {
                seq,
                job: job.clone(),
                command: command.to_owned(),
                started: now,
                ended: None,
                exit: None,
            };
            state.steps.push(step.clone());
            state.events.push(Event::StepStarted(step));
        })
    }

    fn step_ended(&self, seq: u32, exit_code: Option<i32>) -> Result<(), RecordError> {
        self.record(|state, now| {
            // The newest ones end first, mostly.
            if let Some(step) = state.steps.iter_mut().rev().find(|step| step.seq == seq) {
                (step.ended, step.exit) = (Some(now), exit_code);
                let step = step.clone();
                state.events.push(Event::StepEnded(step));
            }
        })
    }

    fn artifact_kept(&self, job: &JobName, kept: &Kept) -> Result<(), RecordError> {
        self.record(|state, _| state.artifacts.push((job.clone(), kept.clone())))
    }

    fn artifacts_discarded(&self, job: &JobName) -> Result<(), RecordError> {
        self.record(|state, _| state.artifacts.retain(|(keeper, _)| keeper != job))
    }
}
