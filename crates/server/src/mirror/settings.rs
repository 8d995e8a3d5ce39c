//! The settings of mirrors, as the configuration in force has them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::addresses::{AddressRange, ReachableAddresses};
use crate::notify::SecretReader;
use quire_config::{MirrorRemote, RepoSecrets, with_place};
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
    /// Counts the settings of the owner: with another one, what made mirrors fail may have been corrected.
    pub owner_revision: u64,
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
    /// What the settings of a repository say of it, if they name it.
    pub named: Option<Arc<NamedMirror>>,
}

/// What the settings of a repository say of a mirror, all that decides whether an attempt succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedMirror {
    /// The default branch.
    pub branch: RefName,
    pub remote: Result<MirrorRemote<String>, String>,
    pub secrets: RepoSecrets,
}

/// Asks something about the repository that has a name now.
pub type RepoCheck = dyn Fn(&RepoName) -> bool + Send + Sync;

#[derive(Clone)]
pub struct MirrorTarget {
    pub origin: MirrorOrigin,
    /// Whether the repository that has this name now still asks for exactly this. It may block. `None` if no repository asks for it.
    pub is_current: Option<Arc<RepoCheck>>,
    pub url: GitRemoteUrl,
    /// User and token for HTTPS.
    pub login: Option<(String, SecretReader)>,
    /// Whether the patterns cover a ref.
    pub covers: Arc<dyn Fn(&RefName) -> bool + Send + Sync>,
    pub delete: bool,
    pub force: bool,
}

impl MirrorSettings {
    /// The mirrors of which repositories say something else than before.
    pub(super) fn changed_since<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = &'a NewMirror> {
        let changed = self.mirrors.iter().filter(|(mirror, config)| {
            let known = before.mirrors.get(mirror);
            known.is_none_or(|known| known.named != config.named)
        });
        changed.map(|(mirror, _)| mirror)
    }

    /// Where a remote may be, and what it names. The owner knows the private networks; a repository reaches none of them.
    pub(super) fn reachable(&self, origin: MirrorOrigin) -> ReachableAddresses<'_> {
        let range = match origin {
            MirrorOrigin::Owner => AddressRange::Private,
            MirrorOrigin::Repository => AddressRange::Public,
        };
        ReachableAddresses {
            range,
            allowed: &self.allowed_networks,
        }
    }
}

impl MirrorConfig {
    /// A problem of the mirror, with its place in the file that has it.
    pub(super) fn problem(&self, mirror: &NewMirror, problem: &str) -> String {
        let NewMirror { repo, name, .. } = mirror;
        let sentence = format!("mirror `{name}` of {repo}: {problem}");
        with_place(self.location.as_deref(), sentence)
    }
}

impl fmt::Debug for MirrorSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.mirrors.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://hub.example/app.git";

    fn settings(mirrors: &[(&str, Option<RepoSecrets>, &str)]) -> MirrorSettings {
        let no_secret = || Err("no secret".to_owned());
        let mirrors = mirrors.iter().map(|(name, secrets, place)| {
            let mirror = NewMirror {
                repo: "app".parse().unwrap(),
                name: (*name).to_owned(),
                url: Some(URL.to_owned()),
            };
            let named = secrets.clone().map(|secrets| NamedMirror {
                branch: "refs/heads/main".parse().unwrap(),
                remote: Err("wrong".to_owned()),
                secrets,
            });
            let config = MirrorConfig {
                location: Some((*place).to_owned()),
                target: Err("wrong".to_owned()),
                named: named.map(Arc::new),
            };
            (mirror, config)
        });
        MirrorSettings {
            mirrors: mirrors.collect(),
            knows_repos: true,
            owner_revision: 1,
            allowed_networks: Vec::new(),
            compare_every: Duration::from_secs(3600),
            redactor: Arc::new(Redactor::default),
            secret: Arc::new(move |_| no_secret()),
            granted_secret: Arc::new(move |_, _, _| no_secret()),
        }
    }

    #[test]
    fn a_mirror_that_only_moved_in_its_file_is_the_same() {
        let (all, none) = (RepoSecrets::All, RepoSecrets::Only([].into()));
        let before = settings(&[
            ("a", None, "1"),
            ("b", Some(all.clone()), "1"),
            ("c", Some(all.clone()), "1"),
        ]);
        let after = settings(&[
            ("a", None, "2"),
            ("b", Some(all.clone()), "2"),
            ("c", Some(none), "1"),
            ("d", Some(all), "1"),
        ]);
        let changed: Vec<_> = after
            .changed_since(&before)
            .map(|of| of.name.as_str())
            .collect();
        assert_eq!(changed, ["c", "d"]);
    }
}
