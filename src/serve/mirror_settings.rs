//! From `:mirrors` of the configuration to the settings of mirrors.

use std::sync::Arc;

use quire_config::{Config, ConfigEntry, MirrorRemote};
use quire_server::mirror::{MirrorConfig, MirrorOrigin, MirrorSettings, MirrorTarget};
use quire_server::secrets::StoredSecrets;
use quire_store::NewMirror;

use super::known_secrets::{known_secrets_redactor, reader};
use super::secret_sources::{any_secret, granted_secret};

pub(super) fn mirror_settings(config: &Config, stored: &StoredSecrets) -> MirrorSettings {
    let repos = config.mirrors.repos.iter();
    let mirrors = repos.flat_map(|(repo, mirrors)| {
        mirrors.iter().map(move |(name, entry)| {
            let mirror = NewMirror {
                repo: repo.clone(),
                name: name.clone(),
                url: entry
                    .settings
                    .as_ref()
                    .ok()
                    .map(|remote| remote.url.as_str().to_owned()),
            };
            (mirror, mirror_config(entry))
        })
    });
    MirrorSettings {
        mirrors: mirrors.collect(),
        allowed_networks: config.mirrors.allowed_networks.clone(),
        compare_every: config.mirrors.compare_every,
        redactor: known_secrets_redactor(config, stored),
        secret: any_secret(config, stored),
        granted_secret: granted_secret(config, stored),
        knows_repos: false,
        owner_revision: 0,
    }
}

fn mirror_config(entry: &ConfigEntry<MirrorRemote>) -> MirrorConfig {
    MirrorConfig {
        location: entry.location.clone(),
        target: entry.settings.as_ref().map(target).map_err(Clone::clone),
        named: None,
    }
}

fn target(remote: &MirrorRemote) -> MirrorTarget {
    let refs = remote.refs.clone();
    let login = remote.login.as_ref();
    MirrorTarget {
        origin: MirrorOrigin::Owner,
        is_current: None,
        url: remote.url.clone(),
        login: login.map(|(user, token)| (user.clone(), reader("token", token))),
        covers: Arc::new(move |name| refs.cover(name)),
        delete: remote.delete,
        force: remote.force,
    }
}
