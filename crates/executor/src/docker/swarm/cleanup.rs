//! Removing what is left on the swarm: of one run, or of all runs that are not active.
//!
//! Only what quire created is touched: it has the labels of the appliance and of a run, and the name that a
//! service of that run has.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use quire_types::names::RunId;

use crate::api::SweepReport;
use crate::docker::context::{DockerContext, owning_run};
use crate::engine::{DockerError, Labels, ListedNetwork, ListedService, TaskPhase};
use crate::error::ExecutorError;

/// The pause between two attempts to remove a network.
const NETWORK_PAUSE: Duration = Duration::from_millis(200);

/// How many removals happen at the same time.
const CONCURRENCY: usize = 8;

/// Removes the services of a run, then its network.
pub(crate) async fn remove_run(context: &DockerContext, run: RunId) -> Result<(), DockerError> {
    let limit = context.engine.timeouts().removal;
    let labels = context.run_labels(run);
    for (service, _) in services_of_runs(context, &labels).await? {
        context.engine.remove_service(&service.id, limit).await?;
    }
    for (network, _) in networks_of_runs(context, &labels).await? {
        remove_network(context, &network).await?;
    }
    Ok(())
}

/// Removes a network once the tasks of the services that were removed have left it.
async fn remove_network(context: &DockerContext, network: &str) -> Result<(), DockerError> {
    let limit = context.engine.timeouts().removal;
    let deadline = Instant::now() + limit;
    loop {
        match context.engine.remove_network(network, limit).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_unavailable() || Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(NETWORK_PAUSE).await,
        }
    }
}

/// Removes the services of the runs that are neither in `active` nor in use by this process. If the helper of an
/// earlier process may still have its lease, a service stays whose task has not ended.
pub(super) async fn sweep(
    context: &DockerContext,
    active: &[RunId],
    may_be_alive: bool,
) -> Result<SweepReport, ExecutorError> {
    match context.engine.manager_node().await {
        Ok(_) => {}
        // Its services are those of another engine, or there is no swarm any more. Their helpers live only as long as their leases.
        Err(DockerError::NoManager) if may_be_alive => return Err(ExecutorError::NoSwarmManager),
        Err(DockerError::NoManager) => return Ok(SweepReport::default()),
        Err(error) => return Err(ExecutorError::Unavailable(error)),
    }
    let mut found = services_of_runs(context, &context.instance_labels())
        .await
        .map_err(ExecutorError::Unavailable)?;
    // Read after the list: what was listed and belongs to this process was entered before.
    let mut remaining = context.in_use.runs();
    found.retain(|(_, run)| !active.contains(run) && !remaining.contains(run));
    remaining.retain(|run| !active.contains(run));
    let limit = context.engine.timeouts().removal;
    let removals = found.into_iter().map(|(service, run)| async move {
        let removed = match may_be_alive && is_alive(context, &service).await {
            true => None,
            false => Some(context.engine.remove_service(&service.id, limit).await),
        };
        (removed, run, service.id)
    });
    let mut removals = stream::iter(removals).buffer_unordered(CONCURRENCY);
    let mut removed = 0;
    // The label of a service that was started in advance does not name the run that has taken it.
    let mut remaining_services = Vec::new();
    while let Some((result, run, service)) = removals.next().await {
        match result {
            Some(Ok(existed)) => removed += usize::from(existed),
            None => {
                remaining.push(run);
                remaining_services.push(service);
            }
            Some(Err(error)) => {
                remaining.push(run);
                remaining_services.push(service);
                tracing::warn!(%run, %error, "cannot remove what a run left on the swarm; it is retried");
            }
        }
    }
    let networks = networks_of_runs(context, &context.instance_labels()).await;
    for (network, run) in networks.map_err(ExecutorError::Unavailable)? {
        let is_kept = active.contains(&run) || remaining.contains(&run);
        if is_kept || context.in_use.runs().contains(&run) {
            continue;
        }
        match remove_network(context, &network).await {
            Ok(()) => removed += 1,
            Err(error) => {
                tracing::warn!(%run, %error, "cannot remove the network that a run left on the swarm; it is retried");
            }
        }
    }
    Ok(SweepReport {
        remaining_containers: remaining_services,
        ..SweepReport::new(removed, remaining)
    })
}

/// The ids of the networks with these labels that quire created for runs on the swarm, each with its run.
async fn networks_of_runs(
    context: &DockerContext,
    labels: &Labels,
) -> Result<Vec<(String, RunId)>, DockerError> {
    let listed = context.engine.networks(labels).await?;
    let of_run = |network: ListedNetwork| {
        let run = owning_run(&network.name, &network.labels)?;
        network.is_overlay.then_some((network.id, run))
    };
    Ok(listed.into_iter().filter_map(of_run).collect())
}

/// Whether something of a service may run. One that cannot be asked about may.
async fn is_alive(context: &DockerContext, service: &ListedService) -> bool {
    match context.engine.task_of(&service.id).await {
        Ok(None) => false,
        Ok(Some(task)) => !matches!(task.phase, TaskPhase::Unassigned | TaskPhase::Ended),
        Err(_) => true,
    }
}

/// The services with these labels that quire created for runs, each with its run.
async fn services_of_runs(
    context: &DockerContext,
    labels: &Labels,
) -> Result<Vec<(ListedService, RunId)>, DockerError> {
    let listed = context.engine.services(labels).await?;
    let of_run = |service: ListedService| {
        let run = owning_run(&service.name, &service.labels)?;
        Some((service, run))
    };
    Ok(listed.into_iter().filter_map(of_run).collect())
}
