//! Notes of commits in `refs/notes/ci` of the repository itself: one line for each run of the commit.
//!
//! A line belongs to the run whose number it begins with. All other lines of a note are left as they are, so that a client can
//! have lines of its own there. A note that is written twice is the same, so a repeated message changes nothing.

use crate::notify::delivery_context::DeliveryContext;
use crate::notify::delivery_error::DeliveryError;
use crate::notify::message::{Message, RunEnded};
use quire_git::{Git, NoteEdit, NoteError};
use quire_types::clock::Millis;
use quire_types::names::{ObjectId, RepoName};
use quire_types::run::RunState;
use quire_types::secret::Redactor;
use quire_types::text::{first_line, format_elapsed, single_line};

/// What a line of quire begins with; the number of the run follows.
const PREFIX: &str = "quire #";
/// How many failed jobs a line names.
const MAX_JOBS: usize = 3;
/// The longest reason of a run without failed jobs, in characters.
const MAX_REASON: usize = 120;

#[derive(Debug, Clone, Copy)]
pub struct GitNotesTarget;

/// A line in the note of a commit.
#[derive(Debug, Clone)]
pub(super) struct RunNote {
    repo: RepoName,
    commit: ObjectId,
    number: u32,
    line: String,
    now: Millis,
}

impl GitNotesTarget {
    /// The line of a run; `None` for a test.
    pub(super) fn note(self, message: &Message, redactor: &Redactor) -> Option<RunNote> {
        let event = message.run_ended()?;
        let run = &event.run;
        let line = format!("{PREFIX}{} {}: {}", run.number, outcome(event), message.url);
        Some(RunNote {
            repo: run.repo.clone(),
            commit: run.sha.clone(),
            number: run.number,
            line: single_line(&redactor.redact_text(&line)),
            now: message.sent_at,
        })
    }
}

/// What became of a run, how long it took and which jobs failed.
fn outcome(event: &RunEnded) -> String {
    let run = &event.run;
    let mut text = run.state.to_string();
    if let (Some(started), Some(ended)) = (run.started_at_ms, run.finished_at_ms) {
        text += &format!(" after {}", format_elapsed(ended.since(started)));
    }
    if run.state != RunState::Failed {
        return text;
    }
    let jobs: Vec<&str> = event
        .failed_jobs
        .iter()
        .map(|job| job.job.as_str())
        .collect();
    match (jobs.as_slice(), &run.message) {
        ([], None) => {}
        ([], Some(reason)) => text += &format!(", {}", first_line(reason, MAX_REASON)),
        ([job], _) => text += &format!(", job {job}"),
        (jobs, _) => {
            text += &format!(", jobs {}", jobs[..jobs.len().min(MAX_JOBS)].join(" "));
            if jobs.len() > MAX_JOBS {
                text += " and more";
            }
        }
    }
    text
}

impl RunNote {
    /// Writes the line, unless the repository or the commit does not exist any more.
    pub(super) async fn write(self, context: DeliveryContext<'_>) -> Result<(), DeliveryError> {
        let note = self.clone();
        let write = move |git: &Git| {
            if !git.exists_or_redirects(&note.repo)? {
                return Ok(Ok(NoteEdit::NoCommit));
            }
            let folder = git.paths().repo(&note.repo);
            let edit = |before: &[u8]| with_line(before, note.number, &note.line);
            Ok(git.edit_run_note(&folder, &note.commit, note.now, edit))
        };
        let written = context.git.call(write).await;
        let written = written.map_err(NoteError::from).and_then(|written| written);
        match written {
            Ok(NoteEdit::Written) => context.changes.notify_repo(&self.repo),
            Ok(NoteEdit::Unchanged | NoteEdit::NoCommit) => {}
            Err(source) => {
                return Err(DeliveryError::Note {
                    repo: self.repo,
                    source,
                });
            }
        }
        Ok(())
    }
}

