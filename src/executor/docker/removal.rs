//! Removing what is left on the engine: of one run, or of all that do not live.
//!
//! Only what carries the appliance's label is touched. Every removal has a short limit of its
//! own, several go on at once, and one that fails keeps none of the others back.

use std::sync::PoisonError;

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
        let labels = vec![(INSTANCE.to_owned(), self.config.instance.clone()), (RUN.to_owned(), run.to_string())];
        let failed = |error| fault("remove the container", &error);
        for thing in self.things(&labels).await.map_err(failed)? {
            thing.0.remove(&self.engine).await.map_err(failed)?;
        }
        Ok(())
    }

    pub(super) async fn sweep(&self, living: &[RunId]) -> Result<Swept, ExecutorError> {
        let things = self.things(&self.instance_labels()).await;
        let mut things = things.map_err(|error| ExecutorError::Unavailable(error.chain()))?;
        // Looked at last: what is listed and belongs to this process was entered before.
        let mut left = self.live.lock().unwrap_or_else(PoisonError::into_inner).runs.clone();
        things.retain(|(_, run)| run.is_none_or(|run| !living.contains(&run) && !left.contains(&run)));
        left.retain(|run| !living.contains(run));
        let removals = things.into_iter().map(|(thing, run)| {
            let engine = self.engine.clone();
            async move { (thing.remove(&engine).await, run) }
        });
        let mut removals = stream::iter(removals).buffer_unordered(AT_ONCE);
        let mut removed = 0;
        while let Some((done, run)) = removals.next().await {
            match done {
                Ok(was_there) => removed += usize::from(was_there),
                Err(error) => {
                    let run = run.inspect(|run| left.push(*run)).map(|run| run.to_string());
                    tracing::warn!(run, %error, "what a run left behind cannot be removed yet");
                }
            }
        }
        Ok(Swept::new(removed, left))
    }

    /// Everything of runs with these labels, each with its run. The appliance's own network bears
    /// no run's label, and is not among it.
    async fn things(&self, labels: &Labels) -> Result<Vec<(Thing, Option<RunId>)>, DockerError> {
        let (containers, networks) = tokio::try_join!(self.engine.containers(labels), self.engine.networks(labels))?;
        let run_of = |labels: &Labels| labels.iter().find(|(key, _)| key == RUN).map(|(_, run)| run.parse().ok());
        let containers = containers.into_iter().map(|c| (Thing::Container(c.id), run_of(&c.labels).flatten()));
        let networks = networks.into_iter().filter_map(|n| Some((Thing::Network(n.id), run_of(&n.labels)?)));
        Ok(containers.chain(networks).collect())
    }
}
