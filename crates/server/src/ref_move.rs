//! Moves of refs that quire makes itself, as a push would make them: with an event for the intake.
//!
//! A move that was made and whose event was not written is found by comparing refs, as with a push whose hook was killed.

use std::path::Path;

use quire_git::{Git, GitError, RefMove, sync_ref_folders};
use quire_types::clock::Millis;
use quire_types::names::{EventId, ObjectId, RepoName};
use quire_types::push_event::{EventType, PushEvent, RefUpdate};

/// Moves a ref, if it still refers to what is said. Returns false, and changes nothing, if it does not.
pub(crate) fn move_ref(
    git: &Git,
    (repo, folder): (&RepoName, &Path),
    ref_move: &RefMove,
    reason: &str,
) -> Result<bool, GitError> {
    if !git.move_refs(folder, std::slice::from_ref(ref_move), reason)? {
        return Ok(false);
    }
    let _ = sync_ref_folders(folder, [ref_move.ref_name.as_str()]);
    let _ = git.follow_first_branch(repo, &[&ref_move.ref_name]);
    Ok(true)
}

/// The event of refs that are moved.
pub(crate) fn event_of(
    moves: &[RefMove],
    id: EventId,
    repo: &RepoName,
    pusher: Option<String>,
    moved_at: Millis,
) -> PushEvent {
    PushEvent {
        id,
        event_type: EventType::Push,
        repo: repo.clone(),
        pusher,
        pushed_at: moved_at,
        options: Vec::new(),
        refs: moves.iter().filter_map(update).collect(),
    }
}

/// What an event says of a move; `None` if nothing changes.
fn update(one: &RefMove) -> Option<RefUpdate> {
    let known = one.from.as_ref().or(one.to.as_ref())?;
    let none: ObjectId = "0".repeat(known.as_str().len()).parse().ok()?;
    Some(RefUpdate {
        ref_name: one.ref_name.clone(),
        old_sha: one.from.clone().unwrap_or_else(|| none.clone()),
        new_sha: one.to.clone().unwrap_or(none),
    })
}
