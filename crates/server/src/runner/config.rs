//! What the owner's configuration says about runs.

use std::sync::Arc;
use std::time::Duration;

use super::secrets::RunSecretResolver;
use super::start_spec::RunGrants;
use quire_config::{RepoLimits, RunLimits};
use quire_executor::ResourceLimits;
use quire_git::ForgeAddress;
use quire_types::image_reference::ImageReference;
use quire_types::names::{RefName, RepoName};

/// Returns names of secrets.
pub type SecretNames = Arc<dyn Fn(&RepoName) -> Vec<String> + Send + Sync>;

/// Tells what runs of a ref of a repository may have that others may not.
pub type GrantResolver = Arc<dyn Fn(&RepoName, &RefName) -> RunGrants + Send + Sync>;

/// The owner's settings for runs. A reload of the configuration replaces them as a whole.
#[derive(Clone)]
pub struct RunnerConfig {
    /// The most runs at the same time.
    pub concurrent_runs: usize,
    /// The most jobs of one run at the same time.
    pub parallel_jobs: usize,
    /// The image of a pipeline that names none.
    pub default_image: ImageReference,
    /// The time limit of a run; a pipeline can only lower it.
    pub run_timeout: Duration,
    /// Whether the repository of the run has set this limit.
    pub is_timeout_of_repo: bool,
    /// The limits of a run's container.
    pub limits: ResourceLimits,
    /// Whether an orphaned run is requeued once.
    pub retry_orphaned: bool,
    /// How long the container of a failed run is kept if the run asked for it; zero keeps none.
    pub keep_failed: Duration,
    /// The most bytes of the logs of one run.
    pub log_cap: u64,
    /// The most bytes of the artifacts of one run.
    pub artifact_cap: u64,
    /// Where clients reach this forge by SSH, for the URLs of submodules.
    pub addresses: Vec<ForgeAddress>,
    /// What runs of a ref of a repository may have that others may not.
    pub grants: GrantResolver,
    /// Resolves secrets.
    pub secrets: RunSecretResolver,
    /// The names of the secrets that runs of a repository may use, at least at some refs. It may block.
    pub secret_names: SecretNames,
}

impl RunnerConfig {
    /// What a repository can tighten.
    #[must_use]
    pub fn run_limits(&self) -> RunLimits {
        RunLimits {
            timeout: self.run_timeout,
            memory: self.limits.memory,
            cpus: self.limits.milli_cpus,
            pids: self.limits.pids,
            network: self.limits.network,
            max_log: self.log_cap,
            max_artifacts: self.artifact_cap,
        }
    }

    /// The same with the limits that a repository sets for its runs.
    #[must_use]
    pub(super) fn tightened(&self, repo: &RepoLimits) -> Self {
        let owner = self.run_limits();
        let limits = repo.tighten(&owner);
        Self {
            run_timeout: limits.timeout,
            is_timeout_of_repo: limits.timeout < owner.timeout,
            limits: ResourceLimits {
                memory: limits.memory,
                milli_cpus: limits.cpus,
                pids: limits.pids,
                network: limits.network,
            },
            log_cap: limits.max_log,
            artifact_cap: limits.max_artifacts,
            ..self.clone()
        }
    }
}
