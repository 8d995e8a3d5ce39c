//! Runs in containers: one container a run, one exec a command, the tree sent in as an archive.
//!
//! Invariants: everything made on the engine carries the instance's label, and only what carries
//! it is ever removed. The container's id is told to the observer before it starts. A `start` that
//! fails, is cancelled or is dropped removes its container as well as it can; that it is gone is
//! what `clear` confirms.
//!
//! The network is one bridge per appliance, made when first needed, on which containers reach the
//! world but not each other. A bridge per run would keep them apart no better, and costs more
//! than half as much again as the container's start, and one of the engine's few address ranges.

mod aside;
mod attach;
mod caches;
mod ending;
mod files;
mod hold;
mod image;
mod network;
mod output;
mod recipe;
mod removal;
mod services;
mod workspace;

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::{
    Attached, CacheInfo, Executor, ExecutorError, ImageFate, Images, OwnImage, ResourceLimits,
    StartObserver, StartSpec, Swept, Workspace,
};
use crate::docker::{Attachment, ContainerSpec, DockerError, Engine, Labels, Timings, VolumeMount};
use crate::names::{RepoName, RunId};
use crate::run::ExecutorKind;
use aside::NotGiven;
use hold::{Hold, Live};
use image::Image;
use services::Services;
use workspace::DockerWorkspace;

/// The label with the appliance's id.
const INSTANCE: &str = "io.quire.instance";
/// The label with the run's id.
const RUN: &str = "io.quire.run";
/// The label with the repository's name.
const REPO: &str = "io.quire.repo";

/// The workspace in every container.
const FOLDER: &str = crate::pipeline::WORKSPACE;

/// Taken away from the engine's default capabilities: raw sockets, device files, the audit log, and giving capabilities on.
const DROPPED: [&str; 4] = ["NET_RAW", "MKNOD", "AUDIT_WRITE", "SETPCAP"];

/// What the Docker executor needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerConfig {
    /// The engine, such as `unix:///var/run/docker.sock`.
    pub endpoint: String,
    /// The appliance's id: letters, digits and dashes.
    pub instance: String,
    /// A network of the engine's to put runs on, such as `bridge`; none for the appliance's own,
    /// on which runs do not reach each other.
    pub network: Option<String>,
    /// CPU weight of runs and image builds; a neighbour has 1024.
    pub cpu_shares: u32,
    /// Time limits of the engine's answers.
    pub timings: Timings,
}

impl DockerConfig {
    /// The usual settings.
    #[must_use]
    pub fn new(endpoint: &str, instance: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            instance: instance.to_owned(),
            network: None,
            cpu_shares: 256,
            timings: Timings::default(),
        }
    }
}

/// Executes runs in containers. Cheap to clone.
#[derive(Clone)]
pub struct DockerExecutor {
    engine: Engine,
    config: Arc<DockerConfig>,
    live: Live,
    /// The id of the appliance's own network, once known. Held while it is looked for or made.
    network: Arc<tokio::sync::Mutex<Option<String>>>,
}

/// How a run's container is called.
fn container_name(run: RunId) -> String {
    format!("quire-{run}")
}

impl DockerExecutor {
    /// An executor on the engine that the configuration names; does not connect yet.
    #[must_use]
    pub fn new(config: DockerConfig) -> Self {
        let engine = Engine::new(&config.endpoint, config.timings.clone());
        Self {
            engine,
            config: Arc::new(config),
            live: Live::default(),
            network: Arc::default(),
        }
    }

    fn instance_labels(&self) -> Labels {
        vec![(INSTANCE.to_owned(), self.config.instance.clone())]
    }

    fn labels(&self, spec: &StartSpec) -> Labels {
        let mut labels = self.instance_labels();
        labels.push((RUN.to_owned(), spec.run.to_string()));
        labels.push((REPO.to_owned(), spec.repo.to_string()));
        labels
    }

