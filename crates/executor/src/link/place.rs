//! Where the helper of a run is executed, and what ends it.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::io::AsyncWrite;

use crate::error::ExecutorError;

/// The two directions of the connection to a helper. When both are dropped, the helper ends with
/// everything that it started.
pub(crate) struct HelperStreams {
    pub(crate) input: Pin<Box<dyn AsyncWrite + Send>>,
    /// Chunks cut anywhere. The end of the stream is no proof that the helper has ended.
    pub(crate) output: BoxStream<'static, Result<Bytes, ExecutorError>>,
}

/// A place in which the helper of one run is executed, such as a container.
pub(crate) trait HelperPlace: Send + Sync {
    /// Fails if what the place is on cannot be reached. Asked while the helper is silent.
    fn check_alive(&self) -> BoxFuture<'_, Result<(), ExecutorError>>;

    /// Returns why the connection to the helper ended.
    fn explain_loss(&self) -> BoxFuture<'_, ExecutorError>;

    /// The error for a command that was killed because memory ran out.
    fn out_of_memory(&self) -> ExecutorError;

    /// Ends the helper with everything that it started, whatever state it is in. Returns once that
    /// is confirmed; may be repeated.
    fn end(&self) -> BoxFuture<'_, Result<(), ExecutorError>>;

    /// Removes what is left of the place after its end; may be repeated.
    fn remove(&self) -> BoxFuture<'_, Result<(), ExecutorError>>;

    /// The services that ended while the run was active, each in one sentence.
    fn service_failures(&self) -> Vec<String>;
}
