//! The container of a run: created, attached to, started.

use tokio_util::sync::CancellationToken;

use super::cleanup::CleanupGuard;
use super::context::{
    DockerContext, USER_LABEL, WORKSPACE_DIR, container_name, dropped_capabilities, or_cancelled,
};
use super::engine_images::RunImage;
use super::helper_streams::helper_streams;
use super::helper_volume::HelperVolume;
use super::in_use::RunLease;
use super::network::ApplianceNetwork;
use super::warm_container::{WarmContainer, WarmContainers, WarmKey};
use crate::api::{ResourceLimits, StartObserver, StartSpec};
use crate::engine::{ContainerSpec, DockerError, NetworkMode, VolumeMount, VolumeSource};
use crate::error::{ExecutorError, ImageError};
use crate::link::HelperStreams;

/// What the container of a run has besides its image.
pub(super) struct Attachments {
    /// The caches.
    pub(super) volumes: Vec<VolumeMount>,
    /// The id of the network that it shares with its services; `None` without services.
    pub(super) network: Option<String>,
}

/// A container that runs, with the connection to its helper.
pub(super) struct StartedContainer {
    pub(super) id: String,
    pub(super) streams: HelperStreams,
    /// Removes the container unless the start of the workspace succeeds.
    pub(super) guard: CleanupGuard,
    /// What another container would be started from for the same use; `None` if none is started in advance.
    pub(super) key: Option<WarmKey>,
    /// What a container that was started in advance holds.
    pub(super) warm: Option<RunLease>,
}

/// Why a container could not be created or started.
enum CreateError {
    /// Its network does not exist: to be retried once.
    NoNetwork(NetworkMode, DockerError),
    /// The engine has no helper: to be retried once.
    NoHelper(DockerError),
    Other(ExecutorError),
}

/// Starts the containers of runs. Cheap to clone.
#[derive(Clone)]
pub(super) struct ContainerStarter {
    context: DockerContext,
    network: ApplianceNetwork,
    helper: HelperVolume,
    warm: WarmContainers,
}

impl ContainerStarter {
    pub(super) fn new(
        context: DockerContext,
        network: ApplianceNetwork,
        warm: WarmContainers,
    ) -> Self {
        Self {
            helper: HelperVolume::new(context.clone()),
            context,
            network,
            warm,
        }
    }

    /// Takes a container that was started in advance, if there is one.
    pub(super) async fn take_warm(
        &self,
        spec: &StartSpec,
        image: &RunImage,
        attachments: &Attachments,
        observer: &mut dyn StartObserver,
    ) -> Option<StartedContainer> {
        // A container that may be kept has the labels of its run.
        if spec.may_be_kept {
            return None;
        }
        let container_spec = self.container_spec(spec, image, attachments).await.ok()?;
        let key = self.warm_key(spec, image, container_spec).await?;
        let WarmContainer {
            id,
            streams,
            guard,
            lease,
        } = self.warm.take(&key, spec.run).await?;
        // It may have been ended from outside meanwhile.
        let state = self.context.engine.container(&id).await;
        if !matches!(state, Ok(Some(state)) if state.running) {
            return None;
        }
        if let Some(network) = &attachments.network {
            // Its guard removes it if this fails. No command has run in it.
            self.move_to(network, &key, &id).await?;
        }
        observer.container_created(&id, &image.name);
        observer.container_started();
        Some(StartedContainer {
            id,
            streams,
            guard,
            key: Some(key),
            warm: Some(lease),
        })
    }

    /// What a container is started from in advance of a run with this specification; `None` if none is started. The network of a run with services does
    /// not exist before the run, so the container waits on that of the appliance: one without a network could not be connected to
    /// any other.
    async fn warm_key(
        &self,
        spec: &StartSpec,
        image: &RunImage,
        container_spec: ContainerSpec,
    ) -> Option<WarmKey> {
        if self.context.config.warm == 0 {
            return None;
        }
        let network = match spec.services.is_empty() {
            true => container_spec.network,
            false => self.network.mode(true).await.ok()?,
        };
        let container_spec = ContainerSpec {
            network,
            ..container_spec
        };
        let (repo, id) = (&spec.repo, &image.details.id);
        Some(WarmKey::new(repo, id, &container_spec))
    }

    /// Moves a container to the network of its run; `None` if that fails.
    async fn move_to(&self, network: &str, key: &WarmKey, container: &str) -> Option<()> {
        let NetworkMode::Id(waited_on) = key.network() else {
            return None;
        };
        let engine = &self.context.engine;
        let moved = engine.move_container(container, waited_on, network).await;
        if let Err(error) = &moved {
            tracing::debug!(%error, "a container that was started in advance cannot be used");
        }
        moved.ok()
    }

    pub(super) async fn start(
        &self,
        spec: &StartSpec,
        image: &RunImage,
        attachments: &Attachments,
        observer: &mut dyn StartObserver,
        cancel: &CancellationToken,
    ) -> Result<StartedContainer, ExecutorError> {
        let created = self
            .create_and_start(spec, image, attachments, observer, cancel)
            .await;
        // The network or the helper was removed since it was last seen. Only the engine can know,
        // and it says so only now.
        let created = match created {
            Err(CreateError::NoNetwork(network, _)) => {
                self.network.forget(&network).await;
                self.create_and_start(spec, image, attachments, observer, cancel)
                    .await
            }
            Err(CreateError::NoHelper(_)) => {
                self.helper.forget().await;
                self.create_and_start(spec, image, attachments, observer, cancel)
                    .await
            }
            created => created,
        };
        let created = created?;
        observer.container_started();
        Ok(created)
    }

