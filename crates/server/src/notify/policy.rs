//! Decides whether a target is told of a run that has ended. Pure.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use quire_pipeline::Source;
use quire_store::EndedRun;
use quire_types::clock::Millis;
use quire_types::occasion::Occasion;
use quire_types::run::{Run, RunState, Trigger};

const DAY_MS: i64 = 24 * 3600 * 1000;

/// Which runs a target is told of, and on which occasions.
#[derive(Clone)]
pub struct RunSelection {
    pub on: Vec<Occasion>,
    /// Whether runs of this repository at this ref are meant.
    pub covers: Arc<dyn Fn(&Run) -> bool + Send + Sync>,
    /// `push`, `manual` and `cron`; `None` for all.
    pub triggers: Option<Vec<Trigger>>,
    /// How many runs of a schedule have to fail in a row before that is told.
    pub cron_failures: u32,
}

/// Why a target is told of the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Reason {
    Failed,
    /// The run before it, of the same repository, ref and source, had failed.
    Fixed,
    Complete,
    Canceled,
    Superseded,
}

impl RunSelection {
    /// Why the target is told of this end; `None` if it is not.
    pub(super) fn reason(&self, ended: &EndedRun) -> Option<Reason> {
        // The run that continues it is told of instead.
        if ended.requeued || !(self.covers)(&ended.run) {
            return None;
        }
        let source = Source::from_name(&ended.run.source);
        let trigger = match &source {
            Some(Source::Push) => Trigger::Push,
            Some(Source::Manual | Source::Hook(_)) => Trigger::Manual,
            Some(Source::Cron(_)) => Trigger::Cron,
            None => ended.run.trigger,
        };
        if self
            .triggers
            .as_ref()
            .is_some_and(|triggers| !triggers.contains(&trigger))
        {
            return None;
        }
        let threshold = match trigger {
            Trigger::Cron => self.cron_failures,
            _ => 1,
        };
        let reason = match ended.run.state {
            RunState::Failed => Reason::Failed,
            RunState::Complete if ended.streak.failures >= threshold => Reason::Fixed,
            RunState::Complete => Reason::Complete,
            RunState::Canceled => Reason::Canceled,
            RunState::Superseded => Reason::Superseded,
            RunState::Pending | RunState::Active => return None,
        };
        let is_told = match reason {
            _ if self.on.contains(&Occasion::Every) => true,
            Reason::Failed => {
                self.on.contains(&Occasion::Failed)
                    && (trigger != Trigger::Cron || is_due_again(ended, threshold))
            }
            Reason::Fixed => self.on.contains(&Occasion::Fixed),
            Reason::Complete | Reason::Canceled | Reason::Superseded => false,
        };
        is_told.then_some(reason)
    }
}

/// Whether the failure of a schedule's run is told: the one that reaches the threshold, and after that the first of each
/// day (UTC).
fn is_due_again(ended: &EndedRun, threshold: u32) -> bool {
    let day = |time: Option<Millis>| time.map(|at| at.0.div_euclid(DAY_MS));
    let failures = ended.streak.failures.saturating_add(1);
    failures == threshold
        || failures > threshold && day(ended.run.finished_at_ms) != day(ended.streak.last_ended)
}

