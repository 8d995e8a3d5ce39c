//! `:notify`: who is told of the ends of runs.
//!
//! A target that is wrong does not keep the rest of the configuration from loading: it has a problem in place of its
//! settings, and the other targets are told as before.

use std::collections::BTreeMap;
use std::time::Duration;

use super::run_grant::RunGrant;
use super::secrets::SecretSource;
use quire_types::http_url::HttpUrl;
use quire_types::network::Network;
use quire_types::occasion::Occasion;
use quire_types::run::Trigger;

/// `:notify`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyConfig {
    /// How long delivery of a message is attempted.
    pub give_up_after: Duration,
    /// Networks of this machine or of its link that messages may be sent to.
    pub allowed_networks: Vec<Network>,
    /// By name.
    pub targets: BTreeMap<String, NotifyTarget>,
}

impl Default for NotifyConfig {
    fn default() -> Self {
        Self {
            give_up_after: Duration::from_secs(24 * 3600),
            allowed_networks: Vec::new(),
            targets: BTreeMap::new(),
        }
    }
}

/// One of `:targets`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyTarget {
    /// Its file, line and column, if the file says where it is.
    pub location: Option<String>,
    /// Its settings, or what is wrong with them.
    pub settings: Result<TargetSettings, String>,
}

/// The settings of a target that are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSettings {
    pub on: Vec<Occasion>,
    /// The runs that it is told of. `None` for all.
    pub runs: Option<Vec<RunGrant>>,
    /// `push`, `manual` and `cron`. `None` for all.
    pub triggers: Option<Vec<Trigger>>,
    /// How many runs of a schedule have to fail in a row before it is told.
    pub cron_failures: u32,
    pub service: NotifyService,
}

/// How a target is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotifyService {
    /// A POST request with a JSON document.
    Webhook {
        url: UrlSource,
        /// The key of the signature.
        key: Option<SecretSource>,
    },
    /// A topic of an ntfy server.
    Ntfy {
        /// The URL of the topic.
        url: UrlSource,
        token: Option<SecretSource>,
    },
    /// An application of a Gotify server.
    Gotify { url: HttpUrl, token: SecretSource },
    /// An incoming webhook of Slack, or of a service that accepts the same.
    Slack { url: UrlSource },
    /// A room of a Matrix homeserver.
    Matrix {
        url: HttpUrl,
        room: String,
        token: SecretSource,
    },
}

impl NotifyService {
    /// The secrets that it uses, by the keys of the configuration.
    #[must_use]
    pub fn secrets(&self) -> Vec<(&'static str, &SecretSource)> {
        let of_url = |url| match url {
            &UrlSource::Plain(_) => None,
            UrlSource::Secret(source) => Some(("url", source)),
        };
        let (url, other) = match self {
            Self::Webhook { url, key } => (of_url(url), key.as_ref().map(|key| ("key", key))),
            Self::Ntfy { url, token } => {
                (of_url(url), token.as_ref().map(|token| ("token", token)))
            }
            Self::Slack { url } => (of_url(url), None),
            Self::Gotify { token, .. } | Self::Matrix { token, .. } => {
                (None, Some(("token", token)))
            }
        };
        url.into_iter().chain(other).collect()
    }
}

/// Where a URL is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UrlSource {
    Plain(HttpUrl),
    /// A URL that is a secret.
    Secret(SecretSource),
}