    /// Creates the container and starts it; removes it if that fails.
    async fn create_and_start(
        &self,
        spec: &StartSpec,
        image: &RunImage,
        attachments: &Attachments,
        observer: &mut dyn StartObserver,
        cancel: &CancellationToken,
    ) -> Result<StartedContainer, CreateError> {
        // Not interrupted by a cancellation, like the creation of the container below.
        self.helper.ensure(spec, &image.name).await?;
        let container_spec = or_cancelled(cancel, self.container_spec(spec, image, attachments))
            .await?
            .map_err(start_error)?;
        let id = self.create(spec, &container_spec).await?;
        let guard = CleanupGuard::of_container(&self.context, id.clone());
        observer.container_created(&id, &image.name);
        let started = or_cancelled(cancel, self.attach_and_start(&container_spec, &id)).await;
        match started.map_err(CreateError::from).and_then(|done| done) {
            Ok(streams) => Ok(StartedContainer {
                id,
                streams,
                guard,
                key: self.warm_key(spec, image, container_spec).await,
                warm: None,
            }),
            Err(error) => {
                guard.clean_up().await;
                Err(error)
            }
        }
    }

    async fn container_spec(
        &self,
        spec: &StartSpec,
        image: &RunImage,
        attachments: &Attachments,
    ) -> Result<ContainerSpec, DockerError> {
        let ResourceLimits {
            memory,
            milli_cpus,
            pids,
            network,
        } = spec.limits;
        // The engine rejects more CPUs than it has.
        let max_milli_cpus = self.context.engine.cpus().await?.saturating_mul(1000);
        // A volume is written to directly, not through the layers of the image.
        let workspace = VolumeMount {
            source: VolumeSource::Anonymous,
            target: WORKSPACE_DIR.to_owned(),
        };
        let mut volumes = vec![HelperVolume::mount(), workspace];
        volumes.extend(attachments.volumes.iter().cloned());
        let mut labels = self.context.spec_labels(spec);
        if let Some(user) = &spec.container.user {
            labels.push((USER_LABEL.to_owned(), user.clone()));
        }
        Ok(ContainerSpec {
            name: container_name(spec.run),
            image: image.name.clone(),
            // Root, so that the helper can give the workspace to the image's user, and execute the
            // commands as that user.
            user: Some("0:0".to_owned()),
            entrypoint: vec![HelperVolume::program()],
            // Commands get their environment from the helper.
            env: Vec::new(),
            workdir: Some("/".to_owned()),
            labels,
            memory,
            milli_cpus: milli_cpus.min(max_milli_cpus),
            cpu_shares: self.context.config.cpu_shares,
            pids,
            drop_capabilities: dropped_capabilities(&spec.container),
            extras: self.context.extras(&spec.container),
            volumes,
            is_helper: true,
            network: match &attachments.network {
                Some(id) => NetworkMode::Id(id.clone()),
                None => self.network.mode(network).await?,
            },
            alias: None,
        })
    }

    async fn create(
        &self,
        spec: &StartSpec,
        container_spec: &ContainerSpec,
    ) -> Result<String, CreateError> {
        let engine = &self.context.engine;
        let name = &container_spec.name;
        let mut removed_old = false;
        loop {
            // Not interrupted by a cancellation: the engine would create the container all the
            // same, and its id would be unknown.
            match engine.create_container(container_spec).await {
                Ok(id) => return Ok(id),
                Err(error) if self.network.is_missing(&container_spec.network, &error) => {
                    return Err(CreateError::NoNetwork(
                        container_spec.network.clone(),
                        error,
                    ));
                }
                Err(DockerError::Conflict { .. })
                    if !removed_old && self.context.is_container_of(name, spec.run).await =>
                {
                    removed_old = true;
                    engine.remove_container(name).await.map_err(start_error)?;
                }
                Err(
                    error @ (DockerError::TimedOut { .. } | DockerError::ConnectionLost { .. }),
                ) => {
                    // The container may have been created; its name is known.
                    let limit = engine.timeouts().removal;
                    let _ = engine.remove_container_within(name, limit).await;
                    return Err(start_error(error).into());
                }
                Err(error) if error.is_not_found() => {
                    return Err(ExecutorError::from(ImageError::Removed {
                        name: container_spec.image.clone(),
                        message: error.engine_message(),
                    })
                    .into());
                }
                Err(error) => return Err(start_error(error).into()),
            }
        }
    }

    /// Attaches to the container, so that no frame is missed, and starts it.
    async fn attach_and_start(
        &self,
        container_spec: &ContainerSpec,
        id: &str,
    ) -> Result<HelperStreams, CreateError> {
        let engine = &self.context.engine;
        let streams = engine.attach(id, true).await.map_err(start_error)?;
        match engine.start_container(id).await {
            Ok(()) => Ok(helper_streams(streams, id)),
            Err(error) if self.network.is_missing(&container_spec.network, &error) => Err(
                CreateError::NoNetwork(container_spec.network.clone(), error),
            ),
            Err(error) if HelperVolume::is_missing(&error) => Err(CreateError::NoHelper(error)),
            Err(error) => Err(start_error(error).into()),
        }
    }
}

impl From<ExecutorError> for CreateError {
    fn from(error: ExecutorError) -> Self {
        Self::Other(error)
    }
}

impl From<CreateError> for ExecutorError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::NoNetwork(_, error) | CreateError::NoHelper(error) => start_error(error),
            CreateError::Other(error) => error,
        }
    }
}

fn start_error(error: DockerError) -> ExecutorError {
    ExecutorError::from_engine("start the container", error)
}
