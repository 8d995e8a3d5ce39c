//! The settings that repositories have at this moment.
//!
//! The default branch is looked up each time, so there is nothing to invalidate; what a file says is remembered by the id of the file.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::file::{SettingsFileKey, SettingsOfCommit};
use quire_config::{RepoSecrets, RepoSettings};
use quire_git::read::{ReadError, Reader};
use quire_git::{Git, GitError, TipOrigin};
use quire_types::error_chain;
use quire_types::names::{ObjectId, RefName, RepoName};
use quire_types::paths::Paths;
use quire_types::sync::lock;
use quire_types::text::excerpt_name;

/// How many files are remembered.
const MAX_REMEMBERED: usize = 1000;

/// A branch with its commit.
pub(super) type BranchTip = (RefName, ObjectId);

/// What the file of a default branch says.
#[derive(Debug, Default)]
pub struct CurrentSettings {
    pub settings: RepoSettings,
    /// What is wrong with the file as a whole. It has no settings then, and permits no secret.
    pub wrong: Option<String>,
}

impl CurrentSettings {
    fn wrong(problem: String) -> Self {
        Self {
            settings: RepoSettings {
                secrets: RepoSecrets::Only([].into()),
                ..RepoSettings::default()
            },
            wrong: Some(problem),
        }
    }

    fn parse(file: &str, text: &str) -> Self {
        match RepoSettings::parse(file, text) {
            Ok(settings) => Self {
                settings,
                wrong: None,
            },
            Err(problem) => Self::wrong(problem.to_string()),
        }
    }

    /// Why a secret may not be used, if so.
    #[must_use]
    pub fn refused_secret(&self, repo: &RepoName, name: &str) -> Option<String> {
        if self.settings.secrets.permits(name) {
            return None;
        }
        Some(match &self.wrong {
            Some(problem) => format!(
                "no secret is available to {repo} until the settings on its default branch are right: {problem}"
            ),
            None => format!(
                "the secret `{}` is not available to {repo}: `:secrets` in the settings on its default branch does not name it",
                excerpt_name(name)
            ),
        })
    }
}

/// Reads the settings of repositories. Clones share what they know.
#[derive(Clone)]
pub struct RepoSettingsReader {
    paths: Paths,
    known: Arc<Mutex<HashMap<SettingsFileKey, Arc<CurrentSettings>>>>,
    /// Held while a file is evaluated, which may take seconds: one is evaluated at a time, and what is known is found meanwhile.
    evaluating: Arc<Mutex<()>>,
}

impl RepoSettingsReader {
    #[must_use]
    pub fn new(paths: Paths) -> Self {
        Self {
            paths,
            known: Arc::default(),
            evaluating: Arc::default(),
        }
    }

    /// What a repository says now. Blocks.
    pub fn read(&self, repo: &RepoName) -> Result<Arc<CurrentSettings>, ReadError> {
        Ok(self.read_with_tip(repo)?.0)
    }

    /// Who decided what a branch refers to. Blocks.
    pub(super) fn tip_origin(
        &self,
        repo: &RepoName,
        (branch, commit): &BranchTip,
    ) -> Result<TipOrigin, GitError> {
        Git::new(&self.paths).tip_origin(repo, branch, commit)
    }

    /// What a repository says now, and the default branch on which it does, with its commit. Blocks.
    pub(super) fn read_with_tip(
        &self,
        repo: &RepoName,
    ) -> Result<(Arc<CurrentSettings>, Option<BranchTip>), ReadError> {
        let reader = Reader::open(&self.paths.repo(repo))?;
        let Some(head) = reader.head()? else {
            return Ok((Arc::default(), None));
        };
        let tip = head.ref_name.as_deref().and_then(|name| {
            let name = std::str::from_utf8(name).ok()?;
            Some((name.parse().ok()?, head.commit.clone()))
        });
        let (key, text) = match SettingsOfCommit::find(&reader, &head.commit)? {
            SettingsOfCommit::None => return Ok((Arc::default(), tip)),
            SettingsOfCommit::Wrong(problem) => {
                return Ok((Arc::new(CurrentSettings::wrong(problem)), tip));
            }
            SettingsOfCommit::File { key, text } => (key, text),
        };
        Ok((self.evaluate(key, &text), tip))
    }

    /// What a settings file says. Blocks while it is evaluated, or another one is.
    #[must_use]
    pub fn evaluate(&self, key: SettingsFileKey, text: &str) -> Arc<CurrentSettings> {
        let known = || lock(&self.known).get(&key).cloned();
        if let Some(settings) = known() {
            return settings;
        }
        let _one_at_a_time = lock(&self.evaluating);
        if let Some(settings) = known() {
            return settings;
        }
        let settings = Arc::new(CurrentSettings::parse(key.1, text));
        let mut known = lock(&self.known);
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(key, settings.clone());
        settings
    }

    /// Checks that a repository uses a secret. The error is a message for the author of the pipeline. Blocks.
    pub fn check_secret(&self, repo: &RepoName, name: &str) -> Result<(), String> {
        let current = self.read(repo).map_err(|error| {
            let reason = error_chain::chain(&error);
            format!("no secret is available to {repo}, since its settings cannot be read: {reason}")
        })?;
        current.refused_secret(repo, name).map_or(Ok(()), Err)
    }
}
