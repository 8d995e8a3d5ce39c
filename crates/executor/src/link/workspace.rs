//! A workspace whose commands and files are a helper's, wherever the helper is.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::session::HelperSession;
use crate::api::{CommandEnd, CommandSpec, OutputSink, Workspace};
use crate::error::ExecutorError;
use crate::tar_stream::TarStream;

/// How long the last output of processes that were killed may take to be passed on.
const LAST_OUTPUT_TIMEOUT: Duration = Duration::from_secs(5);

/// The workspace of a run.
pub(crate) struct LinkWorkspace(Arc<HelperSession>);

impl LinkWorkspace {
    pub(crate) fn new(session: Arc<HelperSession>) -> Self {
        Self(session)
    }

    async fn stop(&self) -> Result<(), ExecutorError> {
        let session = &self.0;
        session.stopped.cancel();
        session.place.end().await?;
        session.followers.close();
        let _ = tokio::time::timeout(LAST_OUTPUT_TIMEOUT, session.followers.wait()).await;
        Ok(())
    }
}

impl Workspace for LinkWorkspace {
    fn run_command(
        &self,
        command: CommandSpec,
        sink: Box<dyn OutputSink>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<CommandEnd, ExecutorError>> {
        self.0.run_command(command, sink, cancel).boxed()
    }

    fn read_file<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Vec<u8>, ExecutorError>> {
        self.0.read_file(path).boxed()
    }

    fn write_file<'a>(
        &'a self,
        path: &'a str,
        content: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), ExecutorError>> {
        self.0.write_file(path, content).boxed()
    }

    fn export_archive<'a>(
        &'a self,
        path: &'a str,
    ) -> BoxFuture<'a, Result<TarStream, ExecutorError>> {
        self.0.export_archive(path).boxed()
    }

    fn service_failures(&self) -> Vec<String> {
        self.0.place.service_failures()
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        self.stop().boxed()
    }

    fn remove(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        self.0.place.remove().boxed()
    }

    fn keep(&self, duration: Duration) -> BoxFuture<'_, Result<(), ExecutorError>> {
        self.0.keep(duration).boxed()
    }
}
