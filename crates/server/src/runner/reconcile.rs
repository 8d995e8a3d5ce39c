//! Reconciles the database and the executors after a crash: at start before anything else runs, and
//! periodically. It can be repeated; a run whose container is not confirmed to be removed is left for the next time.

use super::run_loop::Runner;
use quire_types::error_chain::with_sources;
use quire_types::names::RunId;
use quire_types::run::Run;

impl Runner {
    /// Ends every active run without a task, once its container is confirmed to be removed, and removes
    /// containers, networks and workspaces without a run. Returns false if a run could not be ended yet.
    pub(super) async fn reconcile(&self) -> bool {
        // Both lists are read under the lock that a claim takes, so that they are consistent.
        let running = self.0.active.lock().await;
        let driven: Vec<RunId> = running.values().map(|handle| handle.run).collect();
        let active = self.deps().store.call(|store| store.runs().active()).await;
        drop(running);
        let active = match active {
            Ok(active) => active,
            Err(error) => {
                tracing::error!(error = with_sources(&error), "cannot read the active runs");
                return false;
            }
        };
        let mut active_or_kept = driven.clone();
        match self.kept_runs().await {
            Ok(kept) => active_or_kept.extend(kept),
            Err(error) => {
                tracing::error!(
                    error = with_sources(&error),
                    "cannot read which containers are kept"
                );
                return false;
            }
        }
        let mut complete = true;
        let orphans: Vec<&Run> = active
            .iter()
            .filter(|run| !driven.contains(&run.id))
            .collect();
        for (position, executor) in self.deps().executors.iter().enumerate() {
            // An active run without an executor belongs to the first one, which runs new runs.
            let is_of_executor = |run: &&&Run| match &run.executor {
                Some(name) => name == executor.name(),
                None => position == 0,
            };
            match executor.sweep(&active_or_kept).await {
                Ok(swept) => {
                    if swept.removed > 0 {
                        tracing::warn!(removed = swept.removed, executor = %executor.name(), "removed containers, networks or workspaces without a run");
                    }
                    for run in orphans.iter().filter(is_of_executor) {
                        // Something of the run still exists, so it has not ended yet.
                        let container = run.container_id.as_ref();
                        let remains = swept.remaining.contains(&run.id)
                            || container.is_some_and(|id| swept.remaining_containers.contains(id));
                        complete &= !remains && self.orphan(run).await;
                    }
                }
                Err(error) => {
                    // This includes runs whose row names no container: services are created before the container, and
                    // the container before its row is written.
                    let uncertain = orphans.iter().filter(is_of_executor).count();
                    if uncertain > 0 {
                        complete = false;
                        tracing::warn!(%error, runs = uncertain, "cannot end orphaned runs yet, because the executor cannot say whether their containers exist");
                    }
                }
            }
        }
        complete
    }

    /// Removes caches of repositories that were removed or renamed. A cache that cannot be removed is left for the next time.
    pub(super) async fn remove_orphaned_caches(&self) {
        for executor in &self.deps().executors {
            let Some(store) = executor.caches() else {
                continue;
            };
            // An executor that fails is asked again next time.
            let Ok(caches) = store.list().await else {
                continue;
            };
            for cache in caches {
                // If git cannot tell, the repository counts as existing.
                if self.deps().git.exists(&cache.repo).unwrap_or(true) {
                    continue;
                }
                match store.remove(&cache.repo, &cache.name).await {
                    Ok(true) => {
                        tracing::info!(repo = %cache.repo, cache = cache.name, "removed the cache of a removed repository")
                    }
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(repo = %cache.repo, %error, "cannot remove the cache of a removed repository yet")
                    }
                }
            }
        }
    }

    async fn orphan(&self, run: &Run) -> bool {
        let id = run.id;
        let has_container = run.container_id.is_some() || run.workspace_path.is_some();
        let requeue = self.deps().config.borrow().retry_orphaned;
        let ended = async {
            if has_container {
                self.deps()
                    .store
                    .call(move |store| store.runs().container_ended(id))
                    .await?;
            }
            self.deps()
                .queue
                .orphan(
                    id,
                    "quire stopped or crashed while the run was active",
                    requeue,
                )
                .await
        };
        match ended.await {
            Ok(requeued) => {
                let requeued_as = requeued.map(|id| id.to_string()).unwrap_or_default();
                tracing::warn!(run = %id, requeued_as, "marked an active run as orphaned");
                true
            }
            Err(error) => {
                tracing::error!(run = %id, error = with_sources(&error), "cannot end an orphaned run yet");
                false
            }
        }
    }
}
