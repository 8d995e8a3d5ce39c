//! `quire run logs`: a run's log as text while it comes, or whole as JSON or YAML.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::follow::{self, Sink, Source, Waiting};
use super::output::Out;
use super::report::{FAILED, Failure};
use super::run::short;
use crate::escapes::{Screened, restarts};
use crate::logs::{LogLine, Stream, read_from};
use crate::names::{JobName, RunId};
use crate::paths::Paths;
use crate::run::{FailureKind, JobRow, JobState, Run, StepRow};

/// How much of a service's log is read at once.
const BATCH_BYTES: usize = 256 << 10;

/// How a log is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LogFormat {
    /// Lines as they come, a heading where the step changes.
    Text,
    /// One document: jobs with their commands, each with exit code, stdout and stderr.
    Json,
    /// The same for reading.
    Yaml,
}

/// What a run printed, on its way to whoever reads it.
#[derive(Debug, Default)]
pub(super) struct Cleaning {
    /// Bytes as they are.
    raw: bool,
    screened: Screened,
}

impl Cleaning {
    pub(super) fn new(raw: bool) -> Self {
        Self {
            raw,
            ..Self::default()
        }
    }

    /// Adds a line. `open` says that a piece of it has been printed.
    fn line(&mut self, line: &LogLine, open: bool, into: &mut Vec<u8>) {
        if self.raw {
            into.extend_from_slice(&line.text);
        } else {
            if open && restarts(&line.text) {
                into.push(b'\n');
            }
            self.screened.line(&line.text, into);
        }
        if !line.partial {
            into.push(b'\n');
        }
    }

    fn reset(&mut self, into: &mut Vec<u8>) {
        self.screened.reset(into);
    }
}

/// Prints a run's log and gives the run as it was last seen.
pub(super) fn logs(
    source: &mut dyn Source,
    id: RunId,
    job: Option<&JobName>,
    follow: bool,
    format: LogFormat,
    cleaning: Cleaning,
    out: &mut Out<'_>,
) -> Result<Run, Failure> {
    if format == LogFormat::Text {
        let mut text = Text {
            out,
            cleaning,
            job,
            waiting: follow.then(Waiting::default),
            step: None,
            open: false,
        };
        let run = follow::to_end(source, id, follow, &mut text)?;
        text.close()?;
        return Ok(run);
    }
    let mut collected = Collected::default();
    let run = follow::to_end(source, id, follow, &mut collected)?;
    let (jobs, mut steps) = (source.jobs(run.id)?, Vec::new());
    source.steps(run.id, &mut steps)?;
    let document = collected.document(&run, &jobs, &steps, job);
    match format {
        LogFormat::Yaml => out.raw(yaml(&document).as_bytes())?,
        _ => out.json(&document)?,
    }
    Ok(run)
}

/// Prints a service's log: what is there of it or, with `follow`, until the run ends. Like the run's own log it goes
/// on with the run that repeats one that was cut off. Gives the run as it was last seen.
pub(super) fn service(
    source: &mut dyn Source,
    paths: &Paths,
    mut id: RunId,
    service: &str,
    follow: bool,
    mut cleaning: Cleaning,
    out: &mut Out<'_>,
) -> Result<Run, Failure> {
    let (mut place, mut waiting) = (Place::default(), Waiting::default());
    loop {
        // The state before the log: once it is final, what the log then holds is all there is.
        let run = source.run(id)?;
        if let Some(line) = waiting.heard(&run).filter(|_| follow) {
            follow::say(&line);
        }
        let folder = paths.run(&run.repo, id);
        let path = Paths::service_log(&folder, service);
        let there = path.exists();
        if there {
            print_on(&path, &mut place, &mut cleaning, out)?;
        }
        if !follow || run.state.is_final() {
            let cut_off = follow && run.failure_kind == Some(FailureKind::Orphaned);
            match if cut_off { source.successor(id)? } else { None } {
                Some(next) => {
                    follow::say(&follow::moved(&run, next));
                    (id, place) = (next, Place::default());
                }
                None if there => return Ok(run),
                None => return Err(no_service(&folder, &run, service)),
            }
        } else if !source.pause() {
            return Err(Failure::silent(FAILED));
        }
    }
}

