//! Removing what is left on the engine: of one run, or of all that do not live.
//!
//! Only what carries the appliance's label is touched. Every removal has a short limit of its
//! own, several go on at once, and one that fails keeps none of the others back.

use futures_util::{StreamExt, stream};

use super::{DockerExecutor, INSTANCE, RUN, fault};
use crate::docker::{DockerError, Engine, Labels};
use crate::executor::{ExecutorError, Swept};
use crate::names::RunId;

/// How many removals go on at once.
const AT_ONCE: usize = 8;

/// A thing on the engine.
enum Thing {
    Container(String),
    Network(String),
}

impl Thing {
    /// Removes it; gives whether it was there.
    async fn remove(&self, engine: &Engine) -> Result<bool, DockerError> {
        let limit = engine.timings().removal;
        match self {
            Self::Container(id) => engine.remove_container_within(id, limit).await,
            Self::Network(id) => engine.remove_network(id, limit).await,
        }
    }
}

impl DockerExecutor {
    pub(super) async fn clear(&self, run: RunId) -> Result<(), ExecutorError> {
        clear(&self.engine, &self.config.instance, run)
            .await
            .map_err(|error| fault("remove the container", &error))
    }

    pub(super) async fn sweep(&self, living: &[RunId]) -> Result<Swept, ExecutorError> {
        let things = things(&self.engine, &self.instance_labels()).await;
        let mut things = things.map_err(|error| ExecutorError::Unavailable(error.chain()))?;
        // Looked at last: what is listed and belongs to this process was entered before.
        let mut left = self.live.runs();
        things.retain(|(_, run)| {
            run.is_none_or(|run| !living.contains(&run) && !left.contains(&run))
        });
        left.retain(|run| !living.contains(run));
        let mut removed = 0;
        // A network goes once nothing is on it any more.
        let (containers, networks): (Vec<_>, Vec<_>) = things
            .into_iter()
            .partition(|(thing, _)| matches!(thing, Thing::Container(_)));
        for things in [containers, networks] {
            let removals = things.into_iter().map(|(thing, run)| {
                let engine = self.engine.clone();
                async move { (thing.remove(&engine).await, run) }
            });
            let mut removals = stream::iter(removals).buffer_unordered(AT_ONCE);
            while let Some((done, run)) = removals.next().await {
                match done {
                    Ok(was_there) => removed += usize::from(was_there),
                    Err(error) => {
                        let run = run
                            .inspect(|run| left.push(*run))
                            .map(|run| run.to_string());
                        tracing::warn!(run, %error, "what a run left behind cannot be removed yet");
                    }
                }
            }
        }
        Ok(Swept::new(removed, left))
    }
}

/// Removes everything of a run's: containers at once, then what they were on.
pub(super) async fn clear(engine: &Engine, instance: &str, run: RunId) -> Result<(), DockerError> {
    let labels = vec![
        (INSTANCE.to_owned(), instance.to_owned()),
        (RUN.to_owned(), run.to_string()),
    ];
    let things = things(engine, &labels)
        .await?
        .into_iter()
        .map(|(thing, _)| thing);
    let (containers, networks): (Vec<_>, Vec<_>) =
        things.partition(|thing| matches!(thing, Thing::Container(_)));
    let removed =
        futures_util::future::try_join_all(containers.iter().map(|thing| thing.remove(engine)))
            .await?;
    if removed.len() > 1 {
        crate::fault::point("services-containers-removed");
    }
    for network in networks {
        network.remove(engine).await?;
    }
    Ok(())
}

/// Everything of runs with these labels, each with its run. The appliance's own network bears
/// no run's label, and is not among it.
async fn things(
    engine: &Engine,
    labels: &Labels,
) -> Result<Vec<(Thing, Option<RunId>)>, DockerError> {
    let (containers, networks) =
        tokio::try_join!(engine.containers(labels), engine.networks(labels))?;
    let run_of = |labels: &Labels| {
        labels
            .iter()
            .find(|(key, _)| key == RUN)
            .map(|(_, run)| run.parse().ok())
    };
    let containers = containers
        .into_iter()
        .map(|c| (Thing::Container(c.id), run_of(&c.labels).flatten()));
    let networks = networks
        .into_iter()
        .filter_map(|n| Some((Thing::Network(n.id), run_of(&n.labels)?)));
    Ok(containers.chain(networks).collect())
}
