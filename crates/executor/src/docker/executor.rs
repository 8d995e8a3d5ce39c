//! The Docker executor: its parts, and the order of a start.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use quire_types::names::{RepoName, RunId};
use quire_types::run::ExecutorName;
use tokio_util::sync::CancellationToken;

use super::attach::DockerAttach;
use super::caches::DockerCaches;
use super::cleanup::{self, CleanupGuard, Creations};
use super::config::DockerConfig;
use super::container::{Attachments, ContainerStarter, StartedContainer};
use super::context::{DockerContext, WORKSPACE_DIR, or_cancelled};
use super::engine_images::{DockerImages, RunImage};
use super::image::{command_env, command_user};
use super::in_use::RunLease;
use super::network::ApplianceNetwork;
use super::place::DockerPlace;
use super::services::{ServiceStarter, Services};
use super::warm_container::{WarmContainerStarter, WarmContainers};
use crate::api::{
    Attach, CacheStore, Capabilities, Executor, ImageStore, StartObserver, StartSpec, SweepReport,
    Workspace,
};
use crate::error::ExecutorError;
use crate::link::{HelperLink, LinkWorkspace, WorkspaceStart};

/// Executes runs in containers. Cheap to clone.
#[derive(Clone)]
pub struct DockerExecutor {
    name: ExecutorName,
    pub(super) context: DockerContext,
    network: ApplianceNetwork,
    pub(super) images: DockerImages,
    pub(super) caches: DockerCaches,
    containers: ContainerStarter,
    services: ServiceStarter,
    pub(super) attach: DockerAttach,
    warm: WarmContainers,
}

impl DockerExecutor {
    /// An executor on the engine of the configuration; does not connect yet.
    #[must_use]
    pub fn new(config: DockerConfig) -> Self {
        let context = DockerContext::new(config);
        let network = ApplianceNetwork::new(context.clone());
        let images = DockerImages::new(context.clone());
        let warm = WarmContainerStarter::pool(&context);
        Self {
            name: ExecutorName::DOCKER,
            caches: DockerCaches::new(context.clone(), warm.clone()),
            containers: ContainerStarter::new(context.clone(), network.clone(), warm.clone()),
            services: ServiceStarter::new(context.clone(), images.clone()),
            attach: DockerAttach::new(context.clone(), warm.clone()),
            warm,
            context,
            network,
            images,
        }
    }

    async fn start(
        &self,
        spec: StartSpec,
        observer: &mut dyn StartObserver,
        cancel: CancellationToken,
    ) -> Result<Box<dyn Workspace>, ExecutorError> {
        let lease = self.context.in_use.lease(spec.run);
        let image = or_cancelled(&cancel, self.images.provide(&spec, observer, &lease)).await??;
        let mounts = self.caches.mounts(&spec.repo, &spec.caches, &lease);
        let volumes = or_cancelled(&cancel, mounts).await??;
        if spec.services.is_empty() {
            let attachments = Attachments {
                volumes,
                network: None,
            };
            let parts = (attachments, None, lease);
            return self
                .start_helper(&spec, &image, parts, observer, &cancel)
                .await;
        }
        let creations = Creations::default();
        let guard = CleanupGuard::of_run(&self.context, spec.run, &creations);
        let starting = async {
            let network = self.services.create_network(&spec, &creations);
            let network = or_cancelled(&cancel, network).await??;
            let services = self
                .services
                .start(&spec, &network, observer, &lease, &creations);
            let services = or_cancelled(&cancel, services).await??;
            let attachments = Attachments {
                volumes,
                network: Some(network),
            };
            let parts = (attachments, Some(services), lease);
            self.start_helper(&spec, &image, parts, observer, &cancel)
                .await
        };
        match starting.await {
            Ok(workspace) => {
                guard.disarm();
                Ok(workspace)
            }
            Err(error) => {
                guard.clean_up().await;
                Err(error)
            }
        }
    }

