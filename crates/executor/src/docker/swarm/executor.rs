//! The executor of a swarm.

use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use quire_types::names::{RepoName, RunId};
use quire_types::run::ExecutorName;
use tokio_util::sync::CancellationToken;

use super::callback::CallbackServer;
use super::cleanup;
use super::config::{SwarmConfig, SwarmRegistry};
use super::engine_errors::{create_error, list_error, remove_error};
use super::helper_config::HelperConfig;
use super::job::{JobImage, JobRecipe, cache_mounts, check_limits, image_with_digest};
use super::job_starter::{JobStart, JobStarter, StartedJob};
use super::last_nodes::LastNodes;
use super::lease::NO_HELPER_AFTER;
use super::place::TakenBy;
use super::services::{ServiceStart, SwarmServices};
use super::warm_job::{WarmJob, WarmJobStarter, WarmJobs};
use crate::api::{
    Attach, Capabilities, Executor, ImageStore, StartObserver, StartSpec, SweepReport, Workspace,
};
use crate::docker::attach::DockerAttach;
use crate::docker::caches::DockerCaches;
use crate::docker::cleanup::{CleanupGuard, Creations};
use crate::docker::context::{DockerContext, WORKSPACE_DIR, or_cancelled};
use crate::docker::engine_images::{DockerImages, RunImage};
use crate::docker::executor::DockerExecutor;
use crate::docker::image::{command_env, command_user};
use crate::docker::in_use::RunLease;
use crate::engine::SwarmNode;
use crate::error::{ExecutorError, ImageError};
use crate::link::{LinkWorkspace, WorkspaceStart};
use crate::machines::{ExecutorNode, RemoteCache};

/// Executes runs on the nodes of a swarm.
pub struct SwarmExecutor {
    name: ExecutorName,
    context: DockerContext,
    starter: JobStarter,
    warm: WarmJobs,
    registry: Option<SwarmRegistry>,
    publishing: tokio::sync::Mutex<()>,
    images: DockerImages,
    caches: DockerCaches,
    attach: DockerAttach,
    /// When this process began: no helper of an earlier one outlives it for longer than its lease.
    began: Instant,
}

/// A run whose container is to be started.
struct StartingRun<'a> {
    spec: &'a StartSpec,
    /// The image as the manager's engine has it.
    image: &'a RunImage,
    recipe: JobRecipe,
    services: Option<SwarmServices>,
    creations: &'a Creations,
}

