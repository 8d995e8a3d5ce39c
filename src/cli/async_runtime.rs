//! Runs asynchronous operations in a command, which has no runtime of its own.

use super::error::CommandError;

/// Runs an operation to its end.
pub(super) fn block_on<T>(operation: impl Future<Output = T>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::failed(format!("no process could be started: {error}")))?;
    Ok(runtime.block_on(operation))
}
