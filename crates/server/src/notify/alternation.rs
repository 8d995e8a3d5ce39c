//! Schedules whose runs alternate between failed and complete. Pure.
//!
//! ```text
//!                 changes of the last day reach the limit
//! steady ──────────────────────────────────────────────────► alternates ──┐ the first run of a day is told with
//!    ▲                                                             │  ▲    │ the counts; the others are not
//!    └─────── fewer changes than the limit in the last day ◄───────┘  └────┘
//! ```
//! Nothing is remembered: the phase of a run follows from the ends of the runs before it.

use serde::Serialize;

use quire_store::{EndedRun, RecentEnd};
use quire_types::clock::Millis;
use quire_types::run::RunState;

pub(super) const DAY_MS: i64 = 24 * 3600 * 1000;

/// How the runs of a schedule ended within a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Alternation {
    pub(super) failed: u32,
    pub(super) complete: u32,
    /// How often it became worse or better.
    pub(super) changes: u32,
}

/// When a schedule counts as alternating.
#[derive(Debug, Clone, Copy)]
pub(super) struct AlternationLimit {
    /// How many failures in a row make it worse.
    pub(super) failures: u32,
    /// How many changes within a day.
    pub(super) changes: u32,
}

/// What a run is in the course of its schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SchedulePhase {
    Steady,
    /// The first run of a phase, or the first of a day in it: what is told.
    Alternates(Alternation),
    /// Another run of the phase.
    Collected,
    /// The first run after the phase.
    SteadyAgain,
}

/// The phase of a run that has ended. A run that was canceled or superseded has none.
pub(super) fn phase(ended: &EndedRun, limit: AlternationLimit) -> SchedulePhase {
    let (Some(at), RunState::Failed | RunState::Complete) =
        (ended.run.finished_at_ms, ended.run.state)
    else {
        return SchedulePhase::Steady;
    };
    let own = RecentEnd {
        failed: ended.run.state == RunState::Failed,
        at,
    };
    let ends: Vec<RecentEnd> = ended.recent.iter().rev().copied().chain([own]).collect();
    let changed = changes(&ends, limit.failures);
    let of = |count: usize| within_a_day(&ends[..count], &changed[..count]);
    let (before, now) = (of(ends.len() - 1), of(ends.len()));
    let alternates = |found: Option<Alternation>| found.filter(|of| of.changes >= limit.changes);
    match (alternates(before), alternates(now)) {
        (None, None) => SchedulePhase::Steady,
        (None, Some(found)) => SchedulePhase::Alternates(found),
        (Some(_), None) => SchedulePhase::SteadyAgain,
        (Some(_), Some(found)) => {
            let day = |at: Millis| at.0.div_euclid(DAY_MS);
            let last = ended.recent.first().map(|end| day(end.at));
            match last == Some(day(at)) {
                true => SchedulePhase::Collected,
                false => SchedulePhase::Alternates(found),
            }
        }
    }
}

/// Whether each run made its schedule worse or better. What was before the first one is not known, and is no change.
fn changes(ends: &[RecentEnd], failures: u32) -> Vec<bool> {
    let (mut is_red, mut streak) = (None, 0_u32);
    let change = |end: &RecentEnd| {
        streak = if end.failed { streak + 1 } else { 0 };
        let next = match end.failed {
            true if streak < failures => is_red,
            failed => Some(failed),
        };
        let before = std::mem::replace(&mut is_red, next);
        before.is_some() && before != next
    };
    ends.iter().map(change).collect()
}

/// The counts of the day that ends with the last run.
fn within_a_day(ends: &[RecentEnd], changed: &[bool]) -> Option<Alternation> {
    let last = ends.last()?.at;
    let mut found = Alternation {
        failed: 0,
        complete: 0,
        changes: 0,
    };
    for (end, changed) in ends.iter().zip(changed) {
        if end.at > last.plus(-DAY_MS) {
            match end.failed {
                true => found.failed += 1,
                false => found.complete += 1,
            }
            found.changes += u32::from(*changed);
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::message::sample::run;
    use quire_store::{FailureStreak, RECENT};
    use quire_types::run::Run;

    const MINUTE_MS: i64 = 60_000;

    /// What is told of each run of a schedule: `F` failed, `.` complete, one each so many minutes from midnight on.
    fn told(runs: &str, minutes: i64, limit: AlternationLimit) -> Vec<String> {
        let start = DAY_MS * 20_000;
        let mut before: Vec<RecentEnd> = Vec::new();
        let mut lines = Vec::new();
        for (number, letter) in (0_i64..).zip(runs.chars()) {
            let at = Millis(start + number * minutes * MINUTE_MS);
            let failed = letter == 'F';
            let since = at.plus(-i64::try_from(RECENT.as_millis()).unwrap());
            let recent = before.iter().rev().copied().filter(|end| end.at > since);
            let ended = EndedRun {
                seq: 1,
                run: Run {
                    state: if failed {
                        RunState::Failed
                    } else {
                        RunState::Complete
                    },
                    finished_at_ms: Some(at),
                    ..run()
                },
                requeued: false,
                streak: FailureStreak::default(),
                recent: recent.collect(),
            };
            before.push(RecentEnd { failed, at });
            match phase(&ended, limit) {
                SchedulePhase::Steady | SchedulePhase::Collected => {}
                SchedulePhase::SteadyAgain => lines.push(format!("{number} steady again")),
                SchedulePhase::Alternates(found) => lines.push(format!(
                    "{number} alternates: {} failed, {} complete, {} changes",
                    found.failed, found.complete, found.changes
                )),
            }
        }
        lines
    }

    const USUAL: AlternationLimit = AlternationLimit {
        failures: 1,
        changes: 4,
    };

    #[test]
    fn an_alternating_schedule_is_told_once_and_then_daily() {
        // Each hour for two days, then steady.
        let runs = "F.".repeat(24) + &".".repeat(30);
        insta::assert_snapshot!(told(&runs, 60, USUAL).join("\n"), @"
        4 alternates: 3 failed, 2 complete, 4 changes
        24 alternates: 12 failed, 12 complete, 24 changes
        48 alternates: 11 failed, 13 complete, 23 changes
        68 steady again
        ");
        // Few changes, or many failures in a row, are no alternation.
        assert_eq!(told("F.F.", 60, USUAL), Vec::<String>::new());
        assert_eq!(told(&"F.".repeat(20), 12 * 60, USUAL), Vec::<String>::new());
        assert_eq!(
            told(&("F".repeat(40) + "."), 10, USUAL),
            Vec::<String>::new()
        );
    }

    #[test]
    fn failures_that_are_not_told_are_no_changes() {
        let three = AlternationLimit {
            failures: 3,
            changes: 4,
        };
        assert_eq!(told(&"F.".repeat(10), 10, three), Vec::<String>::new());
        assert_eq!(told(&"FF.".repeat(10), 10, three), Vec::<String>::new());
        assert_eq!(
            told(&"FFF.".repeat(6), 10, three),
            ["10 alternates: 9 failed, 2 complete, 4 changes"]
        );
    }
}
