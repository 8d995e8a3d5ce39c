//! Where a run leaves its traces while it is played: the database, or a terminal (`quire ci run`).

use crate::artifacts::Kept;
use crate::live::Live;
use crate::names::{JobName, RunId};
use crate::run::{ArtifactRow, JobState};
use crate::store::{JobResult, Store, StoreError};

/// A trace could not be left; the run cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("the run's progress cannot be recorded")]
pub struct RecordError(#[from] StoreError);

/// Takes note of what happens in a run. Calls may block shortly.
pub trait Recorder: Send + Sync {
    /// The run consists of these jobs.
    ///
    /// # Errors
    /// It cannot be recorded.
    fn jobs_registered(&self, jobs: &[(JobName, Vec<String>)]) -> Result<(), RecordError>;

    /// A job's function is called.
    ///
    /// # Errors
    /// It cannot be recorded.
    fn job_started(&self, job: &JobName) -> Result<(), RecordError>;

    /// A job ended, from the state it was in.
    ///
    /// # Errors
    /// It cannot be recorded.
    fn job_ended(
        &self,
        job: &JobName,
        from: JobState,
        end: &JobResult<'_>,
    ) -> Result<(), RecordError>;

    /// A step starts.
    ///
    /// # Errors
    /// It cannot be recorded.
    fn step_started(&self, seq: u32, job: &JobName, command: &str) -> Result<(), RecordError>;

    /// A step ended; without exit code it was cut.
    ///
    /// # Errors
    /// It cannot be recorded.
    fn step_ended(&self, seq: u32, exit_code: Option<i32>) -> Result<(), RecordError>;

    /// A job has kept something; it is on disk.
    ///
    /// # Errors
    /// It cannot be recorded.
    fn artifact_kept(&self, job: &JobName, kept: &Kept) -> Result<(), RecordError>;

    /// What a job has kept does not count: it is tried again.
    ///
    /// # Errors
    /// It cannot be recorded.
    fn artifacts_discarded(&self, job: &JobName) -> Result<(), RecordError>;
}

/// Records in the database and wakes whoever watches.
pub(super) struct StoreRecorder {
    pub(super) store: Store,
    pub(super) live: Live,
    pub(super) run: RunId,
}

impl StoreRecorder {
    fn record(
        &self,
        change: impl FnOnce(&Store) -> Result<(), StoreError>,
    ) -> Result<(), RecordError> {
        // A short transaction: cheaper here than a hop to another thread and back.
        tokio::task::block_in_place(|| change(&self.store))?;
        self.live.state_changed(self.run);
        Ok(())
    }
}

impl Recorder for StoreRecorder {
    fn jobs_registered(&self, jobs: &[(JobName, Vec<String>)]) -> Result<(), RecordError> {
        self.record(|store| store.register_jobs(self.run, jobs))
    }

    fn job_started(&self, job: &JobName) -> Result<(), RecordError> {
        self.record(|store| store.job_started(self.run, job))
    }

    fn job_ended(
        &self,
        job: &JobName,
        from: JobState,
        end: &JobResult<'_>,
    ) -> Result<(), RecordError> {
        self.record(|store| store.job_ended(self.run, job, from, end))
    }

    fn step_started(&self, seq: u32, job: &JobName, command: &str) -> Result<(), RecordError> {
        self.record(|store| store.step_started(self.run, seq, job, command))
    }

    fn step_ended(&self, seq: u32, exit_code: Option<i32>) -> Result<(), RecordError> {
        self.record(|store| store.step_ended(self.run, seq, exit_code))
    }

    fn artifact_kept(&self, job: &JobName, kept: &Kept) -> Result<(), RecordError> {
        let row = ArtifactRow {
            run_id: self.run,
            name: kept.name.to_string(),
            job_id: job.clone(),
            is_folder: kept.is_folder,
            files: kept.files,
            bytes: kept.bytes,
            created_at_ms: self.store.clock().now(),
        };
        self.record(|store| store.artifact_kept(&row))
    }

    fn artifacts_discarded(&self, job: &JobName) -> Result<(), RecordError> {
        self.record(|store| store.forget_artifacts(self.run, job))
    }
}
