//! The appliance's own network: found or created when first needed, known by its id from then on.
//!
//! It is one bridge for all runs, on which containers reach the outside but not each other. A
//! bridge for each run would keep them apart no better, would cost more than half as much again as
//! the start of a container, and would use one of the engine's few address ranges.
//!
//! Builds are not on it: their commands have raw sockets, with which they could take over the
//! traffic of every container on the same bridge. They are on the engine's default bridge, where
//! no run and no service is.
//!
//! Engines before 25 silently create a second network of the same name, and then reject every
//! container that names it. So the network is looked for first, one task at a time creates it,
//! duplicates are removed, and containers are given the id, which stays right beside a duplicate
//! that is in use. If two processes create it at the same time, both look again and agree on the
//! older one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::context::{DockerContext, RUN_LABEL, label};
use crate::engine::{DockerError, ListedNetwork, NetworkMode};

/// How long each of the two requests of a shutdown may take.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct ApplianceNetwork {
    context: DockerContext,
    /// The network's id, once known. Locked while the network is looked for or created.
    id: Arc<Mutex<Option<String>>>,
}

impl ApplianceNetwork {
    pub(super) fn new(context: DockerContext) -> Self {
        Self {
            context,
            id: Arc::default(),
        }
    }

    /// The network of a run's container.
    pub(super) async fn mode(&self, network: bool) -> Result<NetworkMode, DockerError> {
        if network {
            Ok(NetworkMode::Id(self.ensure().await?))
        } else {
            Ok(NetworkMode::None)
        }
    }

    /// Returns the id of the network, and creates it if it does not exist.
    async fn ensure(&self) -> Result<String, DockerError> {
        let mut known = self.id.lock().await;
        if let Some(id) = &*known {
            return Ok(id.clone());
        }
        let id = match self.find().await? {
            Some(id) => id,
            None => self.create().await?,
        };
        *known = Some(id.clone());
        Ok(id)
    }

    async fn create(&self) -> Result<String, DockerError> {
        let labels = self.context.instance_labels();
        let created = self
            .context
            .engine
            .create_isolated_network(&self.name(), &labels)
            .await;
        match (created, self.find().await?) {
            // Also if the name was taken meanwhile, by another process of this appliance.
            (_, Some(id)) => Ok(id),
            (created, None) => created,
        }
    }

    /// Returns the id of the network, `None` if it does not exist; removes duplicates.
    async fn find(&self) -> Result<Option<String>, DockerError> {
        let engine = &self.context.engine;
        let name = self.name();
        let mut own = engine.networks(&self.context.instance_labels()).await?;
        own.retain(|network| network.name == name && label(&network.labels, RUN_LABEL).is_none());
        // Any order that all processes agree on; the oldest is the likeliest to be in use.
        let age = |network: &ListedNetwork| (network.created.clone(), network.id.clone());
        own.sort_by_key(age);
        let mut own = own.into_iter();
        let kept = own.next();
        for duplicate in own {
            // One that is in use stays: its containers name it by id.
            let limit = engine.timeouts().removal;
            if let Err(error) = engine.remove_network(&duplicate.id, limit).await {
                tracing::warn!(network = duplicate.id, %error, "cannot remove a duplicate of the appliance's network");
            }
        }
        Ok(kept.map(|network| network.id))
    }

    /// Removes the network, so that an appliance that is taken down for good uses none of the
    /// engine's few address ranges. Stays if a run still uses it.
    pub(super) async fn remove_for_shutdown(&self) {
        let mut known = self.id.lock().await;
        let Ok(Ok(Some(id))) = tokio::time::timeout(SHUTDOWN_TIMEOUT, self.find()).await else {
            return;
        };
        let removed = self
            .context
            .engine
            .remove_network(&id, SHUTDOWN_TIMEOUT)
            .await;
        if let Err(error) = removed {
            tracing::debug!(%error, "the appliance's network stays for the next start");
        }
        *known = None;
    }

    /// Whether the engine rejected a request because the appliance's network does not exist or is
    /// not the only one of its name.
    pub(super) fn is_missing(&self, network: &NetworkMode, error: &DockerError) -> bool {
        let NetworkMode::Id(id) = network else {
            return false;
        };
        let message = error.engine_message();
        !error.is_unavailable() && (message.contains(id.as_str()) || message.contains(&self.name()))
    }

    /// Forgets a network that is missing, unless another start has found a new one already.
    pub(super) async fn forget(&self, network: &NetworkMode) {
        let mut known = self.id.lock().await;
        if matches!((network, &*known), (NetworkMode::Id(missing), Some(id)) if missing == id) {
            *known = None;
        }
    }

    fn name(&self) -> String {
        format!("quire-{}", self.context.config.instance)
    }
}
