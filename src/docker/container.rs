//! Containers: create, start, upload, inspect, list, kill, remove.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, HostConfigLogConfig, Mount, MountType,
    NetworkingConfig,
};
use bollard::query_parameters as query;

use super::{DockerError, Engine, Feed, Labels, TarStream, label_filter, label_map};

/// What a container is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Its name; unique on the engine.
    pub name: String,
    /// Image, by full reference or id.
    pub image: String,
    /// Who its first process, and a command without a user, runs as; none for the image's user.
    pub user: Option<String>,
    /// Replaces the image's entry point and command; empty to keep them.
    pub entrypoint: Vec<String>,
    /// Variables, as `NAME=value`.
    pub env: Vec<String>,
    /// Working folder, made when it is missing; none for the image's.
    pub folder: Option<String>,
    /// Labels.
    pub labels: Labels,
    /// Memory (and memory plus swap) in bytes.
    pub memory: u64,
    /// CPUs in thousandths.
    pub milli_cpus: u64,
    /// Weight against other containers; 1024 is the engine's default.
    pub cpu_shares: u32,
    /// Most processes.
    pub pids: u32,
    /// Capabilities to take away from the engine's default set.
    pub drop_capabilities: Vec<String>,
    /// Volumes of the engine's.
    pub volumes: Vec<VolumeMount>,
    /// What it is connected to.
    pub network: Attachment,
    /// A further name that it has on that network.
    pub alias: Option<String>,
}

/// A volume in a container. One that is empty gets what the image has at this place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeMount {
    /// The volume's name.
    pub volume: String,
    /// Where it is mounted: an absolute path, made when it is missing.
    pub target: String,
}

/// What a container is connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Attachment {
    /// Nothing.
    #[default]
    None,
    /// The network of this name.
    Name(String),
    /// The network of this id, also where others have the same name.
    Id(String),
}

/// How a container stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerState {
    /// Whether it runs.
    pub running: bool,
    /// Whether the kernel ended something in it for want of memory.
    pub out_of_memory: bool,
    /// Exit code of its first process; 0 while it runs.
    pub exit_code: i64,
    /// What the engine says went wrong, or nothing.
    pub error: String,
    /// Its labels.
    pub labels: Labels,
}

/// A container of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// Its labels.
    pub labels: Labels,
}

impl Engine {
    /// Creates a container and gives its id.
    ///
    /// # Errors
    /// [`DockerError::NotFound`] when the image is missing, [`DockerError::Conflict`] when the name is taken.
    pub async fn create_container(&self, spec: &ContainerSpec) -> Result<String, DockerError> {
        let options = query::CreateContainerOptions {
            name: Some(spec.name.clone()),
            ..Default::default()
        };
        let body = create_body(spec);
        let made = self.call(
            "create the container",
            self.timings().heavy,
            |docker| async move { docker.create_container(Some(options), body).await },
        );
        Ok(made.await?.id)
    }

