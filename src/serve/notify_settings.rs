//! From `:notify` of the configuration to the settings of notifications.

use std::sync::Arc;

use quire_config::{Config, NotifyService, NotifyTarget, SecretSource, TargetSettings, UrlSource};
use quire_server::notify::{
    EmailTarget, GotifyTarget, MatrixTarget, NotifySettings, NtfyTarget, RunSelection,
    SecretReader, SlackTarget, TargetConfig, TargetService, UrlReader, WebhookTarget,
};
use quire_server::secrets::StoredSecrets;
use quire_types::http_url::HttpUrl;
use quire_types::run::Run;
use quire_types::secret::{Redactor, Secret};

use super::wiring::{base_url, variable};

pub(super) fn notify_settings(config: &Config, stored: &StoredSecrets) -> NotifySettings {
    let targets = config.notify.targets.iter();
    let sources = Arc::new(secret_sources(config));
    let stored = stored.clone();
    NotifySettings {
        targets: targets
            .map(|(name, target)| (name.clone(), target_config(target)))
            .collect(),
        allowed_networks: config.notify.allowed_networks.clone(),
        give_up_after: config.notify.give_up_after,
        url: base_url(config),
        redactor: Arc::new(move || redactor(&sources, stored.values())),
    }
}

fn target_config(target: &NotifyTarget) -> TargetConfig {
    TargetConfig {
        location: target.location.clone(),
        settings: target
            .settings
            .as_ref()
            .map(|settings| (selection(settings), service(&settings.service)))
            .map_err(Clone::clone),
    }
}

fn selection(settings: &TargetSettings) -> RunSelection {
    let runs = settings.runs.clone();
    RunSelection {
        on: settings.on.clone(),
        covers: Arc::new(move |run: &Run| {
            runs.as_ref().is_none_or(|grants| {
                grants
                    .iter()
                    .any(|grant| grant.covers(&run.repo, &run.ref_name))
            })
        }),
        triggers: settings.triggers.clone(),
        cron_failures: settings.cron_failures,
    }
}

fn service(service: &NotifyService) -> TargetService {
    match service {
        NotifyService::Webhook { url, key } => TargetService::Webhook(WebhookTarget {
            url: url_reader(url),
            key: key.as_ref().map(|source| reader("key", source)),
        }),
        NotifyService::Ntfy { url, token } => TargetService::Ntfy(NtfyTarget {
            url: url_reader(url),
            token: token.as_ref().map(|source| reader("token", source)),
        }),
        NotifyService::Gotify { url, token } => TargetService::Gotify(GotifyTarget {
            url: url.clone(),
            token: reader("token", token),
        }),
        NotifyService::Slack { url } => TargetService::Slack(SlackTarget {
            url: url_reader(url),
        }),
        NotifyService::Matrix { url, room, token } => TargetService::Matrix(MatrixTarget {
            url: url.clone(),
            room: room.clone(),
            token: reader("token", token),
        }),
        NotifyService::Email {
            to,
            from,
            smtp,
            starttls,
            login,
        } => TargetService::Email(EmailTarget {
            to: to.clone(),
            from: from.clone(),
            smtp: smtp.clone(),
            starttls: *starttls,
            login: login
                .as_ref()
                .map(|login| (login.user.clone(), reader("password", &login.password))),
        }),
    }
}

fn url_reader(url: &UrlSource) -> UrlReader {
    match url {
        UrlSource::Plain(url) => UrlReader::Plain(url.clone()),
        UrlSource::Secret(source) => UrlReader::Secret(reader("url", source)),
    }
}

fn reader(name: &'static str, source: &SecretSource) -> SecretReader {
    let source = source.clone();
    Arc::new(move || {
        source
            .read(name, variable)
            .map_err(|error| quire_types::error_chain::chain(&error))
    })
}

/// A secret that the configuration names.
struct NamedSource {
    name: String,
    source: SecretSource,
    /// Whether the value is the URL of a target.
    is_url: bool,
}

/// All secrets that the configuration names: those of runs and those of targets.
fn secret_sources(config: &Config) -> Vec<NamedSource> {
    let of_runs = config.secrets.iter().map(|(name, grant)| NamedSource {
        name: name.clone(),
        source: grant.source.clone(),
        is_url: false,
    });
    let of_targets = config.notify.targets.iter().flat_map(|(name, target)| {
        let settings = target.settings.iter();
        let sources = settings.flat_map(|settings| settings.service.secrets());
        sources.map(move |(key, source)| NamedSource {
            name: format!("{name}.{key}"),
            source: source.clone(),
            is_url: key == "url",
        })
    });
    of_runs.chain(of_targets).collect()
}

/// A redactor of the values that can be read at this moment, and of the stored ones. Of the URL of a target also the path, which a receiver may
/// quote, and its last name, such as the topic of ntfy, are redacted.
fn redactor(sources: &[NamedSource], stored: Vec<(String, Secret)>) -> Redactor {
    let mut known = Vec::new();
    for NamedSource {
        name,
        source,
        is_url,
    } in sources
    {
        let Ok(secret) = source.read(name, variable) else {
            continue;
        };
        let url = is_url.then(|| secret.expose().parse::<HttpUrl>().ok());
        if let Some(url) = url.flatten() {
            let path = url.path_and_query();
            let last_name = path.rsplit('/').next().unwrap_or_default();
            known.extend([path, last_name].map(|part| (name, Secret::new(part.to_owned()))));
        }
        known.push((name, secret));
    }
    let stored = stored.iter().map(|(name, secret)| (name.as_str(), secret));
    let known = known.iter().map(|(name, secret)| (name.as_str(), secret));
    Redactor::new(known.chain(stored))
}
