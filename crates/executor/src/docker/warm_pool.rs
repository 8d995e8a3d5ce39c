//! What is started before a run needs it, such as a container: each is of a run that started a moment ago, and
//! is used by one run at most.
//!
//! ```text
//! a run has started, or a push begins ─► start ─► waits ─┬─► taken by a run with the same key
//!                                                        └─► removed: unused for long, or for another
//! ```
//! What is started has the label of an id of its own, as if it were of a run: so a sweep finds it by the
//! same search, and this process enters the id as in use. Its helper ends when quire does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use quire_types::names::{RepoName, RunId};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::volume_holders::VolumeHolder;
use crate::error::ExecutorError;

/// How long what is being started may take to be removed when quire stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a start in advance may take: until then, runs with the same key wait for it or find it unfinished.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a run waits for what is being started in advance, before it starts its own.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(15);

/// Of how many repositories the pool knows what their last runs were started from.
const MAX_RECENT: usize = 32;

/// How long something waits for a run.
const MAX_UNUSED: Duration = Duration::from_secs(300);

/// How something is started in advance.
pub(super) trait WarmStarter: Send + Sync + 'static {
    /// What it must be started from so that a run can use it.
    type Key: WarmStartKey;
    type Started: Send + 'static;

    /// Starts it as if it were of the run `own`.
    fn start(
        &self,
        key: &Self::Key,
        own: RunId,
    ) -> impl Future<Output = Result<Self::Started, ExecutorError>> + Send;

    /// The engine's id of it.
    fn id(started: &Self::Started) -> &str;

    /// Removes one that no run has used.
    fn remove(started: Self::Started) -> impl Future<Output = ()> + Send;
}

pub(super) trait WarmStartKey: Clone + PartialEq + Send + Sync + 'static {
    fn repo(&self) -> &RepoName;

    /// Whether the name of the image means another image now.
    fn is_outdated_by(&self, newer: &Self) -> bool;

    /// Whether what is started from it has a volume.
    fn uses_volume(&self, volume: &str) -> bool;
}

/// Cheap to clone.
pub(super) struct WarmPool<S: WarmStarter> {
    starter: Arc<S>,
    /// How many wait at most.
    limit: usize,
    start_timeout: Duration,
    claim_timeout: Duration,
    state: Arc<Mutex<PoolState<S>>>,
    /// The tasks that start something.
    starts: TaskTracker,
}

struct PoolState<S: WarmStarter> {
    /// The oldest first.
    waiting: Vec<WarmEntry<S>>,
    starting: Vec<Starting<S>>,
    /// What runs were started from, the newest last; it is started from it again when a
    /// push to the repository begins.
    recent: Vec<S::Key>,
    /// What runs have taken, by the engine's id: it has not the label of its run.
    taken: HashMap<RunId, String>,
    closed: bool,
}

/// What is being started.
struct Starting<S: WarmStarter> {
    key: S::Key,
    /// The id that stands for a run.
    own: RunId,
    /// A run that came meanwhile gets it as soon as it is started: earlier than one of its own.
    claim: Option<oneshot::Sender<WarmEntry<S>>>,
}

/// What was started and no run has used.
struct WarmEntry<S: WarmStarter> {
    key: S::Key,
    /// The id that stands for a run.
    own: RunId,
    started: S::Started,
}

impl<S: WarmStarter> Clone for WarmPool<S> {
    fn clone(&self) -> Self {
        Self {
            starter: Arc::clone(&self.starter),
            limit: self.limit,
            start_timeout: self.start_timeout,
            claim_timeout: self.claim_timeout,
            state: Arc::clone(&self.state),
            starts: self.starts.clone(),
        }
    }
}

impl<S: WarmStarter> Default for PoolState<S> {
    fn default() -> Self {
        Self {
            waiting: Vec::new(),
            starting: Vec::new(),
            recent: Vec::new(),
            taken: HashMap::new(),
            closed: false,
        }
    }
}

