//! Saying things to the driver, and what it means when that ends.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{JOB_GRACE, Stop, failed};
use crate::causes::with_causes;
use crate::driver::protocol::ToDriver;
use crate::driver::{DriverError, DriverReceiver, DriverSender};
use crate::run::FailureKind;

/// Something for the driver.
pub(super) struct Word {
    pub(super) message: ToDriver,
    /// What the job that asked for it shares until it is written.
    pub(super) _for: Option<Arc<()>>,
}

/// How much may wait for a driver that listens: what it is given at first, and for each job its call,
/// its value and two answers; once more, for a job that is tried again.
pub(super) fn room(values: usize, jobs: usize) -> usize {
    values + 8 * jobs + 8
}

/// Says to the driver what is to be said. A task of its own, for a write can wait until the driver
/// reads, and the driver may be waiting until somebody reads what it says.
pub(super) async fn speak(
    mut sender: DriverSender,
    mut words: mpsc::Receiver<Word>,
) -> Result<(), DriverError> {
    while let Some(word) = words.recv().await {
        sender.send(&word.message).await?;
    }
    Ok(())
}

pub(super) type Writer = JoinHandle<Result<(), DriverError>>;

/// The writer ended: the driver is gone, which it says best itself, or a message was too long.
pub(super) async fn unheard(
    spoken: Result<Result<(), DriverError>, tokio::task::JoinError>,
    receiver: &mut DriverReceiver,
) -> Stop {
    let said = async {
        loop {
            match receiver.recv().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return Some(error),
            }
        }
    };
    match (tokio::time::timeout(JOB_GRACE, said).await, spoken) {
        (Ok(Some(error)), _) | (_, Ok(Err(error))) => driver_failed(&error),
        _ => failed(
            FailureKind::Pipeline,
            "the process that evaluates the pipeline ended before its jobs did",
        ),
    }
}

pub(super) fn driver_failed(error: &DriverError) -> Stop {
    failed(FailureKind::Pipeline, with_causes(error))
}
