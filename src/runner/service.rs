//! Where the output of a run's services goes: a log of its own for each.

use crate::executor::{OutputSink, Stream};
use crate::logs::{RunLog, StepLog};

/// The log of one service, closed when dropped.
pub struct ServiceOutput(Option<StepLog>);

impl ServiceOutput {
    /// Opens it; where that fails, the output is lost and the run goes on.
    #[must_use]
    pub fn open(log: &RunLog, service: &str) -> Self {
        let opened = log.service(service);
        if let Err(error) = &opened {
            tracing::error!(service, %error, "the log of a service cannot be opened");
        }
        Self(opened.ok())
    }
}

impl OutputSink for ServiceOutput {
    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        if let Some(log) = &mut self.0 {
            log.write(stream, bytes);
        }
    }
}

impl Drop for ServiceOutput {
    fn drop(&mut self) {
        if let Some(log) = self.0.take() {
            log.finish();
        }
    }
}