impl<S: WarmStarter> WarmPool<S> {
    pub(super) fn new(starter: S, limit: usize) -> Self {
        Self {
            starter: Arc::new(starter),
            limit,
            start_timeout: START_TIMEOUT,
            claim_timeout: CLAIM_TIMEOUT,
            state: Arc::default(),
            starts: TaskTracker::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, PoolState<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one for a run; `None` if there is none with this key. Waits for one that is being
    /// started, unless that takes longer than a start for the run itself should.
    pub(super) async fn take(&self, key: &S::Key, run: RunId) -> Option<S::Started> {
        let (warm, claimed, outdated) = {
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
            (warm, claimed, outdated)
        };
        if !outdated.is_empty() {
            tokio::spawn(remove(outdated));
        }
        let warm = match claimed {
            Some(claimed) => {
                let waiting = tokio::time::timeout(self.claim_timeout, claimed).await;
                waiting.ok().and_then(Result::ok)
            }
            None => warm,
        }?;
        let id = S::id(&warm.started).to_owned();
        self.state().taken.insert(run, id);
        Some(warm.started)
    }

    /// Returns the engine's id of what a run has taken.
    pub(super) fn taken_by(&self, run: RunId) -> Option<String> {
        self.state().taken.get(&run).cloned()
    }

    /// What a run has taken is removed.
    pub(super) fn forget(&self, run: RunId) {
        self.state().taken.remove(&run);
    }

    /// A run was started from this key: the next one may be, too.
    pub(super) fn fill(&self, key: S::Key) {
        {
            let mut state = self.state();
            // The last key of a repository: more would take the places of other repositories.
            state.recent.retain(|recent| recent.repo() != key.repo());
            state.recent.push(key.clone());
            let surplus = state.recent.len().saturating_sub(MAX_RECENT);
            state.recent.drain(..surplus);
        }
        self.make_ready(key);
    }

    /// A push to this repository begins: its run may be started as the last one was.
    pub(super) fn expect(&self, repo: &RepoName) {
        let state = self.state();
        let key = state.recent.iter().find(|key| key.repo() == repo).cloned();
        drop(state);
        if let Some(key) = key {
            self.make_ready(key);
        }
    }

    /// Starts one with this key in the background, unless one waits for a run.
    fn make_ready(&self, key: S::Key) {
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
            let starting = pool.starter.start(&key, own);
            let started = tokio::time::timeout(pool.start_timeout, starting).await;
            let claim = pool.state().started(own);
            match started {
                Ok(Ok(started)) => pool.put(WarmEntry { key, own, started }, claim).await,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "cannot start anything in advance of a run");
                }
                Err(_) => tracing::debug!("what is started in advance of a run takes too long"),
            }
        });
    }

    async fn put(&self, warm: WarmEntry<S>, claim: Option<oneshot::Sender<WarmEntry<S>>>) {
        let own = warm.own;
        let warm = match claim {
            Some(claim) => match claim.send(warm) {
                Ok(()) => return,
                // The run was cancelled, or has begun without it.
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
                let count = state.waiting.len().saturating_sub(self.limit);
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

    /// Removes all that wait.
    pub(super) async fn release_all(&self) {
        self.release(|_| true).await;
    }

    /// Removes all that wait, and starts no more.
    pub(super) async fn close(&self) {
        self.state().closed = true;
        self.release_all().await;
        self.starts.close();
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.starts.wait()).await;
    }

    /// Returns how many were removed.
    async fn release(&self, selects: impl Fn(&WarmEntry<S>) -> bool) -> usize {
        let released: Vec<_> = {
            let mut state = self.state();
            state.waiting.extract_if(.., |warm| selects(warm)).collect()
        };
        let count = released.len();
        remove(released).await;
        count
    }
}

impl<S: WarmStarter> VolumeHolder for WarmPool<S> {
    fn release_volume<'a>(&'a self, volume: &'a str) -> BoxFuture<'a, bool> {
        async move {
            let uses_volume = |warm: &WarmEntry<S>| warm.key.uses_volume(volume);
            self.release(uses_volume).await > 0
        }
        .boxed()
    }
}

impl<S: WarmStarter> PoolState<S> {
    /// Whether one with this key waits, or will wait as soon as it is started.
    fn has_free(&self, key: &S::Key) -> bool {
        // One that a run has stopped waiting for is free once it is started. Later runs do not wait for it, since it may hang.
        let is_unclaimed = |starting: &Starting<S>| {
            let claim = starting.claim.as_ref();
            starting.key == *key && claim.is_none_or(oneshot::Sender::is_closed)
        };
        self.waiting.iter().any(|warm| warm.key == *key) || self.starting.iter().any(is_unclaimed)
    }

    fn claim(&mut self, key: &S::Key) -> Option<oneshot::Receiver<WarmEntry<S>>> {
        let mut starting = self.starting.iter_mut();
        let free = starting.find(|starting| starting.key == *key && starting.claim.is_none())?;
        let (sender, receiver) = oneshot::channel();
        free.claim = Some(sender);
        Some(receiver)
    }

    /// A start has ended; returns the run that waits for it.
    fn started(&mut self, own: RunId) -> Option<oneshot::Sender<WarmEntry<S>>> {
        let mut starting = self.starting.iter();
        let position = starting.position(|starting| starting.own == own)?;
        self.starting.swap_remove(position).claim
    }
}

async fn remove<S: WarmStarter>(waiting: Vec<WarmEntry<S>>) {
    let removals = waiting.into_iter().map(|warm| S::remove(warm.started));
    futures_util::future::join_all(removals).await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    /// Starts nothing before it is allowed to.
    #[derive(Clone)]
    struct SlowStarter {
        begun: Arc<AtomicUsize>,
        allowed: Arc<Semaphore>,
    }

    impl WarmStartKey for RepoName {
        fn repo(&self) -> &RepoName {
            self
        }

        fn is_outdated_by(&self, _newer: &Self) -> bool {
            false
        }

        fn uses_volume(&self, volume: &str) -> bool {
            volume == self.as_str()
        }
    }

    impl WarmStarter for SlowStarter {
        type Key = RepoName;
        type Started = String;

        async fn start(&self, _key: &RepoName, own: RunId) -> Result<String, ExecutorError> {
            self.begun.fetch_add(1, Ordering::SeqCst);
            let permit = self.allowed.acquire().await;
            permit.map_err(|_| ExecutorError::Cancelled)?.forget();
            Ok(own.to_string())
        }

        fn id(started: &String) -> &str {
            started
        }

        async fn remove(_started: String) {}
    }

    #[tokio::test]
    async fn a_start_that_hangs_is_not_waited_for() {
        let starter = SlowStarter {
            begun: Arc::default(),
            allowed: Arc::new(Semaphore::new(0)),
        };
        let mut pool = WarmPool::new(starter.clone(), 2);
        pool.claim_timeout = Duration::from_millis(20);
        let key: RepoName = "app".parse().unwrap();
        pool.fill(key.clone());
        assert_eq!(pool.take(&key, RunId::new()).await, None);
        // It is for the next run, which does not wait for it either.
        pool.fill(key.clone());
        pool.claim_timeout = Duration::from_secs(3600);
        assert_eq!(pool.take(&key, RunId::new()).await, None);
        assert_eq!(starter.begun.load(Ordering::SeqCst), 1);
        starter.allowed.add_permits(1);
        while pool.state().waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(pool.take(&key, RunId::new()).await.is_some());
        assert!(!pool.release_volume("other").await);
        // A start ends by itself.
        pool.start_timeout = Duration::from_millis(20);
        pool.fill(key);
        pool.starts.close();
        pool.starts.wait().await;
        assert_eq!(starter.begun.load(Ordering::SeqCst), 2);
        assert!(pool.state().starting.is_empty());
    }
}
