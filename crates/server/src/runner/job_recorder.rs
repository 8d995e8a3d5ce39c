//! Records the progress of a run: in the database, or in memory for the terminal (`quire ci run`).

use quire_run_files::artifacts::StoredArtifact;
use quire_runtime::changes::ChangeNotifier;
use quire_store::{JobResult, Store, StoreError};
use quire_types::names::{JobName, RunId};
use quire_types::run::{JobState, RunArtifact};

/// The progress of a run could not be recorded, so the run cannot continue.
#[derive(Debug, thiserror::Error)]
#[error("cannot record the progress of the run")]
pub struct RecordError(#[from] StoreError);

/// Records what happens in a run. A call may block for the time of a short transaction.
pub trait Recorder: Send + Sync {
    /// The jobs of the run, with the names of their inputs.
    fn jobs_registered(&self, jobs: &[(JobName, Vec<String>)]) -> Result<(), RecordError>;

    /// A job's function is called.
    fn job_started(&self, job: &JobName) -> Result<(), RecordError>;

    /// A job ended, from the state it was in.
    fn job_ended(
        &self,
        job: &JobName,
        from: JobState,
        end: &JobResult<'_>,
    ) -> Result<(), RecordError>;

    /// A step starts.
    fn step_started(&self, seq: u32, job: &JobName, command: &str) -> Result<(), RecordError>;

    /// A step ended; without an exit code it was interrupted.
    fn step_ended(&self, seq: u32, exit_code: Option<i32>) -> Result<(), RecordError>;

    /// A job kept an artifact, which is on disk.
    fn artifact_kept(&self, job: &JobName, kept: &StoredArtifact) -> Result<(), RecordError>;

    /// The artifacts of a job were discarded, because the job is retried.
    fn artifacts_discarded(&self, job: &JobName) -> Result<(), RecordError>;
}

/// Records in the database and notifies the followers of the run.
pub(super) struct StoreRecorder {
    pub(super) store: Store,
    pub(super) live: ChangeNotifier,
    pub(super) run: RunId,
}

impl StoreRecorder {
    fn record(
        &self,
        change: impl FnOnce(&Store) -> Result<(), StoreError>,
    ) -> Result<(), RecordError> {
        // A short transaction costs less here than a switch to another thread and back.
        tokio::task::block_in_place(|| change(&self.store))?;
        self.live.notify_run(self.run);
        Ok(())
    }
}

impl Recorder for StoreRecorder {
    fn jobs_registered(&self, jobs: &[(JobName, Vec<String>)]) -> Result<(), RecordError> {
        self.record(|store| store.jobs().register(self.run, jobs))
    }

    fn job_started(&self, job: &JobName) -> Result<(), RecordError> {
        self.record(|store| store.jobs().started(self.run, job))
    }

    fn job_ended(
        &self,
        job: &JobName,
        from: JobState,
        end: &JobResult<'_>,
    ) -> Result<(), RecordError> {
        self.record(|store| store.jobs().finished(self.run, job, from, end))
    }

    fn step_started(&self, seq: u32, job: &JobName, command: &str) -> Result<(), RecordError> {
        self.record(|store| store.steps().started(self.run, seq, job, command))
    }

    fn step_ended(&self, seq: u32, exit_code: Option<i32>) -> Result<(), RecordError> {
        self.record(|store| store.steps().finished(self.run, seq, exit_code))
    }

    fn artifact_kept(&self, job: &JobName, kept: &StoredArtifact) -> Result<(), RecordError> {
        let row = RunArtifact {
            run_id: self.run,
            name: kept.name.to_string(),
            job_id: job.clone(),
            is_folder: kept.is_folder,
            files: kept.files,
            bytes: kept.bytes,
            created_at_ms: self.store.clock().now(),
        };
        self.record(|store| store.artifacts().record(&row))
    }

    fn artifacts_discarded(&self, job: &JobName) -> Result<(), RecordError> {
        self.record(|store| store.artifacts().forget(self.run, job))
    }
}
