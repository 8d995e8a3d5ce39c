//! The commits with change ids that a push brought.
//!
//! Only a push whose newest commit has a change id is looked through: tools that write change ids write them to all commits that they
//! make. What there is no time for, or is beyond the limit, is not recorded.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use quire_git::read::{Budget, ReadError, Reader};
use quire_runtime::blocking::run_blocking;
use quire_types::error_chain::with_sources;
use quire_types::names::ObjectId;
use quire_types::push_event::RefUpdate;

/// How long the new commits of a push are looked for.
const MAX_DURATION: Duration = Duration::from_secs(2);
/// The most commits of a push that are recorded.
const MAX_COMMITS: usize = 10_000;
/// The largest commit that is read, in bytes.
const MAX_COMMIT_BYTES: u64 = 1 << 20;

/// The new commits of these updates and their change ids. What cannot be read has none: the run of the push does not wait for it.
pub(super) async fn new_commits(repo: PathBuf, updates: Vec<RefUpdate>) -> Vec<(ObjectId, String)> {
    if updates.is_empty() {
        return Vec::new();
    }
    let found = run_blocking(move || {
        let reader = Reader::open(&repo)?;
        let budget = Budget::new(MAX_DURATION, MAX_COMMITS, MAX_COMMIT_BYTES);
        let mut found = BTreeMap::new();
        for update in updates {
            let old = (!update.old_sha.is_zero()).then_some(&update.old_sha);
            let left = budget.with_lines(MAX_COMMITS - found.len());
            found.extend(reader.new_changes(old, &update.new_sha, &left)?);
        }
        Ok::<_, ReadError>(found)
    });
    match found.await {
        Ok(Ok(found)) => found.into_iter().collect(),
        Ok(Err(error)) => {
            tracing::warn!(
                error = with_sources(&error),
                "cannot read the changes of a push"
            );
            Vec::new()
        }
        Err(error) => {
            tracing::error!(
                error = with_sources(&error),
                "cannot read the changes of a push"
            );
            Vec::new()
        }
    }
}
