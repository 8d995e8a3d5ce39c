//! What the checks of health find, as targets of notifications are told of it.

use std::collections::BTreeMap;
use std::time::Duration;

use quire_server::health_watch::{HealthWatcher, ObservedFinding, ObservedPart};
use quire_types::error_chain::with_sources;
use quire_types::finding::FindingLevel;
use quire_web::{CheckResult, HealthRegistry, Status};

/// How often it is compared with what was told.
const INTERVAL: Duration = Duration::from_secs(5);

/// Tells what is wrong, and what is not any more.
pub(super) async fn tell_findings(mut watcher: HealthWatcher, health: &HealthRegistry) {
    loop {
        let parts: Vec<ObservedPart> = health.readings().into_iter().map(observed).collect();
        if let Err(error) = watcher.observe(&parts).await {
            tracing::error!(
                error = with_sources(&error),
                "cannot record yet what targets are told of health"
            );
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn observed(reading: CheckResult) -> ObservedPart {
    ObservedPart {
        part: reading.part.as_str(),
        is_fresh: !reading.is_stale,
        findings: findings(reading),
    }
}

fn findings(reading: CheckResult) -> Vec<ObservedFinding> {
    let level = match reading.status {
        Status::Ok => return Vec::new(),
        Status::Degraded => FindingLevel::Degraded,
        Status::Down => FindingLevel::Down,
    };
    // What an old check found may be right by now; that it is old is what is wrong.
    let details = match reading.is_stale {
        true => Vec::new(),
        false => reading.details,
    };
    let mut by_subject = BTreeMap::<String, Vec<String>>::new();
    for detail in details {
        by_subject
            .entry(detail.subject)
            .or_default()
            .push(detail.text);
    }
    if by_subject.is_empty() {
        by_subject.insert(String::new(), vec![reading.message]);
    }
    let finding = |(subject, texts): (String, Vec<String>)| ObservedFinding {
        subject,
        level,
        text: texts.join("; "),
    };
    by_subject.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_server::part_problem::PartProblem;
    use quire_types::clock::Millis;
    use quire_web::Component;

    fn reading(status: Status, details: &[(&str, &str)], is_stale: bool) -> CheckResult {
        let detail = |(subject, text): &(&str, &str)| PartProblem::new(*subject, *text);
        CheckResult {
            part: Component::Mirrors,
            status,
            message: "the message".to_owned(),
            figure: None,
            details: details.iter().map(detail).collect(),
            is_stale,
            checked_at_ms: Millis(0),
            age_ms: 0,
        }
    }

    #[test]
    fn each_subject_of_a_part_is_a_finding() {
        let found = |reading: CheckResult| -> Vec<String> {
            let line = |found: ObservedFinding| {
                format!("{} {}: {}", found.subject, found.level, found.text)
            };
            findings(reading).into_iter().map(line).collect()
        };
        let details = [("b", "one"), ("a", "two"), ("b", "three")];
        let none: [String; 0] = [];
        assert_eq!(found(reading(Status::Ok, &details, false)), none);
        assert_eq!(
            found(reading(Status::Degraded, &details, false)),
            ["a degraded: two", "b degraded: one; three"]
        );
        assert_eq!(
            found(reading(Status::Down, &[], false)),
            [" down: the message"]
        );
        assert_eq!(
            found(reading(Status::Degraded, &details, true)),
            [" degraded: the message"]
        );
    }
}
