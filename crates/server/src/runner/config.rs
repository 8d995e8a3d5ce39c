//! What the owner's configuration says about runs.

use std::sync::Arc;
use std::time::Duration;

use super::secrets::RunSecretResolver;
use super::start_spec::RunGrants;
use quire_executor::ResourceLimits;
use quire_git::ForgeAddress;
use quire_types::image_reference::ImageReference;
use quire_types::names::{RefName, RepoName};

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
}
