//! The executor of a swarm.

use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use quire_types::names::{RepoName, RunId};
use quire_types::run::ExecutorName;
use tokio_util::sync::CancellationToken;

use super::callback::{Callback, CallbackServer};
use super::channel_stream::HelperConnection;
use super::cleanup;
use super::config::{SwarmConfig, SwarmRegistry};
use super::helper_config::HelperConfig;
use super::job::{
    JobImage, JobParts, Placement, cache_mounts, check_limits, image_with_digest, job_spec,
};
use super::last_nodes::LastNodes;
use super::lease::{HelperContact, LEASE, NO_HELPER_AFTER, PING_INTERVAL};
use super::place::SwarmPlace;
use super::services::{ServiceStart, SwarmServices};
use super::start::{PendingEnd, PendingTask};
use crate::api::{
    Attach, Capabilities, Executor, ExecutorNode, ImageStore, StartObserver, StartSpec,
    SweepReport, Workspace,
};
use crate::docker::attach::DockerAttach;
use crate::docker::caches::DockerCaches;
use crate::docker::cleanup::{CleanupGuard, Creations};
use crate::docker::context::{DockerContext, WORKSPACE_DIR, or_cancelled};
use crate::docker::engine_images::{DockerImages, RunImage};
use crate::docker::image::{command_env, command_user};
use crate::docker::in_use::RunLease;
use crate::docker::warm_pool::WarmPool;
use crate::engine::{DockerError, JobSpec, SwarmNode, VolumeMount};
use crate::error::{ExecutorError, ImageError};
use crate::link::{HelperLink, LinkWorkspace, WorkspaceStart};

/// Executes runs on the nodes of a swarm.
pub struct SwarmExecutor {
    name: ExecutorName,
    context: DockerContext,
    callbacks: CallbackServer,
    registry: Option<SwarmRegistry>,
    publishing: tokio::sync::Mutex<()>,
    images: DockerImages,
    caches: DockerCaches,
    helper: HelperConfig,
    attach: DockerAttach,
    last_nodes: LastNodes,
    /// When this process began: no helper of an earlier one outlives it for longer than its lease.
    began: Instant,
}

/// A run whose container is to be started.
struct StartingRun<'a> {
    spec: &'a StartSpec,
    /// The image as the manager's engine has it.
    image: &'a RunImage,
    job_image: &'a JobImage,
    caches: Vec<VolumeMount>,
    services: Option<SwarmServices>,
    creations: &'a Creations,
}

impl SwarmExecutor {
    #[must_use]
    pub fn new(config: SwarmConfig) -> Self {
        let context = DockerContext::new(config.docker);
        let warm = WarmPool::new(context.clone());
        Self {
            name: ExecutorName::SWARM,
            callbacks: CallbackServer::new(config.callback),
            registry: config.registry,
            publishing: tokio::sync::Mutex::default(),
            images: DockerImages::new(context.clone()),
            caches: DockerCaches::new(context.clone(), warm.clone()),
            helper: HelperConfig::new(context.clone()),
            attach: DockerAttach::new(context.clone(), warm),
            last_nodes: LastNodes::default(),
            began: Instant::now(),
            context,
        }
    }