    async fn container_spec(
        &self,
        spec: &StartSpec,
        image: &Image,
        beside: &Beside,
    ) -> Result<ContainerSpec, DockerError> {
        let ResourceLimits {
            memory,
            milli_cpus,
            pids,
            network,
        } = spec.limits;
        // The engine refuses more CPUs than it has.
        let most = self.engine.cpus().await?.saturating_mul(1000);
        Ok(ContainerSpec {
            name: container_name(spec.run),
            image: image.name.clone(),
            // Root, so that the workspace can be given to the image's user; that one then runs the commands.
            user: image.user.as_ref().map(|_| "0".to_owned()),
            // Keeps the container alive. Sleep alone: an image needs no shell for commands that need none.
            entrypoint: vec!["sleep".to_owned(), "2147483647".to_owned()],
            env: spec
                .env
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            folder: Some(FOLDER.to_owned()),
            labels: self.labels(spec),
            memory,
            milli_cpus: milli_cpus.min(most),
            cpu_shares: self.config.cpu_shares,
            pids,
            drop_capabilities: DROPPED.map(str::to_owned).to_vec(),
            volumes: beside.volumes.clone(),
            network: match &beside.network {
                Some(id) => Attachment::Id(id.clone()),
                None => self.attachment(network).await?,
            },
            alias: None,
        })
    }

    async fn start(
        &self,
        spec: StartSpec,
        observer: &mut dyn StartObserver,
        cancel: CancellationToken,
    ) -> Result<Box<dyn Workspace>, ExecutorError> {
        let hold = self.live.hold(spec.run);
        let image = until(&cancel, self.image_for(&spec, observer, &hold)).await??;
        let volumes = until(&cancel, self.cache_mounts(&spec.repo, &spec.caches, &hold)).await??;
        if spec.services.is_empty() {
            let beside = Beside {
                volumes,
                network: None,
            };
            return self
                .start_container(&spec, image, &beside, observer, &cancel)
                .await
                .map(|made| made.workspace(None, hold));
        }
        let crew = self.crew(spec.run);
        let started = async {
            let network = until(&cancel, self.services_network(&spec)).await??;
            let services = until(
                &cancel,
                self.start_services(&spec, &network, observer, &hold),
            )
            .await??;
            let beside = Beside {
                volumes,
                network: Some(network),
            };
            Ok((
                self.start_container(&spec, image, &beside, observer, &cancel)
                    .await?,
                services,
            ))
        };
        match started.await {
            Ok((made, services)) => {
                crew.keep();
                Ok(made.workspace(Some(services), hold))
            }
            Err(error) => {
                crew.clear().await;
                Err(error)
            }
        }
    }

    async fn start_container(
        &self,
        spec: &StartSpec,
        image: Image,
        beside: &Beside,
        observer: &mut dyn StartObserver,
        cancel: &CancellationToken,
    ) -> Result<Made, ExecutorError> {
        let container = match self.make(spec, &image, beside, observer, cancel).await {
            // The network was removed since it was last seen: only the engine can know, and only now.
            Err(Failed::Network(attachment, _)) => {
                self.forget_network(&attachment).await;
                self.make(spec, &image, beside, observer, cancel).await?
            }
            made => made?,
        };
        observer.container_started();
        let (engine, instance, memory) = (
            self.engine.clone(),
            self.config.instance.clone(),
            spec.limits.memory,
        );
        Ok(Made {
            engine,
            instance,
            run: spec.run,
            container,
            user: image.user,
            memory,
        })
    }

    /// Makes the run's container and starts it; where that fails, removes it.
    async fn make(
        &self,
        spec: &StartSpec,
        image: &Image,
        beside: &Beside,
        observer: &mut dyn StartObserver,
        cancel: &CancellationToken,
    ) -> Result<String, Failed> {
        let wanted = until(cancel, self.container_spec(spec, image, beside))
            .await?
            .map_err(start_fault)?;
        let container = self.create(spec, &wanted).await?;
        let guard = Remains {
            engine: self.engine.clone(),
            container: Some(container.clone()),
        };
        observer.container_created(&container, &image.name);
        let ready = until(cancel, self.bring_up(spec, image, &wanted, &container)).await;
        if let Err(error) = ready.map_err(Failed::from).and_then(|done| done) {
            guard.clear().await;
            return Err(error);
        }
        guard.keep();
        Ok(container)
    }

