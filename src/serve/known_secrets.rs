//! The secrets that the configuration names: how each is read, and a redactor of all.

use std::sync::Arc;

use quire_config::{Config, SecretSource};
use quire_server::notify::SecretReader;
use quire_server::secrets::StoredSecrets;
use quire_types::http_url::HttpUrl;
use quire_types::secret::{Redactor, Secret};

use super::wiring::variable;

/// Returns a redactor of the values that can be read at the time of the call.
pub(super) fn known_secrets_redactor(
    config: &Config,
    stored: &StoredSecrets,
) -> Arc<dyn Fn() -> Redactor + Send + Sync> {
    let sources = secret_sources(config);
    let stored = stored.clone();
    Arc::new(move || redactor(&sources, stored.values()))
}

/// Reads a secret at each use.
pub(super) fn reader(name: &'static str, source: &SecretSource) -> SecretReader {
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

/// All secrets that the configuration names: those of runs, of targets, of mirrors, of incoming webhooks and of the registry.
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
    let of_mirrors = config.mirrors.repos.values().flatten();
    let of_mirrors = of_mirrors.filter_map(|(name, mirror)| {
        let (_, token) = mirror.settings.as_ref().ok()?.login.as_ref()?;
        Some(NamedSource {
            name: format!("{name}.token"),
            source: token.clone(),
            is_url: false,
        })
    });
    let of_hooks = config.hooks.iter().filter_map(|(name, hook)| {
        Some(NamedSource {
            name: format!("{name}.secret"),
            source: hook.settings.as_ref().ok()?.secret.clone(),
            is_url: false,
        })
    });
    let of_registry = config.ci.registry.iter().filter_map(|registry| {
        let (_, password) = registry.login.as_ref()?;
        Some(NamedSource {
            name: "registry.password".to_owned(),
            source: password.clone(),
            is_url: false,
        })
    });
    let of_others = of_targets
        .chain(of_mirrors)
        .chain(of_hooks)
        .chain(of_registry);
    of_runs.chain(of_others).collect()
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
