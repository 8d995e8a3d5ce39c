//! What runs kept, as far as rows know of it; the files lie on the volume.

use rusqlite::params;

use super::error::{Attempt, StoreError};
use super::open::Store;
use super::row;
use crate::names::{JobName, RunId};
use crate::run::ArtifactRow;

impl Store {
    /// Records that a job has kept something. Its files are on disk for good.
    ///
    /// # Errors
    /// The job does not exist, or the run has an artifact of this name.
    pub fn artifact_kept(&self, artifact: &ArtifactRow) -> Result<(), StoreError> {
        self.artifacts_kept(std::slice::from_ref(artifact))
    }

    /// Records artifacts, all or none of them. Their files are on disk for good.
    ///
    /// # Errors
    /// A job does not exist, or the run has an artifact of such a name.
    pub fn artifacts_kept(&self, artifacts: &[ArtifactRow]) -> Result<(), StoreError> {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.write(|tx| {
            let mut statement = tx
                .prepare_cached(
                    "INSERT INTO artifacts (run_id, name, job_id, is_folder, files, bytes, created_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )
                .attempt("record an artifact")?;
            for ArtifactRow { run_id, name, job_id, is_folder, files, bytes, created_at_ms } in artifacts {
                let (files, bytes) = (signed(*files), signed(*bytes));
                statement
                    .execute(params![run_id.to_string(), name, job_id.as_str(), is_folder, files, bytes, created_at_ms.0])
                    .attempt("record an artifact")?;
            }
            Ok(())
        })
    }

    /// Forgets what a job kept: it is tried again.
    ///
    /// # Errors
    /// The database refuses.
    pub fn forget_artifacts(&self, run: RunId, job: &JobName) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.prepare_cached("DELETE FROM artifacts WHERE run_id = ?1 AND job_id = ?2")
                .and_then(|mut statement| statement.execute(params![run.to_string(), job.as_str()]))
                .attempt("forget a job's artifacts")?;
            Ok(())
        })
    }

    /// What a run kept, in the order of names.
    ///
    /// # Errors
    /// The database refuses.
    pub fn artifacts(&self, run: RunId) -> Result<Vec<ArtifactRow>, StoreError> {
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT * FROM artifacts WHERE run_id = ?1 ORDER BY name")
                .attempt("list a run's artifacts")?;
            let rows = statement
                .query_map([run.to_string()], row::artifact)
                .attempt("list a run's artifacts")?;
            rows.collect::<Result<_, _>>()
                .attempt("list a run's artifacts")
        })
    }
}
