//! Which run's pipeline is evaluated next for its group: a pure policy.
//!
//! Anyone who can push can make an evaluation take as long as it may. So a repository has one at a
//! time, and the repository whose last one is the longest ago is next, whatever waits of the others.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use quire_types::names::{RepoName, RunId};

/// How many evaluations go on at the same time. Each has a process of its own.
const MAX_EVALUATIONS: usize = 2;
/// How long a run waits after an evaluation that failed for a reason that may pass.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The repositories of the evaluations that go on.
    active: Vec<RepoName>,
    /// The repositories that had a turn, and the number of the last one.
    last_turns: HashMap<RepoName, u64>,
    turn: u64,
    /// When runs failed first and last.
    failures: HashMap<RunId, Failure>,
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    first: Instant,
    last: Instant,
}

impl Turns {
    /// Starts the turn of one of the waiting runs, which are in the order of the queue, and returns its position;
    /// `None` if none may start.
    pub(super) fn start(&mut self, waiting: &[(RunId, RepoName)], now: Instant) -> Option<usize> {
        let waits = |repo: &RepoName| waiting.iter().any(|(_, waiting)| waiting == repo);
        self.last_turns.retain(|repo, _| waits(repo));
        let is_waiting = |id: &RunId| waiting.iter().any(|(waiting, _)| waiting == id);
        self.failures.retain(|id, _| is_waiting(id));
        if self.active.len() >= MAX_EVALUATIONS {
            return None;
        }
        let may_start = |(_, (id, repo)): &(usize, &(RunId, RepoName))| {
            let failure = self.failures.get(id);
            !self.active.contains(repo)
                && failure.is_none_or(|failure| now.duration_since(failure.last) >= RETRY_PAUSE)
        };
        // The first of those with the same key.
        let (position, (_, repo)) = waiting
            .iter()
            .enumerate()
            .filter(may_start)
            .min_by_key(|(_, (_, repo))| self.last_turns.get(repo).copied())?;
        self.turn += 1;
        self.last_turns.insert(repo.clone(), self.turn);
        self.active.push(repo.clone());
        Some(position)
    }

    /// How long a run has failed; `None` if it has not.
    pub(super) fn failing_for(&self, run: RunId, now: Instant) -> Option<Duration> {
        let failure = self.failures.get(&run)?;
        Some(now.duration_since(failure.first))
    }

    /// The turn of a run has ended.
    pub(super) fn end(&mut self, repo: &RepoName, run: RunId, has_failed: bool, now: Instant) {
        self.active.retain(|active| active != repo);
        if has_failed {
            let first = self.failures.get(&run).map_or(now, |failure| failure.first);
            self.failures.insert(run, Failure { first, last: now });
        } else {
            self.failures.remove(&run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(repos: &[&str]) -> Vec<(RunId, RepoName)> {
        let entry = |repo: &&str| (RunId::new(), repo.parse().unwrap());
        repos.iter().map(entry).collect()
    }

    #[test]
    fn repositories_take_turns_however_many_runs_one_has() {
        let mut queue = waiting(&["slow", "slow", "slow", "quick", "other", "quick"]);
        let mut turns = Turns::default();
        let now = Instant::now();
        assert_eq!(turns.start(&queue, now), Some(0));
        assert_eq!(turns.start(&queue, now), Some(3));
        assert_eq!(turns.start(&queue, now), None);
        // While the first goes on, the others are served to their end.
        let mut served = Vec::new();
        let mut position = 3;
        loop {
            let (id, repo) = queue.remove(position);
            turns.end(&repo, id, false, now);
            served.push(repo.to_string());
            match turns.start(&queue, now) {
                Some(next) => position = next,
                None => break,
            }
        }
        assert_eq!(served, ["quick", "other", "quick"]);
        let (id, repo) = queue.remove(0);
        turns.end(&repo, id, false, now);
        queue.extend(waiting(&["late"]));
        // One that had no turn comes before the next of one that had.
        assert_eq!(turns.start(&queue, now), Some(2));
        assert_eq!(turns.start(&queue, now), Some(0));
    }

    #[test]
    fn a_run_that_fails_waits_and_the_next_of_its_repository_is_tried() {
        let queue = waiting(&["app", "app"]);
        let mut turns = Turns::default();
        let now = Instant::now();
        let first = queue[0].0;
        for _ in 0..2 {
            assert_eq!(turns.start(&queue, now), Some(0));
            turns.end(&queue[0].1, first, true, now);
            assert_eq!(
                turns.failing_for(first, now + RETRY_PAUSE),
                Some(RETRY_PAUSE)
            );
            assert_eq!(turns.start(&queue, now), Some(1));
            turns.end(&queue[1].1, queue[1].0, false, now);
            turns.failures.remove(&first);
        }
        turns.start(&queue, now);
        turns.end(&queue[0].1, first, true, now);
        assert_eq!(turns.start(&queue, now + RETRY_PAUSE), Some(0));
        turns.end(&queue[0].1, first, false, now);
        assert_eq!(turns.failing_for(first, now), None);
    }
}
