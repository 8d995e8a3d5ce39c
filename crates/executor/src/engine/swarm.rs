//! A swarm: its services, nodes and config objects.
//!
//! The engine at the socket has to be a manager. Only a manager knows of services, tasks and nodes; it
//! answers for containers of its own machine alone.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bollard::models::{ConfigSpec, LocalNodeState, NodeSpecAvailabilityEnum, NodeState};
use bollard::query_parameters as query;

use super::client::Engine;
use super::error::DockerError;
use super::labels::{Labels, label_filter, label_map};

/// An entry of a list of services or of config objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedService {
    pub id: String,
    pub name: String,
    pub labels: Labels,
}

/// A machine of the swarm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SwarmNode {
    pub id: String,
    /// The name of the machine, with the id if another one has the same.
    pub name: String,
    /// Whether the managers hear from it.
    pub is_ready: bool,
    /// Whether the managers have given it up.
    pub is_down: bool,
    /// Whether it may be given tasks.
    pub is_active: bool,
    /// Its state and availability in the swarm's words, such as `ready, drain`.
    pub state: String,
    /// CPUs in thousandths.
    pub milli_cpus: u64,
    /// In bytes.
    pub memory: u64,
    pub engine: String,
}

impl SwarmNode {
    /// Whether it may execute a task now.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.is_ready && self.is_active
    }
}

impl Engine {
    /// Returns the id of the engine's node.
    ///
    /// # Errors
    /// [`DockerError::NoManager`] if the engine is not a manager of a swarm.
    pub async fn manager_node(&self) -> Result<String, DockerError> {
        let info = self
            .call(
                "read the engine's part in the swarm",
                self.timeouts().call,
                |docker| async move { docker.info().await },
            )
            .await?;
        let swarm = info.swarm.unwrap_or_default();
        let is_active = swarm.local_node_state == Some(LocalNodeState::ACTIVE);
        match swarm.node_id {
            Some(id) if is_active && swarm.control_available == Some(true) => Ok(id),
            _ => Err(DockerError::NoManager),
        }
    }

    /// Lists the services that carry all of the labels.
    pub async fn services(&self, labels: &Labels) -> Result<Vec<ListedService>, DockerError> {
        let options = query::ListServicesOptions {
            filters: Some(label_filter(labels)),
            ..Default::default()
        };
        let listed = self
            .call("list services", self.timeouts().call, |docker| async move {
                docker.list_services(Some(options)).await
            })
            .await?;
        let entry = |service: bollard::models::Service| {
            let spec = service.spec?;
            listed_service(service.id, spec.name, spec.labels)
        };
        Ok(listed.into_iter().filter_map(entry).collect())
    }

