//! The processor time that is used for strangers, over the last ten seconds.

use std::sync::Mutex;
use std::time::Duration;

use quire_types::clock::Millis;
use quire_types::sync::lock;

use super::cost::CostClass;

/// Seconds over which the time is added up.
const WINDOW: usize = 10;

/// What may be used in ten seconds, and what was.
#[derive(Debug)]
pub(super) struct ProcessorShare {
    most: Duration,
    used: Mutex<UsedTime>,
}

/// The time that was used in each of the last seconds; the last one is `newest`.
#[derive(Debug)]
struct UsedTime {
    newest: i64,
    seconds: [Duration; WINDOW],
}

impl UsedTime {
    /// Forgets what is too old. If the clock was set back, what was used counts as used now.
    fn advance(&mut self, now: Millis) {
        let second = now.0.div_euclid(1000);
        let passed = second.saturating_sub(self.newest).max(0);
        let passed = usize::try_from(passed).map_or(WINDOW, |passed| passed.min(WINDOW));
        self.seconds.rotate_left(passed);
        self.seconds[WINDOW - passed..].fill(Duration::ZERO);
        self.newest = second;
    }
}

impl ProcessorShare {
    pub(super) fn new(most: Duration) -> Self {
        Self {
            most,
            used: Mutex::new(UsedTime {
                newest: 0,
                seconds: [Duration::ZERO; WINDOW],
            }),
        }
    }

    /// Records time that was used.
    pub(super) fn add(&self, time: Duration, now: Millis) {
        let mut used = lock(&self.used);
        used.advance(now);
        used.seconds[WINDOW - 1] += time;
    }

    #[cfg(test)]
    pub(super) fn used(&self, now: Millis) -> Duration {
        let mut used = lock(&self.used);
        used.advance(now);
        used.seconds.iter().sum()
    }

    /// How long a request has to wait until there is time for it; `None` if there is some now. A fifth of the time is kept for what costs
    /// little, so that it can be read while others ask for much.
    pub(super) fn wait(&self, cost: CostClass, now: Millis) -> Option<Duration> {
        let most = match cost {
            CostClass::Free => return None,
            CostClass::Light => self.most,
            CostClass::Medium | CostClass::Heavy => self.most * 4 / 5,
        };
        let mut used = lock(&self.used);
        used.advance(now);
        let mut sum: Duration = used.seconds.iter().sum();
        if sum < most {
            return None;
        }
        for (age, second) in used.seconds.iter().enumerate() {
            sum -= *second;
            if sum < most {
                return Some(Duration::from_secs(age as u64 + 1));
            }
        }
        Some(Duration::from_secs(WINDOW as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_added_up_over_ten_seconds() {
        let share = ProcessorShare::new(Duration::from_millis(2500));
        let wait = |cost, seconds: i64| {
            let wait = share.wait(cost, Millis(seconds * 1000));
            wait.map(|wait| wait.as_secs())
        };
        let add = |millis, seconds: i64| {
            share.add(Duration::from_millis(millis), Millis(seconds * 1000));
        };
        assert_eq!(wait(CostClass::Heavy, 100), None);
        add(1000, 100);
        add(900, 103);
        assert_eq!(wait(CostClass::Heavy, 104), None);
        add(100, 104);
        // Of 2,500 ms, 2,000 are for what costs much.
        assert_eq!(wait(CostClass::Heavy, 104), Some(6));
        assert_eq!(wait(CostClass::Light, 104), None);
        add(500, 105);
        assert_eq!(wait(CostClass::Light, 105), Some(5));
        assert_eq!(wait(CostClass::Free, 105), None);
        assert_eq!(wait(CostClass::Light, 109), Some(1));
        assert_eq!(wait(CostClass::Light, 110), None);
        // A clock that was set back.
        add(2500, 111);
        assert_eq!(wait(CostClass::Light, 50), Some(10));
        assert_eq!(wait(CostClass::Light, 60), None);
        assert_eq!(
            ProcessorShare::new(Duration::ZERO).wait(CostClass::Light, Millis(0)),
            Some(Duration::from_secs(10))
        );
    }
}
