//! Decides whether the system clock is plausible. A clock that jumps a year ahead would make every run too old,
//! so after a jump it is distrusted for a day. At a start there is no earlier reading; the time at which a run was
//! last queued takes its place.

use std::time::{Duration, Instant};

use quire_store::Store;
use quire_types::clock::Millis;
use quire_types::error_chain::chain;

/// A clock that is set ahead by at most this is still plausible.
const TOLERANCE_MS: u64 = 60 * 60 * 1000;
const DISTRUST_FOR: Duration = Duration::from_secs(24 * 60 * 60);
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// At a start the clock is plausible if a run was queued within this time before.
const MAX_GAP_MS: u64 = 31 * 24 * 60 * 60 * 1000;

/// The last reading of the clock.
#[derive(Debug)]
pub(super) struct ClockGuard {
    wall: Millis,
    at: Instant,
    distrusted_until: Option<Instant>,
}

impl ClockGuard {
    pub(super) fn new(store: &Store) -> Self {
        let wall = store.clock().now();
        let at = Instant::now();
        // Runs of the last day do not count: they may have been queued after the jump, before the appliance was
        // started again.
        let last = store
            .retention()
            .last_queued_before(wall.plus(-DAY_MS))
            .unwrap_or_else(|error| {
                tracing::error!("cannot read when a run was last queued: {}", chain(&error));
                None
            });
        let gap = last.is_some_and(|last| wall.since(last) > MAX_GAP_MS);
        Self {
            wall,
            at,
            distrusted_until: gap.then(|| at + DISTRUST_FOR),
        }
    }

    /// Whether the ages that this clock shows can be used. Call it with each new reading.
    pub(super) fn is_plausible(&mut self, wall: Millis) -> bool {
        self.is_plausible_at(wall, Instant::now())
    }

    fn is_plausible_at(&mut self, wall: Millis, now: Instant) -> bool {
        let passed = u64::try_from(now.duration_since(self.at).as_millis()).unwrap_or(u64::MAX);
        if wall.since(self.wall) > passed.saturating_add(TOLERANCE_MS) {
            self.distrusted_until = Some(now + DISTRUST_FOR);
        }
        self.wall = wall;
        self.at = now;
        self.distrusted_until.is_none_or(|until| now >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_store::{Journal, NewRun};
    use quire_types::clock::Clock;

    #[test]
    fn at_a_start_the_last_queued_run_counts() {
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
        let is_plausible_on_day = |day: i64| {
            clock.store(day * DAY_MS, std::sync::atomic::Ordering::SeqCst);
            ClockGuard::new(&store).is_plausible(Millis(day * DAY_MS))
        };
        let push = || {
            let sha = "1".repeat(40).parse().unwrap();
            let run = NewRun::of_push(
                "app".parse().unwrap(),
                "refs/heads/main".parse().unwrap(),
                sha,
                store.clock().now(),
            );
            store.queue().enqueue(&run, |_| Vec::new()).unwrap();
        };
        assert!(is_plausible_on_day(1000), "nothing was ever queued");
        push();
        assert!(is_plausible_on_day(1000) && is_plausible_on_day(1031));
        assert!(!is_plausible_on_day(1365));
        // A push after the jump does not make the clock plausible; a day does.
        push();
        assert!(!is_plausible_on_day(1365) && is_plausible_on_day(1367));
        assert!(is_plausible_on_day(999), "set back");
    }

    #[test]
    fn a_jump_ahead_is_distrusted_for_a_day() {
        let begun = Instant::now();
        let hour = Duration::from_secs(3600);
        let mut guard = ClockGuard {
            wall: Millis(0),
            at: begun,
            distrusted_until: None,
        };
        let hours = |n: i64| Millis(n * 3_600_000);
        assert!(guard.is_plausible_at(hours(1), begun + hour), "time passes");
        assert!(
            guard.is_plausible_at(hours(0), begun + 2 * hour),
            "set back: nothing gets older"
        );
        assert!(!guard.is_plausible_at(hours(365 * 24), begun + 3 * hour));
        assert!(!guard.is_plausible_at(hours(365 * 24 + 20), begun + 23 * hour));
        assert!(guard.is_plausible_at(hours(365 * 24 + 25), begun + 28 * hour));
    }
}
