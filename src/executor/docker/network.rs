//! The appliance's own network: found or made when first needed, known by its id from then on.
//!
//! Engines before 25 make a second network of a name without a word, and then refuse every
//! container that names it. So the making is one at a time, what is there is looked for first,
//! duplicates are removed, and containers are given the id, which stays right beside a duplicate
//! that is in use. Where two processes make it at once, both look again and agree on the older.

use std::time::Duration;

use super::{DockerExecutor, RUN};
use crate::docker::{Attachment, DockerError, ListedNetwork};

/// How long taking leave may wait for the engine, twice.
const LEAVING: Duration = Duration::from_secs(1);

impl DockerExecutor {
    /// What a run's container is connected to.
    pub(super) async fn attachment(&self, network: bool) -> Result<Attachment, DockerError> {
        match &self.config.network {
            _ if !network => Ok(Attachment::None),
            Some(name) => Ok(Attachment::Name(name.clone())),
            None => Ok(Attachment::Id(self.own_network().await?)),
        }
    }

    async fn own_network(&self) -> Result<String, DockerError> {
        let mut known = self.network.lock().await;
        if let Some(id) = &*known {
            return Ok(id.clone());
        }
        let id = match self.find_network().await? {
            Some(id) => id,
            None => self.make_network().await?,
        };
        *known = Some(id.clone());
        Ok(id)
    }

    async fn make_network(&self) -> Result<String, DockerError> {
        let made = self
            .engine
            .create_isolated_network(&self.network_name(), &self.instance_labels())
            .await;
        match (made, self.find_network().await?) {
            // Also where the name was taken meanwhile: by another process of this appliance.
            (_, Some(id)) => Ok(id),
            (made, None) => made,
        }
    }

    /// The appliance's network, where there is one; removes those that are too many.
    async fn find_network(&self) -> Result<Option<String>, DockerError> {
        let name = self.network_name();
        let mut own = self.engine.networks(&self.instance_labels()).await?;
        own.retain(|network| {
            network.name == name && !network.labels.iter().any(|(key, _)| key == RUN)
        });
        // Any order that all who look agree on; the oldest is the likeliest to be in use.
        let age = |network: &ListedNetwork| (network.created.clone(), network.id.clone());
        own.sort_by_key(age);
        let mut own = own.into_iter();
        let kept = own.next();
        for surplus in own {
            // One that is in use stays: who uses it named it by id.
            if let Err(error) = self
                .engine
                .remove_network(&surplus.id, self.engine.timings().removal)
                .await
            {
                tracing::warn!(network = surplus.id, %error, "a second network of the appliance's cannot be removed");
            }
        }
        Ok(kept.map(|network| network.id))
    }

    /// Removes the appliance's network, so that one that is taken down for good leaves none of the
    /// engine's few address ranges taken. One that a run is still on stays.
    pub(super) async fn remove_own_network(&self) {
        let mut known = self.network.lock().await;
        let Ok(Ok(Some(id))) = tokio::time::timeout(LEAVING, self.find_network()).await else {
            return;
        };
        if let Err(error) = self.engine.remove_network(&id, LEAVING).await {
            tracing::debug!(%error, "the appliance's network stays for the next start");
        }
        *known = None;
    }

    /// Whether the engine refused since the appliance's network is not there or not the only one.
    pub(super) fn lacks_network(&self, attachment: &Attachment, error: &DockerError) -> bool {
        let Attachment::Id(id) = attachment else {
            return false;
        };
        let words = error.words();
        !error.is_unavailable()
            && (words.contains(id.as_str()) || words.contains(&self.network_name()))
    }

    /// Forgets the network that proved gone, unless another start has found a new one already.
    pub(super) async fn forget_network(&self, attachment: &Attachment) {
        let mut known = self.network.lock().await;
        if matches!((attachment, &*known), (Attachment::Id(gone), Some(id)) if gone == id) {
            *known = None;
        }
    }

    fn network_name(&self) -> String {
        format!("quire-{}", self.config.instance)
    }
}
