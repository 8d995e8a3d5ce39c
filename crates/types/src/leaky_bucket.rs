//! A limit on how much is used over time: what is used drains at a constant rate, so that after a pause there is room for a burst.

use std::time::Duration;

use super::clock::Millis;

/// What has been used, in milliseconds of the time that it takes to drain, and when that was so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeakyBucket {
    used_ms: u64,
    at: Millis,
}

impl LeakyBucket {
    /// A bucket of which nothing is used.
    #[must_use]
    pub fn new(now: Millis) -> Self {
        Self {
            used_ms: 0,
            at: now,
        }
    }

    /// Uses what takes `cost_ms` to drain, if no more than `capacity_ms` is used then.
    ///
    /// # Errors
    /// There is no room; the error is the time after which there is.
    pub fn take(&mut self, cost_ms: u64, capacity_ms: u64, now: Millis) -> Result<(), Duration> {
        // A clock that was set back drains nothing.
        self.used_ms = self.used_ms.saturating_sub(now.since(self.at));
        self.at = now;
        let wanted = self.used_ms.saturating_add(cost_ms);
        if wanted > capacity_ms {
            return Err(Duration::from_millis(wanted - capacity_ms));
        }
        self.used_ms = wanted;
        Ok(())
    }

    /// Takes back a use that has cost nothing.
    pub fn refund(&mut self, cost_ms: u64) {
        self.used_ms = self.used_ms.saturating_sub(cost_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_drains_with_time_and_holds_its_capacity() {
        let at = |seconds: i64| Millis(seconds * 1000);
        let mut bucket = LeakyBucket::new(at(0));
        bucket.take(2000, 3000, at(0)).unwrap();
        assert_eq!(
            bucket.take(2000, 3000, at(0)),
            Err(Duration::from_secs(1)),
            "a use that was denied is not counted"
        );
        bucket.take(2000, 3000, at(1)).unwrap();
        bucket.refund(2000);
        bucket.take(2000, 3000, at(1)).unwrap();
        // A clock that was set back drains nothing, and goes on from there.
        assert!(bucket.take(1, 3000, at(-100)).is_err());
        bucket.take(3000, 3000, at(-97)).unwrap();
    }
}
