//! Decides whether a target is told of a run that has ended, of a ref that was pushed or of a finding about health. Pure.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::alternation::{Alternation, AlternationLimit, DAY_MS, SchedulePhase, phase};
use quire_config::TargetChoice;
use quire_pipeline::Source;
use quire_store::{EndedRun, HealthReport, OutboxEntry, OutboxPush};
use quire_types::clock::Millis;
use quire_types::names::{RefName, RepoName};
use quire_types::occasion::Occasion;
use quire_types::run::{RunState, Trigger};

/// The part of the appliance that targets are, in findings.
const TARGETS_PART: &str = "notifications";

/// Whether a ref of a repository is meant.
pub type RefFilter = Arc<dyn Fn(&RepoName, &RefName) -> bool + Send + Sync>;

/// Whether a repository is meant.
pub type RepoFilter = Arc<dyn Fn(&RepoName) -> bool + Send + Sync>;

/// Which runs or pushes a target is told of, and on which occasions.
#[derive(Clone)]
pub struct RunSelection {
    pub on: Vec<Occasion>,
    pub covers: RefFilter,
    /// `push`, `manual` and `cron`; `None` for all.
    pub triggers: Option<Vec<Trigger>>,
    /// How many runs of a schedule have to fail in a row before that is told.
    pub cron_failures: u32,
    /// How many changes between failed and complete within a day make a schedule alternate.
    pub cron_changes: u32,
    /// Whether pushes are told, and no ends of runs.
    pub of_pushes: bool,
    /// Whether findings about the health of the appliance are told.
    pub health: bool,
    /// The repositories that can say when it is told of their runs; `None` if none can.
    pub chosen_by: Option<RepoFilter>,
}

