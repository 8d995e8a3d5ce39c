//! What a person reads of a message.
//!
//! Secrets are redacted before anything is cut, escaped or made printable: afterwards they could not be recognized.

use super::finding_text;
use super::message::{FailedJobReport, Message, RunEnded};
use super::policy::Reason;
use super::urgency::Urgency;
use quire_pipeline::Source;
use quire_types::run::{RunName, RunState};
use quire_types::secret::Redactor;
use quire_types::text::{excerpt, format_elapsed, sanitize};

/// The longest [`Summary::short_details`], in bytes. ntfy makes an attachment of a message of more than 4096.
const MAX_SHORT_DETAILS: usize = 3500;
/// The longest [`Summary::short_title`], in characters: that of Discord, less what it is escaped with.
const MAX_SHORT_TITLE: usize = 200;
/// The longest heading of a failed job and the longest other line in them, in characters.
const MAX_SHORT_LINE: usize = 200;

/// A message in words, without any secret and without control characters.
pub(super) struct Summary {
    /// One line.
    pub(super) title: String,
    /// What happened to which commit, a line each.
    pub(super) facts: Vec<String>,
    pub(super) failed_jobs: Vec<FailedJobSummary>,
    /// A link to the run.
    pub(super) url: String,
    pub(super) urgency: Urgency,
}

/// A job that failed.
#[derive(Clone)]
pub(super) struct FailedJobSummary {
    pub(super) heading: String,
    /// The last lines of its log.
    pub(super) lines: Vec<String>,
}

impl Summary {
    pub(super) fn new(message: &Message, redactor: &Redactor) -> Self {
        let clean = |text: &str| sanitize(&redactor.redact_text(text));
        let event = message.run_ended();
        let heading = |job: &FailedJobReport| {
            let message = job.message.as_deref().unwrap_or("failed");
            clean(&format!("{}: {message}", job.job))
        };
        let failed_jobs = event.map_or(&[][..], |event| &event.failed_jobs);
        let failed_jobs = failed_jobs.iter().map(|job| FailedJobSummary {
            heading: heading(job),
            lines: job.lines.iter().map(|line| clean(line)).collect(),
        });
        let (title, facts, urgency) = match (event, message.health()) {
            (Some(event), _) => (event.title(), event.facts(), event.urgency()),
            (None, Some(report)) => (
                finding_text::title(report),
                finding_text::facts(report),
                finding_text::urgency(report),
            ),
            (None, None) => (
                "A test of quire's notifications".to_owned(),
                vec![
                    "This target is told of the ends of runs as :notify in the configuration says."
                        .to_owned(),
                ],
                Urgency::Other,
            ),
        };
        Self {
            title: clean(&title),
            facts: facts.iter().map(|line| clean(line)).collect(),
            failed_jobs: failed_jobs.collect(),
            url: redactor.redact_text(&message.url),
            urgency,
        }
    }

    /// The whole text, with the title and the link.
    pub(super) fn text(&self) -> String {
        format!(
            "{}\n\n{}\n{}\n",
            self.title,
            details(&self.facts, &self.failed_jobs),
            self.url
        )
    }

    /// The title, for services that limit the size of messages.
    pub(super) fn short_title(&self) -> String {
        excerpt(&self.title, MAX_SHORT_TITLE)
    }

    /// The text without the title and the link, for services that limit the size of messages.
    pub(super) fn short_details(&self) -> String {
        let (facts, failed_jobs) = self.shortened();
        let mut text = details(&facts, &failed_jobs);
        // Headings of several bytes a character can be longer than what was reckoned with.
        text.truncate(text.floor_char_boundary(MAX_SHORT_DETAILS));
        text.trim_end().to_owned()
    }

    /// The facts and the failed jobs with as many of their last lines as a short message has room for.
    pub(super) fn shortened(&self) -> (Vec<String>, Vec<FailedJobSummary>) {
        let facts: Vec<String> = shorten(&self.facts).collect();
        let mut room = MAX_SHORT_DETAILS.saturating_sub(facts.iter().map(String::len).sum());
        let mut failed_jobs = Vec::new();
        for (index, job) in self.failed_jobs.iter().enumerate() {
            let heading = excerpt(&job.heading, MAX_SHORT_LINE);
            let share = room / (self.failed_jobs.len() - index);
            let mut used = heading.len() + 2;
            let mut lines: Vec<String> = shorten(&job.lines)
                .rev()
                .take_while(|line| {
                    // Two spaces and the end of the line.
                    used += line.len() + 3;
                    used <= share
                })
                .collect();
            lines.reverse();
            room = room.saturating_sub(used.min(share));
            failed_jobs.push(FailedJobSummary { heading, lines });
        }
        (facts, failed_jobs)
    }
}

fn shorten(lines: &[String]) -> impl DoubleEndedIterator<Item = String> {
    lines.iter().map(|line| excerpt(line, MAX_SHORT_LINE))
}

fn details(facts: &[String], failed_jobs: &[FailedJobSummary]) -> String {
    let mut text = String::new();
    for line in facts {
        text += &format!("{line}\n");
    }
    for job in failed_jobs {
        text += &format!("\n{}\n", job.heading);
        for line in &job.lines {
            text += &format!("  {line}\n");
        }
    }
    text
}

