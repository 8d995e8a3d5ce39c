//! Putting right what a crash left behind: at start before anything else runs, and slowly ever
//! after. Safe to repeat; what cannot be confirmed gone yet stays as it is for the next time.

use super::Runner;
use crate::names::RunId;
use crate::run::{ExecutorKind, Run};

impl Runner {
    /// Ends every active run that no task of ours drives, once its container is confirmed gone, and removes
    /// containers, networks and workspaces that belong to no driven run. False where a run could not be
    /// put right yet.
    pub(super) async fn reconcile(&self) -> bool {
        // Both pictures under the lock that a claim takes, so that they are of one moment.
        let running = self.0.running.lock().await;
        let driven: Vec<RunId> = running.values().map(|in_hand| in_hand.run).collect();
        let active = self.0.store.call(|store| store.active_runs()).await;
        drop(running);
        let active = match active {
            Ok(active) => active,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the active runs cannot be read"
                );
                return false;
            }
        };
        let mut living = driven.clone();
        match self.kept().await {
            Ok(kept) => living.extend(kept),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "which containers are kept cannot be read"
                );
                return false;
            }
        }
        let mut all_right = true;
        let strays: Vec<&Run> = active
            .iter()
            .filter(|run| !driven.contains(&run.id))
            .collect();
        for executor in &self.0.executors {
            let mine =
                |run: &&&Run| run.executor.unwrap_or(ExecutorKind::Docker) == executor.kind();
            match executor.sweep(&living).await {
                Ok(swept) => {
                    if swept.removed > 0 {
                        tracing::warn!(removed = swept.removed, executor = %executor.kind(), "removed what runs had left behind");
                    }
                    for run in strays.iter().filter(mine) {
                        // Something of it is still there: not yet known to be over.
                        all_right &= !swept.left.contains(&run.id) && self.orphan(run).await;
                    }
                }
                Err(error) => {
                    // Also not those whose row names no container: its services are made before it, and it before its row.
                    let uncertain = strays.iter().filter(mine).count();
                    if uncertain > 0 {
                        all_right = false;
                        tracing::warn!(%error, runs = uncertain, "runs that nobody drives cannot be ended yet: are their containers gone?");
                    }
                }
            }
        }
        all_right
    }

    /// Removes caches of repositories that are gone, or bear another name by now. One that cannot be removed yet is for the next time.
    pub(super) async fn remove_caches_of_none(&self) {
        for executor in &self.0.executors {
            // What cannot be asked now is asked again.
            let Ok(caches) = executor.caches().await else {
                continue;
            };
            for cache in caches {
                // Where it cannot be told, it counts as there.
                if self.0.git.exists(&cache.repo).unwrap_or(true) {
                    continue;
                }
                match executor.remove_cache(&cache.repo, &cache.name).await {
                    Ok(true) => {
                        tracing::info!(repo = %cache.repo, cache = cache.name, "removed a cache of a repository that is gone")
                    }
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(repo = %cache.repo, %error, "a cache of a repository that is gone cannot be removed yet")
                    }
                }
            }
        }
    }

    async fn orphan(&self, run: &Run) -> bool {
        let (id, has_container) = (
            run.id,
            run.container_id.is_some() || run.workspace_path.is_some(),
        );
        let requeue = self.0.config.borrow().retry_orphaned;
        let ended = async {
            if has_container {
                self.0
                    .store
                    .call(move |store| store.container_gone(id))
                    .await?;
            }
            self.0
                .queue
                .orphan(
                    id,
                    "quire stopped or crashed while the run was active",
                    requeue,
                )
                .await
        };
        match ended.await {
            Ok(again) => {
                let again = again.map(|id| id.to_string()).unwrap_or_default();
                tracing::warn!(run = %id, again, "an active run had nobody to drive it any more");
                true
            }
            Err(error) => {
                tracing::error!(run = %id, error = &error as &dyn std::error::Error, "an orphaned run cannot be ended yet");
                false
            }
        }
    }
}
