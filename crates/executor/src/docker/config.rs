//! The settings of the Docker executor.

use quire_types::pull_policy::PullPolicy;

use crate::engine::Timeouts;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerConfig {
    /// The engine's address, such as `unix:///var/run/docker.sock`.
    pub endpoint: String,
    /// The appliance's id: letters, digits and dashes.
    pub instance: String,
    /// Registries of the engine's own machine or link from which images may be pulled, as
    /// `HOST:PORT`.
    pub registries: Vec<String>,
    /// When newer versions of base images are looked for.
    pub pull: PullPolicy,
    /// The CPU weight of runs and image builds; that of other containers is 1024.
    pub cpu_shares: u32,
    /// How many containers at most are started before a run needs one.
    pub warm: usize,
    /// Where the engine's socket is on the engine's machine, for runs that may have it; `None` if it
    /// is there where `endpoint` says.
    pub machine_socket: Option<String>,
    pub timeouts: Timeouts,
}

impl DockerConfig {
    /// The default settings.
    #[must_use]
    pub fn new(endpoint: &str, instance: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            instance: instance.to_owned(),
            registries: Vec::new(),
            pull: PullPolicy::default(),
            cpu_shares: 256,
            warm: 0,
            machine_socket: None,
            timeouts: Timeouts::default(),
        }
    }
}
