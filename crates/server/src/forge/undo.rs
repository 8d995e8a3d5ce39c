//! What pushes overwrote in the last weeks: listing it, and moving refs back.
//!
//! A ref is moved back as a push moves it: under the lock and with the mark of a push, and with an event in the spool. So its
//! runs, and what the move itself overwrites, are recorded in the same way.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::access::Forge;
use super::error::ForgeError;
use super::repos;
use crate::control::client::{self, ControlError};
use crate::control::protocol::RunLink;
use crate::intake::spool_event;
use quire_git::sync_ref_folders;
use quire_store::OverwrittenRef;
use quire_types::clock::Millis;
use quire_types::failpoint;
use quire_types::keep_times::KeepTimes;
use quire_types::names::{EventId, ObjectId, RefName, RepoName};
use quire_types::push_event::{EventType, PushEvent, RefUpdate};

/// A ref that a push deleted or moved by force, and until when that can be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverwrittenOverview {
    pub overwritten: OverwrittenRef,
    pub until: Millis,
}

/// Lists what pushes overwrote in a repository, or in one of its refs, the newest first.
pub fn list(
    forge: &Forge,
    repo: &RepoName,
    ref_name: Option<&RefName>,
    limit: u32,
) -> Result<Vec<OverwrittenOverview>, ForgeError> {
    let repo = repos::existing(forge, repo)?;
    let kept = KeepTimes::read(&forge.paths).undo;
    let overview = |overwritten: OverwrittenRef| OverwrittenOverview {
        until: KeepTimes::end(overwritten.recorded_at_ms, kept),
        overwritten,
    };
    let found = forge
        .store()?
        .overwritten_refs()
        .list(&repo, ref_name, limit)?;
    Ok(found.into_iter().map(overview).collect())
}

/// Which ref is moved back.
#[derive(Debug, Clone)]
pub struct UndoRequest {
    pub repo: RepoName,
    pub ref_name: RefName,
    /// The beginning of the id that it is to have; that before the last overwrite if `None`.
    pub to: Option<String>,
    /// The name of the user's key.
    pub user: String,
    /// The address by which the user reached this machine.
    pub reached: Option<IpAddr>,
}

/// A ref that was moved back.
#[derive(Debug)]
pub struct UndoneRef {
    pub repo: RepoName,
    pub ref_name: RefName,
    /// `None` if it did not exist.
    pub from: Option<ObjectId>,
    /// `None` if it was deleted.
    pub to: Option<ObjectId>,
    /// Its runs and sentences about them, if the server has recorded the change already.
    pub recorded: Result<(Vec<RunLink>, Vec<String>), ControlError>,
}

/// Moves a ref back, if nothing else moves it at the same time.
pub fn apply(forge: &Forge, request: &UndoRequest) -> Result<UndoneRef, ForgeError> {
    let repo = repos::existing(forge, &request.repo)?;
    let (folder, ref_name) = (forge.paths.repo(&repo), &request.ref_name);
    // As for a push: maintenance stays away, and the refs are compared if this process is killed.
    let _lock = forge.git.lock_for_push(&repo);
    let from = forge.git.ref_value(&folder, ref_name)?;
    let rows = forge
        .store()?
        .overwritten_refs()
        .list(&repo, Some(ref_name), u32::MAX)?;
    let to = target(&rows, from.as_ref(), request)?;
    if to.is_none() && forge.git.head_branch(&repo)?.as_ref() == Some(ref_name) {
        return Err(ForgeError::DefaultBranch {
            repo,
            branch: ref_name.clone(),
        });
    }
    if let (Some(from), None) = (&from, &to) {
        // Git removes the reflog with the ref.
        forge
            .git
            .keep_objects(&folder, std::slice::from_ref(from))?;
    }
    let mark = forge.git.mark_push(&repo, false).ok();
    failpoint::hit("undo-begun");
    let moved = forge
        .git
        .move_ref(&folder, ref_name, from.as_ref(), to.as_ref())?;
    if !moved {
        return Err(ForgeError::RefMovedMeanwhile(ref_name.clone()));
    }
    failpoint::hit("undo-moved");
    let _ = sync_ref_folders(&folder, [ref_name.as_str()]);
    let _ = forge.git.follow_first_branch(&repo, &[ref_name]);
    let Some(event) = event(&repo, request, from.as_ref(), to.as_ref()) else {
        return Err(ForgeError::NothingToUndo {
            repo,
            ref_name: ref_name.clone(),
        });
    };
    // Without the event, the comparison of refs finds the change by the mark.
    let spooled = spool_event(&forge.paths, &event).is_ok();
    failpoint::hit("undo-spooled");
    if let Some(mark) = mark.filter(|_| spooled) {
        let _ = mark.remove();
    }
    let recorded = client::announce_event(&forge.paths, event.id, request.reached);
    Ok(UndoneRef {
        repo,
        ref_name: ref_name.clone(),
        from,
        to,
        recorded,
    })
}

