//! How runs get the values of secrets.

use std::sync::Arc;

use quire_types::names::{RefName, RepoName, RunId};
use quire_types::run::Run;
use quire_types::secret::Secret;

/// Returns the value of a secret by its name. The error is a message for the author of the pipeline.
pub type SecretResolver = Arc<dyn Fn(&str) -> Result<Secret, String> + Send + Sync>;

/// The run that asks for a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretUser {
    pub run: RunId,
    pub repo: RepoName,
    pub ref_name: RefName,
}

impl From<&Run> for SecretUser {
    fn from(run: &Run) -> Self {
        Self {
            run: run.id,
            repo: run.repo.clone(),
            ref_name: run.ref_name.clone(),
        }
    }
}

/// Returns the value of a secret for a run.
pub type RunSecretResolver = Arc<dyn Fn(&SecretUser, &str) -> Result<Secret, String> + Send + Sync>;