    /// Starts a container. One that runs already is fine.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_container(&self, id: &str) -> Result<(), DockerError> {
        self.call(
            "start the container",
            self.timings().heavy,
            |docker| async move {
                docker
                    .start_container(id, None::<query::StartContainerOptions>)
                    .await
            },
        )
        .await
    }

    /// Unpacks a tar stream into a folder of the container, owned as the archive says.
    ///
    /// # Errors
    /// [`DockerError::Source`] when the stream itself failed.
    pub async fn upload(&self, id: &str, folder: &str, tar: TarStream) -> Result<(), DockerError> {
        let attempt = "send the tree into the container";
        let feed = Feed::default();
        let body = bollard::body_try_stream(feed.watch(tar));
        let options = query::UploadToContainerOptions {
            path: folder.to_owned(),
            ..Default::default()
        };
        let docker = self.client().await?;
        let stall = self.timings().stall;
        let sent = feed
            .while_moving(stall, docker.upload_to_container(id, Some(options), body))
            .await;
        let error = match sent {
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) => DockerError::from_bollard(attempt, error),
            None => DockerError::TimedOut {
                attempt,
                after: stall,
            },
        };
        Err(self.diagnose(feed.blame(error)).await)
    }

    /// How a container stands, by id or name; none when it does not exist.
    ///
    /// # Errors
    /// When the engine cannot say.
    pub async fn container(&self, id: &str) -> Result<Option<ContainerState>, DockerError> {
        let asked = self.call(
            "inspect the container",
            self.timings().call,
            |docker| async move {
                docker
                    .inspect_container(id, None::<query::InspectContainerOptions>)
                    .await
            },
        );
        let found = match asked.await {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let state = found.state.unwrap_or_default();
        let labels = found
            .config
            .and_then(|config| config.labels)
            .unwrap_or_default();
        Ok(Some(ContainerState {
            running: state.running.unwrap_or(false),
            out_of_memory: state.oom_killed.unwrap_or(false),
            exit_code: state.exit_code.unwrap_or(0),
            error: state.error.unwrap_or_default(),
            labels: labels.into_iter().collect(),
        }))
    }

    /// Every container, running or not, that carries all of the labels.
    ///
    /// # Errors
    /// When the engine cannot say.
    pub async fn containers(&self, labels: &Labels) -> Result<Vec<Listed>, DockerError> {
        let options = query::ListContainersOptions {
            all: true,
            filters: Some(label_filter(labels)),
            ..Default::default()
        };
        let listed = self
            .call(
                "list containers",
                self.timings().call,
                |docker| async move { docker.list_containers(Some(options)).await },
            )
            .await?;
        let entry = |c: bollard::models::ContainerSummary| {
            Some(Listed {
                id: c.id?,
                labels: c.labels.unwrap_or_default().into_iter().collect(),
            })
        };
        Ok(listed.into_iter().filter_map(entry).collect())
    }

    /// Kills a container's processes; it stays. One that does not run is fine.
    ///
    /// # Errors
    /// When the engine cannot do it.
    pub async fn kill_container(&self, id: &str) -> Result<(), DockerError> {
        let options = query::KillContainerOptions {
            signal: "KILL".into(),
        };
        let killed = self.call(
            "kill the container",
            self.timings().heavy,
            |docker| async move { docker.kill_container(id, Some(options)).await },
        );
        match killed.await {
            Err(DockerError::NotFound { .. } | DockerError::Conflict { .. }) => Ok(()),
            other => other,
        }
    }

    /// Removes a container by id or name, running or not, with its volumes; returns when it is gone. Gives whether it was there.
    ///
    /// # Errors
    /// When it is not gone in time; what the engine said last.
    pub async fn remove_container(&self, id: &str) -> Result<bool, DockerError> {
        self.remove_container_within(id, self.timings().heavy).await
    }

    /// The same within a time of the caller's, for one who tries again or has others to remove.
    ///
    /// # Errors
    /// When it is not gone in time; what the engine said last.
    pub async fn remove_container_within(
        &self,
        id: &str,
        limit: Duration,
    ) -> Result<bool, DockerError> {
        let started = Instant::now();
        let mut pause = Duration::from_millis(20);
        let mut seen = false;
        loop {
            let options = query::RemoveContainerOptions {
                force: true,
                v: true,
                link: false,
            };
            let removed = self
                .call(
                    "remove the container",
                    limit.saturating_sub(started.elapsed()).max(LEAST),
                    |docker| async move { docker.remove_container(id, Some(options)).await },
                )
                .await;
            let error = match removed {
                Ok(()) => return Ok(true),
                Err(DockerError::NotFound { .. }) => return Ok(seen),
                // Another removal is under way, or its file system is still busy: both pass.
                Err(error @ (DockerError::Conflict { .. } | DockerError::Engine { .. })) => error,
                Err(error) => return Err(error),
            };
            seen = true;
            if started.elapsed() > limit {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}

/// A last try at a removal gets this much.
const LEAST: Duration = Duration::from_millis(100);

fn create_body(spec: &ContainerSpec) -> ContainerCreateBody {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let (network_mode, networking_config) = connect(&spec.network, spec.alias.as_ref());
    let mount = |mount: &VolumeMount| Mount {
        typ: Some(MountType::VOLUME),
        source: Some(mount.volume.clone()),
        target: Some(mount.target.clone()),
        ..Default::default()
    };
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        user: spec.user.clone(),
        entrypoint: (!spec.entrypoint.is_empty()).then(|| spec.entrypoint.clone()),
        // An empty one would bring back the image's.
        cmd: None,
        env: Some(spec.env.clone()),
        working_dir: spec.folder.clone(),
        labels: Some(label_map(&spec.labels)),
        host_config: Some(HostConfig {
            init: Some(true),
            memory: Some(signed(spec.memory)),
            memory_swap: Some(signed(spec.memory)),
            nano_cpus: Some(signed(spec.milli_cpus.saturating_mul(1_000_000))),
            cpu_shares: Some(i64::from(spec.cpu_shares)),
            pids_limit: Some(i64::from(spec.pids)),
            cap_drop: Some(spec.drop_capabilities.clone()),
            mounts: (!spec.volumes.is_empty()).then(|| spec.volumes.iter().map(mount).collect()),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            network_mode: Some(network_mode),
            log_config: Some(HostConfigLogConfig {
                typ: Some("none".to_owned()),
                config: None,
            }),
            ..Default::default()
        }),
        networking_config,
        ..Default::default()
    }
}

/// The network as the engine is told it. An id as mode alone is not enough: before 25 the engine
/// makes a name of it, and then finds that name ambiguous where two networks have it.
pub(super) fn connect(
    network: &Attachment,
    alias: Option<&String>,
) -> (String, Option<NetworkingConfig>) {
    match network {
        Attachment::None => ("none".to_owned(), None),
        Attachment::Name(name) => (name.clone(), None),
        Attachment::Id(id) => {
            let endpoint = EndpointSettings {
                network_id: Some(id.clone()),
                aliases: alias.map(|alias| vec![alias.clone()]),
                ..Default::default()
            };
            let endpoints_config = Some(HashMap::from([(id.clone(), endpoint)]));
            (id.clone(), Some(NetworkingConfig { endpoints_config }))
        }
    }
}
