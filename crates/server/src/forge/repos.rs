//! Creating, renaming, removing and listing repositories.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::access::Forge;
use super::caches;
use super::error::ForgeError;
use crate::rename::{RenameError, RenameLock, Renamer, remove_run_folders, run_folders};
use quire_git::{ObjectFormat, UnreadableEntry, closest_name};
use quire_store::{RepoSummary, RunFilter, Store};
use quire_types::clock::Millis;
use quire_types::names::{RefName, RepoName};
use quire_types::run::Run;

/// How long the runs of a repository that is removed may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A repository with its newest activity.
#[derive(Debug)]
pub struct RepoOverview {
    pub repo: RepoName,
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
    let overview = |repo: RepoName| {
        let (last_push, newest_run) = summaries.remove(&repo).map_or((None, None), |summary| {
            (summary.last_push_ms, summary.newest_run)
        });
        RepoOverview {
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
    forge.git.set_default_branch(&repo, branch)?;
    // The schedules of the branch are read now.
    forge.notifier.notify(&[]);
    Ok(())
}

/// Renames a repository. The old name redirects to it until a new repository takes the name.
pub fn rename(forge: &Forge, name: &RepoName, new_name: &RepoName) -> Result<(), ForgeError> {
    let renamer = Renamer::new(&forge.paths, forge.store()?);
    match renamer.lock()?.rename(name, new_name) {
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

/// Removes a repository with its runs and their logs. `confirmed` says that the user knows this.
pub fn remove(forge: &Forge, name: &RepoName, confirmed: bool) -> Result<(), ForgeError> {
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
    // An earlier removal that was interrupted may have left runs without their repository.
    if !forge.git.exists(name)?
        && run_folders(&forge.paths, name)?.is_empty()
        && (lock.is_none() || !has_runs(&forge.store()?, name)?)
    {
        return Err(no_repository(forge, name.clone()));
    }
    if !confirmed {
        return Err(ForgeError::NotConfirmed(name.clone()));
    }
    if lock.is_some() {
        cancel_and_wait(forge, &forge.store()?, name)?;
    }
    if forge.git.exists(name)? {
        forge.git.remove(name)?;
    }
    if lock.is_some() {
        forge.store()?.repos().forget(name)?;
        forge.notifier.notify(&[]);
    }
    remove_run_folders(&forge.paths, name)?;
    // The names that redirected to it are free now. The server also checks that.
    let _ = finish_renames();
    caches::clear_after_removal(forge, name);
    Ok(())
}

/// Cancels the active runs of a repository and waits for their end, so that no run writes into a
/// folder that is about to be removed.
fn cancel_and_wait(forge: &Forge, store: &Store, name: &RepoName) -> Result<(), ForgeError> {
    let deadline = Instant::now() + STOP_TIMEOUT;
    loop {
        let active: Vec<_> = store
            .runs()
            .active()?
            .into_iter()
            .filter(|run| run.repo == *name)
            .collect();
        if active.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(ForgeError::RunsStillActive(name.clone()));
        }
        for run in active.iter().filter(|run| run.stop_requested.is_none()) {
            store.runs().request_cancel(run.id)?;
        }
        forge.notifier.notify(&[]);
        std::thread::sleep(Duration::from_millis(100));
    }
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
            existing: listing.repos,
            name,
        },
        Err(error) => error.into(),
    }
}
