//! Work that blocks, off the async threads: a disk that hangs must not stop everything else.

/// The work was cancelled at shutdown, or it panicked.
#[derive(Debug, thiserror::Error)]
#[error("internal error: the work was interrupted")]
pub struct BlockingInterrupted;

/// Runs work that reads or writes the disk on a thread where it may block.
pub async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BlockingInterrupted> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| BlockingInterrupted)
}
