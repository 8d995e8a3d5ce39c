//! What the pages and streams of a run read from the database.

use std::collections::BTreeMap;

use super::error::WebError;
use super::state::App;
use quire_store::{KeptContainer, Landing};
use quire_types::names::RunId;
use quire_types::run::{Run, RunArtifact, RunJob, RunName, RunStep};

/// Which steps to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StepQuery {
    /// All after this one,
    pub(super) after: u32,
    /// and these.
    pub(super) also: Vec<u32>,
}

/// A run with all that its page shows, as the database has it.
#[derive(Debug, Clone)]
pub(super) struct RunData {
    pub(super) run: Run,
    /// Without what they returned.
    pub(super) jobs: Vec<RunJob>,
    /// All of them, or those that were asked for.
    pub(super) steps: Vec<RunStep>,
    /// The run that repeats this one.
    pub(super) successor: Option<RunId>,
    /// What it kept, as far as that is still there.
    pub(super) artifacts: Vec<RunArtifact>,
    /// Its container, where it is kept for a person.
    pub(super) kept: Option<KeptContainer>,
    /// What its commit is tested for, if it is to land on a branch.
    pub(super) landing: Option<Landing>,
    /// The names of the runs that the page mentions.
    pub(super) names: RunNames,
}

impl RunData {
    /// The run as strangers see it.
    pub(super) fn without_private_fields(self) -> Self {
        Self {
            run: without_private_fields(self.run),
            kept: None,
            ..self
        }
    }
}

/// A run as strangers see it: without the names of keys, the data of its request, and places on the machine.
pub(super) fn without_private_fields(run: Run) -> Run {
    Run {
        pusher: None,
        params: None,
        container_id: None,
        workspace_path: None,
        ..run
    }
}

/// The names of runs by their ids.
#[derive(Debug, Clone, Default)]
pub(super) struct RunNames(pub(super) BTreeMap<RunId, RunName>);

impl RunNames {
    /// The name of a run, or a part of its id if retention has deleted the run.
    pub(super) fn label(&self, run: &RunId) -> String {
        self.0
            .get(run)
            .map_or_else(|| run.short(), RunName::to_string)
    }
}

/// Reads a run with its jobs and the steps of the query; `None` if it does not exist. The run is read
/// first: if it is final, so is everything that is read after it.
pub(super) async fn read_run(
    app: &App,
    id: RunId,
    query: StepQuery,
) -> Result<Option<RunData>, WebError> {
    let read = move |s: &quire_store::Store| {
        let Some(run) = s.runs().get(id)? else {
            return Ok(None);
        };
        let steps = s.steps().list_since(id, query.after, &query.also)?;
        let artifacts = if run.artifacts_removed_at_ms.is_none() {
            s.artifacts().list(id)?
        } else {
            Vec::new()
        };
        let (jobs, kept) = (
            s.jobs().list_without_outputs(id)?,
            s.kept_containers().get(id)?,
        );
        let successor = s.runs().successor_of(id)?;
        let landing = s.landings().of_ref(&run.repo, &run.ref_name)?;
        let mentioned = [successor, run.superseded_by, run.retry_of]
            .into_iter()
            .flatten()
            .chain(jobs.iter().filter_map(|job| job.reused_from));
        let names = RunNames(s.runs().names(&mentioned.collect::<Vec<_>>())?);
        Ok(Some(RunData {
            run,
            jobs,
            steps,
            successor,
            artifacts,
            kept,
            landing,
            names,
        }))
    };
    Ok(app.web.store.call(read).await?)
}

/// Finds a run by its id.
pub(super) async fn find(app: &App, id: &str) -> Result<Run, WebError> {
    let id: RunId = id.parse().map_err(|_| WebError::NotFound)?;
    app.web
        .store
        .call(move |s| s.runs().get(id))
        .await?
        .ok_or(WebError::NotFound)
}
