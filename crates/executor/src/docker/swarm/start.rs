//! The time between the creation of a service and the connection of its helper.

use std::time::Duration;

use quire_run_files::logs::Stream;

use super::callback::Callback;
use super::channel_stream::HelperConnection;
use crate::api::StartObserver;
use crate::docker::context::DockerContext;
use crate::engine::{SwarmNode, SwarmTask, TaskPhase};
use crate::error::{ContainerFailure, ExecutorError};

/// How often the manager is asked about a task that has not connected.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The exit code of a helper that reached nothing.
const HELPER_FAILED: i64 = 70;

/// A task that is expected to connect.
pub(super) struct PendingTask<'a> {
    pub(super) context: &'a DockerContext,
    /// The id of its service.
    pub(super) service: &'a str,
    /// The address to which it connects, for messages.
    pub(super) callback: &'a str,
}

impl PendingTask<'_> {
    /// Waits until the helper has connected. A task for which the swarm has no node is waited for without a limit;
    /// what the swarm says of it is a line of the log.
    pub(super) async fn connection(
        &self,
        callback: &mut Callback,
        observer: &mut dyn StartObserver,
    ) -> Result<HelperConnection, ExecutorError> {
        let mut told = String::new();
        loop {
            let waiting = tokio::time::timeout(POLL_INTERVAL, callback.connection());
            if let Ok(connection) = waiting.await {
                return connection.ok_or(ExecutorError::Cancelled);
            }
            let task = self.context.engine.task_of(self.service).await;
            let task = task.map_err(|error| ExecutorError::from_engine("start the task", error))?;
            let Some(task) = task else {
                continue;
            };
            if task.phase == TaskPhase::Ended {
                return Err(self.explain(&task).await);
            }
            if task.phase == TaskPhase::Unassigned && task.message != told {
                let line = format!("quire: the run waits for a node: {}\n", task.message);
                observer.line(Stream::Stdout, line.as_bytes());
                told = task.message;
            }
        }
    }

    async fn explain(&self, task: &SwarmTask) -> ExecutorError {
        let node = self.node_name(&task.node).await;
        let message = match task.exit_code {
            HELPER_FAILED => format!(
                "on the node {node} it could not connect to {}; check that the node reaches this address and port \
                 (`:ci {{:callback}}`)",
                self.callback
            ),
            _ => format!("on the node {node}: {}", task.message),
        };
        ContainerFailure::CouldNotRun { message }.into()
    }

    /// The name of a node; its id if the manager does not know it.
    pub(super) async fn node_name(&self, id: &str) -> String {
        let nodes = self.context.engine.nodes().await.unwrap_or_default();
        let node = nodes.into_iter().find(|node: &SwarmNode| node.id == id);
        node.map_or_else(|| id.to_owned(), |node| node.hostname)
    }
}
