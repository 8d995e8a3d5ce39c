//! The settings: one table of what there is, from which files and environment are read, `doctor`
//! prints, and docs/configuration.md is checked.

use serde_json::Value;

use super::Config;
use super::kinds::*;

/// One setting.
pub struct Key {
    /// The table it stands in.
    pub section: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// What it has to be.
    pub expected: &'static str,
    /// Whether a change needs a restart of `serve`.
    pub needs_restart: bool,
    pub(super) read_data: fn(&mut Config, &Value) -> bool,
    pub(super) read_text: fn(&mut Config, &str) -> bool,
    show: fn(&Config) -> String,
}

impl Key {
    /// `http.port`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The environment variable that overrides it: `QUIRE_HTTP_PORT`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("QUIRE_{}_{}", self.section, self.name)
            .to_uppercase()
            .replace('-', "_")
    }

    /// Its value in a configuration, as text; empty where it is not set.
    #[must_use]
    pub fn show(&self, config: &Config) -> String {
        (self.show)(config)
    }
}

macro_rules! keys {
    ($($section:ident.$field:ident $name:literal $kind:ident $restart:ident;)*) => {
        /// All settings, in the order of the documentation.
        pub static KEYS: &[Key] = &[$(Key {
            section: stringify!($section),
            name: $name,
            expected: <$kind as Kind>::EXPECTED,
            needs_restart: keys!(@ $restart),
            read_data: |config, value| $kind::data(value).map(|value| config.$section.$field = value).is_some(),
            read_text: |config, text| $kind::text(text).map(|value| config.$section.$field = value).is_some(),
            show: |config| $kind::show(&config.$section.$field),
        },)*];
    };
    (@ restart) => { true };
    (@ reload) => { false };
}

keys! {
    http.port            "port"            Port         restart;
    http.url             "url"             Url          reload;
    http.auth            "auth"            AuthWord     reload;
    http.trusted_proxies "trusted-proxies" Networks     reload;
    ssh.host             "host"            Host         reload;
    ssh.port             "port"            Port         reload;
    git.push_to_create   "push-to-create"  Flag         reload;
    git.max_push         "max-push"        Size         reload;
    ci.executor          "executor"        ExecutorWord restart;
    ci.engine            "engine"          Engine       restart;
    ci.concurrent_runs   "concurrent-runs" Positive     reload;
    ci.image             "image"           Image        reload;
    ci.timeout           "timeout"         Time         reload;
    ci.memory            "memory"          MemorySize   reload;
    ci.cpus              "cpus"            Cpus         reload;
    ci.pids              "pids"            Positive     reload;
    ci.network           "network"         Flag         reload;
    ci.max_log           "max-log"         Size         reload;
    ci.max_artifacts     "max-artifacts"   Size         reload;
    ci.retry_orphaned    "retry-orphaned"  Flag         reload;
    ci.keep_failed       "keep-failed"     Time         reload;
    keep.runs            "runs"            Count        reload;
    keep.days            "days"            Count        reload;
    keep.logs            "logs"            Size         reload;
    keep.artifacts       "artifacts"       Size         reload;
    keep.caches          "caches"          Size         reload;
    keep.min_free        "min-free"        Size         reload;
}

/// Sections that are accepted and do nothing yet.
pub(super) const WITHOUT_EFFECT: &[&str] = &["notify", "backup"];

/// The section of secrets, whose keys are the owner's.
pub(super) const SECRETS: &str = "secrets";

/// Names of all sections.
pub(super) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<&str> = KEYS
        .iter()
        .map(|key| key.section)
        .chain([SECRETS])
        .chain(WITHOUT_EFFECT.iter().copied())
        .collect();
    sections.dedup();
    sections
}
