//! Which node had the newest run of a repository, and so has its caches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quire_types::names::RepoName;

/// The ids of the nodes by repository. Clones share them.
#[derive(Clone, Default)]
pub(super) struct LastNodes(Arc<Mutex<HashMap<RepoName, String>>>);

impl LastNodes {
    fn lock(&self) -> MutexGuard<'_, HashMap<RepoName, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(&self, repo: &RepoName) -> Option<String> {
        self.lock().get(repo).cloned()
    }

    pub(super) fn set(&self, repo: &RepoName, node: String) {
        self.lock().insert(repo.clone(), node);
    }

    /// The node was lost, and the manager may take it for ready for a while.
    pub(super) fn forget(&self, repo: &RepoName) {
        self.lock().remove(repo);
    }
}
