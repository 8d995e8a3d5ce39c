//! Containers that are started in advance.

use quire_types::names::{RepoName, RunId};

use super::cleanup::CleanupGuard;
use super::context::{DockerContext, container_name};
use super::helper_streams::helper_streams;
use super::in_use::RunLease;
use super::warm_pool::{WarmPool, WarmStartKey, WarmStarter};
use crate::engine::{ContainerSpec, DockerError, NetworkMode, VolumeSource};
use crate::error::ExecutorError;
use crate::link::HelperStreams;

/// The containers that wait for runs.
pub(super) type WarmContainers = WarmPool<WarmContainerStarter>;

pub(super) struct WarmContainerStarter(DockerContext);

/// What a container must be started from so that a run can use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WarmKey {
    repo: RepoName,
    /// The id of the image. Its name may mean another image since.
    image: String,
    /// Without what differs from run to run.
    spec: ContainerSpec,
}

/// A started container that no run has used.
pub(super) struct WarmContainer {
    pub(super) id: String,
    pub(super) streams: HelperStreams,
    pub(super) guard: CleanupGuard,
    pub(super) lease: RunLease,
}

impl WarmKey {
    pub(super) fn new(repo: &RepoName, image: &str, spec: &ContainerSpec) -> Self {
        Self {
            repo: repo.clone(),
            image: image.to_owned(),
            spec: ContainerSpec {
                name: String::new(),
                labels: Vec::new(),
                ..spec.clone()
            },
        }
    }

    /// The network on which the container waits.
    pub(super) fn network(&self) -> &NetworkMode {
        &self.spec.network
    }
}

impl WarmStartKey for WarmKey {
    fn repo(&self) -> &RepoName {
        &self.repo
    }

    fn is_outdated_by(&self, newer: &Self) -> bool {
        let is_same_name = self.spec.image == newer.spec.image;
        self.repo == newer.repo && is_same_name && self.image != newer.image
    }

    fn uses_volume(&self, volume: &str) -> bool {
        let mut mounts = self.spec.volumes.iter();
        mounts.any(|mount| matches!(&mount.source, VolumeSource::Named(name) if name == volume))
    }
}

impl WarmContainerStarter {
    /// The pool of an executor.
    pub(super) fn pool(context: &DockerContext) -> WarmContainers {
        WarmPool::new(Self(context.clone()), context.config.warm)
    }

    async fn start_container(
        &self,
        key: &WarmKey,
        own: RunId,
    ) -> Result<WarmContainer, DockerError> {
        let Self(context) = self;
        let engine = &context.engine;
        let lease = context.in_use.lease(own);
        lease.take(&key.spec.image).await;
        for mount in &key.spec.volumes {
            if let VolumeSource::Named(volume) = &mount.source {
                lease.take(volume).await;
            }
        }
        let spec = ContainerSpec {
            name: container_name(own),
            // The key holds for the image itself; its name may lead to another one by now.
            image: key.image.clone(),
            labels: context.labels_of(own, &key.repo),
            ..key.spec.clone()
        };
        let id = engine.create_container(&spec).await?;
        let guard = CleanupGuard::of_container(context, id.clone());
        let streams = engine.attach(&id, true).await?;
        engine.start_container(&id).await?;
        Ok(WarmContainer {
            streams: helper_streams(streams, &id),
            id,
            guard,
            lease,
        })
    }
}

impl WarmStarter for WarmContainerStarter {
    type Key = WarmKey;
    type Started = WarmContainer;

    async fn start(&self, key: &WarmKey, own: RunId) -> Result<WarmContainer, ExecutorError> {
        let started = self.start_container(key, own).await;
        started.map_err(|error| ExecutorError::from_engine("start the container", error))
    }

    fn id(started: &WarmContainer) -> &str {
        &started.id
    }

    async fn remove(started: WarmContainer) {
        // The connection is closed first, which ends the container.
        drop(started.streams);
        started.guard.clean_up().await;
        drop(started.lease);
    }
}
