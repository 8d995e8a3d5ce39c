//! Services of a swarm that execute one container once.

use std::net::IpAddr;
use std::time::Duration;

use bollard::models::{
    EndpointSpec, EndpointSpecModeEnum, HealthConfig, Limit, Mount, MountTmpfsOptions, MountType,
    NetworkAttachmentConfig, ServiceSpec, ServiceSpecMode, ServiceSpecModeReplicatedJob, TaskSpec,
    TaskSpecContainerSpec, TaskSpecContainerSpecConfigs, TaskSpecContainerSpecFile1,
    TaskSpecLogDriver, TaskSpecPlacement, TaskSpecResources, TaskSpecRestartPolicy,
    TaskSpecRestartPolicyConditionEnum,
};

use super::client::Engine;
use super::container::{ContainerSpec, volume_mount};
use super::error::DockerError;
use super::labels::label_map;
use super::registry_login::RegistryLogin;

/// How often it is checked whether a service is ready, and how long a check may take.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);

/// What a service is created from that executes one container once. It never starts a second one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpec {
    /// The container. A swarm knows neither its weight nor its network, and passes the image's
    /// reference to the node as it is.
    pub container: ContainerSpec,
    /// A config object that is a file of the container.
    pub program: Option<MountedConfig>,
    /// The overlay network that its container is on; `None` for the bridge of its node.
    pub network: Option<JobNetwork>,
    /// Names that its container resolves by itself, each with an address.
    pub hosts: Vec<(String, IpAddr)>,
    /// What has to succeed until the task counts as running.
    pub ready: Option<ReadyCheck>,
    /// Whether the engine of the node keeps what the container writes, so that it can be read.
    pub is_logged: bool,
    /// The id of the only node on which it may be executed; `None` for any.
    pub node: Option<String>,
    /// What a node needs to pull the image.
    pub login: Option<RegistryLogin>,
    /// How long its first process may live after the engine has asked it to end.
    pub stop_grace: Duration,
}

/// A command in a container that succeeds once it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyCheck {
    pub command: Vec<String>,
    /// For how long it may fail. The task ends after that.
    pub within: Duration,
}

/// A network as a container sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobNetwork {
    pub id: String,
    /// A name of the container on it.
    pub alias: Option<String>,
}

/// A config object as a file of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedConfig {
    pub id: String,
    pub name: String,
    /// An absolute path.
    pub path: String,
}

impl Engine {
    /// Creates a service and returns its id. Its task begins at once.
    ///
    /// # Errors
    /// [`DockerError::Conflict`] if the name is taken.
    pub async fn create_job(&self, spec: &JobSpec) -> Result<String, DockerError> {
        let body = service_spec(spec);
        let credentials = spec.login.as_ref().map(RegistryLogin::credentials);
        let created = self.call(
            "create the service",
            self.timeouts().lifecycle,
            |docker| async move { docker.create_service(body, credentials).await },
        );
        created
            .await?
            .id
            .ok_or_else(|| DockerError::InvalidResponse {
                attempt: "create the service",
                message: "it has no id".to_owned(),
            })
    }
}

