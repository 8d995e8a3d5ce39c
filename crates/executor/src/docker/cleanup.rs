//! Removing what is left on the engine: of one run, or of all runs that are not active.
//!
//! Only what quire created is touched: it carries the appliance's label and the label of a run, and
//! has the name that a container or network of that run has. A person's container made
//! from an image that carries such labels has them too, but not the name. Every removal has a short
//! time limit of its own, several happen at the same time, and one that fails holds up none of the
//! others.

use futures_util::future::try_join_all;
use futures_util::{StreamExt, stream};
use quire_types::failpoint;
use quire_types::names::RunId;
use tokio_util::task::TaskTracker;

use super::context::{DockerContext, owning_run};
use super::swarm::cleanup as swarm_cleanup;
use crate::api::SweepReport;
use crate::engine::{DockerError, Engine, Labels};
use crate::error::ExecutorError;

/// How many removals happen at the same time.
const CONCURRENCY: usize = 8;

/// Requests that create something on the engine. Each goes on to its end, also if the start that made
/// it is cancelled or dropped: the engine carries it out in any case, and only its end says that what it
/// created can be found and removed. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Creations(TaskTracker);

impl Creations {
    pub(super) async fn run<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T, DockerError>> + Send + 'static,
    ) -> Result<T, DockerError> {
        match self.0.spawn(request).await {
            Ok(created) => created,
            // The task is never aborted: it panicked, or the server ends.
            Err(error) => Err(DockerError::ConnectionLost {
                attempt: "create an object",
                message: error.to_string(),
            }),
        }
    }

    async fn wait(&self) {
        self.0.close();
        self.0.wait().await;
    }
}

/// Removes what a start has created, unless the start succeeds: also if it is dropped half-way.
pub(super) struct CleanupGuard {
    context: DockerContext,
    target: Option<CleanupTarget>,
    creations: Creations,
}

#[derive(Clone)]
enum CleanupTarget {
    Container(String),
    /// Everything of a run.
    Run(RunId),
    /// Everything of a run on a swarm.
    SwarmRun(RunId),
}

impl CleanupGuard {
    pub(super) fn of_container(context: &DockerContext, id: String) -> Self {
        Self::new(context, CleanupTarget::Container(id), &Creations::default())
    }

    /// Removes everything of a run once the creations have ended.
    pub(super) fn of_run(context: &DockerContext, run: RunId, creations: &Creations) -> Self {
        Self::new(context, CleanupTarget::Run(run), creations)
    }

    /// Removes everything of a run on a swarm once the creations have ended.
    pub(super) fn of_swarm_run(context: &DockerContext, run: RunId, creations: &Creations) -> Self {
        Self::new(context, CleanupTarget::SwarmRun(run), creations)
    }

    fn new(context: &DockerContext, target: CleanupTarget, creations: &Creations) -> Self {
        Self {
            context: context.clone(),
            target: Some(target),
            creations: creations.clone(),
        }
    }

    /// The start succeeded: nothing is removed.
    pub(super) fn disarm(mut self) {
        self.target = None;
    }

    /// Removes what was created, within a moment. An error does not matter: the caller of the
    /// start makes sure with `destroy_run`, and reports the start's own error.
    pub(super) async fn clean_up(mut self) {
        if let Some(target) = &self.target {
            // Each request has a time limit of its own.
            self.creations.wait().await;
            let limit = self.context.engine.timeouts().removal;
            let _ = tokio::time::timeout(limit, target.remove(&self.context)).await;
        }
        self.target = None;
    }
}

impl Drop for CleanupGuard {
    fn drop(&mut self) {
        if let (Some(target), Ok(runtime)) =
            (self.target.take(), tokio::runtime::Handle::try_current())
        {
            let context = self.context.clone();
            let creations = self.creations.clone();
            runtime.spawn(async move {
                creations.wait().await;
                target.remove(&context).await
            });
        }
    }
}

impl CleanupTarget {
    async fn remove(&self, context: &DockerContext) -> Result<(), DockerError> {
        match self {
            Self::Container(id) => context.engine.remove_container(id).await.map(drop),
            Self::Run(run) => remove_run(context, *run).await,
            Self::SwarmRun(run) => swarm_cleanup::remove_run(context, *run).await,
        }
    }
}

