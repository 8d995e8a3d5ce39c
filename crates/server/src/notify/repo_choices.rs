//! What repositories say about targets in the settings of their default branches, at this moment.
//!
//! It is asked when a run is told. A file that is wrong, or that cannot be read, says nothing: targets are told as the owner's configuration says.

use std::collections::{BTreeSet, HashMap};

use super::settings::NotifySettings;
use crate::repo_settings::RepoSettingsReader;
use quire_config::TargetChoice;
use quire_pipeline::closest_match;
use quire_runtime::blocking::run_blocking;
use quire_store::OutboxEntry;
use quire_types::names::RepoName;

/// What the repositories of these rows say about a target.
pub(super) async fn choices_of_entries(
    reader: &RepoSettingsReader,
    target: &str,
    entries: &[OutboxEntry],
) -> HashMap<RepoName, TargetChoice> {
    let repos: BTreeSet<RepoName> = entries.iter().filter_map(repo_of).cloned().collect();
    let mut choices = HashMap::new();
    for repo in repos {
        let (reader, asked) = (reader.clone(), repo.clone());
        let read = run_blocking(move || reader.read(&asked)).await;
        // That a repository cannot be read is a finding of its own.
        if let Ok(Ok(current)) = read
            && let Some(choice) = current.settings.targets.get(target)
        {
            choices.insert(repo, choice.clone());
        }
    }
    choices
}

/// The repository whose settings may matter for a row, or may have changed with it.
pub(super) fn repo_of(entry: &OutboxEntry) -> Option<&RepoName> {
    match entry {
        OutboxEntry::Ended(ended) => Some(&ended.run.repo),
        OutboxEntry::Pushed(pushed) => Some(&pushed.repo),
        OutboxEntry::Reported { .. } => None,
    }
}

/// Why a repository can say nothing about a target.
pub(crate) fn problem_of_target(
    repo: &RepoName,
    name: &str,
    settings: &NotifySettings,
) -> Option<String> {
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
