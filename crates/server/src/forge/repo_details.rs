//! A repository with everything that belongs to it, as `repo show` answers with it.

use std::sync::Arc;

use quire_config::{Config, RunGrant, SettingsInForce};
use quire_git::ObjectFormat;
use quire_git::lfs::LfsStore;
use quire_git::read::{ReadError, Reader, RefNames};
use quire_store::{RepoSchedule, RepoSummary};
use quire_types::clock::Millis;
use quire_types::error_chain;
use quire_types::fsutil::folder_size;
use quire_types::names::RepoName;
use quire_types::ref_pattern::RefPattern;
use quire_types::run::Run;
use serde::Serialize;

use super::access::Forge;
use super::error::ForgeError;
use super::mirrors::{self, ListedMirror};
use super::repos;
use super::views::{MirrorJson, RunJson, ScheduleJson, views};
use crate::repo_settings::{CurrentSettings, RepoSettingsReader, RepoShown};
use quire_config::RepoVisibility;

/// A repository and the rows and settings that name it.
#[derive(Debug)]
pub struct RepoDetails {
    /// Its name now.
    pub repo: RepoName,
    pub shown: RepoShown,
    /// Why its refs or its settings cannot be read.
    pub unreadable: Option<String>,
    pub default_branch: Option<String>,
    pub object_format: ObjectFormat,
    pub branches: usize,
    pub tags: usize,
    pub sizes: RepoSizes,
    pub last_push: Option<Millis>,
    pub newest_run: Option<Run>,
    /// The patterns of the refs that are protected.
    pub protected: Vec<RefPattern>,
    pub schedules: Vec<RepoSchedule>,
    pub mirrors: Vec<ListedMirror>,
    pub granted: RepoGrants,
}

/// What a repository occupies on the volume, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RepoSizes {
    /// Objects and refs, also those that are kept for an undo.
    pub git: u64,
    pub lfs: u64,
    pub logs: u64,
    pub artifacts: u64,
}

/// What the owner's settings grant to runs of a repository, at least at some refs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RepoGrants {
    pub secrets: Vec<GrantedRefs>,
    pub docker_socket: Vec<GrantedRefs>,
    pub privileges: Vec<GrantedRefs>,
    /// The incoming webhooks that start its runs.
    pub hooks: Vec<String>,
}

/// Something that is granted to runs at refs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GrantedRefs {
    /// A secret, or the pattern of repositories that is granted it.
    pub name: String,
    /// Patterns of whole names of refs; `None` for all.
    pub refs: Option<Vec<String>>,
}

impl RepoDetails {
    /// Reads a repository, given any name of it.
    ///
    /// # Errors
    /// It does not exist, or the database cannot be read. What cannot be read of the repository itself is left out.
    pub fn read(forge: &Forge, name: &RepoName) -> Result<Self, ForgeError> {
        let repo = repos::existing(forge, name)?;
        let folder = forge.paths.repo(&repo);
        let content = RepoContent::read(forge, &repo);
        let lfs = folder_size(LfsStore::of(&folder).folder());
        let mut details = Self {
            unreadable: content
                .as_ref()
                .err()
                .map(|error| error_chain::chain(error)),
            default_branch: forge.git.default_branch(&repo).ok().flatten(),
            object_format: forge.git.object_format(&repo)?,
            sizes: RepoSizes {
                git: folder_size(&folder).saturating_sub(lfs),
                lfs,
                logs: folder_size(&forge.paths.repo_runs_dir(&repo)),
                artifacts: folder_size(&forge.paths.repo_artifacts(&repo)),
            },
            granted: RepoGrants::read(forge, &repo, content.as_ref().ok())?,
            protected: forge.git.protected_refs(&repo)?,
            last_push: None,
            newest_run: None,
            schedules: Vec::new(),
            mirrors: Vec::new(),
            shown: RepoShown::default(),
            branches: 0,
            tags: 0,
            repo,
        };
        if let Ok(content) = content {
            (details.branches, details.tags) = (content.branches, content.tags);
            details.shown = RepoShown::from(&*content.settings);
        }
        if details.shown.description.is_none() {
            details.shown.description = forge.git.description(&details.repo)?;
        }
        if forge.has_database() {
            let store = forge.store()?;
            let RepoSummary {
                last_push_ms,
                newest_run,
                ..
            } = store.repos().summary(&details.repo)?;
            (details.last_push, details.newest_run) = (last_push_ms, newest_run);
            details.schedules = store.schedules().list(Some(&details.repo))?;
            details.mirrors = mirrors::list_in(&store, Some(&details.repo))?;
        }
        Ok(details)
    }

