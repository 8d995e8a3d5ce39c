//! Where the commands run: in containers of the engine here, or on this very machine.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use super::CiError;
use crate::config::Ci;
use crate::executor::{DockerConfig, DockerExecutor, Executor, HostConfig, HostExecutor};
use crate::names::RunId;

/// Names the engine, as for Docker's own client.
const ENGINE_VARIABLE: &str = "DOCKER_HOST";

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Wanted {
    /// On this machine itself, without isolation
    Host,
    /// In a container of the Docker engine
    Docker,
}

/// What was chosen.
pub(super) struct Choice {
    pub(super) executor: Arc<dyn Executor>,
    /// In one word.
    pub(super) word: &'static str,
    /// Why it is not what one might expect.
    pub(super) note: Option<String>,
    /// Held while the run may have containers.
    _lock: Option<Flock<File>>,
}

/// Takes what is wanted; where nothing is said, the engine that answers, else this machine.
pub(super) async fn choose(
    wanted: Option<Wanted>,
    root: &Path,
    run: RunId,
) -> Result<Choice, CiError> {
    let host = |note| {
        let executor = Arc::new(HostExecutor::new(HostConfig::new(
            &format!("ci-{}", run.tail()),
            None,
            kept_caches(root),
        )));
        Choice {
            executor,
            word: "host",
            note,
            _lock: None,
        }
    };
    if wanted == Some(Wanted::Host) {
        return Ok(host(None));
    }
    let endpoint = std::env::var(ENGINE_VARIABLE)
        .ok()
        .filter(|endpoint| !endpoint.is_empty())
        .unwrap_or_else(|| Ci::default().engine);
    let docker = DockerExecutor::new(DockerConfig {
        network: Some("bridge".to_owned()),
        ..DockerConfig::new(&endpoint, &instance(root))
    });
    match (docker.probe().await, wanted) {
        (Ok(()), _) => {
            let lock = sweep(&docker, root).await;
            Ok(Choice {
                executor: Arc::new(docker),
                word: "docker",
                note: None,
                _lock: lock,
            })
        }
        (Err(why), Some(_)) => Err(CiError::Engine(why)),
        (Err(why), None) => Ok(host(Some(format!("no container: {why}")))),
    }
}

/// Where caches of runs on this machine itself are kept, as programs keep what they can do without.
fn kept_caches(root: &Path) -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let folder = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(folder.join("quire/caches").join(instance(root)))
}

/// The id under which containers and images of this tree's runs are marked. The same for each run
/// of a tree, so that images are built on those before; never an appliance's, which is a UUID; and
/// another for every machine or container that shares the engine.
fn instance(root: &Path) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let processes = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let digest = Sha256::digest(format!(
        "{host}\n{}\n{}",
        processes.display(),
        root.display()
    ));
    let digits: String = digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("ci-{digits}")
}

/// Removes containers that an earlier run here left behind when it was killed, unless another run
/// of this tree goes on. The lock says so; where a file system has none, nothing is removed.
async fn sweep(docker: &DockerExecutor, root: &Path) -> Option<Flock<File>> {
    let alone = Flock::lock(File::open(root).ok()?, FlockArg::LockExclusiveNonblock);
    let file = match alone {
        Ok(lock) => {
            // What fails here is tried again by the next run, and does not concern this one.
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
    fn each_tree_has_an_id_of_its_own() {
        let (one, two) = (instance(Path::new("/a")), instance(Path::new("/b")));
        assert!(one != two && one == instance(Path::new("/a")));
        assert!(one.len() == 19 && one.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    }
}
