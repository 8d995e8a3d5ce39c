//! When a child is to be started: a pure state machine, without clock, processes or randomness.
//!
//! ```text
//!            started                ended
//! Waiting ───────────► Running ───────────────► Waiting { until: now + delay }
//!    │  ▲                 │
//!    │  └── hurry (HUP)   │
//!    └────── stop ────────┴── stop, then ended ──► Stopped
//! ```
//!
//! The delay is nothing the first time, then 100 ms, doubling up to 30 s, each with jitter;
//! 60 s of health make the next end a first time again. A child that says its configuration
//! is bad (exit code 78) is tried again every 30 s: nothing but an edit will help it.

use std::time::{Duration, Instant};

use super::status::Exit;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// `EX_CONFIG` of sysexits(3).
pub(super) const CONFIG_EXIT: i32 = 78;

/// What a child is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// To be started at that time.
    Waiting { until: Instant },
    /// Started then, and not known to have ended.
    Running { pid: i32, since: Instant },
    /// Not to be started again.
    Stopped,
}

/// The life of one child over all its processes.
#[derive(Debug)]
pub(super) struct Life {
    state: State,
    /// Ends in a row without 60 s of health between them.
    failures: u32,
    starts: u64,
    last_exit: Option<Exit>,
    stopping: bool,
}

impl Life {
    /// A child that is to be started right away.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: State::Waiting { until: now },
            failures: 0,
            starts: 0,
            last_exit: None,
            stopping: false,
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn pid(&self) -> Option<i32> {
        if let State::Running { pid, .. } = self.state {
            Some(pid)
        } else {
            None
        }
    }

    pub(super) fn last_exit(&self) -> Option<Exit> {
        self.last_exit
    }

    /// How often it was started again.
    pub(super) fn restarts(&self) -> u64 {
        self.starts.saturating_sub(1)
    }

    /// Whether it is to be started now.
    pub(super) fn due(&self, now: Instant) -> bool {
        matches!(self.state, State::Waiting { until } if until <= now)
    }

    /// When it is to be started, if it waits for that.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        if let State::Waiting { until } = self.state {
            Some(until)
        } else {
            None
        }
    }

    /// It was started.
    pub(super) fn started(&mut self, pid: i32, now: Instant) {
        self.starts += 1;
        self.state = State::Running { pid, since: now };
    }

    /// It could not be started, or its process ended. `chance` is any number: it makes the jitter.
    /// Gives the delay until the next start; none when it is stopping.
    pub(super) fn ended(
        &mut self,
        exit: Option<Exit>,
        now: Instant,
        chance: u32,
    ) -> Option<Duration> {
        if let State::Running { since, .. } = self.state
            && now.saturating_duration_since(since) >= HEALTHY_AFTER
        {
            self.failures = 0;
        }
        self.last_exit = exit.or(self.last_exit);
        self.failures = self.failures.saturating_add(1);
        if self.stopping {
            self.state = State::Stopped;
            return None;
        }
        let delay = if exit == Some(Exit::Code(CONFIG_EXIT)) {
            LONGEST_DELAY
        } else {
            delay(self.failures, chance)
        };
        self.state = State::Waiting { until: now + delay };
        Some(delay)
    }

    /// Whatever it waits for, it is to be started now.
    pub(super) fn hurry(&mut self, now: Instant) {
        if let State::Waiting { until } = &mut self.state {
            *until = (*until).min(now);
        }
    }

    /// It is not to be started again. A running process stays until it ends.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        if matches!(self.state, State::Waiting { .. }) {
            self.state = State::Stopped;
        }
    }
}

