//! When newer versions of the base images of a built image are looked for.
//!
//! What was looked for is not recorded: after a start it is looked for again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quire_types::pull_policy::PullPolicy;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The last look for each built image, by its tag. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct BaseLooks(Arc<Mutex<HashMap<String, Instant>>>);

impl BaseLooks {
    /// Whether it is time to look, so that the caller looks now.
    pub(super) fn take_due(&self, policy: PullPolicy, tag: &str, now: Instant) -> bool {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looks.retain(|_, last| now.duration_since(*last) < DAY);
        let is_due = match policy {
            PullPolicy::Missing => false,
            PullPolicy::Daily => !looks.contains_key(tag),
            PullPolicy::Always => true,
        };
        if is_due {
            looks.insert(tag.to_owned(), now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_due_as_the_policy_says() {
        let looks = BaseLooks::default();
        let start = Instant::now();
        let due = |policy, tag, hours: u64| {
            looks.take_due(policy, tag, start + Duration::from_secs(hours * 3600))
        };
        assert!(!due(PullPolicy::Missing, "a", 0));
        assert!(due(PullPolicy::Daily, "a", 0));
        assert!(!due(PullPolicy::Daily, "a", 23));
        assert!(due(PullPolicy::Daily, "b", 23));
        assert!(due(PullPolicy::Always, "b", 23));
        assert!(due(PullPolicy::Daily, "a", 24));
        assert!(!due(PullPolicy::Daily, "a", 47));
    }
}
