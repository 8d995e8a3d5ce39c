//! The container of a run as the place of its helper: how it is reached, and how its end is
//! explained and proven.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use quire_types::names::RunId;

use super::cleanup;
use super::context::DockerContext;
use super::in_use::RunLease;
use super::services::Services;
use super::warm_container::WarmContainers;
use crate::engine::{ContainerState, DockerError};
use crate::error::{ContainerFailure, ExecutorError};
use crate::link::HelperPlace;

/// How long an engine that restarts may take to say what became of the container.
const RESTART_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the engine may take to notice that a container is ending.
const STATE_TIMEOUT: Duration = Duration::from_secs(2);

/// The container of a run.
pub(super) struct DockerPlace {
    pub(super) context: DockerContext,
    pub(super) run: RunId,
    pub(super) container: String,
    /// The limit of memory in bytes.
    pub(super) memory: u64,
    pub(super) services: Option<Services>,
    /// What the run and its container use.
    pub(super) _leases: Vec<RunLease>,
    pub(super) warm: WarmContainers,
}

impl DockerPlace {
    /// Returns the container's state; if the container is ending, once its end has been noticed.
    async fn settled_state(&self) -> Result<Option<ContainerState>, DockerError> {
        let deadline = Instant::now() + STATE_TIMEOUT;
        let mut pause = Duration::from_millis(5);
        loop {
            let state = self.context.engine.container(&self.container).await?;
            let running = state.as_ref().is_some_and(|state| state.running);
            if !running || Instant::now() > deadline {
                return Ok(state);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn explain(&self) -> ExecutorError {
        let deadline = Instant::now() + RESTART_TIMEOUT;
        loop {
            match self.settled_state().await {
                Ok(Some(state)) if state.running && state.has_ended => {
                    return ContainerFailure::EndedFromOutside.into();
                }
                Ok(Some(state)) if state.running => return connection_closed(),
                Ok(state) => return self.explain_end(state),
                // The connection may have broken because the engine restarts.
                Err(error) if error.is_unavailable() && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => return ExecutorError::from_engine("run the command", error),
            }
        }
    }

    /// Why a container has ended.
    fn explain_end(&self, state: Option<ContainerState>) -> ExecutorError {
        match state {
            None => ContainerFailure::EndedFromOutside.into(),
            Some(state) if state.out_of_memory => self.out_of_memory(),
            Some(state) if !state.error.is_empty() => ContainerFailure::CouldNotRun {
                message: state.error,
            }
            .into(),
            Some(state) => match state.exit_code {
                // The helper ends so when its connection is closed, which is not of its doing.
                0 => connection_closed(),
                137 | 143 => ContainerFailure::EndedFromOutside.into(),
                code => ContainerFailure::Exited { code }.into(),
            },
        }
    }
}

fn connection_closed() -> ExecutorError {
    let attempt = "run the command";
    let error = DockerError::Failed {
        attempt,
        status: 0,
        message: "it closed the connection to the container; retry the run".to_owned(),
    };
    ExecutorError::EngineFailed { attempt, error }
}

impl HelperPlace for DockerPlace {
    fn check_alive(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        async {
            let alive = self.context.engine.check_alive().await;
            alive.map_err(ExecutorError::Unavailable)
        }
        .boxed()
    }

    fn explain_loss(&self) -> BoxFuture<'_, ExecutorError> {
        self.explain().boxed()
    }

    fn out_of_memory(&self) -> ExecutorError {
        ContainerFailure::OutOfMemory { limit: self.memory }.into()
    }

    fn end(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        async {
            let ending = async {
                // A container that was started in advance does not have the labels of the run.
                self.context.engine.end_container(&self.container).await?;
                match self.services {
                    None => Ok(()),
                    Some(_) => cleanup::end_run(&self.context, self.run).await,
                }
            };
            let ended = ending.await;
            ended.map_err(|error| ExecutorError::from_engine("end the container", error))
        }
        .boxed()
    }

    fn remove(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        async {
            let engine = &self.context.engine;
            let removing = async {
                // Before the network of the run, which is in use as long as the container is on it.
                engine.remove_container(&self.container).await?;
                match self.services {
                    None => Ok(()),
                    Some(_) => cleanup::remove_run(&self.context, self.run).await,
                }
            };
            let removed = removing.await;
            removed.map_err(|error| ExecutorError::from_engine("remove the container", error))?;
            self.warm.forget(self.run);
            Ok(())
        }
        .boxed()
    }

    fn service_failures(&self) -> Vec<String> {
        self.services
            .as_ref()
            .map(Services::failures)
            .unwrap_or_default()
    }
}
