//! `quire run logs`: prints the log of a run, line by line as text or as one document in JSON or YAML.

use std::path::Path;

use super::build_fold::{BuildFold, Folded};
use super::error::{CommandError, FAILED};
use super::follow::{self, RunObserver, RunReader, WaitNotes};
use super::log_document::LogCollector;
use super::output::Output;
use quire_run_files::logs::{LogLine, read_from};
use quire_types::ansi::{TerminalFilter, overwrites_line};
use quire_types::names::{JobName, RunId};
use quire_types::paths::Paths;
use quire_types::run::{FailureKind, Run, RunStep};
use quire_types::text::{first_line, format_elapsed};

/// The most bytes of a service's log that are read at once.
const BATCH_BYTES: usize = 256 << 10;

/// How much of a command is shown, in characters.
const MAX_COMMAND_CHARS: usize = 120;

/// How a log is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LogFormat {
    /// Lines, with a heading for each step
    Text,
    /// One JSON document: jobs with their commands, exit codes, stdout and stderr
    Json,
    /// The commands of each job with exit code, stdout and stderr, in YAML
    Yaml,
}

/// What is printed of a log, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogOptions<'a> {
    /// Only the lines of this job.
    pub(super) job: Option<&'a JobName>,
    pub(super) follow: bool,
    pub(super) format: LogFormat,
    /// Without the filter of escape sequences.
    pub(super) raw: bool,
    /// Only the progress of an image build.
    pub(super) fold_build: bool,
}

/// Formats log lines for a terminal.
#[derive(Debug, Default)]
struct LineFormatter {
    raw: bool,
    filter: TerminalFilter,
}

impl LineFormatter {
    fn new(raw: bool) -> Self {
        Self {
            raw,
            ..Self::default()
        }
    }

    /// Appends a line. `open` says that the beginning of it has been printed.
    fn line(&mut self, line: &LogLine, open: bool, into: &mut Vec<u8>) {
        if self.raw {
            into.extend_from_slice(&line.text);
        } else {
            if open && overwrites_line(&line.text) {
                into.push(b'\n');
            }
            self.filter.line(&line.text, into);
        }
        if !line.partial {
            into.push(b'\n');
        }
    }

    fn reset(&mut self, into: &mut Vec<u8>) {
        self.filter.reset(into);
    }
}

/// Prints the log of a run. Returns the run as it was read last.
pub(super) fn print_run_log(
    reader: &mut dyn RunReader,
    id: RunId,
    options: LogOptions<'_>,
    out: &mut Output<'_>,
) -> Result<Run, CommandError> {
    let follow = options.follow;
    if options.format == LogFormat::Text {
        let mut printer = TextPrinter {
            out,
            formatter: LineFormatter::new(options.raw),
            fold: options.fold_build.then(BuildFold::default),
            job: options.job,
            wait_notes: follow.then(WaitNotes::default),
            step: None,
            headed: 0,
            running: Vec::new(),
            open: false,
        };
        let run = follow::read_run(reader, id, follow, &mut printer)?;
        printer.finish()?;
        return Ok(run);
    }
    let mut collector = LogCollector::default();
    let run = follow::read_run(reader, id, follow, &mut collector)?;
    let jobs = reader.jobs(run.id)?;
    let mut steps = Vec::new();
    reader.steps(run.id, &mut steps)?;
    let document = collector.document(&run, &jobs, &steps, options.job);
    match options.format {
        LogFormat::Yaml => out.raw(document.to_yaml()?.as_bytes())?,
        _ => out.json(&document)?,
    }
    Ok(run)
}