    async fn create(&self, spec: &StartSpec, wanted: &ContainerSpec) -> Result<String, Failed> {
        let mut cleared = false;
        loop {
            // Not cut by a cancel: the engine would make the container all the same, and nobody would know its id.
            match self.engine.create_container(wanted).await {
                Ok(id) => return Ok(id),
                Err(error) if self.lacks_network(&wanted.network, &error) => {
                    return Err(Failed::Network(wanted.network.clone(), error));
                }
                Err(DockerError::Conflict { .. })
                    if !cleared && self.is_own(&wanted.name, spec.run).await =>
                {
                    cleared = true;
                    self.engine
                        .remove_container(&wanted.name)
                        .await
                        .map_err(start_fault)?;
                }
                Err(error @ (DockerError::TimedOut { .. } | DockerError::Lost { .. })) => {
                    // It may have come into being; the name is known.
                    let _ = self
                        .engine
                        .remove_container_within(&wanted.name, self.engine.timings().removal)
                        .await;
                    return Err(start_fault(error).into());
                }
                Err(error) if error.is_not_found() => {
                    return Err(ExecutorError::Image(error.words()).into());
                }
                Err(error) => return Err(start_fault(error).into()),
            }
        }
    }

    /// Whether a container of this name is what an earlier attempt at the same run left.
    async fn is_own(&self, name: &str, run: RunId) -> bool {
        let has = |labels: &Labels, key: &str, value: &str| {
            labels.iter().any(|(k, v)| k == key && v == value)
        };
        matches!(self.engine.container(name).await, Ok(Some(state))
            if has(&state.labels, INSTANCE, &self.config.instance) && has(&state.labels, RUN, &run.to_string()))
    }

    /// Sends the tree in and starts the container. The engine works on one container one call at
    /// a time, so doing both at once wins nothing.
    async fn bring_up(
        &self,
        spec: &StartSpec,
        image: &Image,
        wanted: &ContainerSpec,
        container: &str,
    ) -> Result<(), Failed> {
        self.engine
            .upload(container, FOLDER, spec.tree.archive())
            .await
            .map_err(start_fault)?;
        match self.engine.start_container(container).await {
            Err(error) if self.lacks_network(&wanted.network, &error) => {
                return Err(Failed::Network(wanted.network.clone(), error));
            }
            other => other.map_err(start_fault)?,
        }
        let Some(user) = &image.user else {
            return Ok(());
        };
        // The engine would look the user up on its own host, so it is done from inside.
        let without: Vec<&str> = wanted
            .volumes
            .iter()
            .map(|mount| mount.target.as_str())
            .collect();
        let given = match aside::give(&self.engine, container, FOLDER, user, &without).await {
            Ok(()) => self.give_caches(container, &wanted.volumes, user).await,
            error => error,
        };
        given.map_err(|not_given| match not_given {
            NotGiven::Engine(error) => start_fault(error).into(),
            NotGiven::Refused(why) => ExecutorError::Image(format!(
                "the workspace cannot be given to the image's user `{user}`: {why}"
            ))
            .into(),
        })
    }
}

impl Executor for DockerExecutor {
    fn kind(&self) -> ExecutorKind {
        ExecutorKind::Docker
    }

    fn start<'a>(
        &'a self,
        spec: StartSpec,
        observer: &'a mut dyn StartObserver,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Box<dyn Workspace>, ExecutorError>> {
        self.start(spec, observer, cancel).boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ExecutorError>> {
        async {
            self.engine
                .ping()
                .await
                .map_err(|error| ExecutorError::Unavailable(error.chain()))
        }
        .boxed()
    }

