//! Whether the clock on the wall can be believed. One that jumps a year ahead would make every run
//! too old; it is believed once it has gone on so for a day.

use std::time::{Duration, Instant};

use crate::clock::Millis;

/// How far the clock may be set ahead without anybody doubting it.
const TOLERANCE_MS: u64 = 60 * 60 * 1000;
/// How long a clock that jumped is doubted.
const DOUBT: Duration = Duration::from_secs(24 * 60 * 60);

/// What the clock said when it was last looked at.
#[derive(Debug)]
pub(super) struct Trust {
    wall: Millis,
    at: Instant,
    doubted_until: Option<Instant>,
}

impl Trust {
    pub(super) fn new(wall: Millis) -> Self {
        Self { wall, at: Instant::now(), doubted_until: None }
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

    #[test]
    fn a_jump_ahead_is_doubted_for_a_day() {
        let (begun, hour) = (Instant::now(), Duration::from_secs(3600));
        let mut trust = Trust { wall: Millis(0), at: begun, doubted_until: None };
        let hours = |n: i64| Millis(n * 3_600_000);
        assert!(trust.believes_at(hours(1), begun + hour), "time passes");
        assert!(trust.believes_at(hours(0), begun + 2 * hour), "set back: nothing gets older by it");
        assert!(!trust.believes_at(hours(365 * 24), begun + 3 * hour));
        assert!(!trust.believes_at(hours(365 * 24 + 20), begun + 23 * hour));
        assert!(trust.believes_at(hours(365 * 24 + 25), begun + 28 * hour));
    }
}
