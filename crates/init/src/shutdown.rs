//! The order in which everything ends: a pure state machine over the processes that remain.
//!
//! ```text
//! TERM ► serve ──ended──► git sessions ──none──► sshd (TERM) ──ended──► TERM to all ──► KILL to all
//!   └─────────────────────┴──────── three quarters of the grace ────────┴─────▲
//! ```
//!
//! Invariants: the grace starts at the first request and is never restarted; after three quarters
//! of it every remaining process gets TERM, and shortly before its end KILL; at its end `init`
//! exits, whatever remains.

use std::time::{Duration, Instant};

/// How long the processes that remain after `serve` and `sshd` may take to end after TERM.
const TERM_TIMEOUT: Duration = Duration::from_secs(1);
/// KILL is sent this long before the end of the grace (or an eighth of it, if that is shorter).
const KILL_MARGIN: Duration = Duration::from_millis(500);

/// Which processes remain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunningProcesses {
    pub(super) serve: bool,
    pub(super) sshd: bool,
    /// A push or a fetch is in progress.
    pub(super) git_sessions: bool,
    /// Any child or adopted process.
    pub(super) any: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ShutdownAction {
    /// Wait until a process ends, or for a short time.
    Wait,
    TermServe,
    /// Send TERM to the listener of `sshd`; its sessions go on.
    TermSshd,
    TermAll,
    KillAll,
    /// No process remains, or the grace is over.
    Exit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ShutdownStep {
    Requested,
    AwaitServe,
    AwaitSshd,
    AwaitAll { since: Instant },
}

/// A shutdown in progress.
#[derive(Debug)]
pub(super) struct ShutdownSequence {
    step: ShutdownStep,
    term_all_at: Instant,
    kill_all_at: Instant,
    end: Instant,
}

impl ShutdownSequence {
    pub(super) fn begin(now: Instant, grace: Duration) -> Self {
        let end = now + grace;
        Self {
            step: ShutdownStep::Requested,
            term_all_at: now + grace * 3 / 4,
            kill_all_at: end - KILL_MARGIN.min(grace / 8),
            end,
        }
    }

    /// Whether the next step depends on git sessions: to look for them takes a walk over `/proc`.
    pub(super) fn needs_git_sessions(&self) -> bool {
        self.step == ShutdownStep::AwaitServe
    }

    /// Returns the next action. Call it until it returns `Wait`, `KillAll` or `Exit`, then again
    /// whenever a process has ended, and at least every 50 ms.
    pub(super) fn next_action(
        &mut self,
        now: Instant,
        remaining: RunningProcesses,
    ) -> ShutdownAction {
        if now >= self.end || (!remaining.any && self.step != ShutdownStep::Requested) {
            return ShutdownAction::Exit;
        }
        match self.step {
            ShutdownStep::Requested if remaining.serve => {
                self.step = ShutdownStep::AwaitServe;
                return ShutdownAction::TermServe;
            }
            ShutdownStep::Requested => self.step = ShutdownStep::AwaitServe,
            _ => {}
        }
        let term_all = match self.step {
            ShutdownStep::Requested => false,
            ShutdownStep::AwaitServe if now >= self.term_all_at => true,
            ShutdownStep::AwaitServe if remaining.serve || remaining.git_sessions => {
                return ShutdownAction::Wait;
            }
            ShutdownStep::AwaitServe => {
                self.step = ShutdownStep::AwaitSshd;
                if remaining.sshd {
                    return ShutdownAction::TermSshd;
                }
                true
            }
            ShutdownStep::AwaitSshd => !remaining.sshd || now >= self.term_all_at,
            ShutdownStep::AwaitAll { since } => {
                return if now >= self.kill_all_at.min(since + TERM_TIMEOUT) {
                    ShutdownAction::KillAll
                } else {
                    ShutdownAction::Wait
                };
            }
        };
        if term_all {
            self.step = ShutdownStep::AwaitAll { since: now };
            return ShutdownAction::TermAll;
        }
        ShutdownAction::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(8);
    const ALL: RunningProcesses = RunningProcesses {
        serve: true,
        sshd: true,
        git_sessions: false,
        any: true,
    };

    #[test]
    fn serve_is_ended_first_then_sshd_then_all() {
        let now = Instant::now();
        let mut shutdown = ShutdownSequence::begin(now, GRACE);
        assert_eq!(shutdown.next_action(now, ALL), ShutdownAction::TermServe);
        assert_eq!(shutdown.next_action(now, ALL), ShutdownAction::Wait);
        let remaining = RunningProcesses {
            serve: false,
            ..ALL
        };
        assert_eq!(
            shutdown.next_action(now, remaining),
            ShutdownAction::TermSshd
        );
        assert_eq!(shutdown.next_action(now, remaining), ShutdownAction::Wait);
        let remaining = RunningProcesses {
            sshd: false,
            ..remaining
        };
        assert_eq!(
            shutdown.next_action(now, remaining),
            ShutdownAction::TermAll
        );
        assert_eq!(shutdown.next_action(now, remaining), ShutdownAction::Wait);
        assert_eq!(
            shutdown.next_action(now + TERM_TIMEOUT, remaining),
            ShutdownAction::KillAll
        );
        assert_eq!(
            shutdown.next_action(
                now + TERM_TIMEOUT,
                RunningProcesses {
                    any: false,
                    ..remaining
                }
            ),
            ShutdownAction::Exit
        );
    }

    #[test]
    fn it_exits_as_soon_as_all_have_ended() {
        let now = Instant::now();
        let mut shutdown = ShutdownSequence::begin(now, GRACE);
        let remaining = RunningProcesses {
            serve: false,
            sshd: false,
            git_sessions: false,
            any: false,
        };
        assert_eq!(
            shutdown.next_action(now, remaining),
            ShutdownAction::TermAll,
            "TERM to all, in case a process is not a child of init"
        );
        assert_eq!(shutdown.next_action(now, remaining), ShutdownAction::Exit);
    }

    #[test]
    fn sshd_is_not_ended_during_a_push() {
        let now = Instant::now();
        let mut shutdown = ShutdownSequence::begin(now, GRACE);
        let remaining = RunningProcesses {
            serve: false,
            git_sessions: true,
            ..ALL
        };
        assert_eq!(shutdown.next_action(now, remaining), ShutdownAction::Wait);
        assert!(shutdown.needs_git_sessions());
        assert_eq!(
            shutdown.next_action(now + GRACE / 2, remaining),
            ShutdownAction::Wait
        );
        assert_eq!(
            shutdown.next_action(
                now + GRACE / 2,
                RunningProcesses {
                    git_sessions: false,
                    ..remaining
                }
            ),
            ShutdownAction::TermSshd
        );
        assert!(!shutdown.needs_git_sessions());
    }

    #[test]
    fn hanging_processes_get_term_again_then_kill() {
        for hanging in [
            ALL,
            RunningProcesses {
                serve: false,
                git_sessions: true,
                ..ALL
            },
            RunningProcesses {
                serve: false,
                ..ALL
            },
        ] {
            let now = Instant::now();
            let mut shutdown = ShutdownSequence::begin(now, GRACE);
            while shutdown.next_action(now, hanging) != ShutdownAction::Wait {}
            assert_eq!(
                shutdown.next_action(now + GRACE * 3 / 4 - Duration::from_millis(1), hanging),
                ShutdownAction::Wait
            );
            assert_eq!(
                shutdown.next_action(now + GRACE * 3 / 4, hanging),
                ShutdownAction::TermAll,
                "{hanging:?}"
            );
            assert_eq!(
                shutdown.next_action(now + GRACE * 3 / 4, hanging),
                ShutdownAction::Wait
            );
            assert_eq!(
                shutdown.next_action(now + GRACE - KILL_MARGIN, hanging),
                ShutdownAction::KillAll
            );
            assert_eq!(
                shutdown.next_action(now + GRACE, hanging),
                ShutdownAction::Exit
            );
        }
    }

    #[test]
    fn a_short_grace_keeps_the_order() {
        let (now, grace) = (Instant::now(), Duration::from_secs(1));
        let mut shutdown = ShutdownSequence::begin(now, grace);
        while shutdown.next_action(now, ALL) != ShutdownAction::Wait {}
        assert_eq!(
            shutdown.next_action(now + grace * 3 / 4, ALL),
            ShutdownAction::TermAll
        );
        assert_eq!(
            shutdown.next_action(now + grace * 3 / 4, ALL),
            ShutdownAction::Wait,
            "processes get some time after TERM"
        );
        assert_eq!(
            shutdown.next_action(now + grace * 7 / 8, ALL),
            ShutdownAction::KillAll
        );
    }

    #[test]
    fn without_grace_it_exits_immediately() {
        let now = Instant::now();
        assert_eq!(
            ShutdownSequence::begin(now, Duration::ZERO).next_action(now, ALL),
            ShutdownAction::Exit
        );
    }
}