fn service_spec(spec: &JobSpec) -> ServiceSpec {
    let container = &spec.container;
    let constraint = spec.node.as_ref().map(|node| format!("node.id=={node}"));
    let limits = Limit {
        memory_bytes: i64::try_from(container.memory).ok(),
        nano_cpus: i64::try_from(container.milli_cpus.saturating_mul(1_000_000)).ok(),
        pids: Some(i64::from(container.pids)),
    };
    let task = TaskSpec {
        container_spec: Some(container_spec(spec)),
        resources: Some(TaskSpecResources {
            limits: Some(limits),
            ..Default::default()
        }),
        restart_policy: Some(TaskSpecRestartPolicy {
            condition: Some(TaskSpecRestartPolicyConditionEnum::NONE),
            max_attempts: Some(0),
            ..Default::default()
        }),
        placement: Some(TaskSpecPlacement {
            constraints: constraint.map(|constraint| vec![constraint]),
            ..Default::default()
        }),
        log_driver: Some(log_driver(spec.is_logged)),
        networks: spec.network.as_ref().map(|network| {
            vec![NetworkAttachmentConfig {
                target: Some(network.id.clone()),
                aliases: network.alias.clone().map(|alias| vec![alias]),
                ..Default::default()
            }]
        }),
        ..Default::default()
    };
    ServiceSpec {
        name: Some(container.name.clone()),
        labels: Some(label_map(&container.labels)),
        task_template: Some(task),
        mode: Some(ServiceSpecMode {
            replicated_job: Some(ServiceSpecModeReplicatedJob {
                max_concurrent: Some(1),
                total_completions: Some(1),
            }),
            ..Default::default()
        }),
        // The name stands for the container itself. A virtual address would need a load balancer in the kernel of each node.
        endpoint_spec: Some(EndpointSpec {
            mode: Some(EndpointSpecModeEnum::DNSRR),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Bounded, and readable whatever the node's default is.
fn log_driver(is_logged: bool) -> TaskSpecLogDriver {
    let options = [("max-size", "5m"), ("max-file", "2")];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
    TaskSpecLogDriver {
        name: Some(if is_logged { "local" } else { "none" }.to_owned()),
        options: is_logged.then(|| options.into()),
    }
}

fn container_spec(spec: &JobSpec) -> TaskSpecContainerSpec {
    let container = &spec.container;
    let config = |program: &MountedConfig| TaskSpecContainerSpecConfigs {
        file: Some(TaskSpecContainerSpecFile1 {
            name: Some(program.path.clone()),
            uid: Some("0".to_owned()),
            gid: Some("0".to_owned()),
            mode: Some(0o555),
        }),
        config_id: Some(program.id.clone()),
        config_name: Some(program.name.clone()),
        ..Default::default()
    };
    let host = |(name, address): &(String, IpAddr)| format!("{address} {name}");
    let shared_memory = container
        .extras
        .shm_size
        .map(|size| ("/dev/shm".to_owned(), Some(size)));
    let in_memory = container.extras.tmpfs.iter().cloned().chain(shared_memory);
    let volumes = container.volumes.iter().map(volume_mount);
    TaskSpecContainerSpec {
        image: Some(container.image.clone()),
        labels: Some(label_map(&container.labels)),
        command: (!container.entrypoint.is_empty()).then(|| container.entrypoint.clone()),
        env: Some(container.env.clone()),
        dir: container.workdir.clone(),
        user: container.user.clone(),
        mounts: Some(volumes.chain(in_memory.map(memory_mount)).collect()),
        stop_grace_period: i64::try_from(spec.stop_grace.as_nanos()).ok(),
        health_check: Some(health_check(spec.ready.as_ref())),
        init: Some(false),
        capability_add: Some(container.extras.add_capabilities.clone()),
        capability_drop: Some(container.drop_capabilities.clone()),
        configs: Some(spec.program.iter().map(config).collect()),
        hosts: Some(spec.hosts.iter().map(host).collect()),
        ..Default::default()
    }
}

/// The check of a container, in place of the image's.
fn health_check(ready: Option<&ReadyCheck>) -> HealthConfig {
    let Some(ready) = ready else {
        return HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..Default::default()
        };
    };
    let words = std::iter::once("CMD".to_owned()).chain(ready.command.iter().cloned());
    let attempts = ready
        .within
        .as_millis()
        .div_ceil(CHECK_INTERVAL.as_millis());
    let nanoseconds = |time: Duration| i64::try_from(time.as_nanos()).ok();
    HealthConfig {
        test: Some(words.collect()),
        interval: nanoseconds(CHECK_INTERVAL),
        timeout: nanoseconds(CHECK_TIMEOUT),
        retries: i64::try_from(attempts.max(1)).ok(),
        ..Default::default()
    }
}

fn memory_mount((target, size): (String, Option<u64>)) -> Mount {
    Mount {
        target: Some(target),
        typ: Some(MountType::TMPFS),
        tmpfs_options: Some(MountTmpfsOptions {
            size_bytes: size.and_then(|size| i64::try_from(size).ok()),
            ..Default::default()
        }),
        ..Default::default()
    }
}
