//! Landings of the server: one worker for each repository that has some, so that one that hangs holds up no other.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::deps::LandingDeps;
use super::worker::{self, POLL_INTERVAL};
use crate::workers::Workers;
use quire_store::{Store, StoreError};
use quire_types::error_chain::with_sources;
use quire_types::names::RepoName;

/// The landings. Cheap to clone.
#[derive(Clone)]
pub struct LandingService {
    deps: Arc<LandingDeps>,
}

impl LandingService {
    #[must_use]
    pub fn new(deps: LandingDeps) -> Self {
        Self {
            deps: Arc::new(deps),
        }
    }

    /// Runs until `stop` is cancelled. A step that is cut off is made again after the next start.
    pub async fn run(self, stop: CancellationToken) {
        let mut changes = self.deps.changes.subscribe_all();
        let mut workers = Workers::default();
        let mut is_due = true;
        loop {
            changes.mark_unchanged();
            match self.busy_repos(is_due).await {
                Ok(repos) => {
                    workers.ensure(repos, |repo| worker::run(self.deps.clone(), repo));
                }
                Err(error) => {
                    tracing::error!(error = with_sources(&error), "cannot list the landings");
                }
            }
            is_due = false;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL_INTERVAL) => is_due = true,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }

    /// The repositories that have work. Deletes old landings, if that is due.
    async fn busy_repos(&self, is_due: bool) -> Result<Vec<RepoName>, StoreError> {
        let read = move |store: &Store| {
            if is_due {
                store.landings().prune()?;
            }
            store.landings().busy_repos()
        };
        self.deps.store.call(read).await
    }
}