impl fmt::Debug for RunSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunSelection")
            .field("on", &self.on)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::message::sample::run;
    use quire_store::FailureStreak;

    const HOUR_MS: i64 = 3_600_000;

    fn selection(on: &[Occasion]) -> RunSelection {
        RunSelection {
            on: on.to_vec(),
            covers: Arc::new(|run| run.repo.as_str() != "other"),
            triggers: None,
            cron_failures: 1,
        }
    }

    fn ended(state: RunState, source: &str, failures: u32) -> EndedRun {
        EndedRun {
            seq: 1,
            run: Run {
                state,
                source: source.to_owned(),
                ..run()
            },
            requeued: false,
            streak: FailureStreak {
                failures,
                last_ended: None,
            },
        }
    }

    #[test]
    fn occasions_select_ends() {
        let mut lines = Vec::new();
        let states = [
            (RunState::Failed, 0),
            (RunState::Failed, 2),
            (RunState::Complete, 0),
            (RunState::Complete, 2),
            (RunState::Canceled, 2),
            (RunState::Superseded, 2),
        ];
        for on in Occasion::ALL {
            for (state, failures) in states {
                let told = selection(&[on]).reason(&ended(state, "quire/push", failures));
                lines.push(format!("{on}: {state} after {failures} failures: {told:?}"));
            }
        }
        insta::assert_snapshot!(lines.join("\n"), @"
        failed: failed after 0 failures: Some(Failed)
        failed: failed after 2 failures: Some(Failed)
        failed: complete after 0 failures: None
        failed: complete after 2 failures: None
        failed: canceled after 2 failures: None
        failed: superseded after 2 failures: None
        fixed: failed after 0 failures: None
        fixed: failed after 2 failures: None
        fixed: complete after 0 failures: None
        fixed: complete after 2 failures: Some(Fixed)
        fixed: canceled after 2 failures: None
        fixed: superseded after 2 failures: None
        every: failed after 0 failures: Some(Failed)
        every: failed after 2 failures: Some(Failed)
        every: complete after 0 failures: Some(Complete)
        every: complete after 2 failures: Some(Fixed)
        every: canceled after 2 failures: Some(Canceled)
        every: superseded after 2 failures: Some(Superseded)
        never: failed after 0 failures: None
        never: failed after 2 failures: None
        never: complete after 0 failures: None
        never: complete after 2 failures: None
        never: canceled after 2 failures: None
        never: superseded after 2 failures: None
        ");
    }

    #[test]
    fn runs_are_selected_by_repository_and_trigger() {
        let all = selection(&[Occasion::Every]);
        let mut other = ended(RunState::Failed, "quire/push", 0);
        other.run.repo = "other".parse().unwrap();
        assert_eq!(all.reason(&other), None);
        let requeued = EndedRun {
            requeued: true,
            ..ended(RunState::Failed, "quire/push", 0)
        };
        assert_eq!(all.reason(&requeued), None);
        let of = |trigger, source| {
            let selection = RunSelection {
                triggers: Some(vec![trigger]),
                ..all.clone()
            };
            // A retry has the source of the run that it retries.
            let mut ended = ended(RunState::Failed, source, 0);
            ended.run.trigger = Trigger::Retry;
            selection.reason(&ended).is_some()
        };
        assert!(of(Trigger::Push, "quire/push") && !of(Trigger::Push, "quire/manual"));
        assert!(of(Trigger::Cron, "quire/cron/nightly") && of(Trigger::Manual, "quire/manual"));
    }

    #[test]
    fn a_failing_schedule_is_told_once_and_then_daily() {
        // One failure each six hours, from 21:00 on.
        let told = |cron_failures: u32| -> Vec<u32> {
            let selection = RunSelection {
                cron_failures,
                ..selection(&[Occasion::Failed])
            };
            let at = |number: u32| Millis(DAY_MS * 20_000 + HOUR_MS * (21 + 6 * i64::from(number)));
            let is_told = |number: &u32| {
                let mut ended = ended(RunState::Failed, "quire/cron/nightly", *number);
                ended.run.finished_at_ms = Some(at(*number));
                ended.streak.last_ended = number.checked_sub(1).map(at);
                selection.reason(&ended).is_some()
            };
            (0..12).filter(is_told).map(|number| number + 1).collect()
        };
        assert_eq!(told(1), [1, 2, 6, 10]);
        assert_eq!(told(4), [4, 6, 10]);
        let fixed = |failures, cron_failures| {
            let selection = RunSelection {
                cron_failures,
                ..selection(&[Occasion::Fixed])
            };
            selection
                .reason(&ended(RunState::Complete, "quire/cron/nightly", failures))
                .is_some()
        };
        assert!(fixed(3, 3) && !fixed(2, 3));
    }
}
