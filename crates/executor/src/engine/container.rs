//! Containers: create, start, upload, inspect, list, kill, remove.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig, Mount,
    MountType, MountVolumeOptions, NetworkingConfig,
};
use bollard::query_parameters as query;

use super::client::{Engine, url_part};
use super::error::DockerError;
use super::labels::{Labels, label_filter, label_map};
use super::upload_body::UploadBody;
use crate::tar_stream::TarStream;

/// The time limit of a last attempt at a removal.
const MIN_REMOVAL_TIMEOUT: Duration = Duration::from_millis(100);

/// What a container is created from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Unique on the engine.
    pub name: String,
    /// A full reference or an id.
    pub image: String,
    /// The user of the first process and of commands without a user; `None` for the image's.
    pub user: Option<String>,
    /// Replaces the image's entry point and command; empty to keep them.
    pub entrypoint: Vec<String>,
    /// As `NAME=value`.
    pub env: Vec<String>,
    /// Created if it is missing; `None` for the image's.
    pub workdir: Option<String>,
    pub labels: Labels,
    /// The limit of memory, and of memory plus swap, in bytes.
    pub memory: u64,
    /// CPUs in thousandths.
    pub milli_cpus: u64,
    /// The weight against other containers; the engine's default is 1024.
    pub cpu_shares: u32,
    /// The limit of processes.
    pub pids: u32,
    /// Capabilities to drop from the engine's default set.
    pub drop_capabilities: Vec<String>,
    pub extras: ContainerExtras,
    pub volumes: Vec<VolumeMount>,
    /// Whether the entry point is quire's helper: it has no other first process before it, no
    /// health check, and a standard input that closes when the first client has left.
    pub is_helper: bool,
    pub network: NetworkMode,
    /// A second name of the container on its network.
    pub alias: Option<String>,
}

/// What only some containers have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerExtras {
    /// The size of `/dev/shm` in bytes; `None` for the engine's default.
    pub shm_size: Option<u64>,
    /// Folders in memory with their sizes in bytes.
    pub tmpfs: Vec<(String, Option<u64>)>,
    /// Capabilities to add to the engine's default set.
    pub add_capabilities: Vec<String>,
    /// Whether it has all capabilities and the devices of the machine.
    pub privileged: bool,
    /// A file or folder of the machine with its path in the container.
    pub bind: Option<(String, String)>,
}

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeMount {
    pub source: VolumeSource,
    /// An absolute path, created if it is missing.
    pub target: String,
}

/// Which volume is mounted, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// A volume of this name. An empty one is filled with what the image has at the target.
    Named(String),
    /// A new volume, which is removed with the container. It is filled in the same way.
    Anonymous,
    /// A volume of this name that commands cannot write to, and that the image never fills.
    ReadOnly(String),
    /// A volume of this name that the image never fills.
    Unfilled(String),
    /// A volume of this name, created with these labels if it is missing. An empty one is filled as a named one.
    Created { name: String, labels: Labels },
}

/// The network of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NetworkMode {
    #[default]
    None,
    /// An id names one network even if others have the same name.
    Id(String),
}

/// The state of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerState {
    pub running: bool,
    /// Whether it has ended at least once; with `running`, that it was started again.
    pub has_ended: bool,
    /// Whether the kernel killed a process in it because memory ran out.
    pub out_of_memory: bool,
    /// The exit code of its first process; 0 while it runs.
    pub exit_code: i64,
    /// The engine's error message, or an empty string.
    pub error: String,
    pub labels: Labels,
}

/// An entry of a list of containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedContainer {
    pub id: String,
    /// Its own name, without those that links of other containers give it.
    pub name: String,
    pub labels: Labels,
}

