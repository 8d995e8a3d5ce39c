//! A run with everything that belongs to it, as `run show` and the JSON of its page answer with it.

use quire_store::{KeptContainer, Landing, Store, StoreError};
use quire_types::names::RunId;
use quire_types::run::{Run, RunArtifact, RunJob, RunStep};
use serde::Serialize;

use super::landing_json::LandingJson;
use super::views::{ArtifactJson, JobJson, KeptContainerJson, RunJson, StepJson, views};

/// A run and the rows of other tables that name it.
#[derive(Debug, Clone)]
pub struct RunDetails {
    pub run: Run,
    pub jobs: Vec<RunJob>,
    pub steps: Vec<RunStep>,
    /// The artifacts that are not removed.
    pub artifacts: Vec<RunArtifact>,
    /// The container that is kept of the run.
    pub kept: Option<KeptContainer>,
    /// What its commit is tested for, if it is to land on a branch.
    pub landing: Option<Landing>,
    /// The run that continues this one, which was interrupted, or that retries it.
    pub successor: Option<RunId>,
}

impl RunDetails {
    /// Reads a run; `None` if it does not exist. The run is read first: if it is final, so is everything that is read after it.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn read(store: &Store, id: RunId) -> Result<Option<Self>, StoreError> {
        let Some(run) = store.runs().get(id)? else {
            return Ok(None);
        };
        let artifacts = if run.artifacts_removed_at_ms.is_none() {
            store.artifacts().list(id)?
        } else {
            Vec::new()
        };
        Ok(Some(Self {
            jobs: store.jobs().list(id)?,
            steps: store.steps().list(id)?,
            artifacts,
            kept: store.kept_containers().get(id)?,
            landing: store.landings().of_ref(&run.repo, &run.ref_name)?,
            successor: store.runs().successor_of(id)?,
            run,
        }))
    }

    /// The document of `run show --json` and of the run's page.
    #[must_use]
    pub fn document(&self) -> RunDocument<'_> {
        RunDocument {
            run: RunJson::from(&self.run),
            jobs: views(&self.jobs),
            steps: views(&self.steps),
            artifacts: views(&self.artifacts),
            kept: self.kept.as_ref().map(KeptContainerJson::from),
            landing: self.landing.as_ref().map(LandingJson::from),
            successor: self.successor,
        }
    }
}

/// A [`RunDetails`] as JSON.
#[derive(Debug, Serialize)]
pub struct RunDocument<'a> {
    run: RunJson<'a>,
    jobs: Vec<JobJson<'a>>,
    steps: Vec<StepJson<'a>>,
    artifacts: Vec<ArtifactJson<'a>>,
    kept: Option<KeptContainerJson<'a>>,
    landing: Option<LandingJson<'a>>,
    successor: Option<RunId>,
}
