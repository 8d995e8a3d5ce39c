//! Prints a run: its log as it grows, the start and end of each step, the end of each job, and a summary.
//!
//! Log lines come from the log files, which are redacted. Starts and ends come from [`RunProgress`].
//! Both are merged by time. A printed line is never changed; the status lines below the log, which do
//! change, belong to [`LiveOutput`].

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::live_output::LiveOutput;
use super::progress::{JobProgress, ProgressEvent, RunProgress, StepProgress};
use super::status_lines::status_lines;
use super::style::{BOLD, Colors, DIM, GREEN, RED, command, elapsed, job_mark, step_mark};
use quire_run_files::logs::{LogFollower, LogLine, StepKey};
use quire_types::ansi::{TerminalFilter, overwrites_line};
use quire_types::run::JobState;
use quire_types::text::single_line;

/// The most log text that is read at once, in bytes.
const BATCH_BYTES: usize = 256 << 10;
/// The most steps of a job that the summary lists.
const MAX_SUMMARY_STEPS: usize = 20;

/// How often the status lines are redrawn, so that their times advance.
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);

/// Prints a run.
pub(super) struct RunPrinter<W> {
    out: W,
    colors: Colors,
    /// The width of the job name before each line of output; `None` if the run has one job.
    name_width: Option<usize>,
    /// The step (`None` for the run) whose last line is not terminated yet.
    open: Option<Option<u32>>,
    /// Removes escape sequences other than colors.
    filter: TerminalFilter,
}

impl RunPrinter<LiveOutput> {
    /// Prints to standard output, in color if that is a terminal and `NO_COLOR` is not set.
    pub(super) fn standard(name_width: Option<usize>) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colors: Colors(io::stdout().is_terminal() && !plain),
            out: LiveOutput::standard(),
            name_width,
            open: None,
            filter: TerminalFilter::default(),
        }
    }

    /// Redraws the status lines below the log.
    fn show_status(&mut self, progress: &RunProgress) {
        let Some(rows) = self.out.status_rows() else {
            return;
        };
        let (jobs, steps) = progress.all();
        self.out.set_status(&status_lines(
            &jobs,
            &steps,
            progress.now(),
            rows,
            self.colors,
        ));
    }
}

/// Prints a run until `over` is cancelled and everything is printed.
pub(super) async fn follow(
    printer: &mut RunPrinter<LiveOutput>,
    progress: &RunProgress,
    mut changes: watch::Receiver<u64>,
    mut follower: LogFollower,
    over: &CancellationToken,
) -> io::Result<()> {
    let mut feed = EventMerger::default();
    loop {
        // In this order nothing is missed: a change after the read wakes the loop again.
        let last = over.is_cancelled();
        changes.mark_unchanged();
        tokio::task::block_in_place(|| feed.read(printer, progress, &mut follower, last))?;
        if last {
            return printer.out.close();
        }
        printer.show_status(progress);
        let is_live = printer.out.status_rows().is_some();
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { over.cancelled().await },
            () = tokio::time::sleep(REDRAW_INTERVAL), if is_live => {}
            () = over.cancelled() => {}
        }
    }
}

/// Merges events and log lines by time.
#[derive(Default)]
struct EventMerger {
    events: Vec<ProgressEvent>,
    printed: usize,
    /// The number of events that `keys` takes into account.
    noted: usize,
    /// Steps whose log has not been read to its end, sorted by number.
    keys: Vec<StepKey>,
}

