//! What a pipeline's file registered, as plain data. It comes from a process that ran untrusted
//! code and has not been checked.

use serde::{Deserialize, Serialize};

use super::diagnostic::{Diagnostic, Location};

/// The language of a pipeline or configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// `.quire/ci.fnl`.
    Fennel,
    /// `.quire/ci.lua`.
    Lua,
}

/// All calls of the functions of `quire.ci`, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    pub jobs: Vec<JobRegistration>,
    pub images: Vec<(String, Location)>,
    /// Variables. A later value of a name replaces an earlier one.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// In milliseconds.
    #[serde(default)]
    pub timeouts: Vec<(u64, Location)>,
    #[serde(default)]
    pub caches: Vec<(Cache, Location)>,
    #[serde(default)]
    pub services: Vec<(Service, Location)>,
    #[serde(default)]
    pub groups: Vec<(Group, Location)>,
    #[serde(default)]
    pub networks: Vec<(bool, Location)>,
    #[serde(default)]
    pub resources: Vec<(Resources, Location)>,
    #[serde(default)]
    pub containers: Vec<(ContainerOptions, Location)>,
    /// Whether runs get the engine's socket.
    #[serde(default)]
    pub dockers: Vec<(bool, Location)>,
    #[serde(default)]
    pub crons: Vec<(Cron, Location)>,
    #[serde(default)]
    pub checkouts: Vec<(CheckoutOptions, Location)>,
    /// Problems of single calls, such as a job without a function.
    #[serde(default)]
    pub problems: Vec<Diagnostic>,
}

/// A folder that is kept between the runs of a repository: `(ci.cache name path)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// Unique in the repository.
    pub name: String,
    /// Where it is mounted: an absolute path, or a path in the workspace.
    pub path: String,
}

/// A container beside the run's: `(ci.service name options)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service<Image = String> {
    /// The host name by which the run reaches it.
    pub name: String,
    pub image: Image,
    /// Variables, each name once.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// The command that replaces the image's own. `None` to keep it.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// A command that succeeds in the container once the service is ready. If it is `None` the
    /// service is ready as soon as it runs.
    #[serde(default)]
    pub ready: Option<Vec<String>>,
    /// How long the service may take to become ready, in milliseconds.
    pub ready_within_ms: u64,
}

/// Runs that are executed one after the other: `(ci.group name options)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Unique in the repository.
    pub name: String,
    /// Whether a newer run supersedes older runs of the group. If not, each run waits for those
    /// before it, and none is superseded.
    pub supersede: bool,
}

/// Limits of a run: `(ci.resources options)`. They cannot exceed the owner's limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// In bytes.
    #[serde(default)]
    pub memory: Option<u64>,
    /// In thousandths of a CPU.
    #[serde(default)]
    pub milli_cpus: Option<u64>,
    #[serde(default)]
    pub pids: Option<u32>,
}

/// The container of a run: `(ci.container options)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerOptions {
    /// The user of the commands, in Docker's notation. `None` for the image's.
    #[serde(default)]
    pub user: Option<String>,
    /// The size of `/dev/shm` in bytes. `None` for the engine's default.
    #[serde(default)]
    pub shm_size: Option<u64>,
    /// Folders in memory, each with its size in bytes if it has one. Sorted by path.
    #[serde(default)]
    pub tmpfs: Vec<(String, Option<u64>)>,
    /// Capabilities beyond those that all runs have; only [`ALL_PRIVILEGES`] for all of them.
    #[serde(default)]
    pub privileges: Vec<String>,
}

/// Stands for all capabilities, and the devices of the machine.
pub const ALL_PRIVILEGES: &str = "ALL";

/// A schedule that starts runs: `(ci.cron name schedule)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cron {
    /// The name of its source, without the prefix.
    pub name: String,
    /// The five fields of a crontab line, such as `0 3 * * *`.
    pub schedule: String,
}

/// What the workspace holds beside the files of the commit: `(ci.checkout options)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckoutOptions {
    /// How much of the history the workspace has; `None` for a workspace without `.git`.
    #[serde(default)]
    pub history: Option<History>,
    /// Whether submodules are filled: all or none. `None` fills those whose repository is on the same forge.
    #[serde(default)]
    pub submodules: Option<bool>,
    /// Whether files in Git LFS have their content; otherwise they are pointers.
    #[serde(default)]
    pub lfs: bool,
}

/// How many commits a workspace has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum History {
    /// The last commits, so many deep.
    Commits(u32),
    /// All, with all branches and tags.
    Full,
}

/// One call of `ci.job`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRegistration {
    pub id: String,
    pub inputs: Vec<String>,
    #[serde(default)]
    pub options: JobOptions,
    #[serde(rename = "place")]
    pub location: Location,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOptions {
    /// The time limit of its function, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Whether its dependents run, and the run can be complete, although it failed.
    #[serde(default)]
    pub allow_failure: bool,
    /// How many times it is retried after a failure.
    #[serde(default)]
    pub retry: u32,
    /// Variables of its commands, each name once. They override those of the run.
    #[serde(default)]
    pub env: Vec<(String, String)>,
}