impl SwarmExecutor {
    /// On the swarm of which the other executor's engine has to be a manager. Both share what they know of the engine: what is in
    /// use there, its images and caches.
    #[must_use]
    pub fn new(docker: &DockerExecutor, config: SwarmConfig) -> Self {
        let context = docker.context.clone();
        let starter = JobStarter {
            context: context.clone(),
            callbacks: CallbackServer::new(config.callback),
            helper: HelperConfig::new(context.clone()),
            last_nodes: LastNodes::default(),
        };
        let warm = WarmJobStarter::pool(&starter);
        docker.caches.holders().add(warm.clone());
        Self {
            name: ExecutorName::SWARM,
            warm,
            starter,
            registry: config.registry,
            publishing: tokio::sync::Mutex::default(),
            images: docker.images.clone(),
            caches: docker.caches.clone(),
            attach: docker.attach.clone(),
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
        self.starter.callbacks.listen().await?;
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
            let caches = cache_mounts(&self.caches, &spec)?;
            let run = StartingRun {
                spec: &spec,
                image: &image,
                recipe: JobRecipe::new(&spec, &image, job_image, caches),
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

    /// Starts the job of a run, unless one was started in advance, and makes the workspace in its container.
    async fn start_helper(
        &self,
        run: StartingRun<'_>,
        lease: RunLease,
        observer: &mut dyn StartObserver,
        cancel: &CancellationToken,
    ) -> Result<Box<dyn Workspace>, ExecutorError> {
        let StartingRun {
            spec,
            image,
            recipe,
            services,
            creations,
        } = run;
        // Only `doctor` asks for a node, and no later run would use a job that is ready there.
        let is_ordinary = services.is_none() && spec.node.is_none();
        let may_be_warm = self.context.config.warm > 0 && is_ordinary;
        let taking = self.take_warm(spec, &recipe, may_be_warm);
        let (job, guard) = match or_cancelled(cancel, taking).await? {
            Some(WarmJob { job, guard }) => {
                observer.container_created(&job.place.service, &image.name);
                observer.container_started();
                let (warm, run) = (self.warm.clone(), spec.run);
                job.place.take(TakenBy {
                    _lease: lease,
                    forget: Box::new(move || warm.forget(run)),
                });
                (job, Some(guard))
            }
            None => {
                let start = JobStart {
                    run: spec.run,
                    recipe: &recipe,
                    services,
                    creations,
                    lease,
                    may_wait: true,
                };
                let starting = self.starter.start(start, observer).boxed();
                (or_cancelled(cancel, starting).await??, None)
            }
        };
        let StartedJob { link, place } = job;
        if let Some(node) = &place.node {
            self.starter.last_nodes.set(&spec.repo, node.clone());
        }
        let start = WorkspaceStart {
            connection: link,
            place,
            folder: WORKSPACE_DIR.to_owned(),
            user: command_user(&image.details, &spec.container),
            groups: Vec::new(),
            env: command_env(&image.details, &spec.env),
            caches: recipe
                .caches
                .iter()
                .map(|mount| mount.target.clone())
                .collect(),
        };
        let started = start.start(Some(spec.tree.checkout())).boxed();
        // The guard of a job that was taken removes it if this fails.
        let session = Arc::new(or_cancelled(cancel, started).await??);
        if let Some(guard) = guard {
            guard.disarm();
        }
        if may_be_warm {
            self.warm.fill(recipe);
        }
        self.attach.enter(spec.run, &session);
        Ok(Box::new(LinkWorkspace::new(session)))
    }

    /// Takes a job that was started in advance, if there is one that can be used.
    async fn take_warm(
        &self,
        spec: &StartSpec,
        recipe: &JobRecipe,
        may_be_warm: bool,
    ) -> Option<WarmJob> {
        if !may_be_warm {
            return None;
        }
        let warm = self.warm.take(recipe, spec.run).await?;
        if warm.job.is_usable().await {
            return Some(warm);
        }
        self.warm.forget(spec.run);
        None
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

    fn remote_cache(&self, repo: &RepoName, name: &str) -> Option<RemoteCache> {
        Some(RemoteCache {
            volume: self.caches.volume_name(repo, name),
            machine: self.starter.last_nodes.of(repo).map(|node| node.name),
        })
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
            let listing = async {
                let (nodes, tasks) = (engine.nodes(), engine.nodes_of_tasks());
                tokio::try_join!(nodes, tasks, engine.manager_node())
            };
            let (nodes, tasks, own) = listing.await.map_err(list_error)?;
            let node = |node: SwarmNode| ExecutorNode {
                is_usable: node.is_usable(),
                is_ready: node.is_ready,
                is_own: node.id == own,
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
            self.starter.callbacks.listen().await
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
            let removing = async {
                if let Some(taken) = self.warm.taken_by(run) {
                    let engine = &self.context.engine;
                    engine
                        .remove_service(&taken, engine.timeouts().removal)
                        .await?;
                    self.warm.forget(run);
                }
                cleanup::remove_run(&self.context, run).await
            };
            let removed = removing.await;
            removed.map_err(remove_error)
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

    fn expect_run(&self, repo: &RepoName) {
        self.warm.expect(repo);
    }

    fn release_idle(&self) -> BoxFuture<'_, ()> {
        self.warm.release_all().boxed()
    }

    fn shut_down(&self) -> BoxFuture<'_, ()> {
        self.warm.close().boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::config::DockerConfig;
    use crate::images::{ImageRemoval, OwnedImage};

    #[tokio::test]
    async fn what_one_executor_uses_the_other_does_not_remove() {
        // Nothing of this asks the engine.
        let docker = DockerExecutor::new(DockerConfig::new("unix:///nonexistent", "test"));
        let config = SwarmConfig {
            registry: None,
            callback: None,
        };
        let swarm = SwarmExecutor::new(&docker, config);
        let image = OwnedImage::Pulled {
            name: "debian:13".to_owned(),
            id: "1".to_owned(),
        };
        let lease = docker.context.in_use.lease(RunId::new());
        lease.take("debian:13").await;
        let removed = swarm.images.remove(&image).await.unwrap();
        assert_eq!(removed, ImageRemoval::InUse);
        drop(lease);
        let _build = swarm.context.in_use.begin_build().await;
        let removed = docker.images.remove(&image).await.unwrap();
        assert_eq!(removed, ImageRemoval::InUse);
    }
}
