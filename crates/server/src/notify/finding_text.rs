//! What a person reads of a finding about the health of the appliance.

use super::urgency::Urgency;
use quire_store::HealthReport;
use quire_types::finding::FindingPhase;
use quire_types::text::format_elapsed;

/// One line: what it is about, and how it is.
pub(super) fn title(report: &HealthReport) -> String {
    let about = match report.subject.as_str() {
        "" => report.part.clone(),
        subject => format!("{} ({subject})", report.part),
    };
    let level = report.level;
    let state = match report.phase {
        FindingPhase::Began | FindingPhase::Worse => level.to_string(),
        FindingPhase::Lasts => format!("still {level}"),
        FindingPhase::Over => "ok again".to_owned(),
    };
    format!("Health: {about}: {state}")
}

/// What is wrong, and since when.
pub(super) fn facts(report: &HealthReport) -> Vec<String> {
    let lasted = format_elapsed(report.at_ms.since(report.began_at_ms));
    let since = report.began_at_ms;
    match report.phase {
        FindingPhase::Over => vec![
            format!("Before: {}", report.text),
            format!("It lasted {lasted}, since {since}"),
        ],
        FindingPhase::Began | FindingPhase::Worse | FindingPhase::Lasts => {
            vec![report.text.clone(), format!("For {lasted}, since {since}")]
        }
    }
}

pub(super) fn urgency(report: &HealthReport) -> Urgency {
    match report.phase {
        FindingPhase::Over => Urgency::Fixed,
        FindingPhase::Began | FindingPhase::Worse | FindingPhase::Lasts => Urgency::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::message::sample::health_report;
    use quire_types::finding::FindingLevel;

    #[test]
    fn texts_of_findings() {
        let mut reports: Vec<HealthReport> = FindingPhase::ALL.map(health_report).to_vec();
        reports.push(HealthReport {
            part: "disk".to_owned(),
            subject: String::new(),
            level: FindingLevel::Down,
            text: "1 GiB free, less than the minimum of 2 GiB: pushes are refused, and runs wait"
                .to_owned(),
            ..health_report(FindingPhase::Worse)
        });
        let texts = reports.iter().map(|report| {
            let facts = facts(report).join("\n");
            format!("{}\n{facts}\n{:?}", title(report), urgency(report))
        });
        insta::assert_snapshot!(texts.collect::<Vec<_>>().join("\n\n"));
    }
}