    async fn start(
        &self,
        spec: StartSpec,
        observer: &mut dyn StartObserver,
        cancel: CancellationToken,
    ) -> Result<Box<dyn Workspace>, ExecutorError> {
        check_limits(&spec, self.registry.is_some())?;
        self.callbacks.listen().await?;
        let lease = self.context.in_use.lease(spec.run);
        let image = or_cancelled(&cancel, self.images.provide(&spec, observer, &lease)).await??;
        let known = self.job_image(&spec.repo, &image, observer).boxed();
        let job_image = or_cancelled(&cancel, known).await??;
        let creations = Creations::default();
        let guard = CleanupGuard::of_swarm_run(&self.context, spec.run, &creations);
        let starting = async {
            // Boxed, like the other large parts of a start: together they would not fit into the stack of a thread.
            let starting = self.start_services(&spec, &lease, observer, &creations);
            let starting = starting.boxed();
            let services = or_cancelled(&cancel, starting).await??;
            let run = StartingRun {
                spec: &spec,
                image: &image,
                job_image: &job_image,
                caches: cache_mounts(&self.caches, &spec)?,
                services,
                creations: &creations,
            };
            let starting = self.start_helper(run, lease, observer, &cancel);
            starting.boxed().await
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

    /// Starts the services of a run, if it has any.
    async fn start_services(
        &self,
        spec: &StartSpec,
        lease: &RunLease,
        observer: &mut dyn StartObserver,
        creations: &Creations,
    ) -> Result<Option<SwarmServices>, ExecutorError> {
        if spec.services.is_empty() {
            return Ok(None);
        }
        let mut images = Vec::new();
        for service in &spec.services {
            let of_service = |error| match error {
                ExecutorError::Image(error) => ImageError::of_service(&service.name, error).into(),
                error => error,
            };
            let image = self
                .images
                .ensure_image(&service.image, spec.rebuild, observer, lease)
                .await
                .map_err(of_service)?;
            let known = self.job_image(&spec.repo, &image, observer).await;
            images.push(known.map_err(of_service)?);
        }
        let nodes = self.context.engine.nodes().await.map_err(list_error)?;
        let start = ServiceStart {
            context: &self.context,
            spec,
            images,
            creations,
            max_milli_cpus: nodes.iter().map(|node| node.milli_cpus).min(),
        };
        start.start(observer).await.map(Some)
    }

    /// Creates the service of a run, and makes the workspace in its container.
    async fn start_helper(
        &self,
        run: StartingRun<'_>,
        lease: RunLease,
        observer: &mut dyn StartObserver,
        cancel: &CancellationToken,
    ) -> Result<Box<dyn Workspace>, ExecutorError> {
        let connecting = self.connect(&run, observer).boxed();
        let (service, connection) = or_cancelled(cancel, connecting).await??;
        observer.container_started();
        let entering = self.enter_node(&run.spec.repo, &service);
        let node = or_cancelled(cancel, entering).await?;
        let (spec, tree) = (run.spec, run.spec.tree.checkout());
        let start = self.workspace_start(run, service, connection, node, lease);
        let session = or_cancelled(cancel, start.start(Some(tree))).await??;
        let session = Arc::new(session);
        self.attach.enter(spec.run, &session);
        Ok(Box::new(LinkWorkspace::new(session)))
    }

    /// Creates services of a run until the helper of one has connected: more than one only if the node of the repository's caches
    /// was chosen and then went away. Returns the id of the service.
    async fn connect(
        &self,
        run: &StartingRun<'_>,
        observer: &mut dyn StartObserver,
    ) -> Result<(String, HelperConnection), ExecutorError> {
        let callback_address = self.callbacks.address()?.to_string();
        loop {
            let mut callback = self.callbacks.expect()?;
            let placement = self.placement(run).await?;
            let service = self.create(run, &callback, &placement).await?;
            observer.container_created(&service, &run.image.name);
            let pending = PendingTask {
                context: &self.context,
                service: &service,
                callback: &callback_address,
                placement: &placement,
            };
            match pending.connection(&mut callback, observer).await? {
                PendingEnd::Connected(connection) => return Ok((service, connection)),
                PendingEnd::PreferenceLost => {
                    // A helper that the node starts all the same has a token of no use.
                    drop(callback);
                    self.last_nodes.forget(&run.spec.repo);
                    let limit = self.context.engine.timeouts().removal;
                    let removed = self.context.engine.remove_service(&service, limit).await;
                    removed
                        .map_err(|error| ExecutorError::from_engine("remove the service", error))?;
                }
            }
        }
    }

    /// An image as nodes know it, pushed to the registry if only the manager's engine has it.
    async fn job_image(
        &self,
        repo: &RepoName,
        image: &RunImage,
        observer: &mut dyn StartObserver,
    ) -> Result<JobImage, ExecutorError> {
        if let Some(reference) = image_with_digest(image) {
            return Ok(JobImage {
                reference: reference.to_string(),
                node: None,
                login: match &self.registry {
                    Some(registry) => registry.login_for(&reference).await?,
                    None => None,
                },
            });
        }
        if let Some(registry) = &self.registry {
            // Of two that push the same image, the second finds it.
            let _publishing = self.publishing.lock().await;
            return registry.publish(&self.context, repo, image, observer).await;
        }
        let manager = self.context.engine.manager_node().await;
        Ok(JobImage {
            reference: image.details.id.clone(),
            node: Some(manager.map_err(create_error)?),
            login: None,
        })
    }

    /// Creates the service of a run, and returns its id.
    async fn create(
        &self,
        run: &StartingRun<'_>,
        callback: &Callback,
        placement: &Placement,
    ) -> Result<String, ExecutorError> {
        let spec = run.spec;
        let addresses = self.callbacks.resolve().await?;
        let parts = JobParts {
            image: run.job_image,
            caches: run.caches.clone(),
            helper: self.helper.ensure().await.map_err(create_error)?,
            callback: &addresses,
            token: &callback.token,
            placement,
            network: run.services.as_ref().map(SwarmServices::network),
            hosts: run
                .services
                .as_ref()
                .map_or_else(Vec::new, |services| services.hosts.clone()),
        };
        let mut job = job_spec(&self.context, spec, parts);
        match self.create_job(run.creations, job.clone()).await {
            // The swarm does not have the helper any more. Only it can know, and it says so only now.
            Err(error) if error.is_missing_config() => {
                self.helper.forget().await;
                job.program = Some(self.helper.ensure().await.map_err(create_error)?);
                let created = self.create_job(run.creations, job).await;
                created.map_err(create_error)
            }
            created => created.map_err(create_error),
        }
    }

    async fn create_job(&self, creations: &Creations, job: JobSpec) -> Result<String, DockerError> {
        let engine = self.context.engine.clone();
        creations
            .run(async move { engine.create_job(&job).await })
            .await
    }

    /// Where the run may be executed: on the node that was asked for or is the only one that can have the image; otherwise on
    /// the one that has the caches of the repository, if it can take a task now; otherwise on any.
    async fn placement(&self, run: &StartingRun<'_>) -> Result<Placement, ExecutorError> {
        let (spec, image) = (run.spec, run.job_image);
        let nodes = self.context.engine.nodes().await.map_err(list_error)?;
        if let (Some(asked), Some(only)) = (&spec.node, &image.node)
            && asked != only
        {
            let node = nodes.iter().find(|node| node.id == *asked);
            return Err(ImageError::NotOnNode {
                name: run.image.name.clone(),
                node: node.map_or_else(|| asked.clone(), |node| node.name.clone()),
            }
            .into());
        }
        let required = image.node.clone().or_else(|| spec.node.clone());
        let is_usable = |id: &String| nodes.iter().any(|node| node.id == *id && node.is_usable());
        let last = self.last_nodes.of(&spec.repo).filter(is_usable);
        // Nothing but caches makes one node better than another.
        let preferred = last.filter(|_| required.is_none() && !spec.caches.is_empty());
        let is_preference = preferred.is_some();
        let node = required.or(preferred);
        let candidates = nodes.iter().filter(|candidate| match &node {
            Some(id) => candidate.id == *id,
            // One that is down may have come back by the time that it is chosen.
            None => candidate.is_active || !nodes.iter().any(|node| node.is_active),
        });
        Ok(Placement {
            max_milli_cpus: candidates.map(|node| node.milli_cpus).min(),
            node,
            is_preference,
        })
    }

    /// Remembers the node of a task, and returns its name.
    async fn enter_node(&self, repo: &RepoName, service: &str) -> String {
        let task = self.context.engine.task_of(service).await;
        let Ok(Some(task)) = task else {
            return "of the run".to_owned();
        };
        let name = self.context.engine.node_name(&task.node).await;
        self.last_nodes.set(repo, task.node);
        name
    }

    fn workspace_start(
        &self,
        run: StartingRun<'_>,
        service: String,
        connection: HelperConnection,
        node: String,
        lease: RunLease,
    ) -> WorkspaceStart {
        let StartingRun { spec, image, .. } = run;
        let contact = Arc::new(HelperContact::new());
        let place = Arc::new(SwarmPlace {
            context: self.context.clone(),
            run: spec.run,
            repo: spec.repo.clone(),
            last_nodes: self.last_nodes.clone(),
            service,
            services: run.services,
            node,
            memory: spec.limits.memory,
            contact: Arc::clone(&contact),
            _lease: lease,
        });
        let streams = connection.into_streams(contact);
        let link = HelperLink::new(streams, place.clone(), PING_INTERVAL);
        link.keep_alive(PING_INTERVAL, LEASE);
        WorkspaceStart {
            connection: link,
            place,
            folder: WORKSPACE_DIR.to_owned(),
            user: command_user(&image.details, &spec.container),
            groups: Vec::new(),
            env: command_env(&image.details, &spec.env),
            caches: run.caches.into_iter().map(|mount| mount.target).collect(),
        }
    }
}

fn create_error(error: DockerError) -> ExecutorError {
    ExecutorError::from_engine("create the service", error)
}

fn list_error(error: DockerError) -> ExecutorError {
    ExecutorError::from_engine("list the nodes of the swarm", error)
}

impl Executor for SwarmExecutor {
    fn name(&self) -> &ExecutorName {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            isolated: true,
            keeps_failed_workspaces: false,
            workspace_on_disk: false,
        }
    }

    fn images(&self) -> Option<&dyn ImageStore> {
        Some(&self.images)
    }

    fn attach(&self) -> Option<&dyn Attach> {
        Some(&self.attach)
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<ExecutorNode>, ExecutorError>> {
        async {
            let engine = &self.context.engine;
            let listing = async { tokio::try_join!(engine.nodes(), engine.nodes_of_tasks()) };
            let listed = listing.await;
            let (nodes, tasks) = listed.map_err(list_error)?;
            let node = |node: SwarmNode| ExecutorNode {
                is_usable: node.is_usable(),
                is_ready: node.is_ready,
                tasks: tasks.iter().filter(|id| **id == node.id).count(),
                id: node.id,
                name: node.name,
                state: node.state,
                milli_cpus: node.milli_cpus,
                memory: node.memory,
                engine: node.engine,
            };
            Ok(nodes.into_iter().map(node).collect())
        }
        .boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        async {
            let manager = self.context.engine.manager_node().await;
            manager.map_err(|error| ExecutorError::from_engine("read the swarm's state", error))?;
            self.callbacks.listen().await
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
            let removed = cleanup::remove_run(&self.context, run).await;
            removed.map_err(|error| ExecutorError::from_engine("remove the service", error))
        }
        .boxed()
    }

    fn sweep<'a>(
        &'a self,
        active: &'a [RunId],
    ) -> BoxFuture<'a, Result<SweepReport, ExecutorError>> {
        let may_be_alive = self.began.elapsed() <= NO_HELPER_AFTER;
        cleanup::sweep(&self.context, active, may_be_alive).boxed()
    }
}
