//! What a run uses of those it repeats: the results of jobs, and what these had kept.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Runner;
use super::one::{End, internal, unrecorded};
use super::record::RecordError;
use crate::artifacts::{Keeper, Kept};
use crate::causes::with_causes;
use crate::names::JobName;
use crate::pipeline::Schedule;
use crate::run::{ArtifactRow, FailureKind, JobRow, Outcome, Run};

impl Runner {
    /// Takes the jobs whose results are used again for ended, and brings their artifacts along. Gives their outputs.
    pub(super) async fn reuse(
        &self,
        run: &Run,
        schedule: &mut Schedule,
        keeper: &Keeper,
    ) -> Result<Map<String, Value>, End> {
        let id = run.id;
        let reused = self
            .0
            .store
            .call(move |store| store.reused(id))
            .await
            .map_err(|error| internal(&error))?;
        if reused.is_empty() {
            return Ok(Map::new());
        }
        self.bring_artifacts(run, keeper).await?;
        Ok(take_for_ended(schedule, reused))
    }

    /// All files first, then all rows at once: who repeats this run in its turn finds all of its artifacts or none.
    async fn bring_artifacts(&self, run: &Run, keeper: &Keeper) -> Result<(), End> {
        let id = run.id;
        let rows = self
            .0
            .store
            .call(move |store| store.reused_artifacts(id))
            .await
            .map_err(|error| internal(&error))?;
        if rows.is_empty() {
            return Ok(());
        }
        let (paths, repo, keeper, theirs) = (
            self.0.paths.clone(),
            run.repo.clone(),
            keeper.clone(),
            rows.clone(),
        );
        let brought = tokio::task::spawn_blocking(move || {
            let bring = |row: &ArtifactRow| match row.name.parse() {
                Ok(name) => {
                    let kept = Kept {
                        name,
                        is_folder: row.is_folder,
                        files: row.files,
                        bytes: row.bytes,
                    };
                    keeper
                        .bring(&paths.run_artifacts(&repo, row.run_id), &kept)
                        .map_err(|error| with_causes(&error))
                }
                Err(error) => Err(with_causes(&error)),
            };
            theirs
                .iter()
                .try_for_each(|row| bring(row).map_err(|why| (row.name.clone(), row.run_id, why)))
        });
        brought.await.map_err(|error| internal(&error))?.map_err(|(name, from, why)| {
            let sentence = format!("the artifact `{name}` of run {from} cannot be used again: {why}; repeat the run without --failed");
            End::Outcome(Outcome::Failed(FailureKind::Internal, sentence))
        })?;
        crate::fault::point("runner-artifacts-brought");
        let ours: Vec<ArtifactRow> = rows
            .into_iter()
            .map(|row| ArtifactRow { run_id: id, ..row })
            .collect();
        let recorded = self
            .0
            .store
            .call(move |store| store.artifacts_kept(&ours))
            .await;
        recorded.map_err(|error| unrecorded(&RecordError::from(error)))?;
        self.0.live.state_changed(id);
        Ok(())
    }
}

/// Takes the jobs whose results are used again for ended; gives their outputs.
fn take_for_ended(schedule: &mut Schedule, reused: Vec<JobRow>) -> Map<String, Value> {
    let mut reused: BTreeMap<JobName, JobRow> = reused
        .into_iter()
        .map(|job| (job.job_id.clone(), job))
        .collect();
    let mut outputs = Map::new();
    while let Some(row) = schedule.ready().iter().find_map(|job| reused.remove(job)) {
        schedule.started(&row.job_id);
        schedule.ended(&row.job_id, row.state);
        outputs.extend(row.output.map(|output| (row.job_id.to_string(), output)));
    }
    outputs
}
