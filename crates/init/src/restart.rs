//! When a child process is started and restarted: a pure state machine, without clock, processes
//! or randomness.
//!
//! ```text
//!            started                ended
//! Waiting ───────────► Running ───────────────► Waiting { until: now + delay }
//!    │  ▲                 │
//!    │  └ restart_now     │
//!    └────── stop ────────┴── stop, then ended ──► Stopped
//! ```
//!
//! The delay is zero the first time, then 100 ms, then doubles up to 30 s, each with jitter. A
//! child that ran for 60 s starts at zero again. A child that exits with 78 (its configuration is
//! wrong) is restarted after 30 s each time, because only an edit of the configuration can help;
//! a HUP restarts it immediately.

use std::time::{Duration, Instant};

use super::error::EX_CONFIG;
use quire_types::backoff::Backoff;
use quire_types::init_status::ChildExit;

const MIN_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(30);
const BACKOFF: Backoff = Backoff::new(MIN_DELAY, MAX_DELAY);
const STABLE_AFTER: Duration = Duration::from_secs(60);
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RestartState {
    Waiting {
        until: Instant,
    },
    /// Started, and not yet reaped.
    Running {
        pid: i32,
        since: Instant,
    },
    /// Not to be started again.
    Stopped,
}

/// The state of one child over all its processes.
#[derive(Debug)]
pub(super) struct RestartPolicy {
    state: RestartState,
    /// The delays after the next ends; `None` if it has not ended since it ran for [`STABLE_AFTER`].
    backoff: Option<Backoff>,
    starts: u64,
    last_exit: Option<ChildExit>,
    stopping: bool,
}

impl RestartPolicy {
    /// For a child that is to be started immediately.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: RestartState::Waiting { until: now },
            backoff: None,
            starts: 0,
            last_exit: None,
            stopping: false,
        }
    }

    pub(super) fn state(&self) -> RestartState {
        self.state
    }

    pub(super) fn pid(&self) -> Option<i32> {
        if let RestartState::Running { pid, .. } = self.state {
            Some(pid)
        } else {
            None
        }
    }

    pub(super) fn last_exit(&self) -> Option<ChildExit> {
        self.last_exit
    }

    pub(super) fn restarts(&self) -> u64 {
        self.starts.saturating_sub(1)
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(self.state, RestartState::Waiting { until } if until <= now)
    }

    /// When it is to be started; `None` if it runs or is stopped.
    pub(super) fn next_start(&self) -> Option<Instant> {
        if let RestartState::Waiting { until } = self.state {
            Some(until)
        } else {
            None
        }
    }

    pub(super) fn started(&mut self, pid: i32, now: Instant) {
        self.starts += 1;
        self.state = RestartState::Running { pid, since: now };
    }

    /// Records that the process ended, or (without an `exit`) could not be started. `jitter` is any
    /// number. Returns the delay until the next start; `None` if there will be none.
    pub(super) fn ended(
        &mut self,
        exit: Option<ChildExit>,
        now: Instant,
        jitter: u32,
    ) -> Option<Duration> {
        if let RestartState::Running { since, .. } = self.state
            && now.saturating_duration_since(since) >= STABLE_AFTER
        {
            self.backoff = None;
        }
        self.last_exit = exit.or(self.last_exit);
        let full = match &mut self.backoff {
            Some(backoff) => backoff.next_delay(),
            None => {
                self.backoff = Some(BACKOFF);
                Duration::ZERO
            }
        };
        if self.stopping {
            self.state = RestartState::Stopped;
            return None;
        }
        let delay = if exit == Some(ChildExit::Code(EX_CONFIG)) {
            MAX_DELAY
        } else {
            with_jitter(full, jitter)
        };
        self.state = RestartState::Waiting { until: now + delay };
        Some(delay)
    }

    /// Ends the delay of a child that waits.
    pub(super) fn restart_now(&mut self, now: Instant) {
        if let RestartState::Waiting { until } = &mut self.state {
            *until = (*until).min(now);
        }
    }

    /// Forbids any further start. A running process is left to run until it ends.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        if matches!(self.state, RestartState::Waiting { .. }) {
            self.state = RestartState::Stopped;
        }
    }
}

