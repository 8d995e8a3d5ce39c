//! Creating, renaming, removing and listing repositories.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::access::Forge;
use super::caches;
use super::error::ForgeError;
use super::operation_log::recorded;
use super::repo_setting_error::RepoSettingError;
use super::trash;
use crate::rename::{RenameError, RenameLock, Renamer, remove_run_folders, run_folders};
use crate::repo_settings::RepoSettingsReader;
use quire_config::MAX_DESCRIPTION;
use quire_git::{ObjectFormat, TrashId, UnreadableEntry, closest_name};
use quire_store::{RepoSummary, RunFilter, Store};
use quire_types::clock::Millis;
use quire_types::keep_times::KeepTimes;
use quire_types::names::{RefName, RepoName};
use quire_types::operation::Operation;
use quire_types::run::Run;
use quire_types::text::single_line;

/// How long the runs of a repository that is removed may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// After this time no further settings are evaluated for the descriptions of a list: a file may take seconds until it has reached its limit.
pub const DESCRIPTIONS_TIME: Duration = Duration::from_secs(3);

/// A repository with its newest activity.
#[derive(Debug)]
pub struct RepoOverview {
    pub repo: RepoName,
    /// What it is, in one line.
    pub description: Option<String>,
    pub default_branch: Option<String>,
    pub last_push: Option<Millis>,
    pub newest_run: Option<Run>,
}

/// All repositories by name.
#[derive(Debug)]
pub struct RepoOverviews {
    pub repos: Vec<RepoOverview>,
    /// Repositories and groups that cannot be looked at.
    pub unreadable: Vec<UnreadableEntry>,
}

/// Lists all repositories by name.
pub fn list(forge: &Forge) -> Result<RepoOverviews, ForgeError> {
    let summaries = if forge.has_database() {
        forge.store()?.repos().summaries()?
    } else {
        Vec::new()
    };
    let mut summaries: HashMap<RepoName, RepoSummary> = summaries
        .into_iter()
        .map(|summary| (summary.repo.clone(), summary))
        .collect();
    let reader = RepoSettingsReader::new(forge.paths.clone());
    let deadline = Instant::now() + DESCRIPTIONS_TIME;
    let overview = |repo: RepoName| {
        let (last_push, newest_run) = summaries.remove(&repo).map_or((None, None), |summary| {
            (summary.last_push_ms, summary.newest_run)
        });
        RepoOverview {
            // A repository that cannot be read, or not in time, is listed all the same.
            description: (Instant::now() < deadline)
                .then(|| described(forge, &reader, &repo).ok().flatten())
                .flatten(),
            default_branch: forge.git.default_branch(&repo).ok().flatten(),
            repo,
            last_push,
            newest_run,
        }
    };
    let listing = forge.git.list()?;
    Ok(RepoOverviews {
        repos: listing.repos.into_iter().map(overview).collect(),
        unreadable: listing.unreadable,
    })
}

/// Creates an empty repository. If the name redirected to a renamed repository, the redirect is
/// removed; returns the repository that it redirected to.
pub fn create(
    forge: &Forge,
    name: &RepoName,
    format: ObjectFormat,
) -> Result<Option<RepoName>, ForgeError> {
    let target = forge.git.resolve(name);
    if target == *name && forge.git.exists(name)? {
        return Err(ForgeError::RepositoryExists(name.clone()));
    }
    if forge.git.is_being_imported(name) {
        return Err(ForgeError::BeingImported(name.clone()));
    }
    recorded(forge, Operation::RepoNew { repo: name.clone() }, |_| {
        if target != *name {
            let renamer = Renamer::new(&forge.paths, forge.store()?);
            renamer.lock()?.create_over_redirect(name, format)?;
            return Ok(Some(target));
        }
        if forge.git.create_with_format(name, format)? {
            Ok(None)
        } else {
            Err(ForgeError::RepositoryExists(name.clone()))
        }
    })
}

/// Makes a branch the default branch: `HEAD` names it, a clone checks it out, and schedules are read from it.
pub fn set_default_branch(
    forge: &Forge,
    name: &RepoName,
    branch: &RefName,
) -> Result<(), ForgeError> {
    let repo = forge.git.resolve(name);
    if !forge.git.exists(&repo)? {
        return Err(no_repository(forge, repo));
    }
    let before = forge.git.head_branch(&repo)?;
    let operation = Operation::RepoDefault {
        repo: repo.clone(),
        branch: branch.clone(),
        before: match forge.git.default_branch(&repo)? {
            Some(_) => before,
            None => None,
        },
    };
    recorded(forge, operation, |_| {
        forge.git.set_default_branch(&repo, branch)?;
        // The schedules of the branch are read now.
        forge.notifier.notify(&[]);
        Ok(())
    })
}