impl RunEnded {
    fn urgency(&self) -> Urgency {
        match self.reason {
            Reason::Failed => Urgency::Failed,
            Reason::Fixed => Urgency::Fixed,
            Reason::Alternates if self.run.state == RunState::Failed => Urgency::Failed,
            _ => Urgency::Other,
        }
    }

    fn title(&self) -> String {
        let name = RunName {
            repo: self.run.repo.clone(),
            number: self.run.number,
        };
        let ended = match self.reason {
            Reason::Failed if self.failures > 1 => {
                format!("failed, the {} time in a row", ordinal(self.failures))
            }
            Reason::Failed => "failed".to_owned(),
            Reason::Fixed => "is complete again".to_owned(),
            Reason::Complete => "is complete".to_owned(),
            Reason::Canceled => "was canceled".to_owned(),
            Reason::Superseded => "was superseded".to_owned(),
            Reason::Alternates => self.alternates(),
        };
        let subject = self.run.subject.as_deref();
        let subject = subject.map_or_else(String::new, |subject| format!(": {subject}"));
        format!("{name} {ended}{subject}")
    }

    fn facts(&self) -> Vec<String> {
        let run = &self.run;
        let mut first = format!("{} at {}", run.ref_name.short(), run.sha.short());
        if let Some(pusher) = &run.pusher {
            first += &format!(", by {pusher}");
        }
        if let (Some(started), Some(ended)) = (run.started_at_ms, run.finished_at_ms) {
            first += &format!(", took {}", format_elapsed(ended.since(started)));
        }
        let alternation = self.alternation.map(|of| {
            format!(
                "Within a day: {} failed, {} complete, {} changes. The runs that follow are told once a day.",
                of.failed, of.complete, of.changes
            )
        });
        // That of a run whose jobs failed repeats what the first job says.
        let message = run.message.clone().filter(|_| self.failed_jobs.is_empty());
        [Some(first), alternation, message]
            .into_iter()
            .flatten()
            .collect()
    }

    fn alternates(&self) -> String {
        let state = match self.run.state {
            RunState::Failed => "failed",
            _ => "is complete",
        };
        let schedule = match Source::from_name(&self.run.source) {
            Some(Source::Cron(name)) => format!("its schedule {name}"),
            _ => "its schedule".to_owned(),
        };
        format!("{state}, and {schedule} alternates")
    }
}

fn ordinal(number: u32) -> String {
    let suffix = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::message::sample;
    use quire_types::secret::Secret;

    fn summary(message: &Message) -> Summary {
        Summary::new(message, &Redactor::default())
    }

    #[test]
    fn texts_of_messages() {
        let mut texts = [sample::failed(), sample::test()]
            .map(|message| summary(&message).text())
            .to_vec();
        for reason in [
            Reason::Fixed,
            Reason::Complete,
            Reason::Canceled,
            Reason::Superseded,
        ] {
            let mut message = sample::failed();
            let event = message.run_ended_mut();
            event.reason = reason;
            event.run.subject = Some("Say \u{202e}it\u{1b}[1m".to_owned());
            texts.push(summary(&message).title);
        }
        insta::assert_snapshot!(texts.join("\n---\n"));
        assert_eq!(
            [1, 2, 3, 4, 11, 12, 13, 21, 102, 113]
                .map(ordinal)
                .join(" "),
            "1st 2nd 3rd 4th 11th 12th 13th 21st 102nd 113th"
        );
    }

    #[test]
    fn a_short_text_keeps_the_last_lines_of_each_job() {
        let mut message = sample::failed();
        let event = message.run_ended_mut();
        let mut job = event.failed_jobs.remove(0);
        job.lines = (1..=15)
            .map(|number| format!("{} {number}", "é".repeat(290)))
            .collect();
        job.lines.push("the end".to_owned());
        event.failed_jobs = vec![job; 5];
        let summary = summary(&message);
        let text = summary.short_details();
        assert!(text.len() <= MAX_SHORT_DETAILS, "{}", text.len());
        assert_eq!(text.matches("the end").count(), 5);
        assert_eq!(text.matches("test: `make test` failed").count(), 5);
        assert!(summary.text().matches('é').count() == 5 * 15 * 290);
    }

    #[test]
    fn secrets_are_redacted_before_a_text_is_cut_or_made_printable() {
        let (long, bell) = (format!("hunter22{}", "x".repeat(300)), "se\u{7}cret-value");
        let secrets = [&*long, bell].map(|value| Secret::new(value.to_owned()));
        let redactor = Redactor::new(["long", "bell"].into_iter().zip(&secrets));
        let mut message = sample::failed();
        let event = message.run_ended_mut();
        event.run.subject = Some(bell.to_owned());
        event.failed_jobs[0].lines = vec![long.clone()];
        let summary = Summary::new(&message, &redactor);
        assert!(summary.title.ends_with("{{ bell }}"), "{}", summary.title);
        let text = summary.short_details();
        assert!(text.ends_with("{{ long }}"), "{text}");
    }
}
