//! The artifacts of runs. Their files are on the volume.

use rusqlite::params;

use super::error::StoreError;
use super::open::Store;
use super::row;
use super::sql;
use quire_types::names::{JobName, RunId};
use quire_types::run::RunArtifact;

/// Access to artifacts.
#[derive(Debug, Clone, Copy)]
pub struct Artifacts<'a> {
    store: &'a Store,
}

impl Store {
    #[must_use]
    pub fn artifacts(&self) -> Artifacts<'_> {
        Artifacts { store: self }
    }
}

impl Artifacts<'_> {
    /// Records an artifact whose files are on disk already. Its name must be new in the run.
    pub fn record(self, artifact: &RunArtifact) -> Result<(), StoreError> {
        self.record_all(std::slice::from_ref(artifact))
    }

    /// Records several artifacts, all or none of them.
    pub fn record_all(self, artifacts: &[RunArtifact]) -> Result<(), StoreError> {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.store.write(|tx| {
            for artifact in artifacts {
                sql::execute(
                    tx,
                    "record an artifact",
                    "INSERT INTO artifacts (run_id, name, job_id, is_folder, files, bytes, created_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![
                        artifact.run_id.to_string(),
                        artifact.name,
                        artifact.job_id.as_str(),
                        artifact.is_folder,
                        signed(artifact.files),
                        signed(artifact.bytes),
                        artifact.created_at_ms.0
                    ],
                )?;
            }
            Ok(())
        })
    }

    /// Forgets the artifacts of a job that is retried within its run.
    pub fn forget(self, run: RunId, job: &JobName) -> Result<(), StoreError> {
        self.store.write(|tx| {
            sql::execute(
                tx,
                "forget the artifacts of a job",
                "DELETE FROM artifacts WHERE run_id = ?1 AND job_id = ?2",
                params![run.to_string(), job.as_str()],
            )?;
            Ok(())
        })
    }

    /// The artifacts of a run, by name.
    pub fn list(self, run: RunId) -> Result<Vec<RunArtifact>, StoreError> {
        let sql = "SELECT * FROM artifacts WHERE run_id = ?1 ORDER BY name";
        self.store.read(|connection| {
            sql::all(
                connection,
                "list the artifacts of a run",
                sql,
                [run.to_string()],
                row::artifact,
            )
        })
    }
}
