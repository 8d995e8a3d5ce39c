//! The delay between attempts at something that fails.

use std::time::Duration;

/// Delays that double from the first one up to a maximum.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    /// Starts with the delay `first`.
    #[must_use]
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { next: first, max }
    }

    /// Returns the delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next.min(self.max);
        self.next = delay.saturating_mul(2);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));
        let delays = [(); 5].map(|()| backoff.next_delay().as_millis());
        assert_eq!(delays, [200, 400, 800, 1000, 1000]);
        let mut endless = Backoff::new(Duration::MAX, Duration::MAX);
        assert_eq!([(); 2].map(|()| endless.next_delay()), [Duration::MAX; 2]);
    }
}
