//! What failed in a run: the jobs, and the last lines of their logs, which hold no secret that the run asked for.

use std::path::Path;

use quire_run_files::logs::{LogLine, tail};
use quire_store::{Store, StoreError};
use quire_types::ansi;
use quire_types::paths::Paths;
use quire_types::run::{JobState, Run, RunStep};
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
                command: step.map(|step| first_line(&step.command, MAX_COMMAND)),
                exit_code: step.and_then(|step| step.exit_code),
                lines: step.map_or_else(Vec::new, |step| {
                    last_lines(&Paths::step_log(&folder, &step.job_id, step.seq))
                }),
            }
        })
        .collect())
}

fn last_lines(path: &Path) -> Vec<String> {
    let lines = tail(path, MAX_TAIL_BYTES).map(|slice| slice.lines);
    let texts = whole_lines(&lines.unwrap_or_default());
    let first = texts.len().saturating_sub(MAX_LINES);
    texts[first..]
        .iter()
        .map(|text| excerpt(text, MAX_LINE))
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
