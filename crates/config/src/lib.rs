//! The owner's configuration: `config.fnl` or `config.lua` in the volume. Environment variables
//! override single settings.
//!
//! A [`Config`] is typed and complete: every value is parsed once, here, and a setting that is not
//! set has its default. Without a file no Lua is loaded at all. All invalid values are reported
//! together, with file and line. An unknown setting is only a warning.

mod check;
mod config_error;
mod data_values;
mod edit;
mod entries_shown;
mod entry;
mod entry_fields;
mod hook_reader;
mod hooks;
mod in_force;
mod last_good;
mod load;
mod mirror_reader;
mod mirrors;
mod notify;
mod notify_target_reader;
mod registry;
mod registry_setting;
mod repo_limits;
mod repo_notify;
mod repo_secrets;
mod repo_sections;
mod repo_settings;
mod run_grant;
mod secrets;
mod sections;
mod setting_addresses;
mod setting_types;
mod settings;
mod suggest;

pub use config_error::ConfigError;
pub use edit::{EditError, NewSetting, SettingEdit};
pub use entry::{ConfigEntry, with_place};
pub use hooks::HookConfig;
pub use in_force::{SettingChange, SettingInForce, SettingsInForce};
pub use load::{LoadedConfig, MAX_CONFIG_BYTES, Origin, SettingValue};
pub use mirrors::{MirrorRemote, MirrorsConfig, RefPatterns};
pub use notify::{MailLogin, NotifyConfig, NotifyService, TargetSettings, UrlSource};
pub use registry::RegistryConfig;
pub use repo_limits::{RepoLimits, RunLimits};
pub use repo_notify::TargetChoice;
pub use repo_secrets::RepoSecrets;
pub use repo_settings::{
    MAX_DESCRIPTION, MAX_REPO_CONFIG_BYTES, REPO_CONFIG_FILES, RepoSettings, RepoVisibility,
};
pub use run_grant::RunGrant;
pub use secrets::{MAX_SECRET_BYTES, SecretError, SecretGrant, SecretSource};
pub use sections::{
    Auth, BackupConfig, CiConfig, Config, GitConfig, HttpConfig, KeepConfig, SshConfig,
    StrangerAccess,
};
pub use settings::{SETTINGS, Setting};

#[cfg(test)]
mod error_messages;
