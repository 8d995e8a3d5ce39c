//! Networks: the engine's bridges.

use std::collections::HashMap;

use bollard::models::NetworkCreateRequest;
use bollard::query_parameters as query;

use super::{DockerError, Engine, Labels, label_filter, label_map};

impl Engine {
    /// Makes a bridge on which containers reach the world but not each other. One that exists is fine.
    ///
    /// # Errors
    /// When the engine cannot make it.
    pub async fn ensure_isolated_network(&self, name: &str, labels: &Labels) -> Result<(), DockerError> {
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            options: Some(HashMap::from([("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned())])),
            labels: Some(label_map(labels)),
            ..Default::default()
        };
        let made = self.call("make the network", self.timings().heavy, |docker| async move { docker.create_network(request).await });
        match made.await {
            Ok(_) | Err(DockerError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ids and labels of the networks that carry all of the labels.
    ///
    /// # Errors
    /// When the engine cannot say.
    pub async fn networks(&self, labels: &Labels) -> Result<Vec<super::Listed>, DockerError> {
        let options = query::ListNetworksOptions { filters: Some(label_filter(labels)) };
        let listed =
            self.call("list networks", self.timings().call, |docker| async move { docker.list_networks(Some(options)).await }).await?;
        let entry =
            |n: bollard::models::Network| Some(super::Listed { id: n.id?, labels: n.labels.unwrap_or_default().into_iter().collect() });
        Ok(listed.into_iter().filter_map(entry).collect())
    }

    /// Removes a network; gives whether it was there.
    ///
    /// # Errors
    /// When it is in use, or the engine cannot do it.
    pub async fn remove_network(&self, id: &str) -> Result<bool, DockerError> {
        let removed = self.call("remove the network", self.timings().heavy, |docker| async move { docker.remove_network(id).await });
        match removed.await {
            Ok(()) => Ok(true),
            Err(DockerError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
