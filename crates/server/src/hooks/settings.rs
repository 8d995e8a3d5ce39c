//! The settings of incoming webhooks, as the configuration in force has them.

use std::collections::BTreeMap;
use std::fmt;

use crate::notify::SecretReader;
use quire_types::names::{RefName, RepoName};

/// The webhooks, by name.
#[derive(Clone, Default)]
pub struct HooksSettings {
    pub hooks: BTreeMap<String, HookSettings>,
}

#[derive(Clone)]
pub struct HookSettings {
    /// Its place in the configuration file.
    pub location: Option<String>,
    /// Its settings, or what is wrong with them.
    pub target: Result<HookTarget, String>,
}

#[derive(Clone)]
pub struct HookTarget {
    pub repo: RepoName,
    /// The default branch if `None`.
    pub ref_name: Option<RefName>,
    pub secret: SecretReader,
    /// How many requests a minute start runs.
    pub per_minute: u32,
}

impl fmt::Debug for HooksSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.hooks.keys()).finish()
    }
}