    /// The document of `repo show --json`.
    #[must_use]
    pub fn document(&self) -> RepoDocument<'_> {
        let visibility = self.shown.visibility;
        RepoDocument {
            repo: &self.repo,
            description: self.shown.description.as_deref(),
            public: visibility != RepoVisibility::Private,
            public_runs: visibility == RepoVisibility::PublicRuns,
            problems: &self.shown.problems,
            unreadable: self.unreadable.as_deref(),
            default_branch: self.default_branch.as_deref(),
            object_format: self.object_format.as_str(),
            branches: self.branches,
            tags: self.tags,
            bytes: self.sizes,
            last_push_ms: self.last_push,
            newest_run: self.newest_run.as_ref().map(RunJson::from),
            protected: self.protected.iter().map(RefPattern::as_str).collect(),
            schedules: views(&self.schedules),
            mirrors: views(&self.mirrors),
            granted: &self.granted,
        }
    }
}

/// What the objects of a repository say.
struct RepoContent {
    settings: Arc<CurrentSettings>,
    branches: usize,
    tags: usize,
}

impl RepoContent {
    fn read(forge: &Forge, repo: &RepoName) -> Result<Self, ReadError> {
        let reader = Reader::open(&forge.paths.repo(repo))?;
        Ok(Self {
            settings: RepoSettingsReader::new(forge.paths.clone()).read(repo)?,
            branches: reader.count_refs(RefNames::Branches)?,
            tags: reader.count_refs(RefNames::Tags)?,
        })
    }
}

impl RepoGrants {
    /// Reads what the settings in force and the stored secrets grant, without the secrets that the repository does not use.
    fn read(
        forge: &Forge,
        repo: &RepoName,
        content: Option<&RepoContent>,
    ) -> Result<Self, ForgeError> {
        let own = content.map(|content| &content.settings.settings.secrets);
        let in_force = SettingsInForce::read(&forge.paths).ok().flatten();
        let grants = |setting: &str| -> Vec<GrantedRefs> {
            let value = in_force
                .as_ref()
                .and_then(|settings| settings.find(setting))
                .map_or("", |found| found.value.as_str());
            let grants = value.split(',').filter_map(RunGrant::parse);
            grants
                .filter(|grant| grant.covers_some_of(repo))
                .map(GrantedRefs::from)
                .collect()
        };
        let config = Config::load_for_command(&forge.paths).map(|loaded| loaded.config);
        let config = config.unwrap_or_default();
        let configured = config
            .secrets
            .iter()
            .map(|(name, grant)| (name.clone(), grant.scope.clone()));
        let mut secrets: Vec<_> = configured.collect();
        if forge.has_database() {
            let stored = forge.store()?.secrets().list()?;
            let stored = stored
                .into_iter()
                .map(|secret| (secret.name.to_string(), secret.scope));
            // The configuration is asked first.
            secrets.extend(stored.filter(|(name, _)| !config.secrets.contains_key(name)));
        }
        secrets.sort_by(|a, b| a.0.cmp(&b.0));
        let hooks = config.hooks.iter().filter_map(|(name, hook)| {
            let hook = hook.settings.as_ref().ok()?;
            (forge.git.resolve(&hook.repo) == *repo).then(|| name.clone())
        });
        Ok(Self {
            secrets: secrets
                .into_iter()
                .filter(|(name, scope)| {
                    scope.grants_some_of(repo) && own.is_none_or(|own| own.permits(name))
                })
                .map(|(name, scope)| GrantedRefs {
                    name,
                    refs: scope.refs,
                })
                .collect(),
            docker_socket: grants("ci.docker-socket"),
            privileges: grants("ci.privileges"),
            hooks: hooks.collect(),
        })
    }
}

impl From<RunGrant> for GrantedRefs {
    fn from(grant: RunGrant) -> Self {
        Self {
            refs: grant.refs().map(|refs| vec![refs.to_owned()]),
            name: grant.repo().to_owned(),
        }
    }
}

/// A [`RepoDetails`] as JSON.
#[derive(Debug, Serialize)]
pub struct RepoDocument<'a> {
    repo: &'a RepoName,
    description: Option<&'a str>,
    public: bool,
    public_runs: bool,
    problems: &'a [String],
    unreadable: Option<&'a str>,
    default_branch: Option<&'a str>,
    object_format: &'static str,
    branches: usize,
    tags: usize,
    bytes: RepoSizes,
    last_push_ms: Option<Millis>,
    newest_run: Option<RunJson<'a>>,
    protected: Vec<&'a str>,
    schedules: Vec<ScheduleJson<'a>>,
    mirrors: Vec<MirrorJson<'a>>,
    granted: &'a RepoGrants,
}
