//! Keeps the volume in order, beside everything else: removes what `:keep` does not ask for, and has git
//! pack its repositories.
//!
//! ```text
//! ended run ──noted as removed (row)──► its files go ──► its row goes, where it is too old or one too many
//! ```
//! Noted first, so that a crash at any point leaves nothing that the next round does not finish.
//! Transactions are short and there is a pause between them: thousands of runs may go while
//! pushes are recorded and pages are read. What goes is decided in [`policy`].

mod files;
mod policy;
mod retention;
mod trust;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::live::Live;
use crate::paths::Paths;
use crate::run::event::Freed;
use crate::space::{Floor, free_bytes, in_words};
use crate::store::{Store, StoreError};
use trust::Trust;

/// When the first round begins after the start: reconciling and waiting pushes come first.
const FIRST: Duration = Duration::from_secs(60);
/// How often a round begins.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// How often one begins while space is short.
const EVERY_WHILE_SHORT: Duration = Duration::from_secs(10 * 60);
/// How often is looked whether space is short.
const LOOK: Duration = Duration::from_secs(30);

/// What is kept; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Runs of each repository.
    pub runs: u32,
    /// Days.
    pub days: u32,
    /// Bytes of all logs.
    pub logs: u64,
    /// Bytes of all artifacts.
    pub artifacts: u64,
}

/// Why a round could not do a part of its work.
#[derive(Debug, thiserror::Error)]
pub enum HousekeepingError {
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Files could not be listed.
    #[error("{} cannot be looked through", .path.display())]
    List {
        /// Where.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A task of our own died.
    #[error("housekeeping broke off")]
    Task(#[from] tokio::task::JoinError),
}

/// What housekeeping works with.
pub struct Parts {
    /// Where things lie.
    pub paths: Paths,
    /// The database.
    pub store: Store,
    /// Whom to tell.
    pub live: Live,
    /// What is kept; replaced when the configuration is reloaded.
    pub kept: watch::Receiver<Kept>,
}

/// The housekeeping. Cheap to clone.
#[derive(Clone)]
pub struct Housekeeping(Arc<Inner>);

struct Inner {
    parts: Parts,
    /// One round at a time; and whether the clock can be believed.
    round: Mutex<Trust>,
}

impl std::ops::Deref for Inner {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// How long after the last round the next one begins.
fn pause_until_next(pause: Duration, short: bool) -> Duration {
    if short { pause.min(EVERY_WHILE_SHORT) } else { pause }
}

impl Housekeeping {
    /// Housekeeping with these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let trust = Trust::new(&parts.store);
        Self(Arc::new(Inner { parts, round: Mutex::new(trust) }))
    }

    /// Keeps order until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        tokio::join!(self.keep_removing(&stop), self.maintain_repos(&stop));
    }

    /// A round now and then; sooner while space is short.
    async fn keep_removing(&self, stop: &CancellationToken) {
        let (mut last, mut pause) = (tokio::time::Instant::now(), FIRST);
        while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            if last.elapsed() < pause_until_next(pause, self.is_short()) {
                continue;
            }
            // What it had not finished, the next round does.
            if stop.run_until_cancelled(self.round()).await.is_none() {
                return;
            }
            (last, pause) = (tokio::time::Instant::now(), EVERY);
        }
    }

    fn is_short(&self) -> bool {
        free_bytes(self.0.paths.data()).is_ok_and(|free| Floor::told(&self.0.paths).holds_runs(free))
    }

    /// One round: removes what does not have to be kept. A second one waits for the first.
    pub async fn round(&self) -> Freed {
        let mut trust = self.0.round.lock().await;
        let mut freed = Freed::default();
        let believed = trust.believes(self.0.store.clock().now());
        if !believed {
            freed
                .problems
                .push("the clock is far ahead of where it was; nothing is removed for its age until it has shown so for a day".to_owned());
        }
        let kept = *self.0.kept.borrow();
        if let Err(error) = self.retain(kept, believed, &mut freed).await {
            freed.problems.push(crate::causes::with_causes(&error));
        }
        if let Err(error) = self.clear_leftovers(&mut freed).await {
            freed.problems.push(crate::causes::with_causes(&error));
        }
        match self.0.store.call(Store::upkeep_problems).await {
            Ok(problems) => {
                freed.problems.extend(problems.into_iter().map(|(repo, problem)| format!("git's maintenance of {repo}: {problem}")))
            }
            Err(error) => freed.problems.push(crate::causes::with_causes(&error)),
        }
        report(&freed);
        freed
    }
}

impl std::fmt::Debug for Housekeeping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Housekeeping").finish_non_exhaustive()
    }
}

/// A line in the log, where there is something to say.
fn report(freed: &Freed) {
    for problem in &freed.problems {
        tracing::warn!("housekeeping: {problem}");
    }
    if *freed != (Freed { problems: freed.problems.clone(), ..Freed::default() }) {
        let Freed { runs, logs, artifacts, events, leftovers, bytes, .. } = freed;
        tracing::info!(runs, logs, artifacts, events, leftovers, freed = in_words(*bytes), "housekeeping: removed what need not be kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_come_sooner_while_space_is_short_and_never_one_upon_the_other() {
        assert_eq!([FIRST, EVERY].map(|pause| pause_until_next(pause, false)), [FIRST, EVERY]);
        assert_eq!([FIRST, EVERY].map(|pause| pause_until_next(pause, true)), [FIRST, EVERY_WHILE_SHORT]);
    }
}
