//! What pushes overwrote in the last weeks: listing it, and moving refs back.
//!
//! A ref is moved back as a push moves it: under the lock and with the mark of a push, and with an event in the spool. So its
//! runs, and what the move itself overwrites, are recorded in the same way.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::access::Forge;
use super::error::ForgeError;
use super::operation_log::record_with_event;
use super::{protection, repos};
use crate::control::client::{self, ControlError};
use crate::control::protocol::RunLink;
use crate::intake::spool_event;
use crate::ref_move::event_of;
use quire_git::{RefMove, sync_ref_folders};
use quire_store::OverwrittenRef;
use quire_types::clock::Millis;
use quire_types::failpoint;
use quire_types::keep_times::KeepTimes;
use quire_types::names::{EventId, ObjectId, RefName, RepoName};
use quire_types::operation::{Operation, RefChange, RefChanges};

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

/// Which refs are moved back.
#[derive(Debug, Clone)]
pub struct UndoRequest {
    pub repo: RepoName,
    /// Each with what it is moved to. All of them are moved, or none.
    pub refs: Vec<(RefName, UndoTarget)>,
    /// The name of the user's key.
    pub user: String,
    /// The address by which the user reached this machine.
    pub reached: Option<IpAddr>,
}

/// What a ref is moved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UndoTarget {
    /// Where it was before the last overwrite.
    Last,
    /// The id that begins so.
    Id(String),
    /// Where it was before it was moved to where it has to be now.
    Before {
        now: Option<ObjectId>,
        to: Option<ObjectId>,
    },
}

/// Refs that were moved back.
#[derive(Debug)]
pub struct UndoneRefs {
    pub repo: RepoName,
    pub moves: Vec<RefMove>,
    /// Their runs and sentences about them, if the server has recorded the change already.
    pub recorded: Result<(Vec<RunLink>, Vec<String>), ControlError>,
}

/// Moves refs back, if nothing else moves them at the same time.
pub fn apply(forge: &Forge, request: &UndoRequest) -> Result<UndoneRefs, ForgeError> {
    let repo = repos::existing(forge, &request.repo)?;
    let folder = forge.paths.repo(&repo);
    // As for a push: maintenance stays away, and the refs are compared if this process is killed.
    let _lock = forge.git.lock_for_push(&repo);
    let moves = plan(forge, &repo, &request.refs)?;
    protection::check(forge, &repo, &moves)?;
    let (id, user) = (EventId::new(), Some(request.user.clone()));
    let now = quire_types::clock::Clock::system().now();
    let event = event_of(&moves, id, &repo, user, now);
    let operation = Operation::RepoUndo {
        repo: repo.clone(),
        changes: RefChanges {
            refs: moves.iter().map(change).collect(),
            more: 0,
        },
    };
    record_with_event(forge, operation, Some(event.id), |_| {
        // Git removes the reflog with the ref.
        let deleted = moves.iter().filter(|one| one.to.is_none());
        let deleted: Vec<ObjectId> = deleted.filter_map(|one| one.from.clone()).collect();
        forge.git.keep_objects(&folder, &deleted)?;
        let mark = forge.git.mark_push(&repo, false).ok();
        failpoint::hit("undo-begun");
        if !forge.git.move_refs(&folder, &moves, "undo")? {
            return Err(ForgeError::RefMovedMeanwhile(moves_name(&moves)));
        }
        failpoint::hit("undo-moved");
        let names: Vec<&RefName> = moves.iter().map(|one| &one.ref_name).collect();
        let _ = sync_ref_folders(&folder, names.iter().map(|name| name.as_str()));
        let _ = forge.git.follow_first_branch(&repo, &names);
        // Without the event, the comparison of refs finds the change by the mark.
        let spooled = spool_event(&forge.paths, &event).is_ok();
        failpoint::hit("undo-spooled");
        if let Some(mark) = mark.filter(|_| spooled) {
            let _ = mark.remove();
        }
        Ok(())
    })?;
    let recorded = client::announce_event(&forge.paths, event.id, request.reached);
    Ok(UndoneRefs {
        repo,
        moves,
        recorded,
    })
}

/// Where each ref is and where it is to be.
fn plan(
    forge: &Forge,
    repo: &RepoName,
    refs: &[(RefName, UndoTarget)],
) -> Result<Vec<RefMove>, ForgeError> {
    let (folder, store) = (forge.paths.repo(repo), forge.store()?);
    let plan_one = |(ref_name, wanted): &(RefName, UndoTarget)| {
        let from = forge.git.ref_value(&folder, ref_name)?;
        let rows = store
            .overwritten_refs()
            .list(repo, Some(ref_name), u32::MAX)?;
        let one = Wanted {
            repo,
            ref_name,
            target: wanted,
        };
        let to = target(&rows, from.as_ref(), &one)?;
        if from.is_none() && to.is_none() {
            return Err(one.nothing());
        }
        if to.is_none() && forge.git.head_branch(repo)?.as_ref() == Some(ref_name) {
            return Err(ForgeError::DefaultBranch {
                repo: repo.clone(),
                branch: ref_name.clone(),
            });
        }
        let ref_name = ref_name.clone();
        Ok(RefMove { ref_name, from, to })
    };
    refs.iter().map(plan_one).collect()
}

