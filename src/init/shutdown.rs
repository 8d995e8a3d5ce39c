//! The order in which everything ends: a pure state machine over what is still there.
//!
//! ```text
//! TERM ► serve ──gone──► Pushes ──none──► Sshd (TERM) ──gone──► Rest (TERM all) ──► Kill (KILL all)
//!   └────────────────────┴──────── three quarters of the grace ──────┴───────▲
//! ```
//!
//! Invariants: the clock starts at the first request and is never restarted; at three quarters
//! of the grace all that is left gets TERM, shortly before its end KILL; at its end `init`
//! leaves whatever is still there.

use std::time::{Duration, Instant};

/// How long what is left after `serve` and `sshd` may take over its TERM.
const LEFTOVERS: Duration = Duration::from_secs(1);
/// KILL comes this long before the end of the grace (an eighth of it, when that is shorter).
const MARGIN: Duration = Duration::from_millis(500);

/// What is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) serve: bool,
    pub(super) sshd: bool,
    /// A push or fetch is in progress.
    pub(super) pushes: bool,
    /// Any process at all.
    pub(super) any: bool,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Wait for the next end of a process, or a little.
    Wait,
    /// TERM to `serve`.
    TermServe,
    /// TERM to `sshd`'s listener; its sessions go on.
    TermSshd,
    /// TERM to every process there is.
    TermRest,
    /// KILL to every process there is.
    KillRest,
    /// All is gone, or the grace is over: leave.
    Leave,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Told,
    Serve,
    Sshd,
    Rest { since: Instant },
}

/// A shutdown in progress.
#[derive(Debug)]
pub(super) struct Shutdown {
    phase: Phase,
    soft: Instant,
    hard: Instant,
    end: Instant,
}

impl Shutdown {
    /// Begins it.
    pub(super) fn begin(now: Instant, grace: Duration) -> Self {
        let end = now + grace;
        Self {
            phase: Phase::Told,
            soft: now + grace * 3 / 4,
            hard: end - MARGIN.min(grace / 8),
            end,
        }
    }

    /// Whether it is of interest now if a push is in progress: finding out costs a walk.
    pub(super) fn asks_for_pushes(&self) -> bool {
        self.phase == Phase::Serve
    }

    /// The next step. Call it until it says to wait, kill or leave; then again when something ended, and at least every 50 ms.
    pub(super) fn step(&mut self, now: Instant, left: Left) -> Act {
        if now >= self.end || (!left.any && self.phase != Phase::Told) {
            return Act::Leave;
        }
        match self.phase {
            Phase::Told if left.serve => {
                self.phase = Phase::Serve;
                return Act::TermServe;
            }
            Phase::Told => self.phase = Phase::Serve,
            _ => {}
        }
        let rest = match self.phase {
            Phase::Told => false,
            Phase::Serve if now >= self.soft => true,
            Phase::Serve if left.serve || left.pushes => return Act::Wait,
            Phase::Serve => {
                self.phase = Phase::Sshd;
                if left.sshd {
                    return Act::TermSshd;
                }
                true
            }
            Phase::Sshd => !left.sshd || now >= self.soft,
            Phase::Rest { since } => {
                return if now >= self.hard.min(since + LEFTOVERS) {
                    Act::KillRest
                } else {
                    Act::Wait
                };
            }
        };
        if rest {
            self.phase = Phase::Rest { since: now };
            return Act::TermRest;
        }
        Act::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(8);
    const ALL: Left = Left {
        serve: true,
        sshd: true,
        pushes: false,
        any: true,
    };

    #[test]
    fn serve_goes_first_then_sshd_then_the_rest() {
        let now = Instant::now();
        let mut shutdown = Shutdown::begin(now, GRACE);
        assert_eq!(shutdown.step(now, ALL), Act::TermServe);
        assert_eq!(shutdown.step(now, ALL), Act::Wait);
        let left = Left {
            serve: false,
            ..ALL
        };
        assert_eq!(shutdown.step(now, left), Act::TermSshd);
        assert_eq!(shutdown.step(now, left), Act::Wait);
        let left = Left {
            sshd: false,
            ..left
        };
        assert_eq!(shutdown.step(now, left), Act::TermRest);
        assert_eq!(shutdown.step(now, left), Act::Wait);
        assert_eq!(shutdown.step(now + LEFTOVERS, left), Act::KillRest);
        assert_eq!(
            shutdown.step(now + LEFTOVERS, Left { any: false, ..left }),
            Act::Leave
        );
    }

    #[test]
    fn it_leaves_the_moment_all_are_gone() {
        let now = Instant::now();
        let mut shutdown = Shutdown::begin(now, GRACE);
        let left = Left {
            serve: false,
            sshd: false,
            pushes: false,
            any: false,
        };
        assert_eq!(
            shutdown.step(now, left),
            Act::TermRest,
            "one round to all, in case something is not our child"
        );
        assert_eq!(shutdown.step(now, left), Act::Leave);
    }

    #[test]
    fn pushes_hold_sshd_until_they_are_done() {
        let now = Instant::now();
        let mut shutdown = Shutdown::begin(now, GRACE);
        let left = Left {
            serve: false,
            pushes: true,
            ..ALL
        };
        assert_eq!(shutdown.step(now, left), Act::Wait);
        assert!(shutdown.asks_for_pushes());
        assert_eq!(shutdown.step(now + GRACE / 2, left), Act::Wait);
        assert_eq!(
            shutdown.step(
                now + GRACE / 2,
                Left {
                    pushes: false,
                    ..left
                }
            ),
            Act::TermSshd
        );
        assert!(!shutdown.asks_for_pushes());
    }

    #[test]
    fn what_hangs_is_told_again_then_killed_then_left() {
        for hanging in [
            ALL,
            Left {
                serve: false,
                pushes: true,
                ..ALL
            },
            Left {
                serve: false,
                ..ALL
            },
        ] {
            let now = Instant::now();
            let mut shutdown = Shutdown::begin(now, GRACE);
            while shutdown.step(now, hanging) != Act::Wait {}
            assert_eq!(
                shutdown.step(now + GRACE * 3 / 4 - Duration::from_millis(1), hanging),
                Act::Wait
            );
            assert_eq!(
                shutdown.step(now + GRACE * 3 / 4, hanging),
                Act::TermRest,
                "{hanging:?}"
            );
            assert_eq!(shutdown.step(now + GRACE * 3 / 4, hanging), Act::Wait);
            assert_eq!(shutdown.step(now + GRACE - MARGIN, hanging), Act::KillRest);
            assert_eq!(shutdown.step(now + GRACE, hanging), Act::Leave);
        }
    }

    #[test]
    fn a_short_grace_keeps_the_order_too() {
        let (now, grace) = (Instant::now(), Duration::from_secs(1));
        let mut shutdown = Shutdown::begin(now, grace);
        while shutdown.step(now, ALL) != Act::Wait {}
        assert_eq!(shutdown.step(now + grace * 3 / 4, ALL), Act::TermRest);
        assert_eq!(
            shutdown.step(now + grace * 3 / 4, ALL),
            Act::Wait,
            "TERM is given some time"
        );
        assert_eq!(shutdown.step(now + grace * 7 / 8, ALL), Act::KillRest);
    }

    #[test]
    fn no_grace_at_all_leaves_at_once() {
        let now = Instant::now();
        assert_eq!(
            Shutdown::begin(now, Duration::ZERO).step(now, ALL),
            Act::Leave
        );
    }
}
