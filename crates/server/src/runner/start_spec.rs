//! From a checked pipeline to what the executor needs to start a workspace.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::prepare::PushContext;
use quire_executor::{
    CacheMount, ContainerSettings, ImageSource, ResourceLimits, ServiceSpec, StartSpec, Tree,
};
use quire_pipeline::{ALL_PRIVILEGES, Pipeline, PipelineImage, Service};
use quire_types::image_reference::ImageReference;
use quire_types::paths::Paths;

/// What a workspace needs that its pipeline does not say.
pub struct StartContext<'a> {
    pub push: PushContext<'a>,
    pub image: ImageSource,
    pub tree: Arc<dyn Tree>,
    /// What the owner allows.
    pub limits: &'a ResourceLimits,
    pub run_dir: &'a Path,
    /// Whether the container may be kept after the run.
    pub may_be_kept: bool,
    /// Whether images are pulled and built afresh.
    pub rebuild: bool,
}

impl StartContext<'_> {
    /// The specification of the workspace.
    #[must_use]
    pub fn spec(self, pipeline: &Pipeline) -> StartSpec {
        StartSpec {
            run: self.push.run,
            repo: self.push.repo.clone(),
            image: self.image,
            tree: self.tree,
            limits: limits(pipeline, self.limits),
            container: container(pipeline),
            caches: caches(pipeline),
            services: services(pipeline),
            may_be_kept: self.may_be_kept,
            rebuild: self.rebuild,
            node: None,
            env: self.push.environment(pipeline.env()),
            workspace: Paths::workspace(self.run_dir),
        }
    }
}

/// The image of a run.
#[must_use]
pub fn image(pipeline: &Pipeline, default: &ImageReference) -> ImageSource {
    match pipeline.image() {
        PipelineImage::Reference(image) => ImageSource::Reference(image.clone()),
        PipelineImage::Dockerfile => ImageSource::Dockerfile,
        PipelineImage::Default => ImageSource::Reference(default.clone()),
    }
}

/// The limits of a run: what its pipeline requests, at most what the owner allows.
fn limits(pipeline: &Pipeline, upper: &ResourceLimits) -> ResourceLimits {
    let requested = pipeline.resources();
    ResourceLimits {
        memory: requested
            .memory
            .map_or(upper.memory, |memory| memory.min(upper.memory)),
        milli_cpus: requested
            .milli_cpus
            .map_or(upper.milli_cpus, |cpus| cpus.min(upper.milli_cpus)),
        pids: requested
            .pids
            .map_or(upper.pids, |pids| pids.min(upper.pids)),
        network: upper.network && pipeline.network().unwrap_or(true),
    }
}

fn container(pipeline: &Pipeline) -> ContainerSettings {
    let options = pipeline.container().clone();
    ContainerSettings {
        user: options.user,
        shm_size: options.shm_size,
        tmpfs: options.tmpfs,
        privileges: options.privileges,
        engine_socket: pipeline.docker(),
    }
}

/// What only some runs may have: the owner grants it by repository and ref.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunGrants {
    /// The engine's socket.
    pub docker_socket: bool,
    /// Capabilities beyond those that all runs have.
    pub privileges: bool,
}

impl RunGrants {
    /// What a pipeline asks for and does not get, as a name in the configuration.
    #[must_use]
    pub fn refused(self, pipeline: &Pipeline) -> Option<&'static str> {
        if pipeline.docker() && !self.docker_socket {
            return Some("docker-socket");
        }
        let asks = !pipeline.container().privileges.is_empty();
        (asks && !self.privileges).then_some("privileges")
    }
}

/// What a run has that makes it as powerful as the machine's root, each as a line for its log.
pub(super) fn power_notes(pipeline: &Pipeline) -> Vec<String> {
    let privileges = &pipeline.container().privileges;
    let socket =
        "this run has the socket of the Docker engine: it can do on this machine what root can";
    let mut notes = Vec::new();
    notes.extend(pipeline.docker().then(|| socket.to_owned()));
    if privileges.iter().any(|name| name == ALL_PRIVILEGES) {
        notes.push(
            "this run has all privileges: it can do on this machine what root can".to_owned(),
        );
    } else if !privileges.is_empty() {
        notes.push(format!(
            "this run has the privileges {}",
            privileges.join(", ")
        ));
    }
    notes
}

fn caches(pipeline: &Pipeline) -> Vec<CacheMount> {
    pipeline
        .caches()
        .iter()
        .map(|cache| CacheMount {
            name: cache.name.clone(),
            path: cache.path.clone(),
        })
        .collect()
}

fn services(pipeline: &Pipeline) -> Vec<ServiceSpec> {
    let service = |service: &Service<ImageReference>| ServiceSpec {
        name: service.name.clone(),
        image: service.image.clone(),
        env: service.env.clone(),
        command: service.command.clone(),
        ready: service.ready.clone(),
        ready_within: Duration::from_millis(service.ready_within_ms),
    };
    pipeline.services().iter().map(service).collect()
}
