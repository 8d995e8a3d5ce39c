//! What all parts of the Docker executor share: the engine, the settings, what is in use, and the
//! names and labels of what an appliance creates on the engine.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use quire_pipeline::ALL_PRIVILEGES;
use quire_types::names::{RepoName, RunId};
use tokio_util::sync::CancellationToken;

use super::config::DockerConfig;
use super::in_use::InUse;
use crate::api::{ContainerSettings, StartSpec};
use crate::engine::{ContainerExtras, Engine, Labels};
use crate::error::ExecutorError;

/// The label with the appliance's id.
pub(super) const INSTANCE_LABEL: &str = "io.quire.instance";
/// The label with the run's id.
pub(super) const RUN_LABEL: &str = "io.quire.run";
/// The label with the repository's name.
pub(super) const REPO_LABEL: &str = "io.quire.repo";
/// The label with the name of a cache.
pub(super) const CACHE_LABEL: &str = "io.quire.cache";
/// The label with the name of a service.
pub(super) const SERVICE_LABEL: &str = "io.quire.service";
/// The label of a built image with the appliance's id. Images have labels of their own, because
/// containers and images that are made from an image inherit its labels.
pub(super) const BUILT_BY_LABEL: &str = "io.quire.built-by";
/// The label of a built image with the tag that it was built for.
pub(super) const BUILT_AS_LABEL: &str = "io.quire.built-as";

/// The label with the user of the commands, if it is not that of the image.
pub(super) const USER_LABEL: &str = "io.quire.user";

/// The engine's socket in the containers of runs that may have it.
const ENGINE_SOCKET: &str = "/var/run/docker.sock";

/// The workspace in every container.
pub(super) const WORKSPACE_DIR: &str = quire_pipeline::WORKSPACE;

/// Dropped from the engine's default capabilities: raw sockets, device files, writing to the audit
/// log, and passing capabilities on.
pub(super) const DROPPED_CAPABILITIES: [&str; 4] = ["NET_RAW", "MKNOD", "AUDIT_WRITE", "SETPCAP"];

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct DockerContext {
    pub(super) engine: Engine,
    pub(super) config: Arc<DockerConfig>,
    pub(super) in_use: InUse,
}

impl DockerContext {
    pub(super) fn new(config: DockerConfig) -> Self {
        Self {
            engine: Engine::new(&config.endpoint, config.timeouts.clone()),
            config: Arc::new(config),
            in_use: InUse::default(),
        }
    }

    /// The label of everything that this appliance creates.
    pub(super) fn instance_labels(&self) -> Labels {
        vec![(INSTANCE_LABEL.to_owned(), self.config.instance.clone())]
    }

    /// The labels that find everything of a run.
    pub(super) fn run_labels(&self, run: RunId) -> Labels {
        let mut labels = self.instance_labels();
        labels.push((RUN_LABEL.to_owned(), run.to_string()));
        labels
    }

    /// The labels of what is created for a run.
    pub(super) fn spec_labels(&self, spec: &StartSpec) -> Labels {
        self.labels_of(spec.run, &spec.repo)
    }

    /// The labels of what is created for a run of a repository.
    pub(super) fn labels_of(&self, run: RunId, repo: &RepoName) -> Labels {
        let mut labels = self.run_labels(run);
        labels.push((REPO_LABEL.to_owned(), repo.to_string()));
        labels
    }

    /// The labels of the image that is built for this tag.
    pub(super) fn build_labels(&self, tag: &str) -> Labels {
        vec![
            (BUILT_BY_LABEL.to_owned(), self.config.instance.clone()),
            (BUILT_AS_LABEL.to_owned(), tag.to_owned()),
        ]
    }

    /// What only some containers have.
    pub(super) fn extras(&self, settings: &ContainerSettings) -> ContainerExtras {
        let privileged = settings
            .privileges
            .iter()
            .any(|name| name == ALL_PRIVILEGES);
        let socket = || match &self.config.machine_socket {
            Some(path) => path.clone(),
            None => self.socket_path().to_owned(),
        };
        ContainerExtras {
            shm_size: settings.shm_size,
            tmpfs: settings.tmpfs.clone(),
            add_capabilities: match privileged {
                true => Vec::new(),
                false => settings.privileges.clone(),
            },
            privileged,
            bind: settings
                .engine_socket
                .then(|| (socket(), ENGINE_SOCKET.to_owned())),
        }
    }

