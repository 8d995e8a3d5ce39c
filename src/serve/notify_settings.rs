//! From `:notify` of the configuration to the settings of notifications.

use std::sync::Arc;

use quire_config::{Config, NotifyService, NotifyTarget, SecretSource, TargetSettings, UrlSource};
use quire_server::notify::{
    NotifySettings, RunSelection, SecretReader, TargetConfig, TargetService, UrlReader,
    WebhookTarget,
};
use quire_types::run::Run;
use quire_types::secret::Redactor;

use super::wiring::{base_url, variable};

pub(super) fn notify_settings(config: &Config) -> NotifySettings {
    let targets = config.notify.targets.iter();
    let sources = Arc::new(secret_sources(config));
    NotifySettings {
        targets: targets
            .map(|(name, target)| (name.clone(), target_config(target)))
            .collect(),
        allowed_networks: config.notify.allowed_networks.clone(),
        give_up_after: config.notify.give_up_after,
        url: base_url(config),
        redactor: Arc::new(move || redactor(&sources)),
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
            url: match url {
                UrlSource::Plain(url) => UrlReader::Plain(url.clone()),
                UrlSource::Secret(source) => UrlReader::Secret(reader("url", source)),
            },
            key: key.as_ref().map(|source| reader("key", source)),
        }),
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

/// All secrets that the configuration names: those of runs and those of targets.
fn secret_sources(config: &Config) -> Vec<(String, SecretSource)> {
    let of_runs = config
        .secrets
        .iter()
        .map(|(name, grant)| (name.clone(), grant.source.clone()));
    let of_targets = config.notify.targets.iter().flat_map(|(name, target)| {
        let settings = target.settings.iter();
        let sources = settings.flat_map(|settings| settings.service.secrets());
        sources.map(move |(key, source)| (format!("{name}.{key}"), source.clone()))
    });
    of_runs.chain(of_targets).collect()
}

/// A redactor of the values that can be read at this moment.
fn redactor(sources: &[(String, SecretSource)]) -> Redactor {
    let redactor = Redactor::default();
    for (name, source) in sources {
        if let Ok(secret) = source.read(name, variable) {
            redactor.add(name, &secret);
        }
    }
    redactor
}