/// The event of a ref that was moved.
fn event(
    repo: &RepoName,
    request: &UndoRequest,
    from: Option<&ObjectId>,
    to: Option<&ObjectId>,
) -> Option<PushEvent> {
    let none: ObjectId = "0".repeat(from.or(to)?.as_str().len()).parse().ok()?;
    Some(PushEvent {
        id: EventId::new(),
        event_type: EventType::Push,
        repo: repo.clone(),
        pusher: Some(request.user.clone()),
        pushed_at: quire_types::clock::Clock::system().now(),
        options: Vec::new(),
        refs: vec![RefUpdate {
            ref_name: request.ref_name.clone(),
            old_sha: from.cloned().unwrap_or_else(|| none.clone()),
            new_sha: to.cloned().unwrap_or(none),
        }],
    })
}

/// What a ref is moved to. `rows` has what was overwritten in it, the newest first, `now` what it refers to.
fn target(
    rows: &[OverwrittenRef],
    now: Option<&ObjectId>,
    request: &UndoRequest,
) -> Result<Option<ObjectId>, ForgeError> {
    let ref_name = || request.ref_name.clone();
    if rows.is_empty() {
        return Err(ForgeError::NothingToUndo {
            repo: request.repo.clone(),
            ref_name: ref_name(),
        });
    }
    let Some(wanted) = &request.to else {
        // The last push that made it what it is, or the last undo of one that is what it was before.
        let undo = rows.iter().find(|row| row.new_sha.as_ref() == now);
        let redo = rows.iter().find(|row| Some(&row.old_sha) == now);
        return match (undo, redo) {
            (Some(row), _) => Ok(Some(row.old_sha.clone())),
            (None, Some(row)) => Ok(row.new_sha.clone()),
            (None, None) => Err(ForgeError::RefHasMoved {
                ref_name: ref_name(),
                now: now.cloned(),
            }),
        };
    };
    let known = rows
        .iter()
        .flat_map(|row| [Some(&row.old_sha), row.new_sha.as_ref()])
        .flatten();
    let matching: BTreeSet<&ObjectId> = known
        .filter(|id| id.as_str().starts_with(wanted.as_str()))
        .collect();
    let mut matching = matching.into_iter();
    match (matching.next(), matching.next()) {
        (Some(id), None) if Some(id) == now => Err(ForgeError::RefIsThere {
            ref_name: ref_name(),
            id: id.clone(),
        }),
        (Some(id), None) => Ok(Some(id.clone())),
        (Some(_), Some(_)) => Err(ForgeError::AmbiguousOverwritten(wanted.clone())),
        (None, _) => Err(ForgeError::NotOverwritten {
            ref_name: ref_name(),
            id: wanted.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: &str) -> ObjectId {
        digit.repeat(40).parse().unwrap()
    }

    /// Rows of one ref, the newest first: what it referred to and what it became.
    fn rows(changes: &[(&str, Option<&str>)]) -> Vec<OverwrittenRef> {
        let row = |(old, new): &(&str, Option<&str>)| OverwrittenRef {
            event_id: EventId::new(),
            repo: "app".parse().unwrap(),
            ref_name: "refs/heads/main".parse().unwrap(),
            old_sha: id(old),
            new_sha: new.map(id),
            pushed_at_ms: Millis(0),
            recorded_at_ms: Millis(0),
            pusher: None,
        };
        changes.iter().map(row).collect()
    }

    fn chosen(
        changes: &[(&str, Option<&str>)],
        now: Option<&str>,
        to: Option<&str>,
    ) -> Result<Option<ObjectId>, String> {
        let request = UndoRequest {
            repo: "app".parse().unwrap(),
            ref_name: "refs/heads/main".parse().unwrap(),
            to: to.map(str::to_owned),
            user: "laptop".to_owned(),
            reached: None,
        };
        target(&rows(changes), now.map(id).as_ref(), &request).map_err(|error| error.to_string())
    }

    #[test]
    fn undo_goes_back_and_the_next_undo_there_again() {
        // A push from 1 to 2 by force.
        let forced = [("1", Some("2"))];
        assert_eq!(chosen(&forced, Some("2"), None), Ok(Some(id("1"))));
        // Its undo, which was a fast-forward or overwrote 2 in turn.
        assert_eq!(chosen(&forced, Some("1"), None), Ok(Some(id("2"))));
        let undone = [("2", Some("1")), ("1", Some("2"))];
        assert_eq!(chosen(&undone, Some("1"), None), Ok(Some(id("2"))));
        // A deletion, and its undo.
        let deleted = [("3", None)];
        assert_eq!(chosen(&deleted, None, None), Ok(Some(id("3"))));
        assert_eq!(chosen(&deleted, Some("3"), None), Ok(None));
        // What came after it stays, unless an id is given.
        let error = chosen(&forced, Some("4"), None).unwrap_err();
        assert!(error.contains("has moved"), "{error}");
        assert_eq!(chosen(&forced, Some("4"), Some("1111")), Ok(Some(id("1"))));
        assert_eq!(chosen(&undone, Some("4"), Some("2222")), Ok(Some(id("2"))));
    }

    #[test]
    fn ids_that_cannot_be_meant_are_rejected() {
        let forced = [("1", Some("2"))];
        for (now, to, words) in [
            (Some("2"), "2222", "is at"),
            (Some("2"), "3333", "was not at"),
            (Some("2"), "", "several"),
        ] {
            let error = chosen(&forced, now, Some(to)).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert!(
            chosen(&[], Some("1"), None)
                .unwrap_err()
                .contains("nothing")
        );
    }
}