    fn caches(&self) -> BoxFuture<'_, Result<Vec<CacheInfo>, ExecutorError>> {
        self.caches().boxed()
    }

    fn remove_cache<'a>(
        &'a self,
        repo: &'a RepoName,
        name: &'a str,
    ) -> BoxFuture<'a, Result<bool, ExecutorError>> {
        self.remove_cache(repo, name).boxed()
    }

    fn cache_sizes(&self) -> BoxFuture<'_, Result<Vec<(CacheInfo, u64)>, ExecutorError>> {
        self.cache_sizes().boxed()
    }

    fn images(&self) -> BoxFuture<'_, Result<Images, ExecutorError>> {
        self.images().boxed()
    }

    fn remove_image<'a>(
        &'a self,
        image: &'a OwnImage,
    ) -> BoxFuture<'a, Result<ImageFate, ExecutorError>> {
        self.remove_image(image).boxed()
    }

    fn attach(
        &self,
        run: RunId,
        argv: Vec<String>,
    ) -> BoxFuture<'_, Result<Attached, ExecutorError>> {
        self.attach(run, argv).boxed()
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        self.remove_own_network().boxed()
    }

    fn clear<'a>(&'a self, run: RunId) -> BoxFuture<'a, Result<(), ExecutorError>> {
        self.clear(run).boxed()
    }

    fn sweep<'a>(&'a self, living: &'a [RunId]) -> BoxFuture<'a, Result<Swept, ExecutorError>> {
        self.sweep(living).boxed()
    }
}

/// What a run's container has beside its image.
struct Beside {
    /// The caches.
    volumes: Vec<VolumeMount>,
    /// The network that it shares with its services, where it has some.
    network: Option<String>,
}

/// A container that runs, and what its commands need to know of it.
struct Made {
    engine: Engine,
    instance: String,
    run: RunId,
    container: String,
    /// Who runs the commands; none for the container's user.
    user: Option<String>,
    memory: u64,
}

impl Made {
    fn workspace(self, services: Option<Services>, hold: Hold) -> Box<dyn Workspace> {
        Box::new(DockerWorkspace::new(self, services, hold))
    }
}

/// Why a container could not be made.
enum Failed {
    /// The network to attach it to is not there, in the engine's words: to be tried once more.
    Network(Attachment, DockerError),
    /// Anything else.
    Other(ExecutorError),
}

impl From<ExecutorError> for Failed {
    fn from(error: ExecutorError) -> Self {
        Self::Other(error)
    }
}

impl From<Failed> for ExecutorError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Network(_, error) => start_fault(error),
            Failed::Other(error) => error,
        }
    }
}

/// A container that is to go unless it is kept, also where the start is dropped half way.
struct Remains {
    engine: Engine,
    container: Option<String>,
}

impl Remains {
    fn keep(mut self) {
        self.container = None;
    }

    async fn clear(mut self) {
        if let Some(container) = &self.container {
            // Whoever asked for the start makes sure by `Executor::clear`; the start's own error is what counts.
            let _ = self
                .engine
                .remove_container_within(container, self.engine.timings().removal)
                .await;
        }
        self.container = None;
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        if let (Some(container), Ok(runtime)) =
            (self.container.take(), tokio::runtime::Handle::try_current())
        {
            let engine = self.engine.clone();
            runtime.spawn(async move { engine.remove_container(&container).await });
        }
    }
}

/// Does `work` unless cancelled.
async fn until<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, ExecutorError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(ExecutorError::Cancelled),
        done = work => Ok(done),
    }
}

fn start_fault(error: DockerError) -> ExecutorError {
    fault("start the container", &error)
}

fn fault(attempt: &'static str, error: &DockerError) -> ExecutorError {
    if error.is_unavailable() {
        ExecutorError::Unavailable(error.chain())
    } else if error.is_engines_fault() {
        ExecutorError::Faulty {
            attempt,
            message: error.words(),
        }
    } else {
        ExecutorError::Other {
            attempt,
            message: error.words(),
        }
    }
}
