//! The mirrors that repositories have by their own settings, beside those of the owner's configuration.
//!
//! A push decides what these are. So they are reached over HTTPS alone, at addresses that everyone reaches or that the owner has allowed, with a
//! secret that a run of the default branch could use as well. What another machine decided, by an import or a pull mirror, names none. A mirror of the owner's configuration with the same name counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::current::{CurrentSettings, RepoSettingsReader};
use crate::mirror::{
    MirrorConfig, MirrorOrigin, MirrorSettings, MirrorTarget, NamedMirror, RepoCheck,
};
use quire_config::{ConfigEntry, MirrorRemote, RepoSecrets, with_place};
use quire_git::TipOrigin;
use quire_git::read::ReadError;
use quire_store::NewMirror;
use quire_types::error_chain::with_sources;
use quire_types::names::{RefName, RepoName};

/// The mirrors of one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OwnMirrors {
    /// The default branch.
    pub(super) branch: RefName,
    /// Who decided what it refers to. What another machine decided names no mirrors.
    pub(super) origin: TipOrigin,
    pub(super) secrets: RepoSecrets,
    pub(super) mirrors: BTreeMap<String, ConfigEntry<MirrorRemote<String>>>,
}

impl OwnMirrors {
    /// What a repository says now, with its mirrors if it names any. Blocks.
    pub(super) fn read(
        reader: &RepoSettingsReader,
        repo: &RepoName,
    ) -> Result<(Arc<CurrentSettings>, Option<Self>), ReadError> {
        let (settings, tip) = reader.read_with_tip(repo)?;
        let named = &settings.settings.mirrors;
        let own = tip.filter(|_| !named.is_empty()).map(|tip| Self {
            origin: reader.tip_origin(repo, &tip).unwrap_or_else(|error| {
                let error = with_sources(&error);
                tracing::error!(%repo, %error, "a repository has no mirrors by its own settings");
                TipOrigin::PullMirror
            }),
            branch: tip.0,
            secrets: settings.settings.secrets.clone(),
            mirrors: named.clone(),
        });
        Ok((settings, own))
    }

    /// Those that count, by name.
    fn in_effect(&self) -> impl Iterator<Item = (&String, &ConfigEntry<MirrorRemote<String>>)> {
        let is_pushed = self.origin == TipOrigin::Here;
        self.mirrors.iter().filter(move |_| is_pushed)
    }

    /// What it says of one mirror.
    fn named(&self, name: &str) -> Option<NamedMirror> {
        let entry = self.in_effect().find(|(known, _)| *known == name)?.1;
        Some(NamedMirror {
            branch: self.branch.clone(),
            remote: entry.settings.clone(),
            secrets: self.secrets.clone(),
        })
    }
}

/// All that decides which mirrors there are, beside the owner's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct AllOwnMirrors {
    pub(super) repos: BTreeMap<RepoName, OwnMirrors>,
    /// The mirrors of the owner's configuration, by the present names of their repositories.
    pub(super) of_owner: BTreeSet<(RepoName, String)>,
    /// Whether runs may have a network.
    pub(super) has_network: bool,
}

impl AllOwnMirrors {
    /// Adds them to the owner's.
    pub(super) fn merged(
        &self,
        (owner, owner_revision): (&MirrorSettings, u64),
        reader: &RepoSettingsReader,
    ) -> MirrorSettings {
        let mut merged = owner.clone();
        merged.knows_repos = true;
        merged.owner_revision = owner_revision;
        for (repo, own) in &self.repos {
            for (name, entry) in own.in_effect() {
                if self.of_owner.contains(&(repo.clone(), name.clone())) {
                    continue;
                }
                let remote = match self.has_network {
                    true => entry.settings.clone(),
                    false => entry
                        .settings
                        .clone()
                        .and_then(|_| Err(NO_NETWORK.to_owned())),
                };
                let named = Arc::new(NamedMirror {
                    branch: own.branch.clone(),
                    remote,
                    secrets: own.secrets.clone(),
                });
                let url = entry.settings.as_ref().ok();
                let mirror = NewMirror {
                    repo: repo.clone(),
                    name: name.clone(),
                    url: url.map(|remote| remote.url.as_str().to_owned()),
                };
                let config = MirrorConfig {
                    location: entry.location.clone(),
                    target: match &named.remote {
                        Err(problem) => Err(problem.clone()),
                        Ok(remote) => Ok(target((repo, name), (&named, remote), owner, reader)),
                    },
                    named: Some(named),
                };
                merged.mirrors.insert(mirror, config);
            }
        }
        merged
    }

    /// A sentence for each mirror of a repository that has no effect.
    pub(super) fn without_effect(&self, repo: &RepoName) -> Vec<String> {
        let Some(own) = self.repos.get(repo) else {
            return Vec::new();
        };
        if own.origin == TipOrigin::Import {
            let branch = &own.branch;
            return vec![format!(
                "`:mirrors` has no effect until a push moves {branch}: what it refers to was imported from another machine"
            )];
        }
        let hidden = own
            .in_effect()
            .filter(|(name, _)| self.of_owner.contains(&(repo.clone(), (*name).clone())));
        let sentence = |(name, entry): (&String, &ConfigEntry<_>)| {
            let sentence = format!(
                "mirror `{name}` has no effect, since the configuration of quire has a mirror of this name"
            );
            with_place(entry.location.as_deref(), sentence)
        };
        hidden.map(sentence).collect()
    }
}

const NO_NETWORK: &str = "`ci.network` of the configuration of quire is false, so a repository has no mirrors by its own settings";

const NOT_NAMED: &str =
    "`token` must be one of the secrets that `:secrets` in the settings of the repository names";

fn target(
    (repo, name): (&RepoName, &str),
    (named, remote): (&Arc<NamedMirror>, &MirrorRemote<String>),
    owner: &MirrorSettings,
    reader: &RepoSettingsReader,
) -> MirrorTarget {
    let refs = remote.refs.clone();
    let login = remote.login.as_ref().map(|(user, secret)| {
        let (repo, branch, secret) = (repo.clone(), named.branch.clone(), secret.clone());
        let (reader, granted) = (reader.clone(), owner.granted_secret.clone());
        let read: crate::notify::SecretReader = Arc::new(move || {
            // A text that is no name may be a token, so no message has it.
            let is_named = reader.check_secret(&repo, &secret);
            is_named.map_err(|_| NOT_NAMED.to_owned())?;
            granted(&repo, &branch, &secret)
        });
        (user.clone(), read)
    });
    MirrorTarget {
        origin: MirrorOrigin::Repository,
        is_current: Some(is_current((repo, name), named, reader)),
        url: remote.url.clone(),
        login,
        covers: Arc::new(move |name| refs.cover(name)),
        delete: remote.delete,
        force: remote.force,
    }
}

/// Whether a repository still has the name that it had, and says the same of a mirror. Otherwise the settings in force are replaced soon.
fn is_current(
    (repo, name): (&RepoName, &str),
    named: &Arc<NamedMirror>,
    reader: &RepoSettingsReader,
) -> Arc<RepoCheck> {
    let (repo, name, reader) = (repo.clone(), name.to_owned(), reader.clone());
    let named = Arc::clone(named);
    Arc::new(move |present| {
        let says = |repo| {
            let (_, own) = OwnMirrors::read(&reader, repo).ok()?;
            own?.named(&name)
        };
        *present == repo && says(present).as_ref() == Some(&*named)
    })
}
