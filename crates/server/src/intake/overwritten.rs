//! Which refs a push overwrote. Hidden refs keep what those referred to, from before the push is recorded.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quire_git::Git;
use quire_git::read::{Budget, Reader};
use quire_types::error_chain::with_sources;
use quire_types::names::{LANDING_REFS, ObjectId, RefName, RepoName};
use quire_types::push_event::{MAX_OVERWRITTEN, PushEvent, RefUpdate, deletions};

/// How long it is computed which updates are no fast-forwards. What was not computed until then counts as overwritten.
const MAX_DURATION: Duration = Duration::from_secs(3);

/// What a push overwrote.
#[derive(Debug, Default)]
pub(super) struct Overwritten {
    /// What is kept.
    pub(super) refs: Vec<RefUpdate>,
    /// How many refs were overwritten whose old objects are not kept, since there are too many.
    pub(super) dropped: usize,
}

impl Overwritten {
    /// What the pusher is told if not all of it is kept.
    pub(super) fn note(&self, repo: &RepoName) -> Option<String> {
        let kept = self.refs.len();
        (self.dropped > 0).then(|| {
            format!(
                "`repo undo {repo}` can bring back {kept} of the {} refs that this push overwrote",
                kept + self.dropped
            )
        })
    }
}

/// The refs of commits that wait to land are quire's own: it deletes them when that has ended.
fn is_of_landing(update: &RefUpdate) -> bool {
    update.ref_name.as_str().starts_with(LANDING_REFS)
}

/// Keeps what a push overwrote. `parents` has the parents of new commits that were read already.
pub(super) async fn keep(
    git: &Git,
    repo: &Path,
    push: &PushEvent,
    parents: &HashMap<&RefName, &[ObjectId]>,
) -> Overwritten {
    let is_known_forward = |update: &RefUpdate| {
        parents
            .get(&update.ref_name)
            .is_some_and(|parents| parents.contains(&update.old_sha))
    };
    let moved: Vec<RefUpdate> = push
        .refs
        .iter()
        .filter(|update| !update.old_sha.is_zero() && !update.new_sha.is_zero())
        .filter(|update| update.old_sha != update.new_sha && !is_known_forward(update))
        .filter(|update| !is_of_landing(update))
        .cloned()
        .collect();
    let mut found: Vec<RefUpdate> = deletions(&push.refs)
        .filter(|update| !is_of_landing(update))
        .cloned()
        .collect();
    if found.is_empty() && moved.is_empty() {
        return Overwritten::default();
    }
    let folder = repo.to_owned();
    let forced = git.call(move |_| Ok(forced(folder, moved))).await;
    found.extend(forced.unwrap_or_default());
    let mut dropped = found.len().saturating_sub(MAX_OVERWRITTEN);
    found.truncate(MAX_OVERWRITTEN);
    let (folder, ids) = (
        repo.to_owned(),
        found.iter().map(|update| update.old_sha.clone()).collect(),
    );
    let kept = git.call(move |git| {
        let ids: Vec<ObjectId> = ids;
        git.keep_objects(&folder, &ids)
    });
    match kept.await {
        Ok(kept) => found.retain(|update| kept.contains(&update.old_sha)),
        Err(error) => {
            // The push counts all the same.
            tracing::error!(repo = %push.repo, error = with_sources(&error), "what a push overwrote cannot be kept");
            dropped += found.len();
            found.clear();
        }
    }
    Overwritten {
        refs: found,
        dropped,
    }
}

/// Those of the updates whose new commit does not contain the old one.
fn forced(repo: PathBuf, mut updates: Vec<RefUpdate>) -> Vec<RefUpdate> {
    // Whatever cannot be read is kept.
    let Ok(reader) = Reader::open(&repo) else {
        return updates;
    };
    let budget = Budget::new(MAX_DURATION, usize::MAX, u64::MAX);
    updates.retain(|update| {
        let forward = reader.is_ancestor(&update.old_sha, &update.new_sha, &budget);
        !matches!(forward, Ok(Some(true)))
    });
    updates
}
