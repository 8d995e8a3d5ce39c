//! What the service of a run is created from.

use std::net::IpAddr;
use std::time::Duration;

use quire_pipeline::ALL_PRIVILEGES;
use quire_step::ChannelToken;
use quire_types::image_reference::ImageReference;
use quire_types::names::{RepoName, RunId};

use crate::api::{ContainerSettings, ImageSource, ResourceLimits, StartSpec};
use crate::docker::caches::DockerCaches;
use crate::docker::context::{DockerContext, WORKSPACE_DIR, container_name, dropped_capabilities};
use crate::docker::engine_images::RunImage;
use crate::docker::helper_volume::HelperVolume;
use crate::docker::newer_images::name_with_digest;
use crate::engine::{
    ContainerExtras, ContainerSpec, JobNetwork, JobSpec, MountedConfig, RegistryLogin, VolumeMount,
    VolumeSource,
};
use crate::error::{ExecutorError, ImageError, InvalidCommand, SwarmLimit};

/// How long a run may go on when its node is drained or the node's engine is started again after a crash. The helper
/// ends when the appliance closes the connection or its lease ends, and by no signal.
const STOP_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a service may live when it is to end: its run has ended before.
pub(super) const STOP_AT_ONCE: Duration = Duration::ZERO;

/// Where a run's container may be executed, and by which name its node knows the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobImage {
    /// A name with a digest, which every node can pull; or the id of an image that only the manager's engine is
    /// known to have.
    pub(super) reference: String,
    /// The id of the only node that has it; `None` if each can have it.
    pub(super) node: Option<String>,
    /// What a node needs to pull it.
    pub(super) login: Option<RegistryLogin>,
}

/// The image of a run as every node can pull it; `None` if only the manager's engine is known to have it. A tag is not
/// passed on: each node would resolve it again, and could find another image.
pub(super) fn image_with_digest(image: &RunImage) -> Option<ImageReference> {
    let name = image.name.parse::<ImageReference>().ok()?;
    name_with_digest(&name, &image.details)?.parse().ok()
}

/// Fails if the run asks for what a swarm does not have.
pub(super) fn check_limits(spec: &StartSpec, has_registry: bool) -> Result<(), ExecutorError> {
    let unsupported = |limit: SwarmLimit| Err(InvalidCommand::OnSwarm(limit).into());
    if spec.image == ImageSource::Dockerfile && !has_registry {
        return Err(ImageError::NoSwarmRegistry.into());
    }
    if !spec.limits.network {
        return unsupported(SwarmLimit::NoNetwork);
    }
    if spec.container.engine_socket {
        return unsupported(SwarmLimit::EngineSocket);
    }
    let privileges = &spec.container.privileges;
    if privileges.iter().any(|name| name == ALL_PRIVILEGES) {
        return unsupported(SwarmLimit::AllPrivileges);
    }
    Ok(())
}

/// The mounts of the caches, whose volumes a node creates when it lacks them.
pub(super) fn cache_mounts(
    caches: &DockerCaches,
    spec: &StartSpec,
) -> Result<Vec<VolumeMount>, ExecutorError> {
    let mut mounts = Vec::new();
    for cache in &spec.caches {
        mounts.push(VolumeMount {
            source: VolumeSource::Created {
                name: caches.volume_name(&spec.repo, &cache.name),
                labels: caches.labels(&spec.repo, &cache.name),
            },
            target: DockerCaches::target(cache)?,
        });
    }
    mounts.sort_by_key(|mount| mount.target.len());
    Ok(mounts)
}

/// What the container of a run is made from, whichever run that is.
#[derive(Clone, PartialEq)]
pub(super) struct JobRecipe {
    pub(super) repo: RepoName,
    /// The image as the manager's engine has it: its name, and its id, since the name may mean another one later.
    pub(super) image_name: String,
    pub(super) image_id: String,
    pub(super) image: JobImage,
    pub(super) caches: Vec<VolumeMount>,
    pub(super) limits: ResourceLimits,
    pub(super) container: ContainerSettings,
    /// The id of the only node that may execute it.
    pub(super) node: Option<String>,
}

impl JobRecipe {
    pub(super) fn new(
        spec: &StartSpec,
        image: &RunImage,
        job_image: JobImage,
        caches: Vec<VolumeMount>,
    ) -> Self {
        Self {
            repo: spec.repo.clone(),
            image_name: image.name.clone(),
            image_id: image.details.id.clone(),
            image: job_image,
            caches,
            limits: spec.limits.clone(),
            container: spec.container.clone(),
            node: spec.node.clone(),
        }
    }
}