/// The first of the refs, for a message.
fn moves_name(moves: &[RefMove]) -> String {
    match moves {
        [one] => one.ref_name.to_string(),
        several => format!("one of {} refs", several.len()),
    }
}

fn change(one: &RefMove) -> RefChange {
    RefChange {
        ref_name: one.ref_name.clone(),
        old_sha: one.from.clone(),
        new_sha: one.to.clone(),
        overwritten: one.from.is_some(),
    }
}

/// What is wanted of one ref.
struct Wanted<'a> {
    repo: &'a RepoName,
    ref_name: &'a RefName,
    target: &'a UndoTarget,
}

impl Wanted<'_> {
    fn nothing(&self) -> ForgeError {
        ForgeError::NothingToUndo {
            repo: self.repo.clone(),
            ref_name: self.ref_name.clone(),
        }
    }
}

/// What a ref is moved to. `rows` has what was overwritten in it, the newest first, `now` what it refers to.
fn target(
    rows: &[OverwrittenRef],
    now: Option<&ObjectId>,
    wanted: &Wanted<'_>,
) -> Result<Option<ObjectId>, ForgeError> {
    let ref_name = || wanted.ref_name.clone();
    let has_moved = || ForgeError::RefHasMoved {
        ref_name: ref_name(),
        now: now.cloned(),
    };
    // What a row names is kept, or reachable from what the ref became.
    let known = || {
        let ids = |row| {
            let row: &OverwrittenRef = row;
            [Some(&row.old_sha), row.new_sha.as_ref()]
        };
        rows.iter().flat_map(ids).flatten()
    };
    let beginning = match wanted.target {
        UndoTarget::Before { now: expected, .. } if expected.as_ref() != now => {
            return Err(has_moved());
        }
        UndoTarget::Before { to: None, .. } => return Ok(None),
        UndoTarget::Before { to: Some(id), .. } => {
            let is_kept = known().any(|known| known == id);
            return is_kept
                .then(|| Some(id.clone()))
                .ok_or_else(|| wanted.nothing());
        }
        _ if rows.is_empty() => return Err(wanted.nothing()),
        UndoTarget::Last => {
            // The last push that made it what it is, or the last undo of one that is what it was before.
            let undo = rows.iter().find(|row| row.new_sha.as_ref() == now);
            let redo = rows.iter().find(|row| Some(&row.old_sha) == now);
            return match (undo, redo) {
                (Some(row), _) => Ok(Some(row.old_sha.clone())),
                (None, Some(row)) => Ok(row.new_sha.clone()),
                (None, None) => Err(has_moved()),
            };
        }
        UndoTarget::Id(beginning) => beginning,
    };
    let matching: BTreeSet<&ObjectId> = known()
        .filter(|id| id.as_str().starts_with(beginning.as_str()))
        .collect();
    let mut matching = matching.into_iter();
    match (matching.next(), matching.next()) {
        (Some(id), None) if Some(id) == now => Err(ForgeError::RefIsThere {
            ref_name: ref_name(),
            id: id.clone(),
        }),
        (Some(id), None) => Ok(Some(id.clone())),
        (Some(_), Some(_)) => Err(ForgeError::AmbiguousOverwritten(beginning.clone())),
        (None, _) => Err(ForgeError::NotOverwritten {
            ref_name: ref_name(),
            id: beginning.clone(),
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
        let wanted = to.map_or(UndoTarget::Last, |id| UndoTarget::Id(id.to_owned()));
        chosen_of(changes, now, &wanted)
    }

    fn chosen_of(
        changes: &[(&str, Option<&str>)],
        now: Option<&str>,
        wanted: &UndoTarget,
    ) -> Result<Option<ObjectId>, String> {
        let wanted = Wanted {
            repo: &"app".parse().unwrap(),
            ref_name: &"refs/heads/main".parse().unwrap(),
            target: wanted,
        };
        target(&rows(changes), now.map(id).as_ref(), &wanted).map_err(|error| error.to_string())
    }

    #[test]
    fn one_change_is_taken_back_only_if_it_is_the_last() {
        let before = |now: Option<&str>, to: Option<&str>| UndoTarget::Before {
            now: now.map(id),
            to: to.map(id),
        };
        let changes = [("2", Some("3")), ("1", Some("2"))];
        let back = chosen_of(&changes, Some("3"), &before(Some("3"), Some("2")));
        assert_eq!(back, Ok(Some(id("2"))));
        let error = chosen_of(&changes, Some("3"), &before(Some("2"), Some("1"))).unwrap_err();
        assert!(error.contains("has moved"), "{error}");
        // What was created is deleted, and what is not kept any more is not brought back.
        assert_eq!(
            chosen_of(&[], Some("1"), &before(Some("1"), None)),
            Ok(None)
        );
        let error = chosen_of(&[], None, &before(None, Some("1"))).unwrap_err();
        assert!(error.contains("nothing to undo"), "{error}");
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
