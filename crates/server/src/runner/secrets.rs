//! How runs get the values of secrets.

use std::sync::Arc;

use quire_types::names::{RefName, RepoName};
use quire_types::secret::Secret;

/// Returns the value of a secret by its name. The error is a message for the author of the pipeline.
pub type SecretResolver = Arc<dyn Fn(&str) -> Result<Secret, String> + Send + Sync>;

/// Returns the value of a secret for a run of this repository and ref.
pub type RepoSecretResolver =
    Arc<dyn Fn(&RepoName, &RefName, &str) -> Result<Secret, String> + Send + Sync>;
