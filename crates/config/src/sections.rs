//! The configuration as typed values: one struct for each section, with its defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::entry::ConfigEntry;
use super::hooks::HookConfig;
use super::mirrors::MirrorsConfig;
use super::notify::NotifyConfig;
use super::registry::RegistryConfig;
use super::run_grant::RunGrant;
use super::secrets::{SecretError, SecretGrant};
use super::suggest::closest_name;
use quire_types::callback_address::CallbackAddress;
use quire_types::image_reference::ImageReference;
use quire_types::keep_times::KeepTimes;
use quire_types::landing::LandingMethod;
use quire_types::names::{RefName, RepoName};
use quire_types::network::Network;
use quire_types::pull_policy::PullPolicy;
use quire_types::run::ExecutorName;
use quire_types::secret::Secret;
use quire_types::text::excerpt_name;

/// The longest name that a message quotes, in characters.

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    pub http: HttpConfig,
    pub ssh: SshConfig,
    pub git: GitConfig,
    pub ci: CiConfig,
    pub keep: KeepConfig,
    pub backup: BackupConfig,
    pub notify: NotifyConfig,
    pub mirrors: MirrorsConfig,
    /// Incoming webhooks, by name.
    pub hooks: BTreeMap<String, ConfigEntry<HookConfig>>,
    /// By name.
    pub secrets: BTreeMap<String, SecretGrant>,
}

/// `:http`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// The port to listen on.
    pub port: u16,
    /// The address that links begin with, without a trailing slash.
    pub url: Option<String>,
    pub auth: Auth,
    /// The networks whose identity headers are trusted.
    pub trusted_proxies: Vec<Network>,
    pub strangers: StrangerAccess,
}

/// How a user signs in to the web.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// By a one-time link that `ssh git@host login` prints.
    Ssh,
    /// By the identity header of a reverse proxy.
    Proxy,
    /// Every client is signed in.
    Open,
}

impl Auth {
    pub const ALL: [Self; 3] = [Self::Ssh, Self::Proxy, Self::Open];

    /// The value in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Proxy => "proxy",
            Self::Open => "open",
        }
    }
}

/// What of public repositories clients see that are not signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StrangerAccess {
    /// What branches and tags point to; everything else once a person has asked for it.
    #[default]
    Tip,
    /// Everything.
    All,
    /// What branches and tags point to.
    SignedIn,
}

impl StrangerAccess {
    pub const ALL: [Self; 3] = [Self::Tip, Self::All, Self::SignedIn];

    /// The value in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tip => "tip",
            Self::All => "all",
            Self::SignedIn => "signed-in",
        }
    }
}

/// `:ssh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshConfig {
    /// The host of clone addresses.
    pub host: Option<String>,
    /// The port of clone addresses.
    pub port: u16,
}

/// `:git`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitConfig {
    /// Whether a push to a repository that does not exist creates it.
    pub push_to_create: bool,
    /// The largest push, in bytes.
    pub max_push: u64,
}

/// `:ci`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CiConfig {
    /// How runs are executed. `None`: in Docker if an engine is available, otherwise on the host.
    pub executor: Option<ExecutorName>,
    /// The address of the Docker engine.
    pub engine: String,
    /// Where the nodes of a swarm reach the appliance.
    pub callback: Option<CallbackAddress>,
    /// The registry from which the nodes of a swarm pull what was built.
    pub registry: Option<RegistryConfig>,
    /// The number of runs that are executed at the same time, at least 1.
    pub concurrent_runs: u32,
    /// The image of pipelines that set none.
    pub image: ImageReference,
    /// Registries of the engine's own machine or link from which images may be pulled.
    pub registries: Vec<String>,
    /// When newer versions of base images are looked for.
    pub pull: PullPolicy,
    /// The time limit of a run.
    pub timeout: Duration,
    /// The memory limit of a run, in bytes.
    pub memory: u64,
    /// The CPU limit of a run, in thousandths of a CPU. The engine may have fewer CPUs.
    pub cpus: u64,
    /// The limit of processes of a run.
    pub pids: u32,
    /// Whether runs have a network.
    pub network: bool,
    /// The size limit of the log of one run, in bytes.
    pub max_log: u64,
    /// The size limit of the artifacts of one run, in bytes.
    pub max_artifacts: u64,
    /// The most runs that one push makes.
    pub max_runs_per_push: u32,
    /// How a commit lands that is no fast-forward, if the push does not say it.
    pub land: LandingMethod,
    /// Whether a run is requeued, once, if it was orphaned by the end of quire.
    pub retry_orphaned: bool,
    /// How long the container of a failed run is kept if the run or the user asked for it.
    pub keep_failed: Duration,
    /// How many containers are started before a run needs one.
    pub warm: u32,
    /// The runs that may have the engine's socket.
    pub docker_socket: Vec<RunGrant>,
    /// The runs that may have further capabilities.
    pub privileges: Vec<RunGrant>,
}

