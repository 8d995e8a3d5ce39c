//! A message: what is told of the end of a run, in words and as data.

use serde::Serialize;

use super::policy::Reason;
use quire_types::clock::Millis;
use quire_types::run::{Run, RunName};
use quire_types::text::{format_elapsed, sanitize};

/// A message to a target.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// The same for all attempts to deliver it, and for all targets.
    pub(super) id: String,
    /// When what it tells of happened.
    pub(super) time: Millis,
    /// When this attempt is made.
    pub(super) sent_at: Millis,
    /// The page of the run, or the first page.
    pub(super) url: String,
    /// `None` for a test.
    pub(super) event: Option<RunEnded>,
}

/// The end of a run.
#[derive(Debug, Clone)]
pub(super) struct RunEnded {
    pub(super) run: Run,
    pub(super) reason: Reason,
    /// Failures in a row: up to this run, or directly before it if it is complete.
    pub(super) failures: u32,
    pub(super) failed_jobs: Vec<FailedJobReport>,
}

/// A job that failed.
#[derive(Debug, Clone, Serialize)]
pub(super) struct FailedJobReport {
    pub(super) job: String,
    pub(super) message: Option<String>,
    /// The first line of the command that failed.
    pub(super) command: Option<String>,
    pub(super) exit_code: Option<i32>,
    /// The last lines of its log.
    pub(super) lines: Vec<String>,
}

impl Message {
    /// One line. It may contain secrets, which are redacted when the message is sent.
    pub(super) fn title(&self) -> String {
        match &self.event {
            Some(event) => event.title(),
            None => "A test of quire's notifications".to_owned(),
        }
    }

    /// The whole text, with the title and the link. It may contain secrets, which are redacted when the message is sent.
    pub(super) fn text(&self) -> String {
        let facts = match &self.event {
            Some(event) => event.facts(),
            None => {
                "This target is told of the ends of runs as :notify in the configuration says.\n"
                    .to_owned()
            }
        };
        format!("{}\n\n{facts}\n{}\n", self.title(), self.url)
    }
}

impl RunEnded {
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
        };
        let subject = self.run.subject.as_deref().map(sanitize);
        let subject = subject.map_or_else(String::new, |subject| format!(": {subject}"));
        format!("{name} {ended}{subject}")
    }

    fn facts(&self) -> String {
        let run = &self.run;
        let mut text = format!("{} at {}", run.ref_name.short(), run.sha.short());
        if let Some(pusher) = &run.pusher {
            text += &format!(", by {}", sanitize(pusher));
        }
        if let (Some(started), Some(ended)) = (run.started_at_ms, run.finished_at_ms) {
            text += &format!(", took {}", format_elapsed(ended.since(started)));
        }
        text.push('\n');
        // That of a run whose jobs failed repeats what the first job says.
        if let Some(message) = run.message.as_ref().filter(|_| self.failed_jobs.is_empty()) {
            text += &format!("{}\n", sanitize(message));
        }
        for job in &self.failed_jobs {
            let message = job.message.as_deref().unwrap_or("failed");
            text += &format!("\n{}: {}\n", job.job, sanitize(message));
            for line in &job.lines {
                text += &format!("  {}\n", sanitize(line));
            }
        }
        text
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
pub(super) mod sample {
    //! Messages for tests.

    use super::*;
    use quire_types::run::{FailureKind, RunState, Trigger};

    fn at(seconds: i64) -> Millis {
        Millis(1_700_000_000_000 + seconds * 1000)
    }

    pub(in crate::notify) fn run() -> Run {
        Run {
            id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            repo: "group/shop".parse().unwrap(),
            number: 14,
            ref_name: "refs/heads/main".parse().unwrap(),
            sha: "1".repeat(40).parse().unwrap(),
            subject: Some("Add a test".to_owned()),
            previous_sha: None,
            event_id: None,
            trigger: Trigger::Push,
            source: "quire/push".to_owned(),
            pusher: Some("laptop".to_owned()),
            only_job: None,
            retry_of: None,
            only_failed: false,
            params: None,
            group_name: None,
            supersede: true,
            group_unknown: false,
            keep: false,
            rebuild: false,
            superseded_by: None,
            stop_requested: None,
            state: RunState::Failed,
            failure_kind: Some(FailureKind::Job),
            message: Some("job `test` failed".to_owned()),
            pushed_at_ms: at(0),
            queued_at_ms: at(1),
            started_at_ms: Some(at(2)),
            finished_at_ms: Some(at(65)),
            executor: Some("docker".parse().unwrap()),
            container_id: None,
            image_tag: None,
            build_started_at_ms: None,
            build_finished_at_ms: None,
            container_started_at_ms: None,
            container_stopped_at_ms: None,
            workspace_path: None,
            logs_removed_at_ms: None,
            artifacts_removed_at_ms: None,
        }
    }

    pub(in crate::notify) fn failed() -> Message {
        Message {
            id: run().id.to_string(),
            time: at(65),
            sent_at: at(66),
            url: "https://git.example.org/runs/01890a5d-ac96-774b-bcce-b302099a8057".to_owned(),
            event: Some(RunEnded {
                run: run(),
                reason: Reason::Failed,
                failures: 2,
                failed_jobs: vec![FailedJobReport {
                    job: "test".to_owned(),
                    message: Some("`make test` failed with exit code 2".to_owned()),
                    command: Some("make test".to_owned()),
                    exit_code: Some(2),
                    lines: vec![
                        "test parse ... FAILED".to_owned(),
                        "make: *** [test] Error 1".to_owned(),
                    ],
                }],
            }),
        }
    }

    pub(in crate::notify) fn test() -> Message {
        Message {
            event: None,
            url: "https://git.example.org".to_owned(),
            ..failed()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_messages() {
        let mut texts = vec![sample::failed().text(), sample::test().text()];
        for reason in [
            Reason::Fixed,
            Reason::Complete,
            Reason::Canceled,
            Reason::Superseded,
        ] {
            let mut message = sample::failed();
            let event = message.event.as_mut().unwrap();
            event.reason = reason;
            event.run.subject = Some("Say \u{202e}it\u{1b}[1m".to_owned());
            texts.push(message.title());
        }
        insta::assert_snapshot!(texts.join("\n---\n"));
        assert_eq!(
            [1, 2, 3, 4, 11, 12, 13, 21, 102, 113]
                .map(ordinal)
                .join(" "),
            "1st 2nd 3rd 4th 11th 12th 13th 21st 102nd 113th"
        );
    }
}
