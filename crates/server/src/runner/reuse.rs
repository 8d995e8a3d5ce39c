//! Reuses job results and artifacts of an earlier run in a retry of its failed jobs.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::job_recorder::RecordError;
use super::run_end::{RunEnd, internal_error, recording_failed};
use super::run_loop::Runner;
use quire_pipeline::JobTracker;
use quire_run_files::artifacts::{ArtifactStore, StoredArtifact};
use quire_types::error_chain;
use quire_types::names::JobName;
use quire_types::run::{FailureKind, Outcome, Run, RunArtifact, RunJob};

impl Runner {
    /// Marks reused jobs as ended, links their artifacts to this run, and returns their outputs.
    pub(super) async fn reuse(
        &self,
        run: &Run,
        tracker: &mut JobTracker,
        keeper: &ArtifactStore,
    ) -> Result<Map<String, Value>, RunEnd> {
        let id = run.id;
        let reused = self
            .deps()
            .store
            .call(move |store| store.jobs().reused(id))
            .await
            .map_err(|error| internal_error(&error))?;
        if reused.is_empty() {
            return Ok(Map::new());
        }
        self.link_artifacts(run, keeper).await?;
        Ok(mark_reused(tracker, reused))
    }

    /// Links all files first and then records all rows at once, so that a retry of this run finds all artifacts or none.
    async fn link_artifacts(&self, run: &Run, keeper: &ArtifactStore) -> Result<(), RunEnd> {
        let id = run.id;
        let rows = self
            .deps()
            .store
            .call(move |store| store.jobs().reused_artifacts(id))
            .await
            .map_err(|error| internal_error(&error))?;
        if rows.is_empty() {
            return Ok(());
        }
        let (paths, repo, keeper, theirs) = (
            self.deps().paths.clone(),
            run.repo.clone(),
            keeper.clone(),
            rows.clone(),
        );
        let brought = tokio::task::spawn_blocking(move || {
            let bring = |row: &RunArtifact| match row.name.parse() {
                Ok(name) => {
                    let kept = StoredArtifact {
                        name,
                        is_folder: row.is_folder,
                        files: row.files,
                        bytes: row.bytes,
                    };
                    keeper
                        .link_from(&paths.run_artifacts(&repo, row.run_id), &kept)
                        .map_err(|error| error_chain::chain(&error))
                }
                Err(error) => Err(error_chain::chain(&error)),
            };
            theirs
                .iter()
                .try_for_each(|row| bring(row).map_err(|why| (row.name.clone(), row.run_id, why)))
        });
        brought.await.map_err(|error| internal_error(&error))?.map_err(|(name, from, why)| {
            let message = format!("the artifact `{name}` of run {from} cannot be reused: {why}; retry the run without --failed");
            RunEnd::Outcome(Outcome::Failed(FailureKind::Internal, message))
        })?;
        quire_types::failpoint::hit("runner-artifacts-brought");
        let ours: Vec<RunArtifact> = rows
            .into_iter()
            .map(|row| RunArtifact { run_id: id, ..row })
            .collect();
        let recorded = self
            .deps()
            .store
            .call(move |store| store.artifacts().record_all(&ours))
            .await;
        recorded.map_err(|error| recording_failed(&RecordError::from(error)))?;
        self.deps().live.notify_run(id);
        Ok(())
    }
}

/// Marks reused jobs as ended and returns their outputs.
fn mark_reused(tracker: &mut JobTracker, reused: Vec<RunJob>) -> Map<String, Value> {
    let mut reused: BTreeMap<JobName, RunJob> = reused
        .into_iter()
        .map(|job| (job.job_id.clone(), job))
        .collect();
    let mut outputs = Map::new();
    while let Some(row) = tracker.ready().iter().find_map(|job| reused.remove(job)) {
        tracker.started(&row.job_id);
        tracker.ended(&row.job_id, row.state);
        outputs.extend(row.output.map(|output| (row.job_id.to_string(), output)));
    }
    outputs
}