/// Prints the log of a service: what there is of it or, with `follow`, until the run ends. If the run was orphaned and
/// requeued, continues with the new run. Returns the run as it was read last.
pub(super) fn print_service_log(
    reader: &mut dyn RunReader,
    paths: &Paths,
    (mut id, service): (RunId, &str),
    options: LogOptions<'_>,
    out: &mut Output<'_>,
) -> Result<Run, CommandError> {
    let follow = options.follow;
    let mut position = LogPosition::default();
    let mut wait_notes = WaitNotes::default();
    let mut formatter = LineFormatter::new(options.raw);
    loop {
        // The state is read before the log: once it is final, the log is complete.
        let run = reader.run(id)?;
        if let Some(line) = wait_notes.next(&run).filter(|_| follow) {
            follow::print_note(&line);
        }
        let folder = paths.run_dir(&run.repo, id);
        let path = Paths::service_log(&folder, service);
        let exists = path.exists();
        if exists {
            print_new_lines(&path, &mut position, &mut formatter, out)?;
        }
        if !follow || run.state.is_final() {
            let orphaned = follow && run.failure_kind == Some(FailureKind::Orphaned);
            match if orphaned {
                reader.successor(id)?
            } else {
                None
            } {
                Some(next) => {
                    follow::print_note(&follow::requeued_note(&run, next));
                    (id, position) = (next, LogPosition::default());
                }
                None if exists => return Ok(run),
                None => return Err(no_service(&folder, &run, service)),
            }
        } else if !reader.pause() {
            return Err(CommandError::exit_only(FAILED));
        }
    }
}

/// How far a log has been printed.
#[derive(Debug, Default)]
struct LogPosition {
    offset: u64,
    /// The last line has no end yet.
    open: bool,
}

/// Prints what a log holds after a position.
fn print_new_lines(
    path: &Path,
    position: &mut LogPosition,
    formatter: &mut LineFormatter,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    loop {
        let slice = read_from(path, position.offset, BATCH_BYTES)?;
        let mut text = Vec::new();
        for line in &slice.lines {
            formatter.line(line, position.open, &mut text);
            position.open = line.partial;
        }
        position.offset = slice.next;
        if !slice.more {
            formatter.reset(&mut text);
        }
        if !text.is_empty() {
            out.raw(&text)?;
        }
        if !slice.more {
            return Ok(());
        }
    }
}

fn no_service(run_folder: &Path, run: &Run, service: &str) -> CommandError {
    if let Some(at) = run.logs_removed_at_ms {
        return CommandError::not_found(format!(
            "the logs of run {} were removed by retention (`:keep`) on {at}",
            run.id
        ));
    }
    let names = std::fs::read_dir(run_folder.join("services"))
        .into_iter()
        .flatten()
        .flatten();
    let mut names: Vec<_> = names
        .filter_map(|entry| {
            Some(format!(
                "`{}`",
                entry
                    .file_name()
                    .to_str()?
                    .strip_suffix(".log")?
                    .replace("%2F", "/")
            ))
        })
        .collect();
    names.sort();
    let failure = CommandError::not_found(format!(
        "run {} has no log of a service `{service}`",
        run.id
    ));
    if names.is_empty() {
        failure
    } else {
        failure.hint(format!("it has {}", names.join(", ")))
    }
}

/// Prints the lines of a log as they are read.
struct TextPrinter<'a, 'b> {
    out: &'a mut Output<'b>,
    formatter: LineFormatter,
    fold: Option<BuildFold>,
    job: Option<&'a JobName>,
    wait_notes: Option<WaitNotes>,
    /// The step of the last line: `Some(None)` for the run's own lines.
    step: Option<Option<u32>>,
    /// How many steps have a heading. Steps are numbered in the order in which they start.
    headed: usize,
    /// The positions of the steps that have a heading and whose end is not printed.
    running: Vec<usize>,
    /// The last line has no end yet.
    open: bool,
}

impl TextPrinter<'_, '_> {
    /// Prints the starts and ends of steps up to a line, or up to now if there is no further line.
    fn steps_until(&mut self, line: Option<&LogLine>, steps: &[RunStep], text: &mut Vec<u8>) {
        loop {
            let next = steps.get(self.headed).filter(|step| {
                line.is_none_or(|line| step.started_at_ms < line.time || line.seq == Some(step.seq))
            });
            // Within a millisecond the lines of a step precede its end, and those of quire follow it.
            let has_ended = |at: &usize| {
                steps[*at].finished_at_ms.filter(|end| {
                    line.is_none_or(|line| {
                        *end < line.time || (line.seq.is_none() && *end == line.time)
                    })
                })
            };
            let ended = (self.running.iter())
                .filter_map(|at| Some((has_ended(at)?, *at)))
                .min();
            match (next, ended) {
                (Some(next), Some((end, at))) if end <= next.started_at_ms => {
                    self.step_ended(at, &steps[at], text);
                }
                (Some(next), _) => {
                    if let Some(fold) = &mut self.fold {
                        fold.step_started();
                    }
                    if self.is_shown(&next.job_id) {
                        self.heading(text, &step_heading(next));
                        self.step = Some(Some(next.seq));
                        self.running.push(self.headed);
                    }
                    self.headed += 1;
                }
                (None, Some((_, at))) => self.step_ended(at, &steps[at], text),
                (None, None) => return,
            }
        }
    }

