//! The settings of mirrors, as the configuration in force has them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::notify::SecretReader;
use quire_store::NewMirror;
use quire_types::git_remote_url::GitRemoteUrl;
use quire_types::names::{RefName, RepoName};
use quire_types::network::Network;
use quire_types::secret::{Redactor, Secret};

/// Returns the value of the secret of a name, or why not.
pub type SecretLookup = Arc<dyn Fn(&str) -> Result<Secret, String> + Send + Sync>;

/// Returns the value of the secret of a name that runs of a ref of a repository may use, or why not.
pub type GrantedSecretLookup =
    Arc<dyn Fn(&RepoName, &RefName, &str) -> Result<Secret, String> + Send + Sync>;

#[derive(Clone)]
pub struct MirrorSettings {
    pub mirrors: BTreeMap<NewMirror, MirrorConfig>,
    /// Whether those of repositories are among them. Until then, no mirror is forgotten.
    pub knows_repos: bool,
    /// Networks in which remotes may be although they are those of this machine or its link.
    pub allowed_networks: Vec<Network>,
    /// How often a remote is compared although nothing differs as far as is known.
    pub compare_every: Duration,
    /// Returns a redactor of all secrets that the configuration names, and of those that were set. It may block.
    pub redactor: Arc<dyn Fn() -> Redactor + Send + Sync>,
    /// Returns the value of the secret of this name, or why not. It may block.
    pub secret: SecretLookup,
    /// The same for a secret that a run of this ref of this repository may use.
    pub granted_secret: GrantedSecretLookup,
}

/// Who chose the address of a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorOrigin {
    /// The owner, by the configuration or by a command.
    Owner,
    /// A repository, by the settings on its default branch: the last push decides.
    Repository,
}

#[derive(Clone)]
pub struct MirrorConfig {
    /// Its place in the file that has it.
    pub location: Option<String>,
    /// Its settings, or what is wrong with them.
    pub target: Result<MirrorTarget, String>,
}

#[derive(Clone)]
pub struct MirrorTarget {
    pub origin: MirrorOrigin,
    /// Whether the repository that has this name now still asks for exactly this. It may block.
    pub is_current: Arc<dyn Fn(&RepoName) -> bool + Send + Sync>,
    pub url: GitRemoteUrl,
    /// User and token for HTTPS.
    pub login: Option<(String, SecretReader)>,
    /// Whether the patterns cover a ref.
    pub covers: Arc<dyn Fn(&RefName) -> bool + Send + Sync>,
    pub delete: bool,
    pub force: bool,
}

impl MirrorConfig {
    /// A problem of the mirror, with its place in the file that has it.
    pub(super) fn problem(&self, mirror: &NewMirror, problem: &str) -> String {
        let NewMirror { repo, name, .. } = mirror;
        match &self.location {
            Some(location) => format!("{location}: mirror `{name}` of {repo}: {problem}"),
            None => format!("mirror `{name}` of {repo}: {problem}"),
        }
    }
}

impl fmt::Debug for MirrorSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.mirrors.keys()).finish()
    }
}
