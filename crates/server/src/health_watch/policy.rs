//! What is told of what the checks say. No I/O.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::gathered::gathered;
use super::observed::{ObservedFinding, ObservedPart};
use quire_store::{HealthReport, ToldFinding};
use quire_types::clock::Millis;
use quire_types::finding::FindingPhase;
use uuid::Uuid;

const DAY_MS: i64 = 24 * 3600 * 1000;
/// Something has to be right for this many times as long as it has to be wrong: what comes and goes is one finding.
const RIGHT_FACTOR: u32 = 5;

/// What a finding is about: part and subject.
type FindingKey = (String, String);

/// Since when something has been so, without interruption.
type Since = BTreeMap<FindingKey, Instant>;

/// Since when findings have been as they are.
#[derive(Debug, Default)]
pub(super) struct FindingTimes {
    /// What is wrong and was not told.
    wrong: Since,
    /// What is down and was told as degraded.
    down: Since,
    /// What was told as wrong and is right.
    right: Since,
}

/// When something is decided.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// By a clock that is never set.
    pub(super) instant: Instant,
    pub(super) time: Millis,
    /// How long something has to be wrong before it is told.
    pub(super) after: Duration,
}

impl FindingTimes {
    /// What has to be told now. The same is returned again until it is in `told`.
    pub(super) fn reports(
        &mut self,
        parts: &[ObservedPart],
        told: &[ToldFinding],
        now: Moment,
    ) -> Vec<HealthReport> {
        let mut found: BTreeMap<FindingKey, ObservedFinding> = BTreeMap::new();
        for part in parts {
            let told = told.iter().filter(|told| told.part == part.part);
            let told = told.map(|told| told.subject.as_str()).collect();
            for finding in gathered(part, &told) {
                let key = (part.part.to_owned(), finding.subject.clone());
                found.insert(key, finding);
            }
        }
        let told: BTreeMap<FindingKey, &ToldFinding> = told
            .iter()
            .map(|told| ((told.part.clone(), told.subject.clone()), told))
            .collect();
        let is_new = |key: &FindingKey| found.contains_key(key) && !told.contains_key(key);
        self.wrong.retain(|key, _| is_new(key));
        self.down.retain(|key, _| found.contains_key(key));
        self.right
            .retain(|key, _| told.contains_key(key) && !found.contains_key(key));
        let mut reports = Vec::new();
        for (key, told) in &told {
            let finding = found.get(key);
            let phase = match finding {
                Some(finding) => self.phase_of_open(key, told, finding, now),
                None => self.phase_of_right(key, parts, now),
            };
            reports.extend(phase.map(|phase| later_report(told, phase, finding, now)));
        }
        for (key, finding) in found.iter().filter(|(key, _)| is_new(key)) {
            let lasted = lasted(&mut self.wrong, key, now);
            if lasted >= now.after {
                reports.push(first_report(key, finding, lasted, now));
            }
        }
        reports
    }

    /// What is told of something that was told as wrong, and is.
    fn phase_of_open(
        &mut self,
        key: &FindingKey,
        told: &ToldFinding,
        finding: &ObservedFinding,
        now: Moment,
    ) -> Option<FindingPhase> {
        if finding.level <= told.level {
            self.down.remove(key);
        } else if lasted(&mut self.down, key, now) >= now.after {
            return Some(FindingPhase::Worse);
        }
        // A time in the future is that of a clock that was wrong.
        let age = now.time.0.saturating_sub(told.told_at_ms.0);
        (age.saturating_abs() >= DAY_MS).then_some(FindingPhase::Lasts)
    }

    /// What is told of something that was told as wrong, and is not found.
    fn phase_of_right(
        &mut self,
        key: &FindingKey,
        parts: &[ObservedPart],
        now: Moment,
    ) -> Option<FindingPhase> {
        // A check that hangs, or was not made since the start, says nothing.
        let is_known = parts.iter().any(|part| part.part == key.0 && part.is_fresh);
        if !is_known {
            self.right.remove(key);
            return None;
        }
        let lasted = lasted(&mut self.right, key, now);
        (lasted >= now.after * RIGHT_FACTOR).then_some(FindingPhase::Over)
    }
}

fn lasted(since: &mut Since, key: &FindingKey, now: Moment) -> Duration {
    let since = *since.entry(key.clone()).or_insert(now.instant);
    now.instant.saturating_duration_since(since)
}