    /// The groups of commands beside those of their user: that of the engine's socket, if the
    /// container has it.
    pub(super) fn extra_groups(&self, settings: &ContainerSettings) -> Vec<u32> {
        let group = || std::fs::metadata(self.socket_path()).map(|socket| socket.gid());
        settings
            .engine_socket
            .then(group)
            .and_then(Result::ok)
            .into_iter()
            .collect()
    }

    /// The engine's socket as quire sees it.
    fn socket_path(&self) -> &str {
        let endpoint = &self.config.endpoint;
        endpoint.strip_prefix("unix://").unwrap_or(endpoint)
    }

    /// Whether a container of this name is what an earlier attempt at the same run created.
    pub(super) async fn is_container_of(&self, name: &str, run: RunId) -> bool {
        let labels = self.run_labels(run);
        matches!(self.engine.container(name).await, Ok(Some(state))
            if labels.iter().all(|label| state.labels.contains(label)))
    }
}

/// The capabilities that a run's container lacks.
pub(super) fn dropped_capabilities(settings: &ContainerSettings) -> Vec<String> {
    DROPPED_CAPABILITIES
        .iter()
        .filter(|name| !settings.privileges.iter().any(|added| added == *name))
        .map(|name| (*name).to_owned())
        .collect()
}

/// The name of a run's container.
pub(super) fn container_name(run: RunId) -> String {
    format!("quire-{run}")
}

/// The name of the container of a run's service.
pub(super) fn service_name(run: RunId, number: usize) -> String {
    format!("quire-{run}-service-{number}")
}

/// The name of the network that a run shares with its services.
pub(super) fn run_network_name(run: RunId) -> String {
    format!("quire-{run}")
}

/// Whether a container or network of the run has this name. Its labels alone prove
/// nothing: a container inherits those of its image, and `docker commit` puts those of a run's
/// container into an image.
fn is_name_of_run(name: &str, run: RunId) -> bool {
    let Some(rest) = name.strip_prefix(&container_name(run)) else {
        return false;
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    rest.is_empty() || rest.strip_prefix("-service-").is_some_and(is_number)
}

/// Returns the run for which quire created the container, network or service; `None` if quire did not.
pub(super) fn owning_run(name: &str, labels: &Labels) -> Option<RunId> {
    let run = label(labels, RUN_LABEL)?.parse().ok()?;
    is_name_of_run(name, run).then_some(run)
}

/// Returns the value of a label.
pub(super) fn label<'a>(labels: &'a Labels, key: &str) -> Option<&'a str> {
    labels
        .iter()
        .find(|(k, _)| k == key)
        .map(|(_, value)| value.as_str())
}

/// Runs `work` unless it is cancelled.
pub(super) async fn or_cancelled<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, ExecutorError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(ExecutorError::Cancelled),
        done = work => Ok(done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_label_of_the_same_run_prove_ownership() {
        let (run, other) = (RunId::new(), RunId::new());
        let labels = |run: &str| vec![(RUN_LABEL.to_owned(), run.to_owned())];
        let own = labels(&run.to_string());
        for name in [format!("quire-{run}"), format!("quire-{run}-service-12")] {
            assert_eq!(owning_run(&name, &own), Some(run));
            assert_eq!(owning_run(&name, &labels(&other.to_string())), None);
            assert_eq!(owning_run(&name, &labels("no run")), None);
            assert_eq!(owning_run(&name, &Vec::new()), None);
        }
        for name in [
            "keen_curie".to_owned(),
            format!("quire-{run}-service-"),
            format!("quire-{run}-service-1x"),
            format!("quire-{run}-mine"),
            format!("my-quire-{run}"),
        ] {
            assert_eq!(owning_run(&name, &own), None, "{name}");
        }
    }
}
