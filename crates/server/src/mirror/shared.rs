//! What the workers of mirrors share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore, watch};

use super::settings::MirrorSettings;
use crate::intake::Intake;
use crate::metrics::Metrics;
use quire_git::Git;
use quire_runtime::changes::ChangeNotifier;
use quire_store::{NewMirror, Store};
use quire_types::names::RepoName;
use quire_types::paths::Paths;
use quire_types::sync::lock;

/// How many attempts are made at the same time.
const MAX_ATTEMPTS: usize = 4;
/// How many of them are beside these for mirrors that repositories have by their own settings.
const MAX_ATTEMPTS_OF_REPOS: usize = 2;
/// How many repositories are imported at the same time.
const MAX_IMPORTS: usize = 2;
/// How many refs that differ an attempt reads: all.
pub(super) const ALL_REFS: u32 = u32::MAX;

/// What mirrors need from the rest of the server.
pub struct MirrorDeps {
    pub store: Store,
    pub paths: Paths,
    /// Wakes the workers when a push was recorded.
    pub changes: ChangeNotifier,
    /// Records what is fetched.
    pub intake: Intake,
    /// Replaced when the configuration is reloaded, or the settings of a repository name other mirrors.
    pub settings: watch::Receiver<Arc<MirrorSettings>>,
    pub metrics: Arc<Metrics>,
}

/// By repository and name.
type MirrorLocks = HashMap<(RepoName, String), Arc<AsyncMutex<()>>>;

/// What the workers share.
pub(super) struct MirrorShared {
    pub(super) deps: MirrorDeps,
    pub(super) git: Git,
    pub(super) slots: Semaphore,
    /// A repository can name remotes that never answer, which must not hold up the owner's.
    pub(super) slots_of_repos: Semaphore,
    pub(super) import_slots: Semaphore,
    /// Notified when an import has made a mirror.
    pub(super) made: Notify,
    /// One attempt at a time for each mirror.
    locks: Mutex<MirrorLocks>,
}

impl MirrorShared {
    pub(super) fn new(deps: MirrorDeps) -> Self {
        Self {
            git: Git::new(&deps.paths),
            deps,
            slots: Semaphore::new(MAX_ATTEMPTS),
            slots_of_repos: Semaphore::new(MAX_ATTEMPTS_OF_REPOS),
            import_slots: Semaphore::new(MAX_IMPORTS),
            made: Notify::new(),
            locks: Mutex::default(),
        }
    }

    pub(super) fn lock_of(&self, mirror: &NewMirror) -> Arc<AsyncMutex<()>> {
        let key = (mirror.repo.clone(), mirror.name.clone());
        lock(&self.locks).entry(key).or_default().clone()
    }
}