impl Engine {
    /// Creates a container and returns its id.
    ///
    /// # Errors
    /// [`DockerError::NotFound`] if the image is missing, [`DockerError::Conflict`] if the name is taken.
    pub async fn create_container(&self, spec: &ContainerSpec) -> Result<String, DockerError> {
        let options = query::CreateContainerOptions {
            name: Some(spec.name.clone()),
            ..Default::default()
        };
        let body = create_body(spec);
        let created = self.call(
            "create the container",
            self.timeouts().lifecycle,
            |docker| async move { docker.create_container(Some(options), body).await },
        );
        // What is done with the container later takes the id as it is.
        url_part(&created.await?.id)
    }

    /// Starts a container; succeeds if it runs already.
    pub async fn start_container(&self, id: &str) -> Result<(), DockerError> {
        self.call_on(
            "start the container",
            self.timeouts().lifecycle,
            id,
            |docker, id| async move {
                docker
                    .start_container(&id, None::<query::StartContainerOptions>)
                    .await
            },
        )
        .await
    }

    /// Unpacks a tar stream into a directory of the container, with the owners in the archive.
    ///
    /// # Errors
    /// [`DockerError::UploadSource`] if the stream itself fails.
    pub async fn upload(
        &self,
        id: &str,
        directory: &str,
        tar: TarStream,
    ) -> Result<(), DockerError> {
        let attempt = "upload files to the container";
        let upload = UploadBody::default();
        let body = bollard::body_try_stream(upload.watch(tar));
        let options = query::UploadToContainerOptions {
            path: directory.to_owned(),
            ..Default::default()
        };
        let id = url_part(id)?;
        let docker = self.client().await?;
        let idle = self.timeouts().upload_idle;
        let sent = upload
            .while_moving(idle, docker.upload_to_container(&id, Some(options), body))
            .await;
        let error = match sent {
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) => DockerError::from_bollard(attempt, error),
            None => DockerError::TimedOut {
                attempt,
                after: idle,
            },
        };
        Err(self.diagnose(upload.source_error_or(error)).await)
    }

    /// What the engine says of a container, by id or name; `None` if it does not exist.
    pub(super) async fn inspect_container(
        &self,
        id: &str,
    ) -> Result<Option<bollard::models::ContainerInspectResponse>, DockerError> {
        let inspected = self.call_on(
            "inspect the container",
            self.timeouts().call,
            id,
            |docker, id| async move {
                docker
                    .inspect_container(&id, None::<query::InspectContainerOptions>)
                    .await
            },
        );
        match inspected.await {
            Err(error) if error.is_not_found() => Ok(None),
            inspected => inspected.map(Some),
        }
    }

    /// Returns the state of a container, by id or name; `None` if it does not exist.
    pub async fn container(&self, id: &str) -> Result<Option<ContainerState>, DockerError> {
        let Some(found) = self.inspect_container(id).await? else {
            return Ok(None);
        };
        let state = found.state.unwrap_or_default();
        let labels = found
            .config
            .and_then(|config| config.labels)
            .unwrap_or_default();
        Ok(Some(ContainerState {
            running: state.running.unwrap_or(false),
            has_ended: state
                .finished_at
                .is_some_and(|time| !time.starts_with("0001-")),
            out_of_memory: state.oom_killed.unwrap_or(false),
            exit_code: state.exit_code.unwrap_or(0),
            error: state.error.unwrap_or_default(),
            labels: labels.into_iter().collect(),
        }))
    }

    /// Lists the containers, running or not, that carry all of the labels.
    pub async fn containers(&self, labels: &Labels) -> Result<Vec<ListedContainer>, DockerError> {
        let options = query::ListContainersOptions {
            all: true,
            filters: Some(label_filter(labels)),
            ..Default::default()
        };
        let listed = self
            .call(
                "list containers",
                self.timeouts().call,
                |docker| async move { docker.list_containers(Some(options)).await },
            )
            .await?;
        let entry = |container: bollard::models::ContainerSummary| {
            let mut names = container.names.unwrap_or_default().into_iter();
            let own_name = names.find_map(|name| {
                let name = name.strip_prefix('/')?;
                (!name.contains('/')).then(|| name.to_owned())
            });
            Some(ListedContainer {
                id: container.id?,
                name: own_name.unwrap_or_default(),
                labels: container.labels.unwrap_or_default().into_iter().collect(),
            })
        };
        Ok(listed.into_iter().filter_map(entry).collect())
    }

    /// Kills the processes of a container, which itself stays; succeeds if it does not run.
    pub async fn kill_container(&self, id: &str) -> Result<(), DockerError> {
        let options = query::KillContainerOptions {
            signal: "KILL".into(),
        };
        let killed = self.call_on(
            "kill the container",
            self.timeouts().lifecycle,
            id,
            |docker, id| async move { docker.kill_container(&id, Some(options)).await },
        );
        match killed.await {
            Err(DockerError::NotFound { .. } | DockerError::Conflict { .. }) => Ok(()),
            other => other,
        }
    }

    /// Kills a container and returns once the engine says that it has ended, or that it does not
    /// exist.
    pub async fn end_container(&self, id: &str) -> Result<(), DockerError> {
        let deadline = Instant::now() + self.timeouts().lifecycle;
        let mut pause = Duration::from_millis(2);
        loop {
            self.kill_container(id).await?;
            let state = self.container(id).await?;
            if !state.is_some_and(|state| state.running) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(DockerError::TimedOut {
                    attempt: "kill the container",
                    after: self.timeouts().lifecycle,
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// Removes a container by id or name, running or not, with its anonymous volumes. Returns
    /// once it is gone; `true` if it existed.
    pub async fn remove_container(&self, id: &str) -> Result<bool, DockerError> {
        self.remove_container_within(id, self.timeouts().lifecycle)
            .await
    }

    /// Like [`Engine::remove_container`], within `limit`. Fails with the engine's last error if
    /// the container is not gone by then.
    pub async fn remove_container_within(
        &self,
        id: &str,
        limit: Duration,
    ) -> Result<bool, DockerError> {
        let started = Instant::now();
        let mut pause = Duration::from_millis(20);
        let mut existed = false;
        loop {
            let options = query::RemoveContainerOptions {
                force: true,
                v: true,
                link: false,
            };
            let remaining = limit.saturating_sub(started.elapsed());
            let removed = self
                .call_on(
                    "remove the container",
                    remaining.max(MIN_REMOVAL_TIMEOUT),
                    id,
                    |docker, id| async move { docker.remove_container(&id, Some(options)).await },
                )
                .await;
            let error = match removed {
                Ok(()) => return Ok(true),
                Err(DockerError::NotFound { .. }) => return Ok(existed),
                // Another removal is in progress, or its file system is still busy: both pass.
                Err(error @ (DockerError::Conflict { .. } | DockerError::Failed { .. })) => error,
                Err(error) => return Err(error),
            };
            existed = true;
            if started.elapsed() > limit {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}

fn create_body(spec: &ContainerSpec) -> ContainerCreateBody {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let (network_mode, networking_config) = network_config(&spec.network, spec.alias.as_ref());
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        user: spec.user.clone(),
        entrypoint: (!spec.entrypoint.is_empty()).then(|| spec.entrypoint.clone()),
        // An empty list would bring back the image's command.
        cmd: None,
        env: Some(spec.env.clone()),
        working_dir: spec.workdir.clone(),
        labels: Some(label_map(&spec.labels)),
        open_stdin: Some(spec.is_helper),
        stdin_once: Some(spec.is_helper),
        healthcheck: spec.is_helper.then(|| HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..Default::default()
        }),
        host_config: Some(HostConfig {
            // The engine's own init would run even if the program does not exist; without it that is
            // an error of the start.
            init: Some(false),
            memory: Some(signed(spec.memory)),
            memory_swap: Some(signed(spec.memory)),
            nano_cpus: Some(signed(spec.milli_cpus.saturating_mul(1_000_000))),
            cpu_shares: Some(i64::from(spec.cpu_shares)),
            pids_limit: Some(i64::from(spec.pids)),
            cap_add: Some(spec.extras.add_capabilities.clone()),
            cap_drop: Some(spec.drop_capabilities.clone()),
            privileged: Some(spec.extras.privileged),
            shm_size: spec.extras.shm_size.map(signed),
            tmpfs: Some(tmpfs_options(&spec.extras.tmpfs)),
            mounts: mounts(spec),
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

fn mounts(spec: &ContainerSpec) -> Option<Vec<Mount>> {
    let bind = |(source, target): &(String, String)| Mount {
        typ: Some(MountType::BIND),
        source: Some(source.clone()),
        target: Some(target.clone()),
        ..Default::default()
    };
    let mounts: Vec<_> = spec.volumes.iter().map(volume_mount).collect();
    let mounts: Vec<_> = mounts
        .into_iter()
        .chain(spec.extras.bind.iter().map(bind))
        .collect();
    (!mounts.is_empty()).then_some(mounts)
}

/// Programs in these folders can be executed, as in other folders of a container.
fn tmpfs_options(folders: &[(String, Option<u64>)]) -> HashMap<String, String> {
    let options = |size: &Option<u64>| match size {
        Some(size) => format!("exec,mode=1777,size={size}"),
        None => "exec,mode=1777".to_owned(),
    };
    folders
        .iter()
        .map(|(path, size)| (path.clone(), options(size)))
        .collect()
}

pub(super) fn volume_mount(mount: &VolumeMount) -> Mount {
    let (name, read_only, no_copy) = match &mount.source {
        VolumeSource::Named(name) | VolumeSource::Created { name, .. } => {
            (Some(name), false, false)
        }
        VolumeSource::Anonymous => (None, false, false),
        VolumeSource::ReadOnly(name) => (Some(name), true, true),
        VolumeSource::Unfilled(name) => (Some(name), false, true),
    };
    Mount {
        typ: Some(MountType::VOLUME),
        source: name.cloned(),
        target: Some(mount.target.clone()),
        read_only: Some(read_only),
        volume_options: Some(MountVolumeOptions {
            no_copy: no_copy.then_some(true),
            labels: match &mount.source {
                VolumeSource::Created { labels, .. } => Some(label_map(labels)),
                _ => None,
            },
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Returns the network in the form that the engine expects. An id as network mode alone is not
/// enough: engines before 25 turn it into a name, and then find the name ambiguous if two
/// networks have it.
fn network_config(
    network: &NetworkMode,
    alias: Option<&String>,
) -> (String, Option<NetworkingConfig>) {
    match network {
        NetworkMode::None => ("none".to_owned(), None),
        NetworkMode::Id(id) => {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_only_what_was_asked_for() {
        let host = |spec: &ContainerSpec| create_body(spec).host_config.unwrap_or_default();
        let plain = host(&ContainerSpec::default());
        assert_eq!((plain.privileged, plain.mounts), (Some(false), None));
        let extras = ContainerExtras {
            tmpfs: vec![("/a".to_owned(), Some(5)), ("/b".to_owned(), None)],
            privileged: true,
            bind: Some(("/from".to_owned(), "/to".to_owned())),
            ..ContainerExtras::default()
        };
        let full = host(&ContainerSpec {
            extras,
            ..ContainerSpec::default()
        });
        assert_eq!(full.privileged, Some(true));
        let tmpfs = full.tmpfs.unwrap_or_default();
        assert_eq!(
            tmpfs.get("/a").map(String::as_str),
            Some("exec,mode=1777,size=5")
        );
        assert_eq!(tmpfs.get("/b").map(String::as_str), Some("exec,mode=1777"));
        let mounts = full.mounts.unwrap_or_default();
        let bind = |mount: &Mount| (mount.source.clone(), mount.target.clone(), mount.typ);
        let expected = (
            Some("/from".to_owned()),
            Some("/to".to_owned()),
            Some(MountType::BIND),
        );
        assert_eq!(mounts.iter().map(bind).collect::<Vec<_>>(), [expected]);
    }
}
