//! The task of a run as the place of its helper: how it is reached, and how its end is explained and proven.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use quire_types::names::{RepoName, RunId};

use super::cleanup;
use super::engine_errors::remove_error;
use super::last_nodes::{LastNode, LastNodes};
use super::lease::HelperContact;
use super::services::SwarmServices;
use crate::docker::context::DockerContext;
use crate::docker::in_use::RunLease;
use crate::engine::{DockerError, SwarmTask, TaskPhase};
use crate::error::{ContainerFailure, ExecutorError};
use crate::link::HelperPlace;

/// How long the manager may take to say what became of a task whose helper is gone.
const EXPLAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest pause between two questions about a task.
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// The exit codes of a process that a signal has ended: KILL, TERM.
const KILLED: i64 = 137;
const TERMINATED: i64 = 143;

/// The task of a run.
pub(super) struct SwarmPlace {
    pub(super) context: DockerContext,
    /// The run, or the id that stood for one when the task was started in advance.
    pub(super) run: RunId,
    pub(super) repo: RepoName,
    pub(super) last_nodes: LastNodes,
    /// The id of the service.
    pub(super) service: String,
    /// Its node, if it is known.
    pub(super) node: Option<LastNode>,
    /// The limit of memory in bytes.
    pub(super) memory: u64,
    pub(super) contact: Arc<HelperContact>,
    pub(super) services: Option<SwarmServices>,
    pub(super) _lease: RunLease,
    /// The run that has taken it, if it was started in advance.
    pub(super) taken: OnceLock<TakenBy>,
}

/// The run that has taken a task.
pub(super) struct TakenBy {
    pub(super) _lease: RunLease,
    /// What is to be done once the task is removed.
    pub(super) forget: Box<dyn Fn() + Send + Sync>,
}

impl SwarmPlace {
    /// A run has taken the task, which happens once.
    pub(super) fn take(&self, by: TakenBy) {
        let _ = self.taken.set(by);
    }

    /// The node, for messages.
    fn node_name(&self) -> String {
        let node = self.node.as_ref();
        node.map_or_else(|| "of the run".to_owned(), |node| node.name.clone())
    }

    async fn task(&self) -> Result<Option<SwarmTask>, DockerError> {
        self.context.engine.task_of(&self.service).await
    }

    fn node_lost(&self) -> ExecutorError {
        self.last_nodes.forget(&self.repo);
        ExecutorError::NodeLost {
            node: self.node_name(),
        }
    }

    async fn explain(&self) -> ExecutorError {
        let deadline = Instant::now() + EXPLAIN_TIMEOUT;
        let mut pause = Duration::from_millis(20);
        loop {
            match self.task().await {
                Ok(None) => return ContainerFailure::EndedFromOutside.into(),
                Ok(Some(task)) if task.phase == TaskPhase::Ended => return self.explain_end(task),
                _ if Instant::now() > deadline => return self.node_lost(),
                _ => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    fn explain_end(&self, task: SwarmTask) -> ExecutorError {
        match task.exit_code {
            // The helper ends so when its connection is closed, which is not of its doing.
            0 => self.node_lost(),
            KILLED => ContainerFailure::KilledOnNode {
                node: self.node_name(),
                limit: self.memory,
            }
            .into(),
            TERMINATED => ContainerFailure::EndedFromOutside.into(),
            code if task.message.is_empty() => ContainerFailure::Exited { code }.into(),
            _ => ContainerFailure::CouldNotRun {
                message: task.message,
            }
            .into(),
        }
    }

    /// Closes the connection, and waits until the task has ended or no helper can be alive.
    async fn end(&self) {
        self.contact.close();
        let mut pause = Duration::from_millis(10);
        loop {
            match self.task().await {
                // Without a service it is not said when the task ends.
                Ok(Some(task)) if task.phase == TaskPhase::Ended => return,
                Ok(None) if self.contact.has_helper_closed() => return,
                _ if self.contact.has_lease_expired() => return,
                _ => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
}

impl HelperPlace for SwarmPlace {
    fn check_alive(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        let result = match self.contact.is_silent() {
            true => Err(self.node_lost()),
            false => Ok(()),
        };
        std::future::ready(result).boxed()
    }

    fn explain_loss(&self) -> BoxFuture<'_, ExecutorError> {
        self.explain().boxed()
    }

    fn out_of_memory(&self) -> ExecutorError {
        ContainerFailure::OutOfMemory { limit: self.memory }.into()
    }

    fn end(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        async {
            self.end().await;
            if let Some(services) = &self.services {
                services.pass_output_on(&self.context.engine).await;
            }
            Ok(())
        }
        .boxed()
    }

    fn remove(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        async {
            let removed = cleanup::remove_run(&self.context, self.run).await;
            removed.map_err(remove_error)?;
            if let Some(by) = self.taken.get() {
                (by.forget)();
            }
            Ok(())
        }
        .boxed()
    }

    fn service_failures(&self) -> Vec<String> {
        let services = self.services.as_ref();
        services.map(SwarmServices::failures).unwrap_or_default()
    }
}
