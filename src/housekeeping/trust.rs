//! Whether the clock on the wall can be believed. One that jumps a year ahead would make every run
//! too old; it is believed once it has gone on so for a day. At a start there was no look before: then
//! the runs tell what the clock last showed.

use std::time::{Duration, Instant};

use crate::clock::Millis;
use crate::store::Store;

/// How far the clock may be set ahead without anybody doubting it.
const TOLERANCE_MS: u64 = 60 * 60 * 1000;
/// How long a clock that jumped is doubted.
const DOUBT: Duration = Duration::from_secs(24 * 60 * 60);
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// How long nothing may have been queued before the day of a start without anybody doubting the clock.
const SILENCE_MS: u64 = 31 * 24 * 60 * 60 * 1000;

/// What the clock said when it was last looked at.
#[derive(Debug)]
pub(super) struct Trust {
    wall: Millis,
    at: Instant,
    doubted_until: Option<Instant>,
}

impl Trust {
    /// What to think of the clock at a start. Runs of the last day do not count: they may have been queued
    /// after the jump, and the appliance was started again.
    pub(super) fn new(store: &Store) -> Self {
        let (wall, at) = (store.clock().now(), Instant::now());
        let last = store
            .last_queued_before(wall.plus(-DAY_MS))
            .unwrap_or_else(|error| {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "when a run was last queued cannot be read"
                );
                None
            });
        let silent = last.is_some_and(|last| wall.since(last) > SILENCE_MS);
        Self {
            wall,
            at,
            doubted_until: silent.then(|| at + DOUBT),
        }
    }

    /// Whether ages by this clock count.
    pub(super) fn believes(&mut self, wall: Millis) -> bool {
        self.believes_at(wall, Instant::now())
    }

    fn believes_at(&mut self, wall: Millis, now: Instant) -> bool {
        let passed = u64::try_from(now.duration_since(self.at).as_millis()).unwrap_or(u64::MAX);
        if wall.since(self.wall) > passed.saturating_add(TOLERANCE_MS) {
            self.doubted_until = Some(now + DOUBT);
        }
        (self.wall, self.at) = (wall, now);
        self.doubted_until.is_none_or(|until| now >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::{Journal, NewRun};

    #[test]
    fn at_a_start_the_runs_tell_what_the_clock_showed() {
        let folder = tempfile::tempdir().unwrap();
        let clock = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(0));
        let path = folder.path().join("quire.db");
        let store = Store::open(
            &path,
            folder.path(),
            Journal::Wal,
            Clock::manual(clock.clone()),
        )
        .unwrap();
        let believes_on_day = |day: i64| {
            clock.store(day * DAY_MS, std::sync::atomic::Ordering::SeqCst);
            Trust::new(&store).believes(Millis(day * DAY_MS))
        };
        let push = || {
            let sha = "1".repeat(40).parse().unwrap();
            let run = NewRun::of_push(
                "app".parse().unwrap(),
                "refs/heads/main".parse().unwrap(),
                sha,
                store.clock().now(),
            );
            store.start_run(&run).unwrap();
        };
        assert!(believes_on_day(1000), "nothing was ever queued");
        push();
        assert!(believes_on_day(1000) && believes_on_day(1031));
        assert!(!believes_on_day(1365));
        // What is pushed after the jump does not make it right; after a day it may be.
        push();
        assert!(!believes_on_day(1365) && believes_on_day(1367));
        assert!(believes_on_day(999), "set back");
    }

    #[test]
    fn a_jump_ahead_is_doubted_for_a_day() {
        let (begun, hour) = (Instant::now(), Duration::from_secs(3600));
        let mut trust = Trust {
            wall: Millis(0),
            at: begun,
            doubted_until: None,
        };
        let hours = |n: i64| Millis(n * 3_600_000);
        assert!(trust.believes_at(hours(1), begun + hour), "time passes");
        assert!(
            trust.believes_at(hours(0), begun + 2 * hour),
            "set back: nothing gets older by it"
        );
        assert!(!trust.believes_at(hours(365 * 24), begun + 3 * hour));
        assert!(!trust.believes_at(hours(365 * 24 + 20), begun + 23 * hour));
        assert!(trust.believes_at(hours(365 * 24 + 25), begun + 28 * hour));
    }
}