    /// Starts the container of the run, and makes the workspace in it.
    async fn start_helper(
        &self,
        spec: &StartSpec,
        image: &RunImage,
        (attachments, services, lease): (Attachments, Option<Services>, RunLease),
        observer: &mut dyn StartObserver,
        cancel: &CancellationToken,
    ) -> Result<Box<dyn Workspace>, ExecutorError> {
        let taking = self
            .containers
            .take_warm(spec, image, &attachments, observer);
        let container = match or_cancelled(cancel, taking).await? {
            Some(warm) => warm,
            None => {
                self.containers
                    .start(spec, image, &attachments, observer, cancel)
                    .await?
            }
        };
        let key = container.key.clone();
        let StartedContainer {
            id,
            streams,
            guard,
            warm,
            ..
        } = container;
        let place = Arc::new(DockerPlace {
            context: self.context.clone(),
            run: spec.run,
            container: id,
            memory: spec.limits.memory,
            services,
            _leases: std::iter::once(lease).chain(warm).collect(),
            warm: self.warm.clone(),
        });
        let idle = self.context.engine.timeouts().stream_idle;
        let start = WorkspaceStart {
            connection: HelperLink::new(streams, place.clone(), idle),
            place,
            folder: WORKSPACE_DIR.to_owned(),
            user: command_user(&image.details, &spec.container),
            groups: self.context.extra_groups(&spec.container),
            env: command_env(&image.details, &spec.env),
            caches: attachments
                .volumes
                .iter()
                .map(|mount| mount.target.clone())
                .collect(),
        };
        match or_cancelled(cancel, start.start(Some(spec.tree.checkout()))).await {
            Ok(Ok(session)) => {
                guard.disarm();
                if let Some(key) = key {
                    self.warm.fill(key);
                }
                let session = Arc::new(session);
                self.attach.enter(spec.run, &session);
                Ok(Box::new(LinkWorkspace::new(session)))
            }
            Ok(Err(error)) | Err(error) => {
                guard.clean_up().await;
                Err(error)
            }
        }
    }
}

impl Executor for DockerExecutor {
    fn name(&self) -> &ExecutorName {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            isolated: true,
            keeps_failed_workspaces: true,
            workspace_on_disk: false,
        }
    }

    fn caches(&self) -> Option<&dyn CacheStore> {
        Some(&self.caches)
    }

    fn images(&self) -> Option<&dyn ImageStore> {
        Some(&self.images)
    }

    fn attach(&self) -> Option<&dyn Attach> {
        Some(&self.attach)
    }

    fn expect_run(&self, repo: &RepoName) {
        self.warm.expect(repo);
    }

    fn release_idle(&self) -> BoxFuture<'_, ()> {
        self.warm.release_all().boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        async {
            let pinged = self.context.engine.ping().await;
            pinged.map_err(ExecutorError::Unavailable)
        }
        .boxed()
    }

    fn start_workspace<'a>(
        &'a self,
        spec: StartSpec,
        observer: &'a mut dyn StartObserver,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Box<dyn Workspace>, ExecutorError>> {
        self.start(spec, observer, cancel).boxed()
    }

    fn destroy_run(&self, run: RunId) -> BoxFuture<'_, Result<(), ExecutorError>> {
        async move {
            let engine = &self.context.engine;
            let removing = async {
                if let Some(taken) = self.warm.taken_by(run) {
                    engine.remove_container(&taken).await?;
                    self.warm.forget(run);
                }
                cleanup::remove_run(&self.context, run).await
            };
            let removed = removing.await;
            removed.map_err(|error| ExecutorError::from_engine("remove the container", error))
        }
        .boxed()
    }

    fn sweep<'a>(
        &'a self,
        active: &'a [RunId],
    ) -> BoxFuture<'a, Result<SweepReport, ExecutorError>> {
        cleanup::sweep(&self.context, active).boxed()
    }

    fn shut_down(&self) -> BoxFuture<'_, ()> {
        async {
            self.warm.close().await;
            self.network.remove_for_shutdown().await;
        }
        .boxed()
    }
}