/// What differs from job to job.
pub(super) struct JobParts<'a> {
    /// The run, or the id that stands for one.
    pub(super) run: RunId,
    /// The config object with the helper.
    pub(super) helper: MountedConfig,
    /// The addresses of the appliance.
    pub(super) callback: &'a str,
    pub(super) token: &'a ChannelToken,
    pub(super) placement: &'a Placement,
    /// The network of the run's services, and their addresses.
    pub(super) network: Option<JobNetwork>,
    pub(super) hosts: Vec<(String, IpAddr)>,
}

/// Where a run may be executed.
pub(super) struct Placement {
    /// The id of the only node; `None` for any.
    pub(super) node: Option<String>,
    /// Whether another node would do as well.
    pub(super) is_preference: bool,
    /// The CPUs, in thousandths, of the smallest node that may be chosen. An engine rejects more than it has.
    pub(super) max_milli_cpus: Option<u64>,
}

/// The CPUs of a container, in thousandths: an engine rejects more than it has.
pub(super) fn limited_cpus(limits: &ResourceLimits, max: Option<u64>) -> u64 {
    limits.milli_cpus.min(max.unwrap_or(u64::MAX))
}

pub(super) fn job_spec(
    context: &DockerContext,
    recipe: &JobRecipe,
    parts: JobParts<'_>,
) -> JobSpec {
    let workspace = VolumeMount {
        source: VolumeSource::Anonymous,
        target: WORKSPACE_DIR.to_owned(),
    };
    let mut volumes = vec![workspace];
    volumes.extend(recipe.caches.iter().cloned());
    let container = ContainerSpec {
        name: container_name(parts.run),
        image: recipe.image.reference.clone(),
        user: Some("0:0".to_owned()),
        entrypoint: vec![HelperVolume::program()],
        // The helper takes both, and commands get neither.
        env: vec![
            format!("QUIRE_CONNECT={}", parts.callback),
            format!("QUIRE_TOKEN={}", parts.token.to_hex()),
        ],
        workdir: Some("/".to_owned()),
        labels: context.labels_of(parts.run, &recipe.repo),
        memory: recipe.limits.memory,
        milli_cpus: limited_cpus(&recipe.limits, parts.placement.max_milli_cpus),
        pids: recipe.limits.pids,
        drop_capabilities: dropped_capabilities(&recipe.container),
        extras: ContainerExtras {
            shm_size: recipe.container.shm_size,
            tmpfs: recipe.container.tmpfs.clone(),
            add_capabilities: recipe.container.privileges.clone(),
            ..ContainerExtras::default()
        },
        volumes,
        is_helper: true,
        ..ContainerSpec::default()
    };
    JobSpec {
        container,
        program: Some(parts.helper),
        network: parts.network,
        hosts: parts.hosts,
        ready: None,
        is_logged: false,
        node: parts.placement.node.clone(),
        login: recipe.image.login.clone(),
        stop_grace: STOP_GRACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ImageDetails;

    fn image(name: &str, names: &[&str]) -> RunImage {
        RunImage {
            name: name.to_owned(),
            details: ImageDetails {
                id: "sha256:1".to_owned(),
                names: names.iter().map(|name| (*name).to_owned()).collect(),
                created: None,
                user: String::new(),
                labels: Vec::new(),
                env: Vec::new(),
            },
        }
    }

    #[test]
    fn nodes_get_a_digest_of_the_same_repository() {
        let reference = |name: &str, names: &[&str]| {
            let known = image_with_digest(&image(name, names));
            known.map(|image| image.to_string()).unwrap_or_default()
        };
        let digest = format!("localhost:5000/a@sha256:{}", "2".repeat(64));
        let digest = digest.as_str();
        let names = ["localhost:5000/a:1", digest];
        assert_eq!(reference("localhost:5000/a:1", &names), digest);
        assert_eq!(reference("localhost:5000/a", &[digest]), digest);
        // Docker's own registry is written in several ways.
        let own = format!("debian@sha256:{}", "3".repeat(64));
        for name in ["debian:trixie-slim", "docker.io/library/debian:trixie-slim"] {
            assert_eq!(reference(name, &["debian:trixie-slim", &own]), own);
        }
        // A digest of another repository says nothing about this one's registry.
        assert_eq!(reference("b:1", &["b:1", digest]), "");
        assert_eq!(reference("b:1", &[]), "");
    }
}