/// What a target is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ToldEvent<'a> {
    Ended(&'a EndedRun, ToldEnd),
    Pushed(&'a OutboxPush),
    Reported(&'a HealthReport),
}

/// How the end of a run is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ToldEnd {
    pub(super) reason: Reason,
    pub(super) alternation: Option<Alternation>,
}

impl ToldEnd {
    fn plain(reason: Reason) -> Self {
        Self {
            reason,
            alternation: None,
        }
    }
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
    /// The schedule alternates between failed and complete.
    Alternates,
}

impl RunSelection {
    /// The selection for runs of a repository that says this. It covers no more refs than the owner's configuration does, and a target that is
    /// told of nothing stays so.
    pub(super) fn chosen(&self, choice: &TargetChoice) -> Self {
        if self.on == [Occasion::Never] {
            return self.clone();
        }
        let (covers, chosen) = (self.covers.clone(), choice.clone());
        Self {
            on: choice.on.clone().unwrap_or_else(|| self.on.clone()),
            covers: Arc::new(move |repo, ref_name| {
                covers(repo, ref_name) && chosen.covers(ref_name)
            }),
            triggers: choice.triggers.clone().or_else(|| self.triggers.clone()),
            cron_failures: choice.cron_failures.unwrap_or(self.cron_failures),
            cron_changes: choice.cron_changes.unwrap_or(self.cron_changes),
            ..self.clone()
        }
    }

    /// What the target of this name is told of a row of the outbox; `None` if it is for others.
    pub(super) fn told<'a>(&self, name: &str, entry: &'a OutboxEntry) -> Option<ToldEvent<'a>> {
        match entry {
            OutboxEntry::Ended(ended) if !self.of_pushes => {
                Some(ToldEvent::Ended(ended, self.told_end(ended)?))
            }
            OutboxEntry::Pushed(pushed) if self.of_pushes => {
                (self.covers)(&pushed.repo, &pushed.ref_name).then_some(ToldEvent::Pushed(pushed))
            }
            OutboxEntry::Reported { report, .. } if self.health => {
                // Once it can be told that it could not be told, that is over.
                let is_own = report.part == TARGETS_PART && report.subject == name;
                (!is_own).then_some(ToldEvent::Reported(report))
            }
            _ => None,
        }
    }

    /// How the target is told of this end; `None` if it is not.
    fn told_end(&self, ended: &EndedRun) -> Option<ToldEnd> {
        // The run that continues it is told of instead.
        if ended.requeued || !(self.covers)(&ended.run.repo, &ended.run.ref_name) {
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
        let is_told = self.tells(Occasion::Every)
            || match (reason, trigger) {
                (_, Trigger::Cron) => return self.told_of_schedule(ended, reason),
                (Reason::Failed, _) => self.tells(Occasion::Failed),
                (Reason::Fixed, _) => self.tells(Occasion::Fixed),
                _ => false,
            };
        is_told.then_some(ToldEnd::plain(reason))
    }

    /// How the end of a schedule's run is told to a target that is not told of each; `None` if it is not.
    fn told_of_schedule(&self, ended: &EndedRun, reason: Reason) -> Option<ToldEnd> {
        let limit = AlternationLimit {
            failures: self.cron_failures,
            changes: self.cron_changes,
        };
        let (is_told, told) = match (phase(ended, limit), reason) {
            (SchedulePhase::Steady, Reason::Failed) => {
                let is_due = is_due_again(ended, self.cron_failures);
                (
                    is_due && self.tells(Occasion::Failed),
                    ToldEnd::plain(reason),
                )
            }
            (SchedulePhase::Steady, Reason::Fixed) => {
                (self.tells(Occasion::Fixed), ToldEnd::plain(reason))
            }
            (SchedulePhase::Alternates(found), _) => {
                let told = ToldEnd {
                    reason: Reason::Alternates,
                    alternation: Some(found),
                };
                let is_told = self.tells(Occasion::Failed) || self.tells(Occasion::Fixed);
                (is_told, told)
            }
            // What was told last is not what the schedule is now.
            (SchedulePhase::SteadyAgain, Reason::Failed) => {
                (self.tells(Occasion::Failed), ToldEnd::plain(Reason::Failed))
            }
            (SchedulePhase::SteadyAgain, _) => {
                (self.tells(Occasion::Fixed), ToldEnd::plain(Reason::Fixed))
            }
            (SchedulePhase::Steady | SchedulePhase::Collected, _) => return None,
        };
        is_told.then_some(told)
    }

    fn tells(&self, occasion: Occasion) -> bool {
        self.on.contains(&occasion)
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
    use quire_types::finding::FindingPhase;
    use quire_types::run::Run;

    const HOUR_MS: i64 = 3_600_000;

    fn selection(on: &[Occasion]) -> RunSelection {
        RunSelection {
            on: on.to_vec(),
            covers: Arc::new(|repo, _| repo.as_str() != "other"),
            triggers: None,
            cron_failures: 1,
            cron_changes: 4,
            of_pushes: false,
            health: false,
            chosen_by: None,
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
            recent: Vec::new(),
        }
    }

    fn reason(selection: &RunSelection, ended: &EndedRun) -> Option<Reason> {
        selection.told_end(ended).map(|told| told.reason)
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
                let told = reason(&selection(&[on]), &ended(state, "quire/push", failures));
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
        assert_eq!(reason(&all, &other), None);
        let requeued = EndedRun {
            requeued: true,
            ..ended(RunState::Failed, "quire/push", 0)
        };
        assert_eq!(reason(&all, &requeued), None);
        let of = |trigger, source| {
            let selection = RunSelection {
                triggers: Some(vec![trigger]),
                ..all.clone()
            };
            // A retry has the source of the run that it retries.
            let mut ended = ended(RunState::Failed, source, 0);
            ended.run.trigger = Trigger::Retry;
            reason(&selection, &ended).is_some()
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
                reason(&selection, &ended).is_some()
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
            let ended = ended(RunState::Complete, "quire/cron/nightly", failures);
            reason(&selection, &ended).is_some()
        };
        assert!(fixed(3, 3) && !fixed(2, 3));
    }

    #[test]
    fn a_schedule_that_alternates_is_told_of_as_one() {
        use quire_store::RecentEnd;
        let at = |hour: i64| Millis(DAY_MS * 20_000 + HOUR_MS * hour);
        let told = |on: &[Occasion], hour: i64, failed: bool| {
            let mut ended = ended(RunState::Failed, "quire/cron/nightly", 0);
            if !failed {
                ended.run.state = RunState::Complete;
                ended.streak.failures = 1;
            }
            ended.run.finished_at_ms = Some(at(hour));
            let before = (0..hour.min(12)).rev().map(|hour| RecentEnd {
                failed: hour % 2 == 0,
                at: at(hour),
            });
            ended.recent = before.collect();
            selection(on).told_end(&ended).map(|told| told.reason)
        };
        let usual = [Occasion::Failed, Occasion::Fixed];
        assert_eq!(told(&usual, 3, false), Some(Reason::Fixed));
        assert_eq!(told(&usual, 4, true), Some(Reason::Alternates));
        assert_eq!(told(&usual, 5, false), None);
        assert_eq!(told(&[Occasion::Fixed], 4, true), Some(Reason::Alternates));
        assert_eq!(told(&[Occasion::Never], 4, true), None);
        assert_eq!(told(&[Occasion::Every], 5, false), Some(Reason::Fixed));
        // After a day of quiet it is told how the schedule is.
        assert_eq!(told(&usual, 40, false), Some(Reason::Fixed));
        assert_eq!(told(&usual, 40, true), Some(Reason::Failed));
        assert_eq!(told(&[Occasion::Failed], 40, false), None);
    }

    #[test]
    fn pushes_are_told_to_their_targets_only() {
        let pushed = |repo: &str| {
            OutboxEntry::Pushed(OutboxPush {
                repo: repo.parse().unwrap(),
                ..crate::notify::message::sample::pushed_ref()
            })
        };
        let ended = OutboxEntry::Ended(Box::new(ended(RunState::Failed, "quire/push", 0)));
        let of_runs = selection(&[Occasion::Every]);
        let of_pushes = RunSelection {
            of_pushes: true,
            ..of_runs.clone()
        };
        let is_told =
            |selection: &RunSelection, entry: &OutboxEntry| selection.told("hook", entry).is_some();
        assert!(is_told(&of_runs, &ended) && !is_told(&of_runs, &pushed("app")));
        assert!(!is_told(&of_pushes, &ended) && is_told(&of_pushes, &pushed("app")));
        assert!(!is_told(&of_pushes, &pushed("other")));
    }

    #[test]
    fn a_repository_chooses_within_what_the_owner_says() {
        let choice = |on: &[Occasion], triggers: Option<Trigger>| TargetChoice {
            on: Some(on.to_vec()),
            triggers: triggers.map(|trigger| vec![trigger]),
            ..TargetChoice::default()
        };
        let complete = ended(RunState::Complete, "quire/push", 0);
        let mut other = complete.clone();
        other.run.repo = "other".parse().unwrap();
        let usual = selection(&[Occasion::Failed, Occasion::Fixed]);
        let every = usual.chosen(&choice(&[Occasion::Every], None));
        assert_eq!(reason(&usual, &complete), None);
        assert_eq!(reason(&every, &complete), Some(Reason::Complete));
        assert_eq!(reason(&every, &other), None, "of no other runs");
        let of_cron = usual.chosen(&choice(&[Occasion::Every], Some(Trigger::Cron)));
        assert_eq!(reason(&of_cron, &complete), None);
        let muted = selection(&[Occasion::Never]).chosen(&choice(&[Occasion::Every], None));
        assert_eq!(reason(&muted, &complete), None);
        // What is not said is as the owner says.
        let same = selection(&[Occasion::Every]).chosen(&TargetChoice::default());
        assert_eq!(reason(&same, &complete), Some(Reason::Complete));
    }

    #[test]
    fn findings_are_told_to_targets_of_health_but_not_their_own() {
        let report = |part: &str, subject: &str| OutboxEntry::Reported {
            seq: 1,
            report: HealthReport {
                part: part.to_owned(),
                subject: subject.to_owned(),
                ..crate::notify::message::sample::health_report(FindingPhase::Began)
            },
        };
        let without = selection(&[Occasion::Every]);
        let with = RunSelection {
            health: true,
            ..selection(&[Occasion::Never])
        };
        let is_told = |selection: &RunSelection, part, subject| {
            selection.told("hook", &report(part, subject)).is_some()
        };
        assert!(is_told(&with, "disk", "") && !is_told(&without, "disk", ""));
        assert!(is_told(&with, "notifications", "mail"));
        assert!(!is_told(&with, "notifications", "hook") && is_told(&with, "webhooks", "hook"));
    }
}
