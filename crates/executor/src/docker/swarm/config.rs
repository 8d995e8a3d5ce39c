//! The settings of the swarm executor.

use quire_types::callback_address::CallbackAddress;

use crate::docker::config::DockerConfig;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwarmConfig {
    /// The engine, which has to be a manager of the swarm.
    pub docker: DockerConfig,
    /// The registry for images that only the manager's engine has: its host, with a port and a path if it has them.
    pub registry: Option<String>,
    /// Where the nodes reach this process.
    pub callback: CallbackAddress,
}
