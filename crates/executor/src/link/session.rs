//! What the commands and files of one workspace share: the connection to its helper, and what is
//! known of its state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{HelperLink, Loss};
use super::frame::CommandUser;
use super::place::HelperPlace;
use crate::error::{ContainerFailure, ExecutorError};

/// How long the helper may take to confirm that it is kept.
const LEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// A helper with a workspace that is ready.
pub(crate) struct HelperSession {
    pub(super) place: Arc<dyn HelperPlace>,
    pub(super) connection: HelperLink,
    /// Where commands see the workspace: an absolute path.
    pub(super) folder: String,
    pub(super) user: CommandUser,
    /// The environment of every command.
    pub(super) env: Vec<(String, String)>,
    /// Fires when the workspace stops.
    pub(super) stopped: CancellationToken,
    /// Whether the place was ended because a command could not be killed alone.
    pub(super) killed: AtomicBool,
    /// How many kills because of memory the log of a step has told of.
    pub(super) reported_kills: AtomicU64,
    /// The tasks that pass on what processes in the background write.
    pub(super) followers: TaskTracker,
}

impl HelperSession {
    pub(super) fn new(
        place: Arc<dyn HelperPlace>,
        connection: HelperLink,
        folder: String,
        user: CommandUser,
        env: Vec<(String, String)>,
    ) -> Self {
        Self {
            place,
            connection,
            folder,
            user,
            env,
            stopped: CancellationToken::new(),
            killed: AtomicBool::new(false),
            reported_kills: AtomicU64::new(0),
            followers: TaskTracker::new(),
        }
    }

    /// Returns the error of a request whose connection is lost.
    pub(super) async fn explain_loss(&self) -> ExecutorError {
        if self.killed.load(Ordering::SeqCst) {
            return ContainerFailure::KilledWithCommand.into();
        }
        let explaining = explain_loss(self.place.as_ref(), &self.connection);
        // A stop ends the connection as well.
        let explained = self.stopped.run_until_cancelled(explaining).await;
        explained.unwrap_or(ExecutorError::Cancelled)
    }
}

impl HelperSession {
    pub(super) async fn keep(&self, duration: Duration) -> Result<(), ExecutorError> {
        let lease = u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
        let confirmed = self.connection.lease(lease.max(1));
        match tokio::time::timeout(LEASE_TIMEOUT, confirmed).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.explain_loss().await),
            Err(_) => Err(ExecutorError::failed(
                "keep the container",
                &"its helper does not answer",
            )),
        }
    }
}

/// Waits until the connection to a helper is lost, and returns why.
pub(super) async fn explain_loss(
    place: &dyn HelperPlace,
    connection: &HelperLink,
) -> ExecutorError {
    match connection.lost().await {
        Loss::Ended => place.explain_loss().await,
        Loss::Unreachable => match place.check_alive().await {
            Err(error) => error,
            Ok(()) => place.explain_loss().await,
        },
        Loss::Violation(message) => ContainerFailure::HelperFailed { message }.into(),
    }
}
