//! Writes the output of each service of a run to a log file of its own.

use quire_executor::{OutputSink, Stream};
use quire_run_files::logs::{RunLog, StepLog};

/// The log of one service; dropping it closes the log.
pub struct ServiceLogSink(Option<StepLog>);

impl ServiceLogSink {
    /// Opens the log. If that fails, the output is lost and the run continues.
    #[must_use]
    pub fn open(log: &RunLog, service: &str) -> Self {
        let opened = log.service(service);
        if let Err(error) = &opened {
            tracing::error!(service, %error, "cannot open the log of a service");
        }
        Self(opened.ok())
    }
}

impl OutputSink for ServiceLogSink {
    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        if let Some(log) = &mut self.0 {
            log.write(stream, bytes);
        }
    }
}

impl Drop for ServiceLogSink {
    fn drop(&mut self) {
        if let Some(log) = self.0.take() {
            log.finish();
        }
    }
}