    /// Whether there is a service with this id.
    pub async fn has_service(&self, id: &str) -> Result<bool, DockerError> {
        let limit = self.timeouts().call;
        let options = None::<query::InspectServiceOptions>;
        let found = self.call_on("inspect the service", limit, id, |docker, id| async move {
            docker.inspect_service(&id, options).await
        });
        match found.await {
            Ok(_) => Ok(true),
            Err(DockerError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a service by id or name, and returns whether it existed. Its tasks are ended by their
    /// nodes, and their containers and anonymous volumes removed.
    pub async fn remove_service(&self, id: &str, limit: Duration) -> Result<bool, DockerError> {
        let removed = self.call_on("remove the service", limit, id, |docker, id| async move {
            docker.delete_service(&id).await
        });
        match removed.await {
            Ok(()) => Ok(true),
            Err(DockerError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lists the machines of the swarm by name.
    pub async fn nodes(&self) -> Result<Vec<SwarmNode>, DockerError> {
        let listed = self
            .call(
                "list the nodes of the swarm",
                self.timeouts().call,
                |docker| async move { docker.list_nodes(None::<query::ListNodesOptions>).await },
            )
            .await?;
        let mut nodes: Vec<_> = listed.into_iter().filter_map(swarm_node).collect();
        nodes.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        let names: Vec<_> = nodes.iter().map(|node| node.name.clone()).collect();
        for node in &mut nodes {
            if names.iter().filter(|name| **name == node.name).count() > 1 {
                node.name = format!("{} ({})", node.name, node.id);
            }
        }
        Ok(nodes)
    }

    /// Returns a node; `None` if the manager does not know it or does not answer.
    pub async fn node(&self, id: &str) -> Option<SwarmNode> {
        let nodes = self.nodes().await.unwrap_or_default();
        nodes.into_iter().find(|node| node.id == id)
    }

    /// Returns the name of a node; its id if the manager does not know it or does not answer.
    pub async fn node_name(&self, id: &str) -> String {
        let node = self.node(id).await;
        node.map_or_else(|| id.to_owned(), |node| node.name)
    }

    /// Creates a config object unless there is one of this name, and returns its id. The content of a
    /// config object never changes.
    pub async fn ensure_config(
        &self,
        name: &str,
        labels: &Labels,
        content: &[u8],
    ) -> Result<String, DockerError> {
        if let Some(id) = self.config_id(name).await? {
            return Ok(id);
        }
        let spec = ConfigSpec {
            name: Some(name.to_owned()),
            labels: Some(label_map(labels)),
            data: Some(BASE64_STANDARD.encode(content)),
            ..Default::default()
        };
        let attempt = "create the config object";
        let created = self.call(attempt, self.timeouts().lifecycle, |docker| async move {
            docker.create_config(spec).await
        });
        match created.await {
            Ok(created) => Ok(created.id),
            // Another appliance on the same swarm was faster.
            Err(error @ DockerError::Conflict { .. }) => self.config_id(name).await?.ok_or(error),
            Err(error) => Err(error),
        }
    }

    async fn config_id(&self, name: &str) -> Result<Option<String>, DockerError> {
        let found = self.call_on(
            "inspect the config object",
            self.timeouts().call,
            name,
            |docker, name| async move { docker.inspect_config(&name).await },
        );
        match found.await {
            Ok(config) => Ok(config.id),
            Err(DockerError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists the config objects that carry all of the labels.
    pub async fn configs(&self, labels: &Labels) -> Result<Vec<ListedService>, DockerError> {
        let options = query::ListConfigsOptions {
            filters: Some(label_filter(labels)),
        };
        let listed = self
            .call(
                "list config objects",
                self.timeouts().call,
                |docker| async move { docker.list_configs(Some(options)).await },
            )
            .await?;
        let entry = |config: bollard::models::Config| {
            let spec = config.spec?;
            listed_service(config.id, spec.name, spec.labels)
        };
        Ok(listed.into_iter().filter_map(entry).collect())
    }

    /// Removes a config object; fails if a service uses it.
    pub async fn remove_config(&self, id: &str) -> Result<(), DockerError> {
        let limit = self.timeouts().removal;
        let attempt = "remove the config object";
        self.call_on(attempt, limit, id, |docker, id| async move {
            docker.delete_config(&id).await
        })
        .await
    }
}

/// `None` if the engine leaves out what identifies it.
fn listed_service(
    id: Option<String>,
    name: Option<String>,
    labels: Option<HashMap<String, String>>,
) -> Option<ListedService> {
    Some(ListedService {
        id: id?,
        name: name?,
        labels: labels.unwrap_or_default().into_iter().collect(),
    })
}

fn swarm_node(node: bollard::models::Node) -> Option<SwarmNode> {
    let spec = node.spec.unwrap_or_default();
    let description = node.description.unwrap_or_default();
    let resources = description.resources.unwrap_or_default();
    let state = node.status.and_then(|status| status.state);
    let state = state.unwrap_or(NodeState::UNKNOWN);
    let availability = spec
        .availability
        .unwrap_or(NodeSpecAvailabilityEnum::ACTIVE);
    let positive = |value: Option<i64>| u64::try_from(value.unwrap_or(0)).unwrap_or(0);
    Some(SwarmNode {
        id: node.id?,
        name: description.hostname.unwrap_or_default(),
        is_ready: state == NodeState::READY,
        is_down: state == NodeState::DOWN,
        is_active: availability == NodeSpecAvailabilityEnum::ACTIVE,
        state: format!("{state}, {availability}"),
        milli_cpus: positive(resources.nano_cpus) / 1_000_000,
        memory: positive(resources.memory_bytes),
        engine: description
            .engine
            .and_then(|engine| engine.engine_version)
            .unwrap_or_default(),
    })
}
