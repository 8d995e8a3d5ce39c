//! Which node had the newest run of a repository, and so has its caches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quire_types::names::RepoName;

/// The nodes by repository. Clones share them.
#[derive(Clone, Default)]
pub(super) struct LastNodes(Arc<Mutex<HashMap<RepoName, LastNode>>>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastNode {
    pub(super) id: String,
    pub(super) name: String,
}

impl LastNodes {
    fn lock(&self) -> MutexGuard<'_, HashMap<RepoName, LastNode>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(&self, repo: &RepoName) -> Option<LastNode> {
        self.lock().get(repo).cloned()
    }

    pub(super) fn set(&self, repo: &RepoName, node: LastNode) {
        self.lock().insert(repo.clone(), node);
    }

    /// The node was lost, and the manager may take it for ready for a while.
    pub(super) fn forget(&self, repo: &RepoName) {
        self.lock().remove(repo);
    }
}
