//! Chooses the executor of a local run: a container of the local Docker engine, or this machine.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use super::error::CiError;
use quire_config::CiConfig;
use quire_executor::{DockerConfig, DockerExecutor, Executor, HostConfig, HostExecutor};
use quire_types::names::RunId;
use quire_types::pull_policy::PullPolicy;
use quire_types::token::hex;

/// The variable that names the engine, as for the Docker client.
const ENGINE_VARIABLE: &str = "DOCKER_HOST";
const REGISTRIES_VARIABLE: &str = "QUIRE_CI_REGISTRIES";

/// The executors that `--executor` accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ExecutorArg {
    /// On this machine, without isolation
    Host,
    /// In a container of the Docker engine
    Docker,
}

/// The chosen executor.
pub(super) struct ChosenExecutor {
    pub(super) executor: Arc<dyn Executor>,
    /// Its name for the header of the output.
    pub(super) name: &'static str,
    /// Why it is not the default one.
    pub(super) note: Option<String>,
    /// Held while the run may have containers.
    _lock: Option<Flock<File>>,
}

/// Returns the wanted executor. Without a wish it is Docker if an engine answers, else the host.
pub(super) async fn choose(
    wanted: Option<ExecutorArg>,
    root: &Path,
    run: RunId,
) -> Result<ChosenExecutor, CiError> {
    let host = |note| {
        let executor = Arc::new(HostExecutor::new(HostConfig::new(
            &format!("ci-{}", run.short()),
            None,
            host_caches(root),
        )));
        ChosenExecutor {
            executor,
            name: "host",
            note,
            _lock: None,
        }
    };
    if wanted == Some(ExecutorArg::Host) {
        return Ok(host(None));
    }
    let endpoint = std::env::var(ENGINE_VARIABLE)
        .ok()
        .filter(|endpoint| !endpoint.is_empty())
        .unwrap_or_else(|| CiConfig::default().engine);
    let docker = DockerExecutor::new(DockerConfig {
        registries: std::env::var(REGISTRIES_VARIABLE)
            .map(|listed| listed.split(',').map(str::to_owned).collect())
            .unwrap_or_default(),
        pull: PullPolicy::Missing,
        ..DockerConfig::new(&endpoint, &instance(root))
    });
    match (docker.probe().await, wanted) {
        (Ok(()), _) => {
            let lock = sweep(&docker, root).await;
            Ok(ChosenExecutor {
                executor: Arc::new(docker),
                name: "docker",
                note: None,
                _lock: lock,
            })
        }
        (Err(why), Some(_)) => Err(CiError::Engine(why)),
        (Err(why), None) => Ok(host(Some(format!("no Docker engine: {why}")))),
    }
}

/// The folder for caches of runs on the host, below the cache folder of the user.
fn host_caches(root: &Path) -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let folder = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(folder.join("quire/caches").join(instance(root)))
}

/// The instance id in the labels of this tree's containers and images. It is the same for each run of
/// a tree, so that image builds reuse earlier layers. It differs from the id of an appliance, which is a
/// UUID, and between machines and containers that share an engine.
fn instance(root: &Path) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let processes = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let digest = Sha256::digest(format!(
        "{host}\n{}\n{}",
        processes.display(),
        root.display()
    ));
    format!("ci-{}", hex(&digest[..8]))
}

/// Removes containers that an earlier, killed run of this tree left behind, unless another run of this
/// tree is active. A file lock says so; on a file system without locks nothing is removed.
async fn sweep(docker: &DockerExecutor, root: &Path) -> Option<Flock<File>> {
    let alone = Flock::lock(File::open(root).ok()?, FlockArg::LockExclusiveNonblock);
    let file = match alone {
        Ok(lock) => {
            // The next run tries again; this run is not affected.
            let _ = docker.sweep(&[]).await;
            lock.unlock().ok()?
        }
        Err((file, _)) => file,
    };
    Flock::lock(file, FlockArg::LockSharedNonblock).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tree_has_its_own_id() {
        let (one, two) = (instance(Path::new("/a")), instance(Path::new("/b")));
        assert!(one != two && one == instance(Path::new("/a")));
        assert!(one.len() == 19 && one.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    }
}
