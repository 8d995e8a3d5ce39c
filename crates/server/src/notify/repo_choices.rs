//! What repositories say about targets in the settings of their default branches, at this moment.
//!
//! It is asked when a run is told, so there is nothing to invalidate; what a file says is remembered by the id of the file. A file that is
//! wrong, or that cannot be read, says nothing: targets are told as the owner's configuration says. What is wrong is a finding.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use super::settings::NotifySettings;
use crate::findings::{Findings, RepoTask};
use crate::repo_settings::{SettingsFileKey, SettingsOfCommit};
use quire_config::{RepoSettings, TargetChoice};
use quire_git::read::{ReadError, Reader};
use quire_pipeline::closest_match;
use quire_runtime::blocking::run_blocking;
use quire_store::OutboxEntry;
use quire_types::names::RepoName;
use quire_types::paths::Paths;
use quire_types::sync::lock;

/// How many files are remembered.
const MAX_REMEMBERED: usize = 1000;

/// What a file says.
#[derive(Debug, Default)]
struct FileChoices {
    targets: BTreeMap<String, TargetChoice>,
    problems: Vec<String>,
}

/// Reads what repositories say. Clones share what they know.
#[derive(Clone)]
pub struct RepoChoices {
    paths: Paths,
    findings: Findings,
    /// Held while a file is evaluated, so that one is evaluated at a time.
    known: Arc<Mutex<HashMap<SettingsFileKey, Arc<FileChoices>>>>,
}

impl RepoChoices {
    #[must_use]
    pub fn new(paths: Paths, findings: Findings) -> Self {
        Self {
            paths,
            findings,
            known: Arc::default(),
        }
    }

    /// What the repositories of these rows say about a target, and reports what is wrong with it.
    pub(super) async fn of_entries(
        &self,
        target: &str,
        entries: &[OutboxEntry],
        settings: &Arc<NotifySettings>,
    ) -> HashMap<RepoName, TargetChoice> {
        let repos: BTreeSet<RepoName> = entries.iter().filter_map(repo_of).cloned().collect();
        let mut choices = HashMap::new();
        for repo in repos {
            let file = self.examine(repo.clone(), settings.clone()).await;
            if let Some(choice) = file.targets.get(target) {
                choices.insert(repo, choice.clone());
            }
        }
        choices
    }

    /// Reports what is wrong with what these repositories say.
    pub(super) async fn examine_all(&self, repos: Vec<RepoName>, settings: &Arc<NotifySettings>) {
        for repo in repos {
            self.examine(repo, settings.clone()).await;
        }
    }

    /// What a repository says. Reports what is wrong with it.
    async fn examine(&self, repo: RepoName, settings: Arc<NotifySettings>) -> Arc<FileChoices> {
        let choices = self.clone();
        let examine = move || {
            // That a repository cannot be read is a finding of its own.
            let Ok(file) = choices.read(&repo) else {
                return Arc::default();
            };
            let problems = problems(&repo, &file, &settings);
            match problems.is_empty() {
                true => choices.findings.clear(&repo, RepoTask::ReadSettings),
                false => {
                    let text = problems.join("; ");
                    choices.findings.add(&repo, RepoTask::ReadSettings, text);
                }
            }
            file
        };
        run_blocking(examine).await.unwrap_or_default()
    }

    /// Blocks.
    fn read(&self, repo: &RepoName) -> Result<Arc<FileChoices>, ReadError> {
        let reader = Reader::open(&self.paths.repo(repo))?;
        let Some(head) = reader.head()? else {
            return Ok(Arc::default());
        };
        let (key, text) = match SettingsOfCommit::find(&reader, &head.commit)? {
            SettingsOfCommit::File { key, text } => (key, text),
            SettingsOfCommit::Plain(shown) => {
                return Ok(Arc::new(FileChoices {
                    problems: shown.problems,
                    ..FileChoices::default()
                }));
            }
        };
        let mut known = lock(&self.known);
        if let Some(choices) = known.get(&key) {
            return Ok(choices.clone());
        }
        let choices = Arc::new(match RepoSettings::parse(key.1, &text) {
            Ok(settings) => FileChoices {
                targets: settings.targets,
                problems: settings.notify_problems,
            },
            Err(problem) => FileChoices {
                problems: vec![problem.to_string()],
                ..FileChoices::default()
            },
        });
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(key, choices.clone());
        Ok(choices)
    }
}

/// The repository whose settings may matter for a row, or may have changed with it.
pub(super) fn repo_of(entry: &OutboxEntry) -> Option<&RepoName> {
    match entry {
        OutboxEntry::Ended(ended) => Some(&ended.run.repo),
        OutboxEntry::Pushed(pushed) => Some(&pushed.repo),
        OutboxEntry::Reported { .. } => None,
    }
}

/// What is wrong with what a repository says, with the place of each.
fn problems(repo: &RepoName, file: &FileChoices, settings: &NotifySettings) -> Vec<String> {
    let of_target = |(name, choice): (&String, &TargetChoice)| {
        let problem = problem_of_target(repo, name, settings)?;
        Some(match &choice.location {
            Some(location) => format!("{location}: {problem}"),
            None => problem,
        })
    };
    let of_targets = file.targets.iter().filter_map(of_target);
    file.problems.iter().cloned().chain(of_targets).collect()
}

/// Why a repository can say nothing about a target.
fn problem_of_target(repo: &RepoName, name: &str, settings: &NotifySettings) -> Option<String> {
    let Some(target) = settings.targets.get(name) else {
        let near = closest_match(name, settings.targets.keys().map(String::as_str));
        let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        let problem = format!("the configuration of quire has no target `{name}`{near}");
        return Some(problem);
    };
    // What is wrong with the target itself is a finding of the target.
    let (selection, _) = target.settings.as_ref().ok()?;
    match &selection.chosen_by {
        None => Some(format!(
            "target `{name}` is told of each end of a run or of pushes, so there is nothing to choose"
        )),
        Some(is_told) => (!is_told(repo)).then(|| {
            format!("target `{name}` is told of no runs of this repository, as the configuration of quire says")
        }),
    }
}
