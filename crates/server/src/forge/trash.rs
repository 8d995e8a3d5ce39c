//! Listing, restoring and deleting repositories that were removed.

use super::access::Forge;
use super::error::ForgeError;
use super::operation_log::recorded;
use crate::rename::{RenameError, Renamer};
use crate::trash::TrashedRepo;
use quire_git::TrashId;
use quire_types::clock::Millis;
use quire_types::keep_times::KeepTimes;
use quire_types::names::RepoName;
use quire_types::operation::Operation;

/// A repository that can be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrashedOverview {
    pub id: TrashId,
    /// The name that it had.
    pub repo: RepoName,
    pub removed_at: Millis,
    /// The name of the key of the user who removed it.
    pub removed_by: String,
    /// When it is deleted, by the configuration in force.
    pub until: Millis,
    /// Its size, with the logs and artifacts of its runs.
    pub bytes: u64,
}

/// Lists the repositories in the trash, the one that was removed last first.
pub fn list(forge: &Forge) -> Result<Vec<TrashedOverview>, ForgeError> {
    let kept = KeepTimes::read(&forge.paths).trash;
    let overview = |trashed: TrashedRepo| TrashedOverview {
        id: trashed.entry.id,
        bytes: trashed.bytes(&forge.paths, &forge.git),
        repo: trashed.repo,
        removed_at: trashed.removed_at,
        removed_by: trashed.removed_by,
        until: KeepTimes::end(trashed.removed_at, kept),
    };
    let trashed = TrashedRepo::list(&forge.git)?;
    Ok(trashed.into_iter().map(overview).collect())
}

/// Whether a repository of this name was removed and can be restored.
pub(super) fn contains(forge: &Forge, name: &RepoName) -> bool {
    TrashedRepo::list(&forge.git).is_ok_and(|found| found.iter().any(|one| one.repo == *name))
}

/// Restores a repository, with its runs, under the name that it had or another one. `wanted` is its name, or the beginning of
/// its id. Returns the name that it has now.
pub fn restore(
    forge: &Forge,
    wanted: &RepoName,
    name: Option<&RepoName>,
) -> Result<RepoName, ForgeError> {
    let renamer = Renamer::new(&forge.paths, forge.store()?);
    let lock = renamer.lock()?;
    let begun = TrashedRepo::being_restored(&forge.git, wanted)?;
    let finished = lock.finish_pending();
    // Not if another name is asked for: then it is another repository of the trash that is meant.
    if let Some(name) = begun.filter(|begun| name.is_none_or(|name| name == begun)) {
        // An earlier command recorded it, and could not complete it.
        return match (forge.git.exists(&name)?, finished) {
            (false, Err(error)) => Err(RenameError::RestoreUnfinished(Box::new(error)).into()),
            _ => Ok(name),
        };
    }
    let trashed = find(forge, wanted)?;
    let name = name.unwrap_or(&trashed.repo);
    let operation = Operation::RepoRestore {
        repo: name.clone(),
        trash_id: trashed.entry.id.to_string(),
    };
    recorded(forge, operation, |_| {
        let restored = lock.restore_from_trash(&trashed, name);
        // The server does it as well: its former names redirect to it again.
        let _ = lock.finish_pending();
        forge.notifier.notify(&[]);
        Ok(restored?)
    })?;
    Ok(name.clone())
}

/// Deletes a repository of the trash for good. Returns it.
pub fn delete(
    forge: &Forge,
    wanted: &RepoName,
    confirmed: bool,
) -> Result<TrashedRepo, ForgeError> {
    let renamer = Renamer::new(&forge.paths, forge.store()?);
    let lock = renamer.lock()?;
    let trashed = find(forge, wanted)?;
    if !confirmed {
        return Err(ForgeError::DeletionNotConfirmed(trashed.repo));
    }
    let operation = Operation::RepoDelete {
        repo: trashed.repo.clone(),
        trash_id: trashed.entry.id.to_string(),
    };
    recorded(forge, operation, |_| Ok(lock.delete_from_trash(&trashed)?))?;
    Ok(trashed)
}

/// The repository of this name that was removed last, or the one whose id begins so.
fn find(forge: &Forge, wanted: &RepoName) -> Result<TrashedRepo, ForgeError> {
    let all = TrashedRepo::list(&forge.git)?;
    if let Some(found) = all.iter().find(|one| one.repo == *wanted) {
        return Ok(found.clone());
    }
    let mut matching = all
        .into_iter()
        .filter(|one| one.entry.id.to_string().starts_with(wanted.as_str()));
    match (matching.next(), matching.next()) {
        (Some(found), None) => Ok(found),
        (Some(_), Some(_)) => Err(RenameError::AmbiguousTrashId(wanted.clone()).into()),
        (None, _) => Err(RenameError::NotInTrash(wanted.clone()).into()),
    }
}
