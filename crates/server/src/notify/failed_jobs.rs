//! What failed in a run: the jobs, and the last lines of their logs.
//!
//! Logs hold no secret that the run asked for. The others are redacted here, before lines are cut.

use std::path::Path;

use quire_run_files::logs::{LogLine, tail};
use quire_store::{Store, StoreError};
use quire_types::ansi;
use quire_types::paths::Paths;
use quire_types::run::{JobState, Run, RunStep};
use quire_types::secret::Redactor;
use quire_types::text::{excerpt, first_line};

use super::message::FailedJobReport;

/// How many jobs a message names.
const MAX_JOBS: usize = 5;
/// How many lines of a log it has, and how long each may be in characters.
const MAX_LINES: usize = 15;
const MAX_LINE: usize = 300;
/// How much of a log is read for that.
const MAX_TAIL_BYTES: usize = 32 << 10;
/// The longest command, in characters.
const MAX_COMMAND: usize = 200;

/// Reads the failed jobs of a run. Logs that retention has removed have no lines.
pub(super) fn read(
    store: &Store,
    paths: &Paths,
    run: &Run,
    redactor: &Redactor,
) -> Result<Vec<FailedJobReport>, StoreError> {
    let jobs = store.jobs().list_without_outputs(run.id)?;
    let steps = store.steps().list(run.id)?;
    let folder = paths.run_dir(&run.repo, run.id);
    let failed = jobs.iter().filter(|job| job.state == JobState::Failed);
    Ok(failed
        .take(MAX_JOBS)
        .map(|job| {
            let of_job = || steps.iter().filter(|step| step.job_id == job.job_id);
            let is_failed = |step: &&RunStep| step.exit_code != Some(0);
            let step = of_job().rfind(is_failed).or_else(|| of_job().next_back());
            FailedJobReport {
                job: job.job_id.to_string(),
                message: job.message.clone(),
                command: step
                    .map(|step| first_line(&redactor.redact_text(&step.command), MAX_COMMAND)),
                exit_code: step.and_then(|step| step.exit_code),
                lines: step.map_or_else(Vec::new, |step| {
                    let log = Paths::step_log(&folder, &step.job_id, step.seq);
                    last_lines(&log, redactor)
                }),
            }
        })
        .collect())
}

fn last_lines(path: &Path, redactor: &Redactor) -> Vec<String> {
    let lines = tail(path, MAX_TAIL_BYTES).map(|slice| slice.lines);
    let text = whole_lines(&lines.unwrap_or_default()).join("\n");
    let text = redactor.redact_text(&text);
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(MAX_LINES);
    lines[first..]
        .iter()
        .map(|line| excerpt(line, MAX_LINE))
        .collect()
}

/// Joins the pieces of long lines, and removes escape sequences.
fn whole_lines(lines: &[LogLine]) -> Vec<String> {
    let mut texts = Vec::new();
    let mut open: Vec<u8> = Vec::new();
    for line in lines {
        open.extend_from_slice(&line.text);
        if !line.partial {
            texts.push(ansi::strip(&std::mem::take(&mut open)));
        }
    }
    if !open.is_empty() {
        texts.push(ansi::strip(&open));
    }
    texts
}
