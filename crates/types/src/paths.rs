//! Every path under the data volume and the runtime folder, in one place.

use std::path::{Path, PathBuf};

use crate::names::{EventId, JobName, RepoName, RunId};

/// The two folders an appliance lives in: `data` survives everything, `runtime` is made anew at boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    data: PathBuf,
    runtime: PathBuf,
}

/// Names the data folder (default `/var/quire`).
pub const DATA_VARIABLE: &str = "QUIRE_DATA";
/// Names the runtime folder (default `/run/quire`).
pub const RUNTIME_VARIABLE: &str = "QUIRE_RUNTIME";

impl Paths {
    /// Paths below the given folders.
    pub fn new(data: impl Into<PathBuf>, runtime: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            runtime: runtime.into(),
        }
    }

    /// Paths from `QUIRE_DATA` and `QUIRE_RUNTIME`, or those of the image.
    #[must_use]
    pub fn from_environment() -> Self {
        let folder = |name, default: &str| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map_or_else(|| default.into(), PathBuf::from)
        };
        Self::new(
            folder(DATA_VARIABLE, "/var/quire"),
            folder(RUNTIME_VARIABLE, "/run/quire"),
        )
    }

    /// The volume itself.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The runtime folder: generated sshd configuration, key copy, status. Owned by root in the appliance.
    #[must_use]
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// The SQLite database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.data.join("quire.db")
    }

    /// The owner's configuration in Fennel.
    #[must_use]
    pub fn config_fennel(&self) -> PathBuf {
        self.data.join("config.fnl")
    }

    /// The owner's configuration in Lua.
    #[must_use]
    pub fn config_lua(&self) -> PathBuf {
        self.data.join("config.lua")
    }

    /// The keys with which stored secrets are encrypted, unless the operator keeps them.
    #[must_use]
    pub fn secrets_key(&self) -> PathBuf {
        self.data.join("secrets.key")
    }

    /// The path of the file of keys that the operator keeps, if there is one. `serve` keeps it as its environment says, since
    /// sessions of SSH do not have that.
    #[must_use]
    pub fn secrets_key_location(&self) -> PathBuf {
        self.data.join("secrets-key-file")
    }

    /// Held by the one command that changes stored secrets.
    #[must_use]
    pub fn secrets_lock(&self) -> PathBuf {
        self.data.join("secrets.lock")
    }

    /// Held by the one command that changes the configuration file.
    #[must_use]
    pub fn config_lock(&self) -> PathBuf {
        self.data.join("config.lock")
    }

    /// The settings that are in force, with their origins. `serve` keeps it, since commands do not have its environment.
    #[must_use]
    pub fn settings_in_force(&self) -> PathBuf {
        self.data.join("settings-in-force.json")
    }

    /// Public keys kept in the volume.
    #[must_use]
    pub fn authorized_keys(&self) -> PathBuf {
        self.data.join("authorized_keys")
    }

    /// Held by the one command that changes the keys kept in the volume.
    #[must_use]
    pub fn authorized_keys_lock(&self) -> PathBuf {
        self.data.join("authorized_keys.lock")
    }

    /// Folder of the files whose times say when each key was used last.
    #[must_use]
    pub fn key_uses(&self) -> PathBuf {
        self.data.join("key-uses")
    }

    /// Folder of the host keys.
    #[must_use]
    pub fn host_keys(&self) -> PathBuf {
        self.data.join("ssh")
    }

    /// Folder of the key by which this appliance is known to remotes.
    #[must_use]
    pub fn mirrors(&self) -> PathBuf {
        self.data.join("mirrors")
    }

    /// The number of recorded pushes and claimed runs, beside the repositories.
    #[must_use]
    pub fn sequence(&self) -> PathBuf {
        self.repos().join(".sequence")
    }

    /// Folder of the marks of pushes that have begun.
    #[must_use]
    pub fn push_marks(&self) -> PathBuf {
        self.runtime.join("pushes")
    }

    /// Folder of all repositories.
    #[must_use]
    pub fn repos(&self) -> PathBuf {
        self.data.join("repos")
    }

    /// Folder of the repositories that were removed and can be restored.
    #[must_use]
    pub fn trash(&self) -> PathBuf {
        self.repos().join(".trash")
    }

    /// Folder of the runs' logs of a removed repository, by the id of its entry in the trash.
    #[must_use]
    pub fn trash_runs(&self, entry: &str) -> PathBuf {
        self.runs_dir().join(".trash").join(entry)
    }

    /// Folder of the artifacts of a removed repository's runs, by the id of its entry in the trash.
    #[must_use]
    pub fn trash_artifacts(&self, entry: &str) -> PathBuf {
        self.artifacts().join(".trash").join(entry)
    }

    /// How long what was removed can be brought back. `serve` keeps it as the configuration says, so that commands need
    /// not load one.
    #[must_use]
    pub fn keep_times(&self) -> PathBuf {
        self.data.join("keep-times.json")
    }

    /// One bare repository.
    #[must_use]
    pub fn repo(&self, repo: &RepoName) -> PathBuf {
        self.repos().join(format!("{repo}.git"))
    }

    /// Folder of a repository's runs.
    #[must_use]
    pub fn repo_runs_dir(&self, repo: &RepoName) -> PathBuf {
        self.runs_dir().join(repo.as_str())
    }

    /// Folder of one run: `run.log`, `jobs/`, and while it lives its workspace where the executor needs one.
    #[must_use]
    pub fn run_dir(&self, repo: &RepoName, run: RunId) -> PathBuf {
        self.repo_runs_dir(repo).join(run.to_string())
    }

    /// Folder of all runs' logs, `<repo>/<run-id>/` below it.
    #[must_use]
    pub fn runs_dir(&self) -> PathBuf {
        self.data.join("runs")
    }

    /// Folder of all runs' artifacts, `<repo>/<run-id>/` below it.
    #[must_use]
    pub fn artifacts(&self) -> PathBuf {
        self.data.join("artifacts")
    }

    /// The log of a run's own lines: image build, pull, what quire has to say.
    #[must_use]
    pub fn run_log(run_folder: &Path) -> PathBuf {
        run_folder.join("run.log")
    }

    /// The log of one step.
    #[must_use]
    pub fn step_log(run_folder: &Path, job: &JobName, seq: u32) -> PathBuf {
        run_folder
            .join("jobs")
            .join(job.as_str())
            .join(format!("{seq}.log"))
    }

    /// The log of one service of a run.
    #[must_use]
    pub fn service_log(run_folder: &Path, service: &str) -> PathBuf {
        // Names are checked elsewhere; here they only must not lead elsewhere.
        run_folder
            .join("services")
            .join(format!("{}.log", service.replace('/', "%2F")))
    }

    /// A run's workspace on disk (host executor).
    #[must_use]
    pub fn workspace(run_folder: &Path) -> PathBuf {
        run_folder.join("workspace")
    }

    /// Folder of what the runs of a repository kept.
    #[must_use]
    pub fn repo_artifacts(&self, repo: &RepoName) -> PathBuf {
        self.artifacts().join(repo.as_str())
    }

    /// Folder of what one run kept.
    #[must_use]
    pub fn run_artifacts(&self, repo: &RepoName, run: RunId) -> PathBuf {
        self.repo_artifacts(repo).join(run.to_string())
    }

    /// Folder of the host executor's caches.
    #[must_use]
    pub fn caches(&self) -> PathBuf {
        self.data.join("caches")
    }

    /// Push events not yet taken.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.data.join("spool")
    }

    /// One spooled event.
    #[must_use]
    pub fn spool_file(&self, event: EventId) -> PathBuf {
        self.spool().join(format!("{event}.json"))
    }

    /// Damaged spool files, set aside.
    #[must_use]
    pub fn spool_damaged(&self) -> PathBuf {
        self.spool().join("damaged")
    }

    /// Where this file exists, a push to an unknown repository does not create it. `serve` keeps it
    /// as the configuration says, so that the push path need not load one.
    #[must_use]
    pub fn no_push_to_create(&self) -> PathBuf {
        self.data.join("no-push-to-create")
    }

    /// The id of this instance, as the database has it. `serve` keeps it, so that the push path need open none.
    #[must_use]
    pub fn instance(&self) -> PathBuf {
        self.data.join("instance")
    }

    /// What should stay free on the volume, in bytes. `serve` keeps it as the configuration says, so that
    /// the push path need not load one.
    #[must_use]
    pub fn min_free(&self) -> PathBuf {
        self.data.join("min-free")
    }

    /// The database before each migration.
    #[must_use]
    pub fn backups(&self) -> PathBuf {
        self.data.join("backups")
    }

    /// What a restore of a backup unpacks, until it is complete.
    #[must_use]
    pub fn restore(&self) -> PathBuf {
        self.data.join(".restore")
    }

    /// The event socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.data.join("server.sock")
    }

    /// The socket over which people's commands run in the containers of runs.
    #[must_use]
    pub fn attach_socket(&self) -> PathBuf {
        self.data.join("attach.sock")
    }

    /// Where `serve` listens, as JSON, replaced atomically: `listen` (an address to reach it at from
    /// within) and `url` (what people type). Commands read it instead of the configuration.
    #[must_use]
    pub fn server_address(&self) -> PathBuf {
        self.data.join("endpoint.json")
    }

    /// What `init` knows of its children, as JSON, replaced atomically.
    #[must_use]
    pub fn init_status(&self) -> PathBuf {
        self.runtime.join("status.json")
    }

    /// The copy of all keys that sshd reads.
    #[must_use]
    pub fn merged_authorized_keys(&self) -> PathBuf {
        self.runtime.join("authorized_keys")
    }

    /// The sshd configuration that `init` writes.
    #[must_use]
    pub fn sshd_config(&self) -> PathBuf {
        self.runtime.join("sshd_config")
    }

    /// The git configuration that every git of the appliance reads as its system configuration.
    #[must_use]
    pub fn git_config(&self) -> PathBuf {
        self.runtime.join("gitconfig")
    }

    /// The largest push in bytes, as the configuration says. `serve` writes it, and `quire exec` passes it to git.
    #[must_use]
    pub fn git_limits(&self) -> PathBuf {
        self.data.join("gitconfig")
    }

    /// Folder of the hooks (links to the quire binary named `pre-receive`, `proc-receive` and `post-receive`).
    #[must_use]
    pub fn hooks(&self) -> PathBuf {
        self.runtime.join("hooks")
    }
}