/// The note with this line in place of an older one of the same run, in the order of the numbers.
fn with_line(note: &[u8], number: u32, line: &str) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = note
        .strip_suffix(b"\n")
        .unwrap_or(note)
        .split(|byte| *byte == b'\n')
        .filter(|line| number_of(line) != Some(number))
        .collect();
    if note.is_empty() {
        lines.clear();
    }
    let is_later = |line: &&[u8]| number_of(line).is_some_and(|of| of > number);
    let at = lines.iter().position(is_later).unwrap_or(lines.len());
    lines.insert(at, line.as_bytes());
    let mut text = lines.join(&b'\n');
    text.push(b'\n');
    text
}

/// The run whose line it is; `None` if it is no line of quire.
fn number_of(line: &[u8]) -> Option<u32> {
    let rest = std::str::from_utf8(line).ok()?.strip_prefix(PREFIX)?;
    rest.split_once(' ')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::message::sample;
    use quire_types::secret::Secret;

    fn line(message: &Message) -> String {
        let note = GitNotesTarget.note(message, &Redactor::default());
        note.map_or_else(|| "no note".to_owned(), |note| note.line)
    }

    #[test]
    fn lines_of_notes() {
        let mut messages = vec![sample::failed(), sample::test()];
        for count in [0, 2, 5] {
            let mut message = sample::failed();
            let event = message.run_ended_mut();
            let job = event.failed_jobs.remove(0);
            event.failed_jobs = vec![job; count];
            event.run.message = Some("the pipeline\nis wrong".to_owned());
            messages.push(message);
        }
        for state in [RunState::Complete, RunState::Canceled, RunState::Superseded] {
            let mut message = sample::failed();
            message.run_ended_mut().run.state = state;
            messages.push(message);
        }
        let lines: Vec<String> = messages.iter().map(line).collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        quire #14 failed after 1 min 3 s, job test: https://git.example.org/runs/01890a5d-ac96-774b-bcce-b302099a8057
        no note
        quire #14 failed after 1 min 3 s, the pipeline…: https://git.example.org/runs/01890a5d-ac96-774b-bcce-b302099a8057
        quire #14 failed after 1 min 3 s, jobs test test: https://git.example.org/runs/01890a5d-ac96-774b-bcce-b302099a8057
        quire #14 failed after 1 min 3 s, jobs test test test and more: https://git.example.org/runs/01890a5d-ac96-774b-bcce-b302099a8057
        quire #14 complete after 1 min 3 s: https://git.example.org/runs/01890a5d-ac96-774b-bcce-b302099a8057
        quire #14 canceled after 1 min 3 s: https://git.example.org/runs/01890a5d-ac96-774b-bcce-b302099a8057
        quire #14 superseded after 1 min 3 s: https://git.example.org/runs/01890a5d-ac96-774b-bcce-b302099a8057
        ");
    }

    #[test]
    fn no_secret_is_in_a_note() {
        let secret = Secret::new("hunter22hunter22".to_owned());
        let redactor = Redactor::new([("token", &secret)]);
        let mut message = sample::failed();
        let event = message.run_ended_mut();
        event.failed_jobs.clear();
        event.run.message = Some("hunter22hunter22 was refused".to_owned());
        let note = GitNotesTarget.note(&message, &redactor).unwrap();
        assert!(
            note.line.contains("{{ token }} was refused"),
            "{}",
            note.line
        );
    }

    #[test]
    fn a_run_has_one_line_and_other_lines_stay() {
        let with = |note: &str, number, line: &str| {
            String::from_utf8(with_line(note.as_bytes(), number, line)).unwrap()
        };
        assert_eq!(with("", 2, "quire #2 b"), "quire #2 b\n");
        let both = with("quire #2 b\n", 10, "quire #10 c");
        assert_eq!(both, "quire #2 b\nquire #10 c\n");
        let all = with(&both, 1, "quire #1 a");
        assert_eq!(all, "quire #1 a\nquire #2 b\nquire #10 c\n");
        assert_eq!(
            with(&all, 2, "quire #2 new"),
            "quire #1 a\nquire #2 new\nquire #10 c\n"
        );
        let foreign = "by hand\n\nquire #x y\nquire #3\n";
        assert_eq!(
            with(foreign, 3, "quire #3 z"),
            format!("{foreign}quire #3 z\n")
        );
        let bytes = with_line(b"\xff\xfe", 1, "quire #1 a");
        assert_eq!(bytes, b"\xff\xfe\nquire #1 a\n");
    }
}