/// What a repository is, in one line: as its settings say it, or else as [`describe`] did.
pub fn description(forge: &Forge, name: &RepoName) -> Result<Option<String>, ForgeError> {
    let repo = existing(forge, name)?;
    described(forge, &RepoSettingsReader::new(forge.paths.clone()), &repo)
}

fn described(
    forge: &Forge,
    reader: &RepoSettingsReader,
    repo: &RepoName,
) -> Result<Option<String>, ForgeError> {
    match in_settings(reader, repo) {
        Some(text) => Ok(Some(text)),
        None => Ok(forge.git.description(repo)?),
    }
}

/// The description in the settings of a repository. Settings that cannot be read have none.
fn in_settings(reader: &RepoSettingsReader, repo: &RepoName) -> Option<String> {
    let current = reader.read(repo).ok()?;
    current.settings.description.clone()
}

/// Says what a repository is, or nothing of it. Returns what is said now.
pub fn describe(
    forge: &Forge,
    name: &RepoName,
    text: Option<&str>,
) -> Result<Option<String>, ForgeError> {
    let repo = existing(forge, name)?;
    let text = text.map(|text| single_line(text).trim().to_owned());
    let text = text.filter(|text| !text.is_empty());
    if text
        .as_ref()
        .is_some_and(|text| text.chars().count() > MAX_DESCRIPTION)
    {
        return Err(RepoSettingError::LongDescription(MAX_DESCRIPTION).into());
    }
    // Where the settings say it, this would not be shown.
    if in_settings(&RepoSettingsReader::new(forge.paths.clone()), &repo).is_some() {
        return Err(RepoSettingError::DescriptionInSettings(repo).into());
    }
    let before = forge.git.description(&repo)?;
    if before == text {
        return Ok(text);
    }
    let operation = Operation::RepoDescription {
        repo: repo.clone(),
        before,
        after: text.clone(),
    };
    recorded(forge, operation, |_| {
        Ok(forge.git.set_description(&repo, text.as_deref())?)
    })?;
    Ok(text)
}

/// Renames a repository. The old name redirects to it until a new repository takes the name.
pub fn rename(forge: &Forge, name: &RepoName, new_name: &RepoName) -> Result<(), ForgeError> {
    let renamer = Renamer::new(&forge.paths, forge.store()?);
    let former_name = existing(forge, name)?;
    let operation = Operation::RepoRename {
        repo: new_name.clone(),
        former_name,
    };
    recorded(forge, operation, |_| {
        let renamed = renamer.lock()?.rename(name, new_name);
        rename_result(forge, renamed)
    })
}

