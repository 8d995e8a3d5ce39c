//! How many requests of each webhook are accepted: a bucket that is filled again in a minute. It is empty of records after a
//! restart, which is no way around it, since a restart is the owner's.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use quire_types::clock::Millis;
use quire_types::leaky_bucket::LeakyBucket;
use quire_types::sync::lock;

const MINUTE_MS: u64 = 60_000;

/// The buckets, by the name of the webhook.
#[derive(Debug, Default)]
pub(super) struct RateLimits(Mutex<HashMap<String, LeakyBucket>>);

impl RateLimits {
    /// Takes one request from the bucket.
    ///
    /// # Errors
    /// The bucket is empty; the error is the time after which it has one again.
    pub(super) fn take(&self, name: &str, per_minute: u32, now: Millis) -> Result<(), Duration> {
        let cost = MINUTE_MS / u64::from(per_minute.max(1));
        let mut buckets = lock(&self.0);
        let bucket = buckets
            .entry(name.to_owned())
            .or_insert_with(|| LeakyBucket::new(now));
        bucket.take(cost, MINUTE_MS, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_holds_so_many_requests() {
        let limits = RateLimits::default();
        let at = |seconds: i64| Millis(seconds * 1000);
        for _ in 0..3 {
            limits.take("a", 3, at(0)).unwrap();
        }
        assert_eq!(limits.take("a", 3, at(0)), Err(Duration::from_secs(20)));
        limits.take("b", 3, at(0)).unwrap();
        assert_eq!(limits.take("a", 3, at(19)), Err(Duration::from_secs(1)));
        limits.take("a", 3, at(20)).unwrap();
        assert!(limits.take("a", 3, at(20)).is_err());
        // A clock that was set back does not fill it.
        assert!(limits.take("a", 3, at(-1000)).is_err());
        limits.take("a", 3, at(200)).unwrap();
    }
}
