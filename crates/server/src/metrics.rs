//! Durations and counters since the start of the process, as `/metrics` shows them.
//!
//! The parts that do the work add to them, by a few atomic operations.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of all histograms' buckets, in seconds; the last bucket has none.
pub const BUCKETS: [f64; 12] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1200.0, 3600.0,
];

/// Durations, counted by size.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn add(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(BUCKETS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(
            u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }

    /// How many were at most as long as each bound, then how many there are in all.
    #[must_use]
    pub fn cumulative(&self) -> [u64; BUCKETS.len() + 1] {
        let mut sum = 0;
        std::array::from_fn(|bucket| {
            sum += self.buckets[bucket].load(Ordering::Relaxed);
            sum
        })
    }

    /// The sum of all durations, in seconds.
    #[must_use]
    pub fn sum(&self) -> f64 {
        Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64()
    }
}

/// What the server counts; shared as an `Arc`.
#[derive(Debug, Default)]
pub struct Metrics {
    /// From claim to outcome.
    pub run: Histogram,
    /// From a job's start to its end.
    pub job: Histogram,
    /// From the queue to the claim.
    pub wait: Histogram,
    /// Bytes written to the logs of runs.
    pub log_bytes: AtomicU64,
    /// Push events taken.
    pub pushes: AtomicU64,
    /// What the engine took for its last answer, in microseconds; 0 before the first.
    pub engine_micros: AtomicU64,
    /// Notifications that a receiver confirmed.
    pub notifications_delivered: AtomicU64,
    /// Attempts to deliver one that failed.
    pub notification_failures: AtomicU64,
    /// Notifications that are not attempted any more.
    pub notifications_given_up: AtomicU64,
    /// Requests to incoming webhooks that were accepted.
    pub hooks_accepted: AtomicU64,
    /// Those that were not.
    pub hooks_refused: AtomicU64,
    /// Requests of clients that are not signed in that were refused because the client had asked for too much.
    pub strangers_refused_client: AtomicU64,
    /// Those that were refused because all of them together had used up their processor time.
    pub strangers_refused_processor: AtomicU64,
    /// Those that were refused because other strangers had the threads or places.
    pub strangers_refused_busy: AtomicU64,
    /// Attempts that found or made a remote of a mirror equal.
    pub mirror_syncs: AtomicU64,
    /// Attempts that did not.
    pub mirror_failures: AtomicU64,
    /// The size of the trash, as housekeeping measured it last.
    pub trash_bytes: AtomicU64,
    /// The same of what pushes overwrote.
    pub undo_bytes: AtomicU64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_by_size() {
        let histogram = Histogram::default();
        for millis in [10, 50, 60, 4_000_000] {
            histogram.add(Duration::from_millis(millis));
        }
        let counted = histogram.cumulative();
        assert_eq!(
            (
                counted[0],
                counted[1],
                counted[BUCKETS.len() - 1],
                counted[BUCKETS.len()]
            ),
            (2, 3, 3, 4)
        );
        assert!((histogram.sum() - 4000.12).abs() < 1e-9);
    }
}
