//! `:notify`: who is told of the ends of runs, of pushes and of findings about health.
//!
//! A target that is wrong does not keep the rest of the configuration from loading: it has a problem in place of its
//! settings, and the other targets are told as before.

use std::collections::BTreeMap;
use std::time::Duration;

use super::entry::ConfigEntry;
use super::run_grant::RunGrant;
use super::secrets::SecretSource;
use quire_types::http_url::HttpUrl;
use quire_types::mail_address::MailAddress;
use quire_types::network::Network;
use quire_types::occasion::Occasion;
use quire_types::run::Trigger;
use quire_types::smtp_url::SmtpUrl;
use quire_types::status_service::StatusService;

/// `:notify`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyConfig {
    /// How long delivery of a message is attempted.
    pub give_up_after: Duration,
    /// How long something has to be wrong with the appliance before it is told.
    pub health_after: Duration,
    /// Networks of this machine or of its link that messages may be sent to.
    pub allowed_networks: Vec<Network>,
    /// By name.
    pub targets: BTreeMap<String, ConfigEntry<TargetSettings>>,
}

impl Default for NotifyConfig {
    fn default() -> Self {
        Self {
            give_up_after: Duration::from_secs(24 * 3600),
            health_after: Duration::from_secs(120),
            allowed_networks: Vec::new(),
            targets: BTreeMap::new(),
        }
    }
}

/// The settings of a target that are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSettings {
    pub on: Vec<Occasion>,
    /// The runs, or the refs that are pushed, that it is told of. `None` for all.
    pub runs: Option<Vec<RunGrant>>,
    /// `push`, `manual` and `cron`. `None` for all.
    pub triggers: Option<Vec<Trigger>>,
    /// How many runs of a schedule have to fail in a row before it is told.
    pub cron_failures: u32,
    /// How many changes between failed and complete within a day make a schedule alternate.
    pub cron_changes: u32,
    /// Whether it is told of findings about the health of the appliance.
    pub health: bool,
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
    /// The state of a commit at a service to which the repository is mirrored.
    CommitStatus {
        service: StatusService,
        url: HttpUrl,
        /// The name of the repository there.
        repo: String,
        token: SecretSource,
    },
    /// Pushes, as GitHub tells them.
    GithubPush {
        url: UrlSource,
        /// The secret of the signature.
        key: Option<SecretSource>,
    },
    /// The notes of commits in `refs/notes/ci`.
    GitNotes,
    /// Recipients of mail.
    Email {
        to: Vec<MailAddress>,
        from: MailAddress,
        /// The server that mail is submitted to.
        smtp: SmtpUrl,
        /// Whether a connection that begins without TLS must switch to it; otherwise it stays without.
        starttls: bool,
        login: Option<MailLogin>,
    },
}

/// Who quire is to a mail server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailLogin {
    pub user: String,
    pub password: SecretSource,
}

impl NotifyService {
    /// Whether it shows messages of any kind, and not only the ends of runs or pushes.
    #[must_use]
    pub fn takes_messages(&self) -> bool {
        match self {
            Self::Webhook { .. }
            | Self::Ntfy { .. }
            | Self::Gotify { .. }
            | Self::Slack { .. }
            | Self::Matrix { .. }
            | Self::Email { .. } => true,
            Self::CommitStatus { .. } | Self::GithubPush { .. } | Self::GitNotes => false,
        }
    }

    /// The secrets that it uses, by the keys of the configuration.
    #[must_use]
    pub fn secrets(&self) -> Vec<(&'static str, &SecretSource)> {
        let of_url = |url| match url {
            &UrlSource::Plain(_) => None,
            UrlSource::Secret(source) => Some(("url", source)),
        };
        let (url, other) = match self {
            Self::Webhook { url, key } | Self::GithubPush { url, key } => {
                (of_url(url), key.as_ref().map(|key| ("key", key)))
            }
            Self::Ntfy { url, token } => {
                (of_url(url), token.as_ref().map(|token| ("token", token)))
            }
            Self::Slack { url } => (of_url(url), None),
            Self::GitNotes => (None, None),
            Self::Gotify { token, .. }
            | Self::Matrix { token, .. }
            | Self::CommitStatus { token, .. } => (None, Some(("token", token))),
            Self::Email { login, .. } => {
                let login = login.as_ref();
                (None, login.map(|login| ("password", &login.password)))
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
