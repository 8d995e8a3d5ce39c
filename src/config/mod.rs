//! The owner's configuration: `config.fnl` or `config.lua` in the volume, single values overridden
//! by environment variables.
//!
//! A [`Config`] is typed and complete: every value is parsed once, here, and where nothing is said
//! the default stands. Without a file no Lua is loaded at all. What is wrong is reported with file
//! and line, all of it together; what is merely not known is a warning.

mod keys;
mod kinds;
mod load;
pub mod network;
mod place;
mod secrets;

pub use keys::{KEYS, Key};
pub use load::{ConfigError, Loaded, Origin, Setting};
pub use network::Network;
pub use secrets::{MAX_SECRET_BYTES, SecretError, SecretGrant, SecretSource};

use std::collections::BTreeMap;
use std::time::Duration;

use crate::names::{RefName, RepoName};
use crate::paths::Paths;
use crate::run::ExecutorKind;
use crate::secret::Secret;

/// What is in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// The web.
    pub http: Http,
    /// SSH.
    pub ssh: Ssh,
    /// Git.
    pub git: Git,
    /// Runs.
    pub ci: Ci,
    /// What is kept, and how long.
    pub keep: Keep,
    /// Where secrets come from and whom they are for, by name.
    pub secrets: BTreeMap<String, SecretGrant>,
}

/// `:http`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// The port to listen on.
    pub port: u16,
    /// The address that links begin with, without a slash at its end.
    pub url: Option<String>,
    /// How a visitor is signed in.
    pub auth: Auth,
    /// Where an identity header is believed from.
    pub trusted_proxies: Vec<Network>,
}

/// How a visitor of the web is signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// By a one-time link that `ssh git@host login` prints.
    Ssh,
    /// By a reverse proxy's identity header.
    Proxy,
    /// Everybody is.
    Open,
}

impl Auth {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ssh, Self::Proxy, Self::Open];

    /// The word in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Proxy => "proxy",
            Self::Open => "open",
        }
    }
}

/// `:ssh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    /// The host that clone addresses name.
    pub host: Option<String>,
    /// The port that clone addresses name.
    pub port: u16,
}

/// `:git`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Git {
    /// Whether a push to a repository that does not exist makes it.
    pub push_to_create: bool,
    /// The largest push, in bytes.
    pub max_push: u64,
}

/// `:ci`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ci {
    /// How runs are executed; none: in Docker where an engine answers, else on the host.
    pub executor: Option<ExecutorKind>,
    /// The Docker engine's address.
    pub engine: String,
    /// How many runs go on at once; at least 1.
    pub concurrent_runs: u32,
    /// The image of runs that name none.
    pub image: String,
    /// How long a run may take.
    pub timeout: Duration,
    /// The memory that a run may use, in bytes.
    pub memory: u64,
    /// The CPUs that a run may use, in thousandths. The engine may have fewer.
    pub cpus: u64,
    /// The processes that a run may have.
    pub pids: u32,
    /// Whether runs have a network.
    pub network: bool,
    /// Bytes that the log of one run may take.
    pub max_log: u64,
    /// What the artifacts of one run may take, in bytes.
    pub max_artifacts: u64,
    /// Whether a run that quire's own end cut off is queued again, once.
    pub retry_orphaned: bool,
    /// How long the container of a failed run is kept that asked for it.
    pub keep_failed: Duration,
}

/// `:keep`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Runs of each repository.
    pub runs: u32,
    /// Days.
    pub days: u32,
    /// Logs, in bytes.
    pub logs: u64,
    /// Artifacts, in bytes.
    pub artifacts: u64,
    /// Caches, in bytes; 0 for no limit.
    pub caches: u64,
    /// What stays free on the volume, in bytes.
    pub min_free: u64,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            port: 3000,
            url: None,
            auth: Auth::Ssh,
            trusted_proxies: Vec::new(),
        }
    }
}

impl Default for Ssh {
    fn default() -> Self {
        Self {
            host: None,
            port: 2222,
        }
    }
}

impl Default for Git {
    fn default() -> Self {
        Self {
            push_to_create: true,
            max_push: 2 << 30,
        }
    }
}

impl Default for Ci {
    fn default() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            executor: None,
            engine: "unix:///var/run/docker.sock".to_owned(),
            concurrent_runs: u32::try_from(cpus / 2).unwrap_or(u32::MAX).max(1),
            image: "debian:trixie-slim".to_owned(),
            timeout: Duration::from_secs(3600),
            memory: 4 << 30,
            cpus: 2000,
            pids: 4096,
            network: true,
            max_log: 256 << 20,
            max_artifacts: 1 << 30,
            retry_orphaned: true,
            keep_failed: Duration::from_secs(3600),
        }
    }
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            runs: 500,
            days: 90,
            logs: 5 << 30,
            artifacts: 10 << 30,
            caches: 0,
            min_free: 1 << 30,
        }
    }
}

impl Config {
    /// Reads the configuration of an appliance. `environment` looks a variable up; an empty one counts as not set.
    pub fn load(
        paths: &Paths,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Loaded, ConfigError> {
        load::load(paths, &environment, &crate::fennel::eval_data)
    }

    /// Reads a secret's value for a run of this ref of this repository. Called when the value is needed, not before.
    pub fn secret(
        &self,
        name: &str,
        run_of: (&RepoName, &RefName),
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Secret, SecretError> {
        secrets::read(&self.secrets, name, run_of, environment)
    }
}

/// The known name that an unknown one was probably meant to be.
fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    // Hostile input is long; a misspelling is not.
    if unknown.len() > 60 {
        return None;
    }
    let distance =
        |name: &str| strsim::damerau_levenshtein(&unknown.replace('_', "-").to_lowercase(), name);
    known
        .iter()
        .copied()
        .map(|name| (distance(name), name))
        .filter(|(d, name)| *d <= name.len() / 3 + 1)
        .min()
        .map(|(_, name)| name)
}
