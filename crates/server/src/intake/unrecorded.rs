//! Whether everything that pushes did to a repository is recorded.

use std::collections::HashMap;

use quire_git::{Git, GitError};
use quire_store::SeenRef;
use quire_types::names::{ObjectId, RefName, RepoName};
use quire_types::paths::Paths;

use super::spool;

/// Whether a push to a repository has begun and is not recorded yet, as far as the disk tells. What is recorded while this is
/// found out counts as recorded only if its rows are read afterwards.
pub fn has_unrecorded_push(git: &Git, paths: &Paths, repo: &RepoName) -> Result<bool, GitError> {
    // In the order in which a push passes these places.
    let is_marked = |git: &Git| -> Result<bool, GitError> {
        let marks = git.push_marks()?;
        Ok(marks.iter().any(|mark| git.resolve(&mark.repo) == *repo))
    };
    if git.has_push(repo)? || is_marked(git)? {
        return Ok(true);
    }
    let Ok(events) = spool::list(paths) else {
        return Ok(true);
    };
    let is_of_repo = |event| match spool::read(&paths.spool_file(event)) {
        Ok(Some(Ok(push))) => git.resolve(&push.repo) == *repo,
        // A damaged one is never recorded.
        Ok(Some(Err(_)) | None) => false,
        Err(_) => true,
    };
    Ok(events.into_iter().any(is_of_repo))
}

/// Whether the refs of a repository are those that were recorded last.
pub fn are_recorded(seen: &[SeenRef], current: &[(RefName, ObjectId)]) -> bool {
    let seen: HashMap<&RefName, &ObjectId> = seen
        .iter()
        .map(|seen| (&seen.ref_name, &seen.sha))
        .collect();
    let is_seen = |(name, id): &(RefName, ObjectId)| seen.get(name) == Some(&id);
    seen.len() == current.len() && current.iter().all(is_seen)
}