/// How far a log has been printed.
#[derive(Debug, Default)]
struct Place {
    offset: u64,
    /// The last line has no end yet.
    open: bool,
}

/// Prints what is there of a log from a place on.
fn print_on(
    path: &Path,
    place: &mut Place,
    cleaning: &mut Cleaning,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    loop {
        let slice = read_from(path, place.offset, BATCH_BYTES)?;
        let mut text = Vec::new();
        for line in &slice.lines {
            cleaning.line(line, place.open, &mut text);
            place.open = line.partial;
        }
        place.offset = slice.next;
        if !slice.more {
            cleaning.reset(&mut text);
        }
        if !text.is_empty() {
            out.raw(&text)?;
        }
        if !slice.more {
            return Ok(());
        }
    }
}

fn no_service(run_folder: &Path, run: &Run, service: &str) -> Failure {
    if let Some(at) = run.logs_removed_at_ms {
        return Failure::not_found(format!(
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
    let failure = Failure::not_found(format!(
        "run {} has no log of a service `{service}`",
        run.id
    ));
    if names.is_empty() {
        failure
    } else {
        failure.hint(format!("it has {}", names.join(", ")))
    }
}

/// Prints lines as they come.
struct Text<'a, 'b> {
    out: &'a mut Out<'b>,
    cleaning: Cleaning,
    job: Option<&'a JobName>,
    waiting: Option<Waiting>,
    /// The step of the last line; none inside for the run's own lines.
    step: Option<Option<u32>>,
    /// The last line has no end yet.
    open: bool,
}

impl Text<'_, '_> {
    /// Nothing follows but words of our own.
    fn close(&mut self) -> Result<(), Failure> {
        let mut text = Vec::new();
        self.cleaning.reset(&mut text);
        if text.is_empty() {
            Ok(())
        } else {
            self.out.raw(&text)
        }
    }
}

impl Sink for Text<'_, '_> {
    fn run(&mut self, run: &Run) {
        if let Some(line) = self.waiting.as_mut().and_then(|waiting| waiting.heard(run)) {
            follow::say(&line);
        }
    }

    fn lines(&mut self, lines: &[LogLine], steps: &[StepRow]) -> Result<(), Failure> {
        let mut text = Vec::new();
        for line in lines
            .iter()
            .filter(|line| self.job.is_none() || line.job.as_ref() == self.job)
        {
            if self.step != Some(line.seq) {
                self.cleaning.reset(&mut text);
                if std::mem::take(&mut self.open) {
                    text.push(b'\n');
                }
                text.extend(heading(line, steps, self.step.is_none()).into_bytes());
                self.step = Some(line.seq);
            }
            self.cleaning.line(line, self.open, &mut text);
            self.open = line.partial;
        }
        if text.is_empty() {
            Ok(())
        } else {
            self.out.raw(&text)
        }
    }

    fn moved(&mut self, from: &Run, to: RunId) {
        self.step = None;
        follow::say(&follow::moved(from, to));
    }
}

/// What stands above the lines of a step. The run's own lines need none where they come first.
fn heading(line: &LogLine, steps: &[StepRow], first: bool) -> String {
    match (&line.job, line.seq) {
        (Some(job), Some(seq)) => {
            let command = steps
                .iter()
                .find(|step| step.seq == seq)
                .map_or_else(String::new, |step| short(&step.command, 120));
            let command: String = command.chars().filter(|c| !c.is_control()).collect();
            format!("── {job} · {command}\n")
        }
        _ if first => String::new(),
        _ => "── run\n".to_owned(),
    }
}

/// Gathers a whole log.
#[derive(Default)]
struct Collected {
    /// By step (0 for the run's own lines): standard output and standard error.
    texts: BTreeMap<u32, [Vec<u8>; 2]>,
}

impl Sink for Collected {
    fn run(&mut self, _run: &Run) {}

    fn lines(&mut self, lines: &[LogLine], _steps: &[StepRow]) -> Result<(), Failure> {
        for line in lines {
            let texts = self.texts.entry(line.seq.unwrap_or(0)).or_default();
            let text = &mut texts[usize::from(line.stream == Stream::Stderr)];
            text.extend_from_slice(&line.text);
            if !line.partial {
                text.push(b'\n');
            }
        }
        Ok(())
    }

    fn moved(&mut self, _from: &Run, _to: RunId) {
        self.texts.clear();
    }
}

/// A whole log.
#[derive(Debug, Serialize)]
struct Document<'a> {
    run: &'a Run,
    /// What quire itself had to say: image, pull, build.
    log: String,
    jobs: Vec<JobLog<'a>>,
}

#[derive(Debug, Serialize)]
struct JobLog<'a> {
    job_id: &'a JobName,
    state: JobState,
    message: Option<&'a str>,
    steps: Vec<StepLog<'a>>,
}

#[derive(Debug, Serialize)]
struct StepLog<'a> {
    seq: u32,
    command: &'a str,
    exit_code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Collected {
    fn document<'a>(
        &mut self,
        run: &'a Run,
        jobs: &'a [JobRow],
        steps: &'a [StepRow],
        only: Option<&JobName>,
    ) -> Document<'a> {
        let mut take = |seq| {
            let texts = self.texts.remove(&seq).unwrap_or_default();
            texts.map(|text| {
                String::from_utf8(text)
                    .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
            })
        };
        let log = take(0).concat();
        let mut job_log = |job: &'a JobRow| {
            let steps = steps
                .iter()
                .filter(|step| step.job_id == job.job_id)
                .map(|step| {
                    let [stdout, stderr] = take(step.seq);
                    StepLog {
                        seq: step.seq,
                        command: &step.command,
                        exit_code: step.exit_code,
                        stdout,
                        stderr,
                    }
                });
            JobLog {
                job_id: &job.job_id,
                state: job.state,
                message: job.message.as_deref(),
                steps: steps.collect(),
            }
        };
        let jobs = jobs
            .iter()
            .filter(|job| only.is_none_or(|only| job.job_id == *only))
            .map(&mut job_log)
            .collect();
        Document { run, log, jobs }
    }
}

