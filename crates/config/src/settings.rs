//! The table of all settings. Configuration files and environment variables are read by it, and
//! docs/configuration.md is checked against it.

use serde_json::Value;

use super::registry_setting::RegistrySetting;
use super::sections::Config;
use super::setting_types::*;

/// One setting.
pub struct Setting {
    /// The table that contains it.
    pub section: &'static str,
    /// Its name in the table.
    pub name: &'static str,
    /// The expected value, for messages.
    pub expected: &'static str,
    /// Whether a change needs a restart of `serve`.
    pub needs_restart: bool,
    pub(super) read_data: fn(&mut Config, &Value) -> bool,
    pub(super) read_text: fn(&mut Config, &str) -> bool,
    /// Copies it from one configuration to another.
    pub(super) copy: fn(&Config, &mut Config),
    show: fn(&Config) -> String,
}

impl Setting {
    /// Section and name, such as `http.port`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The environment variable that overrides it, such as `QUIRE_HTTP_PORT`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("QUIRE_{}_{}", self.section, self.name)
            .to_uppercase()
            .replace('-', "_")
    }

    /// Its value in a configuration as text, or empty if it is not set.
    #[must_use]
    pub fn show(&self, config: &Config) -> String {
        (self.show)(config)
    }
}

macro_rules! settings {
    ($($section:ident.$field:ident $name:literal $kind:ident $restart:ident;)*) => {
        /// All settings, in the order of the documentation.
        pub static SETTINGS: &[Setting] = &[$(Setting {
            section: stringify!($section),
            name: $name,
            expected: <$kind as SettingType>::EXPECTED,
            needs_restart: settings!(@ $restart),
            read_data: |config, value| $kind::data(value).map(|value| config.$section.$field = value).is_some(),
            read_text: |config, text| $kind::text(text).map(|value| config.$section.$field = value).is_some(),
            copy: |from, to| to.$section.$field = from.$section.$field.clone(),
            show: |config| $kind::show(&config.$section.$field),
        },)*];
    };
    (@ restart) => { true };
    (@ reload) => { false };
}

settings! {
    http.port            "port"            Port         restart;
    http.url             "url"             Url          reload;
    http.auth            "auth"            AuthMode     reload;
    http.trusted_proxies "trusted-proxies" Networks     reload;
    http.strangers       "strangers"       StrangersSetting restart;
    ssh.host             "host"            Host         reload;
    ssh.port             "port"            Port         reload;
    git.push_to_create   "push-to-create"  Flag         reload;
    git.max_push         "max-push"        Size         reload;
    ci.executor          "executor"        ExecutorSetting restart;
    ci.engine            "engine"          EngineUrl       restart;
    ci.callback          "callback"        CallbackSetting restart;
    ci.registry          "registry"        RegistrySetting restart;
    ci.concurrent_runs   "concurrent-runs" Positive     reload;
    ci.image             "image"           Image        reload;
    ci.registries        "registries"      Registries   restart;
    ci.pull              "pull"            Pull         restart;
    ci.timeout           "timeout"         Time         reload;
    ci.memory            "memory"          MemorySize   reload;
    ci.cpus              "cpus"            Cpus         reload;
    ci.pids              "pids"            Positive     reload;
    ci.network           "network"         Flag         reload;
    ci.max_log           "max-log"         Size         reload;
    ci.max_artifacts     "max-artifacts"   Size         reload;
    ci.max_runs_per_push "max-runs-per-push" Positive   reload;
    ci.land              "land"            Land         reload;
    ci.retry_orphaned    "retry-orphaned"  Flag         reload;
    ci.keep_failed       "keep-failed"     Time         reload;
    ci.warm              "warm"            Count        restart;
    ci.docker_socket     "docker-socket"   Grants       reload;
    ci.privileges        "privileges"      Grants       reload;
    keep.runs            "runs"            Count        reload;
    keep.days            "days"            Count        reload;
    keep.logs            "logs"            Size         reload;
    keep.artifacts       "artifacts"       Size         reload;
    keep.caches          "caches"          Size         reload;
    keep.min_free        "min-free"        Size         reload;
    keep.trash           "trash"           TimeOrZero   reload;
    keep.undo            "undo"            TimeOrZero   reload;
    keep.operations      "operations"      TimeOrZero   reload;
    backup.to            "to"              FolderPath   reload;
    backup.every         "every"           Time         reload;
    backup.keep          "keep"            Positive     reload;
    notify.give_up_after "give-up-after"   Time         reload;
    notify.health_after  "health-after"    TimeOrZero   reload;
    notify.allowed_networks "allowed-networks" Networks reload;
    mirrors.compare_every "compare-every"  Time         reload;
    mirrors.allowed_networks "allowed-networks" Networks reload;
}

/// The setting `notify.targets`, a table whose keys are chosen by the owner.
pub(super) const NOTIFY_TARGETS: (&str, &str) = ("notify", "targets");

/// The setting `mirrors.repos`, a table of repositories, each with mirrors whose names are chosen by the owner.
pub(super) const MIRROR_REPOS: (&str, &str) = ("mirrors", "repos");

/// The section of secrets, whose keys are chosen by the owner.
pub(super) const SECRETS: &str = "secrets";

/// The section of incoming webhooks, whose keys are chosen by the owner.
pub(super) const HOOKS: &str = "hooks";

pub(super) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<&str> = SETTINGS
        .iter()
        .map(|key| key.section)
        .chain([HOOKS, SECRETS])
        .collect();
    sections.dedup();
    sections
}
