//! What the engine refused, as errors of the executor.

use crate::engine::DockerError;
use crate::error::ExecutorError;

pub(super) fn create_error(error: DockerError) -> ExecutorError {
    ExecutorError::from_engine("create the service", error)
}

pub(super) fn remove_error(error: DockerError) -> ExecutorError {
    ExecutorError::from_engine("remove the service", error)
}

pub(super) fn list_error(error: DockerError) -> ExecutorError {
    ExecutorError::from_engine("list the nodes of the swarm", error)
}
