//! The JSON document of a webhook. Receivers depend on it: keys are added, never renamed or removed.

use serde::Serialize;

use crate::forge::views::RunJson;
use crate::notify::alternation::Alternation;
use crate::notify::message::{FailedJobReport, Message, MessageEvent};
use crate::notify::policy::Reason;
use crate::notify::summary::Summary;
use quire_store::HealthReport;
use quire_types::clock::Millis;
use quire_types::secret::Redactor;

#[derive(Serialize)]
struct MessageJson<'a> {
    /// `run-ended`, `health` or `test`.
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    time: String,
    reason: Option<Reason>,
    failures_in_a_row: u32,
    alternation: Option<Alternation>,
    title: String,
    text: String,
    url: &'a str,
    run: Option<RunJson<'a>>,
    failed_jobs: &'a [FailedJobReport],
    finding: Option<FindingJson<'a>>,
}

/// What is wrong with the appliance, or was.
#[derive(Serialize)]
struct FindingJson<'a> {
    part: &'a str,
    subject: Option<&'a str>,
    phase: &'static str,
    level: &'static str,
    text: &'a str,
    began_at_ms: Millis,
}

impl<'a> From<&'a HealthReport> for FindingJson<'a> {
    fn from(report: &'a HealthReport) -> Self {
        Self {
            part: &report.part,
            subject: Some(report.subject.as_str()).filter(|subject| !subject.is_empty()),
            phase: report.phase.as_str(),
            level: report.level.as_str(),
            text: &report.text,
            began_at_ms: report.began_at_ms,
        }
    }
}

/// Returns the document of a message, without any secret.
pub(super) fn render(message: &Message, redactor: &Redactor) -> Vec<u8> {
    let event = message.run_ended();
    let summary = Summary::new(message, redactor);
    let document = MessageJson {
        kind: match &message.event {
            MessageEvent::RunEnded(_) => "run-ended",
            MessageEvent::Health(_) => "health",
            MessageEvent::Pushed(_) | MessageEvent::Test => "test",
        },
        id: &message.id,
        time: message.time.to_string(),
        reason: event.map(|event| event.reason),
        failures_in_a_row: event.map_or(0, |event| event.failures),
        alternation: event.and_then(|event| event.alternation),
        text: summary.text(),
        title: summary.title,
        url: &message.url,
        run: event.map(|event| RunJson::from(&event.run)),
        failed_jobs: event.map_or(&[], |event| &event.failed_jobs),
        finding: message.health().map(FindingJson::from),
    };
    // Serializing fails only for maps whose keys are no texts, and there is none.
    let value = serde_json::to_value(&document).unwrap_or_default();
    redactor.redact_json(value).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::message::sample;
    use quire_types::finding::FindingPhase;
    use quire_types::secret::Secret;

    fn pretty(message: &Message, redactor: &Redactor) -> String {
        let value: serde_json::Value = serde_json::from_slice(&render(message, redactor)).unwrap();
        serde_json::to_string_pretty(&value).unwrap()
    }

    const PAGE: &str = include_str!("../../../../../docs/json.md");

    #[test]
    fn document_of_a_failed_run() {
        let text = pretty(&sample::failed(), &Redactor::default());
        assert!(PAGE.contains(&text), "docs/json.md has not:\n{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn document_of_a_finding() {
        let text = pretty(&sample::health(FindingPhase::Lasts), &Redactor::default());
        assert!(PAGE.contains(&text), "docs/json.md has not:\n{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn document_of_a_test() {
        insta::assert_snapshot!(pretty(&sample::test(), &Redactor::default()));
    }

    #[test]
    fn no_secret_is_in_a_document() {
        let secret = Secret::new("hunter22hunter22".to_owned());
        let mut message = sample::failed();
        let event = message.run_ended_mut();
        event.run.subject = Some("Use hunter22hunter22".to_owned());
        event.run.message = Some("hunter22hunter22 was refused".to_owned());
        event.failed_jobs[0]
            .lines
            .push("token=hunter22hunter22".to_owned());
        let redactor = Redactor::new([("token", &secret)]);
        let text = pretty(&message, &redactor);
        assert!(
            !text.contains("hunter22hunter22") && text.contains("{{ token }}"),
            "{text}"
        );
    }
}