    fn is_shown(&self, job: &JobName) -> bool {
        self.job.is_none_or(|only| only == job)
    }

    fn step_ended(&mut self, at: usize, step: &RunStep, text: &mut Vec<u8>) {
        self.running.retain(|other| *other != at);
        let (sign, exit) = match step.exit_code {
            Some(0) => ("✓", String::new()),
            Some(code) => ("✗", format!(" · exit {code}")),
            None => ("✗", " · interrupted".to_owned()),
        };
        let took = step.finished_at_ms.map_or_else(String::new, |end| {
            format!(" · {}", format_elapsed(end.since(step.started_at_ms)))
        });
        let command = first_line(&step.command, MAX_COMMAND_CHARS);
        let line = format!("{sign} {} · {command}{exit}{took}\n", step.job_id);
        self.heading(text, &line);
        self.step = Some(Some(step.seq));
    }

    /// Appends a line of this program, after the end of an unfinished line.
    fn heading(&mut self, text: &mut Vec<u8>, line: &str) {
        self.formatter.reset(text);
        if std::mem::take(&mut self.open) {
            text.push(b'\n');
        }
        text.extend_from_slice(line.as_bytes());
    }

    /// Prints the end of a build that failed, and resets the terminal after the last line.
    fn finish(&mut self) -> Result<(), CommandError> {
        let mut text = Vec::new();
        let last = self.fold.as_mut().map(BuildFold::take_last);
        let last = last.unwrap_or_default();
        if !last.is_empty() {
            self.heading(&mut text, "── the last lines of the build\n");
        }
        for line in &last {
            self.formatter.line(line, self.open, &mut text);
            self.open = line.partial;
        }
        self.formatter.reset(&mut text);
        if text.is_empty() {
            Ok(())
        } else {
            self.out.raw(&text)
        }
    }
}

impl RunObserver for TextPrinter<'_, '_> {
    fn run_read(&mut self, run: &Run) {
        if let Some(line) = self.wait_notes.as_mut().and_then(|notes| notes.next(run)) {
            follow::print_note(&line);
        }
    }

    fn log_lines(&mut self, lines: &[LogLine], steps: &[RunStep]) -> Result<(), CommandError> {
        let mut text = Vec::new();
        let job = self.job;
        for line in lines
            .iter()
            .filter(|line| job.is_none() || line.job.as_ref() == job)
        {
            if let Some(fold) = &mut self.fold
                && fold.next(line) == Folded::Hide
            {
                continue;
            }
            self.steps_until(Some(line), steps, &mut text);
            if self.step != Some(line.seq) {
                let heading = heading(line, steps, self.step.is_none());
                self.heading(&mut text, &heading);
                self.step = Some(line.seq);
            }
            self.formatter.line(line, self.open, &mut text);
            self.open = line.partial;
        }
        if text.is_empty() {
            Ok(())
        } else {
            self.out.raw(&text)
        }
    }

    fn caught_up(&mut self, steps: &[RunStep]) -> Result<(), CommandError> {
        let mut text = Vec::new();
        self.steps_until(None, steps, &mut text);
        if text.is_empty() {
            Ok(())
        } else {
            self.out.raw(&text)
        }
    }

    fn continued(&mut self, why: &str) {
        (self.step, self.headed) = (None, 0);
        self.running.clear();
        follow::print_note(why);
    }

    fn landing(&mut self, note: &str) {
        follow::print_note(note);
    }
}

fn step_heading(step: &RunStep) -> String {
    let command = first_line(&step.command, MAX_COMMAND_CHARS);
    format!("── {} · {command}\n", step.job_id)
}

/// The heading of the lines of a step. The run's own lines have none if they come first.
fn heading(line: &LogLine, steps: &[RunStep], first: bool) -> String {
    match (&line.job, line.seq) {
        (Some(job), Some(seq)) => {
            let step = steps.iter().find(|step| step.seq == seq);
            step.map_or_else(|| format!("── {job}\n"), step_heading)
        }
        _ if first => String::new(),
        _ => "── run\n".to_owned(),
    }
}

#[cfg(test)]
mod tests;
