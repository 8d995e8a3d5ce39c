//! Writes messages to the driver, and finds out why the driver is gone when a write fails.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

use super::exit::{JOB_GRACE, LoopExit, driver_exited, driver_failed};
use quire_pipeline::driver::protocol::ToDriver;
use quire_pipeline::driver::{DriverError, DriverReceiver, DriverSender};

/// A message for the driver.
pub(super) struct Outgoing {
    pub(super) message: ToDriver,
    /// A reference that the job which waits for the message counts; dropped once it is written.
    pub(super) _pending: Option<Arc<()>>,
}

/// The most messages that wait for a driver that reads: the initial values and, for each job, its call,
/// its value and two replies, twice because a job may be retried.
pub(super) fn channel_capacity(values: usize, jobs: usize) -> usize {
    values + 8 * jobs + 8
}

/// Writes messages until the channel is closed. It is a task of its own, because a write can block until
/// the driver reads, and the driver may block until its own messages are read.
pub(super) async fn write_loop(
    mut sender: DriverSender,
    mut outgoing: mpsc::Receiver<Outgoing>,
) -> Result<(), DriverError> {
    while let Some(next) = outgoing.recv().await {
        sender.send(&next.message).await?;
    }
    Ok(())
}

pub(super) type Writer = JoinHandle<Result<(), DriverError>>;

/// The exit for a writer that stopped: the driver exited, or a message was too long. If the driver
/// exited, its own error is the better message.
pub(super) async fn writer_stopped(
    result: Result<Result<(), DriverError>, JoinError>,
    receiver: &mut DriverReceiver,
) -> LoopExit {
    let driver_error = async {
        loop {
            match receiver.recv().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return Some(error),
            }
        }
    };
    match (tokio::time::timeout(JOB_GRACE, driver_error).await, result) {
        (Ok(Some(error)), _) | (_, Ok(Err(error))) => driver_failed(&error),
        _ => driver_exited(),
    }
}