/// For each job the list of its commands with exit code, stdout and stderr.
fn yaml(document: &Document<'_>) -> String {
    let mut text = String::new();
    for job in &document.jobs {
        text += &format!(
            "{}:{}\n",
            quoted(job.job_id.as_str()),
            if job.steps.is_empty() { " []" } else { "" }
        );
        for step in &job.steps {
            let exit = step
                .exit_code
                .map_or_else(|| "null".to_owned(), |code| code.to_string());
            text += &format!("  - command: {}\n    exit: {exit}\n", scalar(step.command));
            text += &format!(
                "    stdout: {}\n    stderr: {}\n",
                scalar(&step.stdout),
                scalar(&step.stderr)
            );
        }
    }
    if text.is_empty() {
        "{}\n".to_owned()
    } else {
        text
    }
}

/// A string as YAML: a block where it has lines and nothing that a block cannot hold.
fn scalar(text: &str) -> String {
    let odd = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}')
    };
    let blank_start = text
        .lines()
        .next()
        .is_none_or(|line| line.is_empty() || line.starts_with([' ', '\t']));
    let body = text.trim_end_matches('\n');
    if !body.contains('\n') && text.len() <= body.len() || blank_start || text.contains(odd) {
        return quoted(text);
    }
    let keep = match text.len() - body.len() {
        0 => "|-",
        1 => "|",
        _ => "|+",
    };
    let mut block = keep.to_owned();
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        block.push('\n');
        if !line.is_empty() {
            block += "      ";
            block += line;
        }
    }
    block
}

/// A string in double quotes; YAML reads JSON's.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '\n' => quoted += "\\n",
            '\t' => quoted += "\\t",
            '\r' => quoted += "\\r",
            c if c.is_control() || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}') => {
                quoted += &format!("\\u{:04x}", u32::from(c))
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests;
