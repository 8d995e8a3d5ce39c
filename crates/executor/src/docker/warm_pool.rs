//! Containers that are started before a run needs one: each is of a run that started a moment ago, and
//! is used by one run at most.
//!
//! ```text
//! a run has started, or a push begins ─► create, attach, start ─► waits ─┬─► taken by a run with the same key
//!                                                                        └─► removed: unused for long, or for another
//! ```
//! A container has the label of an id of its own, as if it were of a run: so a sweep finds it by the
//! same search, and this process enters the id as in use. Its helper ends when quire does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quire_types::names::{RepoName, RunId};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::cleanup::CleanupGuard;
use super::context::{DockerContext, container_name};
use super::helper_streams::helper_streams;
use super::in_use::RunLease;
use crate::engine::{ContainerSpec, DockerError, NetworkMode, VolumeSource};
use crate::link::HelperStreams;

/// How long a container that is being started may take to be removed when quire stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Of how many repositories the pool knows what their last runs were started from.
const MAX_RECENT: usize = 32;

/// How long a container waits for a run.
const MAX_UNUSED: Duration = Duration::from_secs(300);

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct WarmPool {
    context: DockerContext,
    state: Arc<Mutex<PoolState>>,
    /// The tasks that start containers.
    starts: TaskTracker,
}

#[derive(Default)]
struct PoolState {
    /// The oldest first.
    waiting: Vec<WarmContainer>,
    starting: Vec<Starting>,
    /// What runs were started from, the newest last; a container is started from it again when a
    /// push to the repository begins.
    recent: Vec<WarmKey>,
    /// The containers that runs have taken: they have not the label of their run.
    taken: HashMap<RunId, String>,
    closed: bool,
}

/// A container that is being started.
struct Starting {
    key: WarmKey,
    /// The id that stands for a run.
    own: RunId,
    /// A run that came meanwhile gets it as soon as it is started: earlier than one of its own.
    claim: Option<oneshot::Sender<WarmContainer>>,
}

/// What a container must be started from so that a run can use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WarmKey {
    repo: RepoName,
    /// The id of the image. Its name may mean another image since.
    image: String,
    /// Without what differs from run to run.
    spec: ContainerSpec,
}

/// A started container that no run has used.
pub(super) struct WarmContainer {
    key: WarmKey,
    /// The id that stands for a run.
    own: RunId,
    pub(super) id: String,
    pub(super) streams: HelperStreams,
    pub(super) guard: CleanupGuard,
    pub(super) lease: RunLease,
}

impl WarmKey {
    pub(super) fn new(repo: &RepoName, image: &str, spec: &ContainerSpec) -> Self {
        Self {
            repo: repo.clone(),
            image: image.to_owned(),
            spec: ContainerSpec {
                name: String::new(),
                labels: Vec::new(),
                ..spec.clone()
            },
        }
    }

    /// The network on which the container waits.
    pub(super) fn network(&self) -> &NetworkMode {
        &self.spec.network
    }

    /// Whether the name of the image means another image now.
    fn is_outdated_by(&self, newer: &Self) -> bool {
        let is_same_name = self.spec.image == newer.spec.image;
        self.repo == newer.repo && is_same_name && self.image != newer.image
    }
}

