//! Keeps the volume in order, beside everything else: removes what `:keep` does not ask for, and has git
//! pack its repositories.
//!
//! ```text
//! ended run ──noted as removed (row)──► its files go ──► its row goes, where it is too old or one too many
//! ```
//! Noted first, so that a crash at any point leaves nothing that the next round does not finish.
//! Transactions are short and there is a pause between them: thousands of runs may go while
//! pushes are recorded and pages are read. What goes is decided in [`policy`].

mod caches;
mod files;
mod images;
mod policy;
mod retention;
mod trust;
mod upkeep;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::causes::with_causes;
use crate::executor::{Executor, ExecutorError};
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
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

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
    /// Bytes of all caches.
    pub caches: u64,
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
    /// Where images and caches lie.
    pub executors: Vec<Arc<dyn Executor>>,
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
    /// What the last round could not do.
    problems: std::sync::Mutex<Vec<String>>,
}

/// What is not as it should be, a sentence each. They name repositories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// What could not be removed or packed.
    pub maintenance: Vec<String>,
    /// Whose schedules cannot be read.
    pub schedules: Vec<String>,
}

fn in_a_sentence((repo, why): (String, String)) -> String {
    format!("git's maintenance of {repo}: {why}")
}

/// What cannot be removed now is tried again. An engine that is away is no finding of housekeeping's.
fn put_off(what: &str, error: &ExecutorError, freed: &mut Freed) {
    match error {
        ExecutorError::Unavailable(_) => {
            tracing::debug!(%error, what, "housekeeping cannot ask the engine now")
        }
        _ => freed
            .problems
            .push(format!("{what} cannot be removed: {error}")),
    }
}

impl std::ops::Deref for Inner {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// How long after the last round the next one begins.
fn pause_until_next(pause: Duration, short: bool) -> Duration {
    if short {
        pause.min(EVERY_WHILE_SHORT)
    } else {
        pause
    }
}

impl Housekeeping {
    /// Housekeeping with these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let trust = Trust::new(&parts.store);
        Self(Arc::new(Inner {
            parts,
            round: Mutex::new(trust),
            problems: std::sync::Mutex::default(),
        }))
    }

    /// Keeps order until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        tokio::join!(self.keep_removing(&stop), self.maintain_repos(&stop));
    }

    /// A round now and then; sooner while space is short.
    async fn keep_removing(&self, stop: &CancellationToken) {
        let (mut last, mut pause) = (tokio::time::Instant::now(), FIRST);
        while stop
            .run_until_cancelled(tokio::time::sleep(LOOK))
            .await
            .is_some()
        {
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
        free_bytes(self.0.paths.data())
            .is_ok_and(|free| Floor::told(&self.0.paths).holds_runs(free))
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
        let now = self.0.store.clock().now();
        let cutoff = (kept.days > 0 && believed).then(|| now.plus(-i64::from(kept.days) * DAY_MS));
        let done = [
            self.retain(kept, cutoff, &mut freed).await,
            self.clear_leftovers(&mut freed).await,
            // Last, for an engine may be slow.
            self.0
                .store
                .call(Store::mend_uses)
                .await
                .map_err(HousekeepingError::from),
            self.remove_caches(cutoff, kept.caches, &mut freed).await,
            self.remove_images(cutoff, believed, &mut freed).await,
        ];
        freed.problems.extend(
            done.into_iter()
                .filter_map(Result::err)
                .map(|error| with_causes(&error)),
        );
        freed.problems.clone_into(
            &mut self
                .0
                .problems
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        match self.0.store.call(Store::upkeep_problems).await {
            Ok(problems) => freed
                .problems
                .extend(problems.into_iter().map(in_a_sentence)),
            Err(error) => freed.problems.push(with_causes(&error)),
        }
        report(&freed);
        freed
    }

    /// What is not as it should be: what the last round could not do, repositories that git could not pack, and
    /// those whose schedules are of an older commit.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn findings(&self) -> Result<Findings, StoreError> {
        let read = |store: &Store| Ok((store.upkeep_problems()?, store.schedule_problems()?));
        let (packing, schedules) = self.0.store.call(read).await?;
        let mut maintenance = self
            .0
            .problems
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        maintenance.extend(packing.into_iter().map(in_a_sentence));
        let schedules = schedules.into_iter().map(|(repo, why)| {
            format!("the schedules of {repo} are those of an older commit, for its newest pipeline cannot be read: {why}")
        });
        Ok(Findings {
            maintenance,
            schedules: schedules.collect(),
        })
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
    if *freed
        != (Freed {
            problems: freed.problems.clone(),
            ..Freed::default()
        })
    {
        let Freed {
            runs,
            logs,
            artifacts,
            events,
            images,
            caches,
            leftovers,
            bytes,
            ..
        } = freed;
        tracing::info!(
            runs,
            logs,
            artifacts,
            events,
            images,
            caches,
            leftovers,
            freed = in_words(*bytes),
            "housekeeping: removed what need not be kept"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_come_sooner_while_space_is_short_and_never_one_upon_the_other() {
        assert_eq!(
            [FIRST, EVERY].map(|pause| pause_until_next(pause, false)),
            [FIRST, EVERY]
        );
        assert_eq!(
            [FIRST, EVERY].map(|pause| pause_until_next(pause, true)),
            [FIRST, EVERY_WHILE_SHORT]
        );
    }
}
