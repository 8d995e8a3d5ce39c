//! The runs of this process: a sweep leaves them alone, and their caches stay.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quire_types::names::{RepoName, RunId};

/// Runs that were started and not stopped. Clones share them.
#[derive(Clone, Default)]
pub(super) struct RunningRuns(Arc<Mutex<Vec<(RunId, RepoName)>>>);

impl RunningRuns {
    fn entries(&self) -> MutexGuard<'_, Vec<(RunId, RepoName)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a run.
    pub(super) fn enter(&self, run: RunId, repo: RepoName) -> RunningGuard {
        self.entries().push((run, repo));
        RunningGuard {
            runs: self.clone(),
            run,
        }
    }

    pub(super) fn ids(&self) -> Vec<RunId> {
        self.entries().iter().map(|(run, _)| *run).collect()
    }

    /// Calls `work` unless a run of the repository is running; `None` if one is. No run is entered
    /// meanwhile.
    pub(super) fn unless_running<T>(&self, repo: &RepoName, work: impl FnOnce() -> T) -> Option<T> {
        let entries = self.entries();
        let is_running = entries.iter().any(|(_, running)| running == repo);
        (!is_running).then(work)
    }
}

/// The entry of a run, until dropped.
pub(super) struct RunningGuard {
    runs: RunningRuns,
    run: RunId,
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        let mut entries = self.runs.entries();
        if let Some(at) = entries.iter().position(|(run, _)| *run == self.run) {
            entries.swap_remove(at);
        }
    }
}
