//! From the configuration to the executors.

use std::sync::Arc;

use quire_config::Config;
use quire_executor::{
    DockerConfig, DockerExecutor, Executor, HostConfig, HostExecutor, SwarmConfig, SwarmExecutor,
    SwarmRegistry,
};
use quire_types::paths::Paths;

use super::known_secrets::reader;
use super::wiring::variable;

/// The configured executor first. The others only clean up after a change of the setting.
pub(super) fn of_config(config: &Config, instance: &str, paths: &Paths) -> Vec<Arc<dyn Executor>> {
    let docker_config = DockerConfig {
        registries: config.ci.registries.clone(),
        pull: config.ci.pull,
        warm: usize::try_from(config.ci.warm).unwrap_or(0),
        // Compose mounts the engine's socket from another path into the appliance.
        machine_socket: variable("QUIRE_DOCKER_SOCKET").filter(|path| !path.is_empty()),
        ..DockerConfig::new(&config.ci.engine, instance)
    };
    let registry = config.ci.registry.as_ref().map(|registry| SwarmRegistry {
        address: registry.address.clone(),
        login: registry
            .login
            .as_ref()
            .map(|(user, password)| (user.clone(), reader("password", password))),
    });
    let swarm = SwarmConfig {
        registry,
        callback: config.ci.callback.clone(),
    };
    let docker = DockerExecutor::new(docker_config);
    let swarm = SwarmExecutor::new(&docker, swarm);
    let mut executors: Vec<Arc<dyn Executor>> = vec![
        Arc::new(docker),
        Arc::new(HostExecutor::new(HostConfig::new(
            instance,
            Some(paths.data().join("runs")),
            Some(paths.caches()),
        ))),
        Arc::new(swarm),
    ];
    // Runs without isolation only if that was configured: an engine that is down is waited for.
    let configured = config.ci.executor.as_ref();
    executors.sort_by_key(|executor| Some(executor.name()) != configured);
    executors
}
