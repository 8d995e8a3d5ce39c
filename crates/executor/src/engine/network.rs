//! Networks: the engine's bridges.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest};
use bollard::query_parameters as query;

use super::client::Engine;
use super::error::DockerError;
use super::labels::{Labels, label_filter, label_map};

/// An entry of a list of networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedNetwork {
    pub id: String,
    /// Engines before 25 allow several networks of one name.
    pub name: String,
    /// When it was created, as the engine writes it.
    pub created: String,
    /// Whether the network has no route to the outside.
    pub internal: bool,
    /// Whether the network is across the nodes of a swarm.
    pub is_overlay: bool,
    pub labels: Labels,
}

impl Engine {
    /// Creates a bridge on which containers reach the outside but not each other, and returns
    /// its id.
    ///
    /// Engines before 25 create another network if the name is taken.
    ///
    /// # Errors
    /// [`DockerError::Conflict`] if the name is taken and the engine refuses a duplicate.
    pub async fn create_isolated_network(
        &self,
        name: &str,
        labels: &Labels,
    ) -> Result<String, DockerError> {
        self.create_bridge(NetworkCreateRequest {
            name: name.to_owned(),
            options: Some(HashMap::from([(
                "com.docker.network.bridge.enable_icc".to_owned(),
                "false".to_owned(),
            )])),
            labels: Some(label_map(labels)),
            ..Default::default()
        })
        .await
    }

    /// Creates a bridge on which containers reach each other by name and, unless it is
    /// `internal`, the outside; returns its id.
    ///
    /// # Errors
    /// [`DockerError::Conflict`] if the name is taken and the engine refuses a duplicate.
    pub async fn create_shared_network(
        &self,
        name: &str,
        labels: &Labels,
        internal: bool,
    ) -> Result<String, DockerError> {
        self.create_bridge(NetworkCreateRequest {
            name: name.to_owned(),
            internal: Some(internal),
            labels: Some(label_map(labels)),
            ..Default::default()
        })
        .await
    }

    /// Creates a network across the nodes of a swarm, on which tasks reach each other by name, and returns its id.
    pub async fn create_overlay(&self, name: &str, labels: &Labels) -> Result<String, DockerError> {
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("overlay".to_owned()),
            labels: Some(label_map(labels)),
            ..Default::default()
        };
        let created = self.call(
            "create the network",
            self.timeouts().lifecycle,
            |docker| async move { docker.create_network(request).await },
        );
        Ok(created.await?.id)
    }

    async fn create_bridge(&self, request: NetworkCreateRequest) -> Result<String, DockerError> {
        let request = NetworkCreateRequest {
            driver: Some("bridge".to_owned()),
            ..request
        };
        let created = self.call(
            "create the network",
            self.timeouts().lifecycle,
            |docker| async move { docker.create_network(request).await },
        );
        Ok(created.await?.id)
    }

    /// Lists the networks that carry all of the labels.
    pub async fn networks(&self, labels: &Labels) -> Result<Vec<ListedNetwork>, DockerError> {
        let options = query::ListNetworksOptions {
            filters: Some(label_filter(labels)),
        };
        let listed = self
            .call("list networks", self.timeouts().call, |docker| async move {
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
                is_overlay: network.driver.is_some_and(|driver| driver == "overlay"),
                labels,
            })
        };
        Ok(listed.into_iter().filter_map(entry).collect())
    }

    /// Moves a running container from one network to another.
    pub async fn move_container(
        &self,
        container: &str,
        from: &str,
        to: &str,
    ) -> Result<(), DockerError> {
        let limit = self.timeouts().lifecycle;
        let request = NetworkConnectRequest {
            container: container.to_owned(),
            ..Default::default()
        };
        self.call_on(
            "connect the container",
            limit,
            to,
            |docker, id| async move { docker.connect_network(&id, request).await },
        )
        .await?;
        let request = NetworkDisconnectRequest {
            container: container.to_owned(),
            ..Default::default()
        };
        self.call_on(
            "disconnect the container",
            limit,
            from,
            |docker, id| async move { docker.disconnect_network(&id, request).await },
        )
        .await
    }

    /// Removes a network by its id and returns whether it existed. Fails if it is in use.
    pub async fn remove_network(&self, id: &str, limit: Duration) -> Result<bool, DockerError> {
        let removed = self.call_on("remove the network", limit, id, |docker, id| async move {
            docker.remove_network(&id).await
        });
        match removed.await {
            Ok(()) => Ok(true),
            Err(DockerError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