fn rename_result(forge: &Forge, renamed: Result<(), RenameError>) -> Result<(), ForgeError> {
    match renamed {
        Ok(()) => {
            // Its runs may be claimed again.
            forge.notifier.notify(&[]);
            Ok(())
        }
        Err(RenameError::Unknown(name)) => Err(no_repository(forge, name)),
        Err(error @ RenameError::Unfinished(_)) => {
            // The server retries it at its next poll; this makes it retry now.
            forge.notifier.notify(&[]);
            Err(error.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// The name that a repository has now, given any of its names. Fails if it does not exist.
pub fn existing(forge: &Forge, name: &RepoName) -> Result<RepoName, ForgeError> {
    let current = forge.git.resolve(name);
    if forge.git.exists(&current)? {
        Ok(current)
    } else {
        Err(no_repository(forge, current))
    }
}

/// Which repository is removed, and how.
#[derive(Debug, Clone)]
pub struct RemoveRequest {
    pub repo: RepoName,
    /// Delete it at once, so that it cannot be restored.
    pub now: bool,
    /// Whether the user knows what is removed.
    pub confirmed: bool,
    /// The name of the user's key.
    pub removed_by: String,
}

/// What became of a removed repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It can be restored until then.
    ToTrash {
        id: TrashId,
        until: Millis,
    },
    Deleted,
}

/// Removes a repository with its runs, their logs and artifacts: into the trash, if it is used and the repository is not to
/// be deleted at once.
pub fn remove(forge: &Forge, request: &RemoveRequest) -> Result<Removed, ForgeError> {
    let name = &request.repo;
    let renamer = if forge.has_database() {
        Some(Renamer::new(&forge.paths, forge.store()?))
    } else {
        None
    };
    let lock = renamer.as_ref().map(Renamer::lock).transpose()?;
    // A pending rename is finished first. If that fails (the disk may be full), the removal goes on: it frees space.
    let finish_renames = || lock.as_ref().map(RenameLock::finish_pending);
    let _ = finish_renames();
    let current = forge.git.resolve(name);
    if current != *name {
        return Err(RenameError::Redirected {
            name: name.clone(),
            repo: current,
        }
        .into());
    }
    let exists = forge.git.exists(name)?;
    // An earlier removal that was interrupted may have left runs without their repository.
    if !exists
        && run_folders(&forge.paths, name)?.is_empty()
        && (lock.is_none() || !has_runs(&forge.store()?, name)?)
    {
        return Err(no_repository(forge, name.clone()));
    }
    let kept = KeepTimes::read(&forge.paths).trash;
    let trash = lock
        .as_ref()
        .filter(|_| exists && !request.now && !kept.is_zero());
    if !request.confirmed {
        return Err(match trash {
            Some(_) => ForgeError::NotConfirmed(name.clone()),
            None => ForgeError::DeletionNotConfirmed(name.clone()),
        });
    }
    let operation = Operation::RepoRm {
        repo: name.clone(),
        trash_id: None,
        deleted: trash.is_none(),
    };
    let removed = recorded(forge, operation, |operation| {
        if lock.is_some() {
            cancel_and_wait(forge, &forge.store()?, name)?;
        }
        let removed = move_or_delete(
            forge,
            request,
            lock.as_ref(),
            trash.map(|lock| (lock, kept)),
        );
        if let (Ok(Removed::ToTrash { id, .. }), Operation::RepoRm { trash_id, .. }) =
            (&removed, operation)
        {
            *trash_id = Some(id.to_string());
        }
        removed
    })?;
    // The names that redirected to it are free now. The server also checks that.
    let _ = finish_renames();
    caches::clear_after_removal(forge, name);
    Ok(removed)
}

/// Moves a repository to the trash if `trash` says so, or deletes it.
fn move_or_delete(
    forge: &Forge,
    request: &RemoveRequest,
    lock: Option<&RenameLock<'_>>,
    trash: Option<(&RenameLock<'_>, Duration)>,
) -> Result<Removed, ForgeError> {
    let name = &request.repo;
    match trash {
        Some((lock, kept)) => {
            let trashed = lock.move_to_trash(name, &request.removed_by);
            forge.notifier.notify(&[]);
            let trashed = trashed?;
            Ok(Removed::ToTrash {
                id: trashed.entry.id,
                until: KeepTimes::end(trashed.removed_at, kept),
            })
        }
        None => {
            delete(forge, name, lock.is_some())?;
            Ok(Removed::Deleted)
        }
    }
}

/// Deletes a repository, its rows and the folders of its runs. A part of them may be deleted already.
fn delete(forge: &Forge, name: &RepoName, has_database: bool) -> Result<(), ForgeError> {
    if forge.git.exists(name)? {
        forge.git.remove(name)?;
    }
    // What frees space comes first: where there is none, the rows cannot be deleted otherwise.
    remove_run_folders(&forge.paths, name)?;
    if has_database {
        let store = forge.store()?;
        let _ = store.checkpoint();
        store.repos().forget(name)?;
        forge.notifier.notify(&[]);
    }
    Ok(())
}

/// Cancels the runs of a repository and waits for the end of the active ones, so that no run writes into a
/// folder that is about to be removed.
fn cancel_and_wait(forge: &Forge, store: &Store, name: &RepoName) -> Result<(), ForgeError> {
    let deadline = Instant::now() + STOP_TIMEOUT;
    while store.repos().cancel_open_runs(name)? > 0 {
        if Instant::now() >= deadline {
            return Err(ForgeError::RunsStillActive(name.clone()));
        }
        forge.notifier.notify(&[]);
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn has_runs(store: &Store, name: &RepoName) -> Result<bool, ForgeError> {
    let filter = RunFilter {
        repo: Some(name.clone()),
        limit: 1,
        ..RunFilter::default()
    };
    Ok(!store.runs().list(&filter)?.is_empty())
}

/// The error about a repository that does not exist, with the name that the user may have meant.
pub(super) fn no_repository(forge: &Forge, name: RepoName) -> ForgeError {
    match forge.git.list() {
        Ok(listing) => ForgeError::NoRepository {
            closest: closest_name(&name, &listing.repos).cloned(),
            is_in_trash: trash::contains(forge, &name),
            existing: listing.repos,
            name,
        },
        Err(error) => error.into(),
    }
}
