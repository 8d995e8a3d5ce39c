//! From `:hooks` of the configuration to the settings of incoming webhooks.

use quire_config::{Config, ConfigEntry, HookConfig};
use quire_server::hooks::{HookSettings, HookTarget, HooksSettings};

use super::known_secrets::reader;

pub(super) fn hooks_settings(config: &Config) -> HooksSettings {
    let hooks = config.hooks.iter();
    HooksSettings {
        hooks: hooks
            .map(|(name, entry)| (name.clone(), hook(entry)))
            .collect(),
    }
}

fn hook(entry: &ConfigEntry<HookConfig>) -> HookSettings {
    HookSettings {
        location: entry.location.clone(),
        target: entry.settings.as_ref().map(target).map_err(Clone::clone),
    }
}

fn target(hook: &HookConfig) -> HookTarget {
    HookTarget {
        repo: hook.repo.clone(),
        ref_name: hook.ref_name.clone(),
        secret: reader("secret", &hook.secret),
        per_minute: hook.per_minute,
    }
}
