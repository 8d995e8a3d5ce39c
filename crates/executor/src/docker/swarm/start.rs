//! The time between the creation of a service and the connection of its helper.

use std::time::{Duration, Instant};

use quire_run_files::logs::Stream;

use super::callback::Callback;
use super::channel_stream::HelperConnection;
use crate::api::StartObserver;
use crate::docker::context::DockerContext;
use crate::engine::{SwarmNode, SwarmTask, TaskPhase};
use crate::error::{ContainerFailure, ExecutorError};

/// How often the manager is asked about a task that has not connected.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// How often the manager is asked about the node of such a task.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// How long the state of such a node may be unknown. A manager that has started again knows the state of no node for some seconds.
const MAX_SILENCE: Duration = Duration::from_secs(30);

/// The exit code of a helper that reached nothing.
const HELPER_FAILED: i64 = 70;

/// The lines of the log that say why something waits for a node, each once.
#[derive(Default)]
pub(super) struct WaitingLine(String);

impl WaitingLine {
    /// The line about a task for which the swarm has no node, unless it was the last one.
    pub(super) fn of(&mut self, what: &str, task: &SwarmTask) -> Option<String> {
        if task.phase != TaskPhase::Unassigned || task.message == self.0 {
            return None;
        }
        self.0.clone_from(&task.message);
        Some(format!(
            "quire: {what} waits for a node: {}\n",
            task.message
        ))
    }
}

/// Since when the managers have not heard from the node of a task.
#[derive(Default)]
struct NodeSilence(Option<Instant>);

impl NodeSilence {
    /// Whether the node is lost, from what the manager says of it now; `None` if it says nothing.
    fn is_final(&mut self, node: Option<&SwarmNode>, now: Instant) -> bool {
        let Some(node) = node.filter(|node| !node.is_ready) else {
            self.0 = None;
            return false;
        };
        let since = *self.0.get_or_insert(now);
        node.is_down || now.duration_since(since) >= MAX_SILENCE
    }
}

/// A task that is expected to connect.
pub(super) struct PendingTask<'a> {
    pub(super) context: &'a DockerContext,
    /// The id of its service.
    pub(super) service: &'a str,
    /// The address to which it connects, for messages.
    pub(super) callback: &'a str,
    /// Whether it waits for a node.
    pub(super) may_wait: bool,
}

/// What became of a task.
pub(super) enum PendingEnd {
    Connected(HelperConnection),
    /// It does not wait, and the swarm has no node for it: why, in the swarm's words.
    NoNode(String),
}

impl PendingTask<'_> {
    /// Waits until the helper has connected. A task that may wait and for which the swarm has no node is waited for without a limit;
    /// what the swarm says of it is a line of the log.
    pub(super) async fn connection(
        &self,
        callback: &mut Callback,
        observer: &mut dyn StartObserver,
    ) -> Result<PendingEnd, ExecutorError> {
        let mut told = WaitingLine::default();
        let mut looked = Instant::now();
        let mut silence = NodeSilence::default();
        loop {
            let waiting = tokio::time::timeout(POLL_INTERVAL, callback.connection());
            if let Ok(connection) = waiting.await {
                let connection = connection.ok_or(ExecutorError::Cancelled)?;
                return Ok(PendingEnd::Connected(connection));
            }
            let task = self.context.engine.task_of(self.service).await;
            let task = match task {
                Ok(Some(task)) => task,
                // A service that was just created has no task for a moment.
                Ok(None) if self.has_service().await => continue,
                Ok(None) => return Err(ContainerFailure::EndedFromOutside.into()),
                // A manager that starts again is waited for.
                Err(error) if error.is_unavailable() || error.is_server_error() => continue,
                Err(error) => return Err(ExecutorError::from_engine("start the task", error)),
            };
            if task.phase == TaskPhase::Ended {
                return Err(self.explain(&task).await);
            }
            if task.phase == TaskPhase::Unassigned {
                if !self.may_wait && !task.message.is_empty() {
                    return Ok(PendingEnd::NoNode(task.message));
                }
            } else if looked.elapsed() > LOOK_INTERVAL {
                looked = Instant::now();
                self.check_node(&task, &mut silence).await?;
            }
            if let Some(line) = told.of("the run", &task) {
                observer.line(Stream::Stdout, line.as_bytes());
            }
        }
    }

    /// Whether the service exists; one that cannot be asked about does.
    async fn has_service(&self) -> bool {
        let found = self.context.engine.has_service(self.service).await;
        found.unwrap_or(true)
    }

    /// Fails if the managers do not hear from the node of a task any more: they would wait for it.
    async fn check_node(
        &self,
        task: &SwarmTask,
        silence: &mut NodeSilence,
    ) -> Result<(), ExecutorError> {
        let node = self.context.engine.node(&task.node).await;
        match silence.is_final(node.as_ref(), Instant::now()) {
            true => Err(ExecutorError::NodeLost {
                node: node.map_or_else(|| task.node.clone(), |node| node.name),
            }),
            false => Ok(()),
        }
    }

    async fn explain(&self, task: &SwarmTask) -> ExecutorError {
        let node = self.context.engine.node_name(&task.node).await;
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_lost_if_it_is_down_or_unknown_for_long() {
        let node = |state: &str| SwarmNode {
            is_ready: state == "ready",
            is_down: state == "down",
            ..SwarmNode::default()
        };
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut silence = NodeSilence::default();
        let (unknown, ready) = (node("unknown"), node("ready"));
        let looks = [
            (Some(&unknown), 0, false),
            (Some(&unknown), 29, false),
            (Some(&ready), 30, false),
            (Some(&unknown), 40, false),
            // The manager did not answer.
            (None, 60, false),
            (Some(&unknown), 75, false),
            (Some(&unknown), 104, false),
            (Some(&unknown), 105, true),
        ];
        for (node, seconds, is_lost) in looks {
            assert_eq!(silence.is_final(node, at(seconds)), is_lost, "{seconds}");
        }
        assert!(NodeSilence::default().is_final(Some(&node("down")), at(0)));
    }
}
