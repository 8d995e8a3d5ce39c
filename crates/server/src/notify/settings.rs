//! The settings of notifications, as the configuration in force has them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::policy::RunSelection;
use super::targets::TargetService;
use quire_config::with_place;
use quire_types::base_url::BaseUrl;
use quire_types::names::RepoName;
use quire_types::network::Network;
use quire_types::secret::Redactor;

#[derive(Clone)]
pub struct NotifySettings {
    /// By name.
    pub targets: BTreeMap<String, TargetConfig>,
    /// Networks that messages may be sent to although they are those of this machine or its link.
    pub allowed_networks: Vec<Network>,
    /// How long delivery of a message is attempted.
    pub give_up_after: Duration,
    /// How long something has to be wrong with the appliance before it is told.
    pub health_after: Duration,
    /// What links begin with.
    pub url: BaseUrl,
    /// The address from which a repository is cloned over SSH.
    pub clone_url: Arc<dyn Fn(&RepoName) -> String + Send + Sync>,
    /// Returns a redactor of all secrets that the configuration names. It may block.
    pub redactor: Arc<dyn Fn() -> Redactor + Send + Sync>,
}

/// A target.
#[derive(Clone)]
pub struct TargetConfig {
    /// Its place in the configuration file.
    pub location: Option<String>,
    /// Its settings, or what is wrong with them.
    pub settings: Result<(RunSelection, TargetService), String>,
}

impl TargetConfig {
    /// A problem of the target, with its place in the configuration file.
    pub(super) fn problem(&self, name: &str, problem: &str) -> String {
        let sentence = format!("target `{name}`: {problem}");
        with_place(self.location.as_deref(), sentence)
    }

    /// What is wrong with the settings, or with a secret that they name. Blocks.
    pub(super) fn check(&self) -> Result<(), String> {
        match &self.settings {
            Err(problem) => Err(problem.clone()),
            Ok((_, service)) => service.check(),
        }
    }
}

impl fmt::Debug for NotifySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.targets.keys()).finish()
    }
}
