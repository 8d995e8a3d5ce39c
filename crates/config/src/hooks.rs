//! `:hooks`: incoming webhooks, which start runs.

use super::secrets::SecretSource;
use quire_types::names::{RefName, RepoName};

/// The settings of an incoming webhook that are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookConfig {
    pub repo: RepoName,
    /// The branch or tag whose commit is run; the default branch if `None`.
    pub ref_name: Option<RefName>,
    pub secret: SecretSource,
    /// How many requests a minute start runs.
    pub per_minute: u32,
}
