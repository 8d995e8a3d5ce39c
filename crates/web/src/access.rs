//! What one viewer may see of one repository.
//!
//! A stranger, who is not signed in, sees what the repository shows. Of a repository that shows nothing, a stranger learns nothing: the
//! answer is the page to sign in, as for one that does not exist.

use std::sync::Arc;

use quire_config::RepoVisibility;
use quire_git::Git;
use quire_git::read::ReadError;
use quire_server::repo_settings::RepoShown;
use quire_types::error_chain;
use quire_types::names::RepoName;
use quire_types::run::Run;

use super::error::WebError;
use super::run_data::{find, without_private_fields};
use super::state::App;
use super::viewer::Viewer;

/// What a viewer may see of a repository.
#[derive(Debug, Clone)]
pub(super) struct RepoAccess {
    shown: Arc<RepoShown>,
    pub(super) is_stranger: bool,
}

impl RepoAccess {
    /// What `viewer` may see of a repository that exists; [`WebError::SignIn`] if that is nothing.
    pub(super) async fn of(app: &App, viewer: &Viewer, repo: &RepoName) -> Result<Self, WebError> {
        let is_stranger = viewer.is_stranger;
        let shown = match app.visibilities.of(&app.web.paths, repo, is_stranger).await {
            Ok(shown) => shown,
            Err(error @ (ReadError::Busy | ReadError::OutOfTime)) if is_stranger => {
                return Err(error.into());
            }
            // A repository that cannot be opened still has runs.
            Err(error) => {
                tracing::warn!(%repo, "web: settings of a repository: {}", error_chain::chain(&error));
                Arc::default()
            }
        };
        if is_stranger && shown.visibility == RepoVisibility::Private {
            return Err(WebError::SignIn);
        }
        Ok(Self { shown, is_stranger })
    }

    /// What everyone may see.
    pub(super) fn visibility(&self) -> RepoVisibility {
        self.shown.visibility
    }

    /// What the repository is, in one line: as its settings say it, or else as a command did.
    pub(super) async fn description(
        &self,
        app: &App,
        repo: &RepoName,
    ) -> Result<Option<String>, WebError> {
        if let Some(text) = &self.shown.description {
            return Ok(Some(text.clone()));
        }
        let (git, repo) = (Git::new(&app.web.paths), repo.clone());
        let read = tokio::task::spawn_blocking(move || git.description(&repo));
        // A repository that cannot be read still has runs.
        Ok(read.await?.unwrap_or_default())
    }

    /// What is wrong with the settings, if the viewer may change them.
    pub(super) fn problems(&self) -> &[String] {
        match self.is_stranger {
            true => &[],
            false => &self.shown.problems,
        }
    }

    /// Whether runs are shown, with their logs and artifacts.
    pub(super) fn sees_runs(&self) -> bool {
        !self.is_stranger || self.shown.visibility == RepoVisibility::PublicRuns
    }

    /// These runs as the viewer sees them.
    pub(super) fn shown_runs(&self, runs: Vec<Run>) -> Vec<Run> {
        match self.is_stranger {
            true => runs.into_iter().map(without_private_fields).collect(),
            false => runs,
        }
    }

    /// What a body depends on that is made for this viewer.
    pub(super) fn class(&self) -> (bool, RepoVisibility) {
        (self.is_stranger, self.shown.visibility)
    }
}

/// A run by its id, if the viewer may see it. For a stranger, one that is not shown does not exist.
pub(super) async fn find_run(app: &App, viewer: &Viewer, id: &str) -> Result<Run, WebError> {
    let found = find(app, id).await;
    if !viewer.is_stranger {
        return found;
    }
    match found {
        Ok(run) => {
            admit_to_runs(app, viewer, &run.repo).await?;
            Ok(without_private_fields(run))
        }
        Err(WebError::NotFound) => Err(WebError::SignIn),
        Err(error) => Err(error),
    }
}

/// Whether a viewer may see the runs of a repository; [`WebError::SignIn`] if not.
pub(super) async fn admit_to_runs(
    app: &App,
    viewer: &Viewer,
    repo: &RepoName,
) -> Result<(), WebError> {
    match RepoAccess::of(app, viewer, repo).await?.sees_runs() {
        true => Ok(()),
        false => Err(WebError::SignIn),
    }
}