impl EventMerger {
    /// Prints everything that is available now.
    fn read<W: Write>(
        &mut self,
        printer: &mut RunPrinter<W>,
        progress: &RunProgress,
        follower: &mut LogFollower,
        last: bool,
    ) -> io::Result<()> {
        self.events.extend(progress.events_from(self.events.len()));
        // The logs of steps that have ended by now are read to their end below; those of later steps may not be.
        let known = self.events.len();
        self.note_steps(known);
        self.keys.iter_mut().for_each(|key| key.done |= last);
        loop {
            let mut batch = follower.poll(&self.keys, BATCH_BYTES)?;
            // Times are milliseconds. Within one, lines of quire and of the pipeline mostly follow those of a command.
            for moment in batch.lines.chunk_by_mut(|a, b| a.time == b.time) {
                moment.sort_by_key(|line| line.seq.is_none());
            }
            self.events.extend(progress.events_from(self.events.len()));
            for line in &batch.lines {
                self.before(line, printer)?;
                printer.line(line)?;
            }
            if !batch.more {
                break;
            }
            printer.out.flush()?;
        }
        self.keys.retain(|key| !key.done);
        let upto = if last { self.events.len() } else { known };
        while self.printed < upto {
            self.next(printer)?;
        }
        printer.out.flush()
    }

    /// Updates `keys` with the first `known` events.
    fn note_steps(&mut self, known: usize) {
        for event in &self.events[self.noted..known] {
            match event {
                // Steps are numbered in the order in which they start.
                ProgressEvent::StepStarted(step) => {
                    self.keys.push(StepKey {
                        seq: step.seq,
                        job: step.job.clone(),
                        done: false,
                    });
                }
                ProgressEvent::StepEnded(step) => {
                    if let Ok(at) = self.keys.binary_search_by_key(&step.seq, |key| key.seq) {
                        self.keys[at].done = true;
                    }
                }
                _ => {}
            }
        }
        self.noted = known;
    }

    /// Prints the events that precede a log line.
    fn before<W: Write>(&mut self, line: &LogLine, printer: &mut RunPrinter<W>) -> io::Result<()> {
        let starts = |event: &ProgressEvent| matches!(event, ProgressEvent::StepStarted(step) if Some(step.seq) == line.seq);
        let ahead = &self.events[self.printed..];
        let upto = ahead.iter().position(starts).map_or(0, |at| at + 1);
        // Within the same millisecond, the last lines of a step precede its end, and the lines of a job
        // follow the end of its step and precede its next step and its own end.
        let same = |event: &ProgressEvent| {
            line.seq.is_none()
                && matches!(event, ProgressEvent::StepEnded(_))
                && event.at() == line.time
        };
        let earlier = |event: &ProgressEvent| event.at() < line.time || same(event);
        let upto = upto.max(ahead.iter().take_while(|event| earlier(event)).count()) + self.printed;
        while self.printed < upto {
            self.next(printer)?;
        }
        Ok(())
    }

    fn next<W: Write>(&mut self, printer: &mut RunPrinter<W>) -> io::Result<()> {
        let event = &self.events[self.printed];
        self.printed += 1;
        printer.event(event)
    }
}

impl<W: Write> RunPrinter<W> {
    fn event(&mut self, event: &ProgressEvent) -> io::Result<()> {
        self.end_line()?;
        let line = match event {
            ProgressEvent::StepStarted(step) => self
                .colors
                .with(BOLD, &format!("── {} · {}", step.job, command(step))),
            ProgressEvent::StepEnded(step) => {
                let (mark, color) = step_mark(step);
                format!(
                    "{} {} · {}",
                    self.colors.with(color, mark),
                    step.job,
                    self.step_text(step)
                )
            }
            ProgressEvent::JobEnded(job) => {
                // The log already holds the reason of a failure.
                let message = job
                    .message
                    .clone()
                    .filter(|_| job.state != JobState::Failed);
                let job = JobProgress {
                    message,
                    ..job.clone()
                };
                format!(
                    "{} {}",
                    job_mark(&job, self.colors),
                    self.job_text(&job, 0, " ")
                )
            }
        };
        writeln!(self.out, "{line}")
    }

    fn line(&mut self, line: &LogLine) -> io::Result<()> {
        if self
            .open
            .is_some_and(|open| open != line.seq || overwrites_line(&line.text))
        {
            self.end_line()?;
        }
        let mut text = Vec::with_capacity(line.text.len());
        self.filter.line(&line.text, &mut text);
        if self.open.is_none()
            && let (Some(width), Some(job)) = (self.name_width, &line.job)
        {
            let name_width = self.colors.with(DIM, &format!("{job:width$} │ "));
            self.out.write_all(name_width.as_bytes())?;
        }
        if !line.partial {
            // The next line may belong to another step.
            self.filter.reset(&mut text);
            text.push(b'\n');
        }
        self.out.write_all(&text)?;
        self.open = line.partial.then_some(line.seq);
        Ok(())
    }

