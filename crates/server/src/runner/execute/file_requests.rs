//! Files of the workspace that jobs read, write or keep as artifacts, while the request is under way.

use std::collections::HashMap;

use tokio::task::{JoinError, JoinSet};

use quire_executor::ExecutorError;
use quire_run_files::artifacts::StoredArtifact;
use quire_types::names::JobName;

/// The requests under way, and the artifacts kept so far.
#[derive(Default)]
pub(super) struct FileRequests {
    pub(super) tasks: JoinSet<FileEnd>,
    /// The job that waits for each call.
    pub(super) waiting: HashMap<u64, JobName>,
    pub(super) kept: Vec<(JobName, StoredArtifact)>,
}

/// The end of a request.
pub(super) struct FileEnd {
    pub(super) call: u64,
    pub(super) outcome: FileOutcome,
}

pub(super) enum FileOutcome {
    Read(Result<Vec<u8>, FileRequestError>),
    Written(Result<(), FileRequestError>),
    Kept(Result<StoredArtifact, FileRequestError>),
}

/// Why a request failed.
pub(super) enum FileRequestError {
    /// The request itself is at fault; the job gets the message.
    Rejected(String),
    /// The workspace is lost, and so is the run.
    WorkspaceLost(ExecutorError),
}

impl From<ExecutorError> for FileRequestError {
    fn from(error: ExecutorError) -> Self {
        match error {
            ExecutorError::File(error) => Self::Rejected(error.to_string()),
            ExecutorError::Cancelled => Self::Rejected("the run was stopped".to_owned()),
            lost => Self::WorkspaceLost(lost),
        }
    }
}

impl FileRequests {
    /// Waits for the next request that ends; `None` if none is under way.
    pub(super) async fn next(&mut self) -> Option<Result<FileEnd, JoinError>> {
        self.tasks.join_next().await
    }

    /// Whether a job waits for a request.
    pub(super) fn has(&self, job: &JobName) -> bool {
        self.waiting.values().any(|waiting| waiting == job)
    }

    /// Whether a request has this call id.
    pub(super) fn has_call(&self, call: u64) -> bool {
        self.waiting.contains_key(&call)
    }
}
