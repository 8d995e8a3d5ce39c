//! Networks: the engine's bridges.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::NetworkCreateRequest;
use bollard::query_parameters as query;

use super::{DockerError, Engine, Labels, label_filter, label_map};

/// A network of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedNetwork {
    /// Its id.
    pub id: String,
    /// Its name; before Engine 25 several may have it.
    pub name: String,
    /// When it was made, in the engine's words.
    pub created: String,
    /// Whether nothing leads from it to the world.
    pub internal: bool,
    /// Its labels.
    pub labels: Labels,
}

impl Engine {
    /// Makes a bridge on which containers reach the world but not each other; gives its id.
    ///
    /// Engines before 25 make another one of the same name where there is one already.
    ///
    /// # Errors
    /// When the engine cannot make it; [`DockerError::Conflict`] when the name is taken.
    pub async fn create_isolated_network(
        &self,
        name: &str,
        labels: &Labels,
    ) -> Result<String, DockerError> {
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            options: Some(HashMap::from([(
                "com.docker.network.bridge.enable_icc".to_owned(),
                "false".to_owned(),
            )])),
            labels: Some(label_map(labels)),
            ..Default::default()
        };
        let made = self.call(
            "make the network",
            self.timings().heavy,
            |docker| async move { docker.create_network(request).await },
        );
        Ok(made.await?.id)
    }

    /// Makes a bridge on which containers reach each other by name and, unless it is `internal`, the world; gives its id.
    ///
    /// # Errors
    /// When the engine cannot make it; [`DockerError::Conflict`] when the name is taken.
    pub async fn create_shared_network(
        &self,
        name: &str,
        labels: &Labels,
        internal: bool,
    ) -> Result<String, DockerError> {
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            internal: Some(internal),
            labels: Some(label_map(labels)),
            ..Default::default()
        };
        let made = self.call(
            "make the network",
            self.timings().heavy,
            |docker| async move { docker.create_network(request).await },
        );
        Ok(made.await?.id)
    }

    /// The networks that carry all of the labels.
    ///
    /// # Errors
    /// When the engine cannot say.
    pub async fn networks(&self, labels: &Labels) -> Result<Vec<ListedNetwork>, DockerError> {
        let options = query::ListNetworksOptions {
            filters: Some(label_filter(labels)),
        };
        let listed = self
            .call("list networks", self.timings().call, |docker| async move {
                docker.list_networks(Some(options)).await
            })
            .await?;
        let entry = |network: bollard::models::Network| {
            let labels = network.labels.unwrap_or_default().into_iter().collect();
            Some(ListedNetwork {
                id: network.id?,
                name: network.name?,
                created: network.created.unwrap_or_default(),
                internal: network.internal.unwrap_or(false),
                labels,
            })
        };
        Ok(listed.into_iter().filter_map(entry).collect())
    }

    /// Removes a network by its id; gives whether it was there.
    ///
    /// # Errors
    /// When it is in use, or the engine cannot do it.
    pub async fn remove_network(&self, id: &str, limit: Duration) -> Result<bool, DockerError> {
        let removed = self.call("remove the network", limit, |docker| async move {
            docker.remove_network(id).await
        });
        match removed.await {
            Ok(()) => Ok(true),
            Err(DockerError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