    /// Prints a line of quire itself.
    pub(super) fn say(&mut self, text: &str) -> io::Result<()> {
        self.end_line()?;
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// Prints the result of the run, its jobs and their steps as a tree.
    pub(super) fn summary(
        &mut self,
        good: bool,
        headline: &str,
        jobs: &[JobProgress],
        steps: &[StepProgress],
    ) -> io::Result<()> {
        self.end_line()?;
        let (mark, color) = if good { ("✓", GREEN) } else { ("✗", RED) };
        let mut text = format!(
            "\n{} {}\n",
            self.colors.with(color, mark),
            self.colors.with(BOLD, &single_line(headline))
        );
        let width = jobs
            .iter()
            .map(|job| job.name.as_str().chars().count())
            .max()
            .unwrap_or(0);
        let mut of_job: HashMap<&str, Vec<&StepProgress>> = HashMap::new();
        for step in steps {
            of_job.entry(step.job.as_str()).or_default().push(step);
        }
        for (at, job) in jobs.iter().enumerate() {
            let last = at + 1 == jobs.len();
            let (branch, below) = if last {
                ("└─", "   ")
            } else {
                ("├─", "│  ")
            };
            text += &format!(
                "{branch} {} {}\n",
                job_mark(job, self.colors),
                self.job_text(job, width, "  ")
            );
            let steps = of_job.remove(job.name.as_str()).unwrap_or_default();
            // The last steps are listed, because a failed step is among them.
            let hidden = steps.len().saturating_sub(MAX_SUMMARY_STEPS);
            if hidden > 0 {
                text += &format!(
                    "{below}├─ {}\n",
                    self.colors.with(DIM, &format!("… {hidden} more"))
                );
            }
            for (at, step) in steps.iter().enumerate().skip(hidden) {
                let branch = if at + 1 == steps.len() {
                    "└─"
                } else {
                    "├─"
                };
                let (mark, color) = step_mark(step);
                text += &format!(
                    "{below}{branch} {} {}\n",
                    self.colors.with(color, mark),
                    self.step_text(step)
                );
            }
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Terminates an unfinished line.
    fn end_line(&mut self) -> io::Result<()> {
        if self.open.take().is_none() {
            return Ok(());
        }
        let mut end = Vec::new();
        self.filter.reset(&mut end);
        end.push(b'\n');
        self.out.write_all(&end)
    }

    fn job_text(&self, job: &JobProgress, width: usize, gap: &str) -> String {
        let mut words = format!(
            "{}{gap}{}",
            self.colors.with(BOLD, &format!("{:width$}", job.name)),
            job.state
        );
        if let (Some(started), Some(ended)) = (job.started, job.ended) {
            words += &self
                .colors
                .with(DIM, &format!(" · {}", elapsed(started, ended)));
        }
        if let Some(message) = &job.message {
            words += &format!(" · {}", single_line(message));
        }
        words
    }

    fn step_text(&self, step: &StepProgress) -> String {
        let exit = match step.exit {
            Some(0) => String::new(),
            Some(code) => format!(" · exit {code}"),
            None => " · interrupted".to_owned(),
        };
        let time = step.ended.map_or_else(String::new, |ended| {
            format!(" · {}", elapsed(step.started, ended))
        });
        format!("{}{exit}{}", command(step), self.colors.with(DIM, &time))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use quire_run_files::logs::Stream;
    use quire_runtime::changes::ChangeNotifier;
    use quire_server::runner::Recorder as _;
    use quire_store::JobResult;
    use quire_types::clock::{Clock, Millis};
    use quire_types::names::{JobName, RunId};

    fn printer(color: bool, name_width: Option<usize>) -> RunPrinter<Vec<u8>> {
        RunPrinter {
            out: Vec::new(),
            colors: Colors(color),
            name_width,
            open: None,
            filter: TerminalFilter::default(),
        }
    }

    fn line(seq: Option<u32>, time: i64, partial: bool, text: &str) -> LogLine {
        let job = seq.map(|seq| {
            if seq == 1 {
                "a".parse().unwrap()
            } else {
                "long".parse().unwrap()
            }
        });
        LogLine {
            seq,
            job,
            time: Millis(time),
            stream: Stream::Stdout,
            partial,
            text: text.into(),
        }
    }

    #[test]
    fn unfinished_lines_of_several_steps_do_not_mix() {
        let mut printer = printer(false, Some(4));
        for line in [
            line(Some(1), 0, true, "one"),
            line(Some(1), 0, true, " two"),
            line(Some(2), 0, false, "x"),
            line(Some(1), 0, true, "three"),
        ] {
            printer.line(&line).unwrap();
        }
        printer.line(&line(None, 0, false, "quire: own")).unwrap();
        assert_eq!(
            String::from_utf8(printer.out).unwrap(),
            "a    │ one two\nlong │ x\na    │ three\nquire: own\n"
        );
    }

    #[test]
    fn only_color_escapes_are_printed_and_reset_per_line() {
        let mut printer = printer(false, Some(4));
        for (partial, text) in [
            (false, "\u{1b}]52;c;eA==\u{7}\u{1b}[32mgreen"),
            (true, "10%"),
            (true, "\r\u{1b}[1m20%"),
        ] {
            printer.line(&line(Some(1), 0, partial, text)).unwrap();
        }
        printer.say("quire: own").unwrap();
        let expected = "a    │ \u{1b}[32mgreen\u{1b}[0m\na    │ 10%\na    │ \u{1b}[1m20%\u{1b}[0m\nquire: own\n";
        assert_eq!(String::from_utf8(printer.out).unwrap(), expected);
    }

    #[test]
    fn events_and_log_lines_are_merged_by_time() {
        let time = Arc::new(AtomicI64::new(10));
        let progress = RunProgress::new(
            Clock::manual(time.clone()),
            ChangeNotifier::default(),
            RunId::new(),
        );
        let at = |millis| time.store(millis, Ordering::SeqCst);
        let a: JobName = "a".parse().unwrap();
        progress
            .jobs_registered(&[(a.clone(), Vec::new())])
            .unwrap();
        progress.job_started(&a).unwrap();
        progress.step_started(1, &a, "make\u{1b}[2J\nmore").unwrap();
        at(20);
        progress.step_ended(1, Some(2)).unwrap();
        at(30);
        let end = JobResult {
            message: Some("why"),
            ..JobResult::of_state(JobState::Failed)
        };
        progress.job_ended(&a, JobState::Active, &end).unwrap();
        let mut feed = EventMerger {
            events: progress.events_from(0),
            ..EventMerger::default()
        };
        let mut printer = printer(true, None);
        for line in [
            line(None, 5, false, "pull"),
            line(Some(1), 10, false, "out"),
            line(Some(1), 20, false, "last"),
            line(None, 20, false, "quire: cut"),
        ] {
            feed.before(&line, &mut printer).unwrap();
            printer.line(&line).unwrap();
        }
        let text = String::from_utf8(printer.out).unwrap();
        assert_eq!(
            text,
            "pull\n\u{1b}[1m── a · make�[2J…\u{1b}[0m\nout\nlast\n\u{1b}[31m✗\u{1b}[0m a · make�[2J… · exit 2\u{1b}[2m · 10 ms\u{1b}[0m\nquire: cut\n"
        );
        let (jobs, steps) = progress.all();
        let mut summary = self::printer(false, None);
        summary
            .summary(false, "failed\nbadly", &jobs, &vec![steps[0].clone(); 25])
            .unwrap();
        let text = String::from_utf8(summary.out).unwrap();
        assert!(
            text.starts_with(
                "\n✗ failed badly\n└─ ✗ a  failed · 20 ms · why\n   ├─ … 5 more\n   ├─ ✗ make"
            ),
            "{text}"
        );
        assert_eq!(text.lines().count(), 24);
    }
}
