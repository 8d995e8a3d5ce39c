//! `:mirrors`: remotes to which repositories are pushed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::entry::ConfigEntry;
use super::secrets::SecretSource;
use quire_types::git_remote_url::GitRemoteUrl;
use quire_types::name_pattern::matches_pattern;
use quire_types::names::{RefName, RepoName};
use quire_types::network::Network;

/// `:mirrors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorsConfig {
    /// How often a remote is compared although nothing was pushed.
    pub compare_every: Duration,
    /// Networks of this machine or of its link in which remotes may be.
    pub allowed_networks: Vec<Network>,
    /// By repository and name.
    pub repos: BTreeMap<RepoName, BTreeMap<String, ConfigEntry<MirrorRemote>>>,
}

impl Default for MirrorsConfig {
    fn default() -> Self {
        Self {
            compare_every: Duration::from_secs(3600),
            allowed_networks: Vec::new(),
            repos: BTreeMap::new(),
        }
    }
}

/// The settings of a mirror that are right. `T` says what the token is: where its value is, or the name of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorRemote<T = SecretSource> {
    pub url: GitRemoteUrl,
    /// User and token for HTTPS.
    pub login: Option<(String, T)>,
    pub refs: RefPatterns,
    /// Whether refs are deleted there that do not exist here.
    pub delete: bool,
    /// Whether refs are moved there to commits that do not contain the old ones.
    pub force: bool,
}

/// Patterns of refs; `*` in a pattern stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefPatterns(Vec<String>);

impl Default for RefPatterns {
    fn default() -> Self {
        Self(vec!["refs/heads/*".to_owned(), "refs/tags/*".to_owned()])
    }
}

impl RefPatterns {
    /// A list of at least one pattern, each with `refs/` at its beginning; a short name would never match.
    pub(super) fn new(patterns: Vec<String>) -> Option<Self> {
        let is_whole = |pattern: &String| pattern.starts_with("refs/");
        (!patterns.is_empty() && patterns.iter().all(is_whole)).then_some(Self(patterns))
    }

    #[must_use]
    pub fn cover(&self, ref_name: &RefName) -> bool {
        self.0
            .iter()
            .any(|pattern| matches_pattern(pattern, ref_name.as_str()))
    }
}