/// The delay before the start that follows so many ends in a row.
fn delay(failures: u32, chance: u32) -> Duration {
    if failures <= 1 {
        return Duration::ZERO;
    }
    let full = FIRST_DELAY
        .saturating_mul(1u32.checked_shl(failures - 2).unwrap_or(u32::MAX))
        .min(LONGEST_DELAY);
    // Between three quarters and five quarters, within the bounds.
    full.mul_f64(0.75 + f64::from(chance % 1024) / 2048.0)
        .clamp(FIRST_DELAY, LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANCES: [u32; 5] = [0, 1, 511, 1023, u32::MAX];

    #[test]
    fn the_first_restart_is_at_once_and_later_ones_back_off() {
        for chance in CHANCES {
            let mut now = Instant::now();
            let mut life = Life::new(now);
            assert!(life.due(now));
            let mut full = 0.1;
            for end in 1..=20 {
                life.started(end, now);
                assert_eq!((life.due(now), life.pid()), (false, Some(end)));
                let wait = life.ended(Some(Exit::Code(1)), now, chance).unwrap();
                if end == 1 {
                    assert_eq!(wait, Duration::ZERO);
                } else {
                    let (low, high) = (
                        (full * 0.75f64).clamp(0.1, 30.0),
                        (full * 1.25f64).clamp(0.1, 30.0),
                    );
                    assert!(
                        (low - 1e-6..=high + 1e-6).contains(&wait.as_secs_f64()),
                        "end {end}: {wait:?}"
                    );
                    full = (full * 2.0).min(30.0);
                    assert!(!life.due(now));
                }
                assert_eq!(life.wakes_at(), Some(now + wait));
                now += wait;
                assert!(life.due(now));
            }
            assert_eq!(
                (life.restarts(), life.last_exit()),
                (19, Some(Exit::Code(1)))
            );
        }
    }

    #[test]
    fn jitter_differs_and_huge_counts_do_not_overflow() {
        assert_ne!(delay(6, 0), delay(6, 1000));
        for failures in [32, 33, 34, 35, 1000, u32::MAX] {
            assert_eq!(delay(failures, 1023), LONGEST_DELAY);
        }
    }

    #[test]
    fn a_minute_of_health_is_forgiveness() {
        let mut now = Instant::now();
        let mut life = Life::new(now);
        for _ in 0..8 {
            life.started(5, now);
            life.ended(Some(Exit::Signal(9)), now, 0);
        }
        life.started(5, now);
        now += HEALTHY_AFTER - Duration::from_millis(1);
        assert!(life.ended(Some(Exit::Signal(9)), now, 0).unwrap() > Duration::ZERO);
        life.started(5, now);
        now += HEALTHY_AFTER;
        assert_eq!(
            life.ended(Some(Exit::Signal(9)), now, 0),
            Some(Duration::ZERO)
        );
        life.started(5, now);
        assert_eq!(life.ended(Some(Exit::Signal(9)), now, 0), Some(FIRST_DELAY));
    }

    #[test]
    fn a_bad_configuration_is_tried_slowly_and_a_hup_hurries_it() {
        let now = Instant::now();
        let mut life = Life::new(now);
        life.started(5, now);
        assert_eq!(
            life.ended(Some(Exit::Code(CONFIG_EXIT)), now, 0),
            Some(LONGEST_DELAY)
        );
        assert!(!life.due(now));
        life.hurry(now);
        assert!(life.due(now));
        life.started(6, now);
        life.hurry(now);
        assert_eq!(life.pid(), Some(6));
    }

    #[test]
    fn a_start_that_fails_backs_off_too() {
        let now = Instant::now();
        let mut life = Life::new(now);
        assert_eq!(life.ended(None, now, 0), Some(Duration::ZERO));
        assert_eq!(life.ended(None, now, 0), Some(FIRST_DELAY));
        assert_eq!((life.restarts(), life.last_exit()), (0, None));
    }

    #[test]
    fn stopped_means_never_again() {
        let now = Instant::now();
        let mut waiting = Life::new(now);
        waiting.stop();
        assert_eq!(waiting.state(), State::Stopped);
        waiting.hurry(now);
        assert!(!waiting.due(now));

        let mut running = Life::new(now);
        running.started(5, now);
        running.stop();
        assert_eq!(running.pid(), Some(5));
        assert_eq!(running.ended(Some(Exit::Code(0)), now, 0), None);
        assert_eq!(
            (running.state(), running.wakes_at()),
            (State::Stopped, None)
        );
    }
}