/// Between three quarters and five quarters of the delay, within the bounds.
fn with_jitter(delay: Duration, jitter: u32) -> Duration {
    if delay.is_zero() {
        return delay;
    }
    delay
        .mul_f64(0.75 + f64::from(jitter % 1024) / 2048.0)
        .clamp(MIN_DELAY, MAX_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JITTERS: [u32; 5] = [0, 1, 511, 1023, u32::MAX];

    #[test]
    fn the_first_restart_is_immediate_and_later_ones_back_off() {
        for jitter in JITTERS {
            let mut now = Instant::now();
            let mut policy = RestartPolicy::new(now);
            assert!(policy.is_due(now));
            let mut full = 0.1;
            for end in 1..=20 {
                policy.started(end, now);
                assert_eq!((policy.is_due(now), policy.pid()), (false, Some(end)));
                let wait = policy.ended(Some(ChildExit::Code(1)), now, jitter).unwrap();
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
                    assert!(!policy.is_due(now));
                }
                assert_eq!(policy.next_start(), Some(now + wait));
                now += wait;
                assert!(policy.is_due(now));
            }
            assert_eq!(
                (policy.restarts(), policy.last_exit()),
                (19, Some(ChildExit::Code(1)))
            );
        }
    }

    #[test]
    fn jitter_differs_within_the_bounds() {
        assert_ne!(
            with_jitter(Duration::from_secs(1), 0),
            with_jitter(Duration::from_secs(1), 1000)
        );
        assert_eq!(with_jitter(MAX_DELAY, 1023), MAX_DELAY);
        assert_eq!(with_jitter(MIN_DELAY, 0), MIN_DELAY);
        assert_eq!(with_jitter(Duration::ZERO, 1023), Duration::ZERO);
    }

    #[test]
    fn a_minute_of_running_resets_the_delay() {
        let mut now = Instant::now();
        let mut policy = RestartPolicy::new(now);
        for _ in 0..8 {
            policy.started(5, now);
            policy.ended(Some(ChildExit::Signal(9)), now, 0);
        }
        policy.started(5, now);
        now += STABLE_AFTER - Duration::from_millis(1);
        assert!(policy.ended(Some(ChildExit::Signal(9)), now, 0).unwrap() > Duration::ZERO);
        policy.started(5, now);
        now += STABLE_AFTER;
        assert_eq!(
            policy.ended(Some(ChildExit::Signal(9)), now, 0),
            Some(Duration::ZERO)
        );
        policy.started(5, now);
        assert_eq!(
            policy.ended(Some(ChildExit::Signal(9)), now, 0),
            Some(MIN_DELAY)
        );
    }

    #[test]
    fn exit_78_waits_thirty_seconds_unless_restarted_now() {
        let now = Instant::now();
        let mut policy = RestartPolicy::new(now);
        policy.started(5, now);
        assert_eq!(
            policy.ended(Some(ChildExit::Code(EX_CONFIG)), now, 0),
            Some(MAX_DELAY)
        );
        assert!(!policy.is_due(now));
        policy.restart_now(now);
        assert!(policy.is_due(now));
        policy.started(6, now);
        policy.restart_now(now);
        assert_eq!(policy.pid(), Some(6));
    }

    #[test]
    fn a_failed_start_backs_off_too() {
        let now = Instant::now();
        let mut policy = RestartPolicy::new(now);
        assert_eq!(policy.ended(None, now, 0), Some(Duration::ZERO));
        assert_eq!(policy.ended(None, now, 0), Some(MIN_DELAY));
        assert_eq!((policy.restarts(), policy.last_exit()), (0, None));
    }

    #[test]
    fn a_stopped_child_is_never_started() {
        let now = Instant::now();
        let mut waiting = RestartPolicy::new(now);
        waiting.stop();
        assert_eq!(waiting.state(), RestartState::Stopped);
        waiting.restart_now(now);
        assert!(!waiting.is_due(now));

        let mut running = RestartPolicy::new(now);
        running.started(5, now);
        running.stop();
        assert_eq!(running.pid(), Some(5));
        assert_eq!(running.ended(Some(ChildExit::Code(0)), now, 0), None);
        assert_eq!(
            (running.state(), running.next_start()),
            (RestartState::Stopped, None)
        );
    }
}