/// Something of a run on the engine.
enum Resource {
    Container(String),
    Network(String),
}

impl Resource {
    /// Removes it and returns whether it existed.
    async fn remove(&self, engine: &Engine) -> Result<bool, DockerError> {
        let limit = engine.timeouts().removal;
        match self {
            Self::Container(id) => engine.remove_container_within(id, limit).await,
            Self::Network(id) => engine.remove_network(id, limit).await,
        }
    }

    fn is_container(&self) -> bool {
        matches!(self, Self::Container(_))
    }
}

/// Ends all containers of a run, and returns once that is confirmed.
pub(super) async fn end_run(context: &DockerContext, run: RunId) -> Result<(), DockerError> {
    let engine = &context.engine;
    let found = list_resources(engine, &context.run_labels(run)).await?;
    let endings = found.iter().filter_map(|(resource, _)| match resource {
        Resource::Container(id) => Some(engine.end_container(id)),
        Resource::Network(_) => None,
    });
    try_join_all(endings).await?;
    Ok(())
}

/// Removes everything of a run: its containers at the same time, then the network they were on.
pub(super) async fn remove_run(context: &DockerContext, run: RunId) -> Result<(), DockerError> {
    let engine = &context.engine;
    let found = list_resources(engine, &context.run_labels(run)).await?;
    let (containers, networks): (Vec<_>, Vec<_>) = found
        .into_iter()
        .map(|(resource, _)| resource)
        .partition(Resource::is_container);
    let removed = try_join_all(containers.iter().map(|resource| resource.remove(engine))).await?;
    if removed.len() > 1 {
        failpoint::hit("services-containers-removed");
    }
    for network in networks {
        network.remove(engine).await?;
    }
    Ok(())
}

/// Removes everything of the runs that are neither in `active` nor in use by this process.
pub(super) async fn sweep(
    context: &DockerContext,
    active: &[RunId],
) -> Result<SweepReport, ExecutorError> {
    let mut found = list_resources(&context.engine, &context.instance_labels())
        .await
        .map_err(ExecutorError::Unavailable)?;
    // Read after the list: what was listed and belongs to this process was entered before.
    let mut remaining = context.in_use.runs();
    found.retain(|(_, run)| !active.contains(run) && !remaining.contains(run));
    let mut removed = 0;
    remaining.retain(|run| !active.contains(run));
    let mut remaining_containers = Vec::new();
    // A network can be removed only after the containers on it.
    let (containers, networks): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|(resource, _)| resource.is_container());
    for resources in [containers, networks] {
        let removals = resources.into_iter().map(|(resource, run)| async move {
            (resource.remove(&context.engine).await, resource, run)
        });
        let mut removals = stream::iter(removals).buffer_unordered(CONCURRENCY);
        while let Some((result, resource, run)) = removals.next().await {
            match result {
                Ok(existed) => removed += usize::from(existed),
                Err(error) => {
                    remaining.push(run);
                    if let Resource::Container(id) = resource {
                        remaining_containers.push(id);
                    }
                    tracing::warn!(%run, %error, "cannot remove what a run left on the engine; it is retried");
                }
            }
        }
    }
    remaining_containers.sort();
    Ok(SweepReport {
        remaining_containers,
        ..SweepReport::new(removed, remaining)
    })
}

/// Lists everything of runs with these labels, each with its run.
async fn list_resources(
    engine: &Engine,
    labels: &Labels,
) -> Result<Vec<(Resource, RunId)>, DockerError> {
    let (containers, networks) =
        tokio::try_join!(engine.containers(labels), engine.networks(labels))?;
    let containers = containers.into_iter().filter_map(|container| {
        let run = owning_run(&container.name, &container.labels)?;
        Some((Resource::Container(container.id), run))
    });
    // Those of a swarm belong to its executor.
    let networks = networks.into_iter().filter(|network| !network.is_overlay);
    let networks = networks.filter_map(|network| {
        let run = owning_run(&network.name, &network.labels)?;
        Some((Resource::Network(network.id), run))
    });
    Ok(containers.chain(networks).collect())
}
