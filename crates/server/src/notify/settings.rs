//! The settings of notifications, as the configuration in force has them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::policy::RunSelection;
use quire_types::base_url::BaseUrl;
use quire_types::http_url::HttpUrl;
use quire_types::network::Network;
use quire_types::secret::{Redactor, Secret};

/// Reads the value of a secret at each use, or says why that is not possible. It may block.
pub type SecretReader = Arc<dyn Fn() -> Result<Secret, String> + Send + Sync>;

#[derive(Clone)]
pub struct NotifySettings {
    /// By name.
    pub targets: BTreeMap<String, TargetConfig>,
    /// Networks that messages may be sent to although they are those of this machine or its link.
    pub allowed_networks: Vec<Network>,
    /// How long delivery of a message is attempted.
    pub give_up_after: Duration,
    /// What links begin with.
    pub url: BaseUrl,
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

/// How a target is told.
#[derive(Clone)]
pub enum TargetService {
    Webhook(WebhookTarget),
}

#[derive(Clone)]
pub struct WebhookTarget {
    pub url: UrlReader,
    /// The key of the signature.
    pub key: Option<SecretReader>,
}

/// The URL of a webhook.
#[derive(Clone)]
pub enum UrlReader {
    Plain(HttpUrl),
    Secret(SecretReader),
}

impl TargetConfig {
    /// A problem of the target, with its place in the configuration file.
    pub(super) fn problem(&self, name: &str, problem: &str) -> String {
        match &self.location {
            Some(location) => format!("{location}: target `{name}`: {problem}"),
            None => format!("target `{name}`: {problem}"),
        }
    }

    /// What is wrong with the settings, or with a secret that they name. Blocks.
    pub(super) fn check(&self) -> Result<(), String> {
        match &self.settings {
            Err(problem) => Err(problem.clone()),
            Ok((_, TargetService::Webhook(webhook))) => {
                webhook.read_url()?;
                webhook.read_key().map(drop)
            }
        }
    }
}

impl WebhookTarget {
    /// Blocks.
    pub(super) fn read_url(&self) -> Result<HttpUrl, String> {
        match &self.url {
            UrlReader::Plain(url) => Ok(url.clone()),
            UrlReader::Secret(read) => {
                let parsed = read()?.expose().parse::<HttpUrl>();
                parsed.map_err(|error| format!("the value of the secret `url` is {error}"))
            }
        }
    }

    /// Blocks.
    pub(super) fn read_key(&self) -> Result<Option<Secret>, String> {
        self.key.as_ref().map(|read| read()).transpose()
    }
}

impl fmt::Debug for NotifySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.targets.keys()).finish()
    }
}