impl WarmPool {
    pub(super) fn new(context: DockerContext) -> Self {
        Self {
            context,
            state: Arc::default(),
            starts: TaskTracker::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a container for a run; `None` if there is none with this key. Waits for one that is being
    /// started.
    pub(super) async fn take(&self, key: &WarmKey, run: RunId) -> Option<WarmContainer> {
        let (warm, claimed) = {
            let mut state = self.state();
            let outdated: Vec<_> = state
                .waiting
                .extract_if(.., |warm| warm.key.is_outdated_by(key))
                .collect();
            let position = state.waiting.iter().position(|warm| warm.key == *key);
            let warm = position.map(|position| state.waiting.remove(position));
            let claimed = match warm {
                Some(_) => None,
                None => state.claim(key),
            };
            drop(state);
            // Their guards remove them.
            drop(outdated);
            (warm, claimed)
        };
        let warm = match claimed {
            Some(claimed) => claimed.await.ok(),
            None => warm,
        }?;
        self.state().taken.insert(run, warm.id.clone());
        Some(warm)
    }

    /// Returns the container that a run has taken.
    pub(super) fn taken_by(&self, run: RunId) -> Option<String> {
        self.state().taken.get(&run).cloned()
    }

    /// The container of a run is removed.
    pub(super) fn forget(&self, run: RunId) {
        self.state().taken.remove(&run);
    }

    /// A run was started from this key: the next one may be, too.
    pub(super) fn fill(&self, key: WarmKey) {
        {
            let mut state = self.state();
            // The last key of a repository: more would take the places of other repositories.
            state.recent.retain(|recent| recent.repo != key.repo);
            state.recent.push(key.clone());
            let surplus = state.recent.len().saturating_sub(MAX_RECENT);
            state.recent.drain(..surplus);
        }
        self.make_ready(key);
    }

    /// A push to this repository begins: its run may be started as the last one was.
    pub(super) fn expect(&self, repo: &RepoName) {
        let state = self.state();
        let key = state.recent.iter().find(|key| key.repo == *repo).cloned();
        drop(state);
        if let Some(key) = key {
            self.make_ready(key);
        }
    }

    /// Starts a container with this key in the background, unless one waits for a run.
    fn make_ready(&self, key: WarmKey) {
        let own = RunId::new();
        {
            let mut state = self.state();
            if state.closed || state.has_free(&key) {
                return;
            }
            state.starting.push(Starting {
                key: key.clone(),
                own,
                claim: None,
            });
        }
        let pool = self.clone();
        self.starts.spawn(async move {
            let started = pool.start(&key, own).await;
            let claim = pool.state().started(own);
            match started {
                Ok(warm) => pool.put(warm, claim).await,
                Err(error) => tracing::debug!(%error, "cannot start a container in advance"),
            }
        });
    }

    async fn start(&self, key: &WarmKey, own: RunId) -> Result<WarmContainer, DockerError> {
        let engine = &self.context.engine;
        let lease = self.context.in_use.lease(own);
        lease.take(&key.spec.image).await;
        for mount in &key.spec.volumes {
            if let VolumeSource::Named(volume) = &mount.source {
                lease.take(volume).await;
            }
        }
        let spec = ContainerSpec {
            name: container_name(own),
            // The key holds for the image itself; its name may lead to another one by now.
            image: key.image.clone(),
            labels: self.context.labels_of(own, &key.repo),
            ..key.spec.clone()
        };
        let id = engine.create_container(&spec).await?;
        let guard = CleanupGuard::of_container(&self.context, id.clone());
        let streams = engine.attach(&id, true).await?;
        engine.start_container(&id).await?;
        Ok(WarmContainer {
            key: key.clone(),
            own,
            streams: helper_streams(streams, &id),
            id,
            guard,
            lease,
        })
    }

    async fn put(&self, warm: WarmContainer, claim: Option<oneshot::Sender<WarmContainer>>) {
        let own = warm.own;
        let warm = match claim {
            Some(claim) => match claim.send(warm) {
                Ok(()) => return,
                // The run was cancelled meanwhile.
                Err(warm) => warm,
            },
            None => warm,
        };
        let mut surplus = Vec::new();
        {
            let mut state = self.state();
            if state.closed {
                surplus.push(warm);
            } else {
                state.waiting.push(warm);
                let count = state.waiting.len().saturating_sub(self.context.config.warm);
                surplus.extend(state.waiting.drain(..count));
            }
        }
        remove(surplus).await;
        let pool = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(MAX_UNUSED).await;
            pool.release(|warm| warm.own == own).await;
        });
    }

    /// Removes the containers that use a volume, so that the volume can be removed.
    pub(super) async fn release_volume(&self, volume: &str) {
        let uses = |warm: &WarmContainer| {
            let mut mounts = warm.key.spec.volumes.iter();
            mounts.any(|mount| matches!(&mount.source, VolumeSource::Named(name) if name == volume))
        };
        self.release(uses).await;
    }

    /// Removes all containers that wait.
    pub(super) async fn release_all(&self) {
        self.release(|_| true).await;
    }

    /// Removes all containers that wait, and starts no more.
    pub(super) async fn close(&self) {
        self.state().closed = true;
        self.release_all().await;
        self.starts.close();
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.starts.wait()).await;
    }

    async fn release(&self, selects: impl Fn(&WarmContainer) -> bool) {
        let released: Vec<_> = {
            let mut state = self.state();
            state.waiting.extract_if(.., |warm| selects(warm)).collect()
        };
        remove(released).await;
    }
}

impl PoolState {
    /// Whether a container with this key waits, or will wait as soon as it is started.
    fn has_free(&self, key: &WarmKey) -> bool {
        let is_unclaimed = |starting: &Starting| starting.key == *key && starting.claim.is_none();
        self.waiting.iter().any(|warm| warm.key == *key) || self.starting.iter().any(is_unclaimed)
    }

    fn claim(&mut self, key: &WarmKey) -> Option<oneshot::Receiver<WarmContainer>> {
        let mut starting = self.starting.iter_mut();
        let free = starting.find(|starting| starting.key == *key && starting.claim.is_none())?;
        let (sender, receiver) = oneshot::channel();
        free.claim = Some(sender);
        Some(receiver)
    }

    /// A start has ended; returns the run that waits for it.
    fn started(&mut self, own: RunId) -> Option<oneshot::Sender<WarmContainer>> {
        let mut starting = self.starting.iter();
        let position = starting.position(|starting| starting.own == own)?;
        self.starting.swap_remove(position).claim
    }
}

async fn remove(containers: Vec<WarmContainer>) {
    let removals = containers.into_iter().map(|warm| async move {
        // The connection is closed first, which ends the container.
        drop(warm.streams);
        warm.guard.clean_up().await;
        drop(warm.lease);
    });
    futures_util::future::join_all(removals).await;
}