fn first_report(
    (part, subject): &FindingKey,
    finding: &ObservedFinding,
    lasted: Duration,
    now: Moment,
) -> HealthReport {
    let lasted = i64::try_from(lasted.as_millis()).unwrap_or(i64::MAX);
    HealthReport {
        id: Uuid::now_v7().to_string(),
        part: part.clone(),
        subject: subject.clone(),
        phase: FindingPhase::Began,
        level: finding.level,
        text: finding.text.clone(),
        began_at_ms: now.time.plus(lasted.saturating_neg()),
        at_ms: now.time,
    }
}

fn later_report(
    told: &ToldFinding,
    phase: FindingPhase,
    finding: Option<&ObservedFinding>,
    now: Moment,
) -> HealthReport {
    HealthReport {
        id: Uuid::now_v7().to_string(),
        part: told.part.clone(),
        subject: told.subject.clone(),
        phase,
        // It stays at the worst until it is over, so that it is told as worse once.
        level: finding.map_or(told.level, |finding| finding.level.max(told.level)),
        text: finding.map_or(&told.text, |finding| &finding.text).clone(),
        began_at_ms: told.began_at_ms,
        at_ms: now.time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_types::finding::FindingLevel;

    const AFTER: u64 = 120;

    /// A day of checks, each ten seconds, and what is told.
    struct Watched {
        start: Instant,
        seconds: u64,
        times: FindingTimes,
        told: Vec<ToldFinding>,
        lines: Vec<String>,
    }

    impl Watched {
        fn new() -> Self {
            Self {
                start: Instant::now(),
                seconds: 0,
                times: FindingTimes::default(),
                told: Vec::new(),
                lines: Vec::new(),
            }
        }

        /// The checks say this for some seconds.
        fn observe(&mut self, parts: &[ObservedPart], seconds: u64) -> &mut Self {
            let end = self.seconds + seconds;
            while self.seconds < end {
                self.seconds += 10;
                let now = Moment {
                    instant: self.start + Duration::from_secs(self.seconds),
                    time: Millis(i64::try_from(self.seconds).unwrap() * 1000),
                    after: Duration::from_secs(AFTER),
                };
                for report in self.times.reports(parts, &self.told, now) {
                    self.tell(report);
                }
            }
            self
        }

        /// What the database does.
        fn tell(&mut self, report: HealthReport) {
            self.lines.push(format!(
                "{} s: {} {} {} {}: {}, since {} s",
                report.at_ms.0 / 1000,
                report.part,
                report.subject,
                report.phase,
                report.level,
                report.text,
                report.began_at_ms.0 / 1000
            ));
            self.told
                .retain(|told| (&told.part, &told.subject) != (&report.part, &report.subject));
            if report.phase != FindingPhase::Over {
                self.told.push(ToldFinding {
                    part: report.part,
                    subject: report.subject,
                    level: report.level,
                    text: report.text,
                    began_at_ms: report.began_at_ms,
                    told_at_ms: report.at_ms,
                });
            }
        }

        fn lines(&mut self) -> String {
            std::mem::take(&mut self.lines).join("\n")
        }
    }

    fn part(part: &'static str, findings: &[(&str, FindingLevel, &str)]) -> ObservedPart {
        let finding = |(subject, level, text): &(&str, FindingLevel, &str)| ObservedFinding {
            subject: (*subject).to_owned(),
            level: *level,
            text: (*text).to_owned(),
        };
        ObservedPart {
            part,
            is_fresh: true,
            findings: findings.iter().map(finding).collect(),
        }
    }

    use FindingLevel::{Degraded, Down};

    #[test]
    fn a_finding_is_told_once_then_daily_and_its_end_once() {
        let mut watched = Watched::new();
        let full = [part("disk", &[("", Degraded, "1 GiB free")])];
        let fuller = [part("disk", &[("", Degraded, "half a GiB free")])];
        watched
            .observe(&full, 3600)
            .observe(&fuller, 50 * 3600)
            .observe(&[part("disk", &[])], 3600);
        insta::assert_snapshot!(watched.lines(), @r"
        130 s: disk  began degraded: 1 GiB free, since 10 s
        86530 s: disk  lasts degraded: half a GiB free, since 10 s
        172930 s: disk  lasts degraded: half a GiB free, since 10 s
        184210 s: disk  over degraded: half a GiB free, since 10 s
        ");
        // Another one is another finding.
        watched.observe(&full, 300);
        assert_eq!(watched.lines().lines().count(), 1);
    }

    #[test]
    fn what_is_short_or_comes_and_goes_is_told_once_at_most() {
        let mut watched = Watched::new();
        let (wrong, right) = (
            [part("docker", &[("", Degraded, "no answer")])],
            [part("docker", &[])],
        );
        for _ in 0..20 {
            watched.observe(&wrong, 100).observe(&right, 20);
        }
        assert_eq!(watched.lines(), "");
        for _ in 0..20 {
            watched.observe(&wrong, 300).observe(&right, 300);
        }
        watched.observe(&right, 600);
        insta::assert_snapshot!(watched.lines(), @r"
        2530 s: docker  began degraded: no answer, since 2410 s
        14710 s: docker  over degraded: no answer, since 2410 s
        ");
    }

    #[test]
    fn what_becomes_worse_is_told_once_more() {
        let mut watched = Watched::new();
        let (low, out) = (
            [part("disk", &[("", Degraded, "runs wait")])],
            [part("disk", &[("", Down, "pushes are refused")])],
        );
        watched.observe(&low, 600).observe(&out, 100);
        for _ in 0..3 {
            watched.observe(&low, 600).observe(&out, 600);
        }
        insta::assert_snapshot!(watched.lines(), @r"
        130 s: disk  began degraded: runs wait, since 10 s
        1430 s: disk  worse down: pushes are refused, since 10 s
        ");
    }

    #[test]
    fn each_thing_of_a_part_is_a_finding_of_its_own() {
        let mut watched = Watched::new();
        let (nas, hub) = (("app nas", Degraded, "down"), ("app hub", Degraded, "401"));
        watched
            .observe(&[part("mirrors", &[nas])], 300)
            .observe(&[part("mirrors", &[nas, hub])], 300)
            .observe(&[part("mirrors", &[hub])], 900);
        insta::assert_snapshot!(watched.lines(), @r"
        130 s: mirrors app nas began degraded: down, since 10 s
        430 s: mirrors app hub began degraded: 401, since 310 s
        1210 s: mirrors app nas over degraded: down, since 10 s
        ");
    }

    #[test]
    fn many_findings_of_a_part_are_told_as_a_few() {
        let mut watched = Watched::new();
        let names: Vec<String> = (0..200).map(|n| format!("repo{n:03}")).collect();
        let of = |range: std::ops::Range<usize>| {
            let findings = names[range]
                .iter()
                .map(|name| (name.as_str(), Degraded, "damaged"));
            [part("repositories", &findings.collect::<Vec<_>>())]
        };
        let told = |watched: &mut Watched| {
            let lines = watched.lines();
            let texts = lines.lines().map(|line| line.split_once(": ").unwrap().1);
            texts.collect::<Vec<_>>().join("\n")
        };
        // One more than the bound is told by itself.
        watched.observe(&of(0..6), 300);
        assert_eq!(told(&mut watched).lines().count(), 6);
        watched.observe(&of(0..200), 300).observe(&of(0..150), 300);
        assert_eq!(
            told(&mut watched),
            "repositories + others began degraded: 194 more, such as damaged; `status` lists all, since 310 s"
        );
        // Those that were told end by themselves, and with the others the one that stands for them.
        watched.observe(&of(3..7), 900);
        insta::assert_snapshot!(told(&mut watched));
        // Of those that come one after the other, no more are told by themselves; the worst is named.
        let mut watched = Watched::new();
        for count in 1..=8 {
            watched.observe(&of(0..count), 300);
        }
        assert_eq!(told(&mut watched).lines().count(), 7);
        let mut worse = of(0..9);
        let finding = &mut worse[0].findings[8];
        (finding.level, finding.text) = (Down, "gone".to_owned());
        watched.observe(&worse, 300).observe(&worse, 300);
        assert!(told(&mut watched).contains("worse") && watched.told.len() == 7);
        assert!(
            gathered(&worse[0], &std::collections::BTreeSet::from(["repo000"]))
                .iter()
                .any(|one| one.text == "gone")
        );
    }

    #[test]
    fn a_restart_or_a_check_that_hangs_ends_no_finding() {
        let mut watched = Watched::new();
        let wrong = [part("backup", &[("", Degraded, "not proved")])];
        watched.observe(&wrong, 300).lines();
        watched.times = FindingTimes::default();
        let hangs = [ObservedPart {
            is_fresh: false,
            ..part("backup", &[])
        }];
        watched
            .observe(&[], 3600)
            .observe(&hangs, 3600)
            .observe(&wrong, 3600);
        assert_eq!(watched.lines(), "");
        // A clock that was a year ahead does not keep it from being told.
        watched.told[0].told_at_ms = Millis(365 * DAY_MS);
        watched.observe(&wrong, 3600);
        assert_eq!(watched.lines().lines().count(), 1);
    }
}