/// `:keep`: limits on what is kept. 0 means no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepConfig {
    /// The number of runs of each repository.
    pub runs: u32,
    pub days: u32,
    /// The size of all logs, in bytes.
    pub logs: u64,
    /// The size of all artifacts, in bytes.
    pub artifacts: u64,
    /// The size of all caches, in bytes.
    pub caches: u64,
    /// The space that stays free on the volume, in bytes.
    pub min_free: u64,
    /// How long removed repositories can be restored; zero if they are deleted at once.
    pub trash: Duration,
    /// How long what a push overwrote can be brought back; zero if it is not kept.
    pub undo: Duration,
    /// How long the log of operations goes back; zero for no limit.
    pub operations: Duration,
}

/// `:backup`: scheduled backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupConfig {
    /// The folder of the backups; `None` for no scheduled backups.
    pub to: Option<PathBuf>,
    pub every: Duration,
    /// How many are kept.
    pub keep: u32,
}

impl Default for BackupConfig {
    fn default() -> Self {
        Self {
            to: None,
            every: Duration::from_secs(24 * 60 * 60),
            keep: 14,
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            port: 3000,
            url: None,
            auth: Auth::Ssh,
            trusted_proxies: Vec::new(),
            strangers: StrangerAccess::default(),
        }
    }
}

impl Default for SshConfig {
    fn default() -> Self {
        Self {
            host: None,
            port: 2222,
        }
    }
}

impl Default for GitConfig {
    fn default() -> Self {
        Self {
            push_to_create: true,
            max_push: 2 << 30,
        }
    }
}

impl Default for CiConfig {
    fn default() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            executor: None,
            engine: "unix:///var/run/docker.sock".to_owned(),
            callback: None,
            registry: None,
            concurrent_runs: u32::try_from(cpus / 2).unwrap_or(u32::MAX).max(1),
            image: ImageReference::default(),
            registries: Vec::new(),
            pull: PullPolicy::default(),
            timeout: Duration::from_secs(3600),
            memory: 4 << 30,
            cpus: 2000,
            pids: 4096,
            network: true,
            max_log: 256 << 20,
            max_artifacts: 1 << 30,
            max_runs_per_push: 100,
            land: LandingMethod::default(),
            retry_orphaned: true,
            keep_failed: Duration::from_secs(3600),
            warm: 2,
            docker_socket: Vec::new(),
            privileges: Vec::new(),
        }
    }
}

impl Default for KeepConfig {
    fn default() -> Self {
        Self {
            runs: 500,
            days: 90,
            logs: 5 << 30,
            artifacts: 10 << 30,
            caches: 0,
            min_free: 1 << 30,
            trash: KeepTimes::default().trash,
            undo: KeepTimes::default().undo,
            operations: Duration::from_secs(365 * 24 * 60 * 60),
        }
    }
}

impl Config {
    /// Reads the value of a secret for a run of this ref of this repository.
    pub fn secret(
        &self,
        name: &str,
        (repo, ref_name): (&RepoName, &RefName),
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Secret, SecretError> {
        match self.secrets.get(name) {
            Some(grant) if grant.scope.grants(repo, ref_name) => grant.read(name, environment),
            Some(_) => Err(SecretError::NotGranted {
                name: name.to_owned(),
                repo: repo.clone(),
                ref_name: ref_name.clone(),
            }),
            None => Err(self.unknown_secret(name, (repo, ref_name), &[])),
        }
    }

    /// The error about a name that no secret has. `stored` has the names of secrets from elsewhere that the run may use.
    #[must_use]
    pub fn unknown_secret(
        &self,
        name: &str,
        (repo, ref_name): (&RepoName, &RefName),
        stored: &[String],
    ) -> SecretError {
        // It does not reveal the names of secrets that the run may not use.
        let configured = self.secrets.iter();
        let names: Vec<&str> = configured
            .filter(|(_, grant)| grant.scope.grants(repo, ref_name))
            .map(|(name, _)| name)
            .chain(stored)
            .map(String::as_str)
            .collect();
        SecretError::Unknown {
            name: excerpt_name(name),
            hint: Self::secret_hint(name, &names),
        }
    }

    /// Suggests one of these names.
    fn secret_hint(name: &str, names: &[&str]) -> String {
        match closest_name(name, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => {
                "set it with `secret set`, or add it to :secrets in the configuration".to_owned()
            }
            None => format!("the secrets for this run are {}", names.join(", ")),
        }
    }
}
