//! What a person sees of a run: its log while it comes, each step and job with its end, and a
//! summary.
//!
//! Lines come from the log files, which are redacted, ends from the [`Board`]; both are merged by
//! their times. No line is ever taken back; what changes stands below them, on the [`Stage`].

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::super::output::span;
use super::super::run::short;
use super::board::{Board, Event, Job, Step};
use super::stage::Stage;
use super::standing::standing;
use crate::clock::Millis;
use crate::escapes::{Screened, restarts};
use crate::logs::{LogFollower, LogLine, StepKey};
use crate::run::JobState;

/// How much log is read at once.
const BATCH_BYTES: usize = 256 << 10;
/// How much of a command stands in a heading.
const COMMAND_CHARS: usize = 100;
/// How many steps of a job the summary has.
const STEPS_SHOWN: usize = 20;

/// How often the times of what goes on are drawn anew.
const REDRAW: Duration = Duration::from_millis(200);

/// Colours as terminals number them.
const BOLD: &str = "1";
pub(super) const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
pub(super) const YELLOW: &str = "33";

/// Whether there are colours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    /// The text in a colour.
    pub(super) fn with(self, colour: &str, text: &str) -> String {
        if self.0 && !text.is_empty() {
            format!("\u{1b}[{colour}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Prints a run.
pub(super) struct Screen<W> {
    out: W,
    paint: Paint,
    /// The width of the job's name before each line of output, where the run has several jobs.
    gutter: Option<usize>,
    /// Whose line has no end yet.
    open: Option<Option<u32>>,
    /// Takes out what a terminal would act on.
    screened: Screened,
}

impl Screen<Stage> {
    /// On standard output; in colour where that is a terminal and nobody objects.
    pub(super) fn standard(gutter: Option<usize>) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            paint: Paint(io::stdout().is_terminal() && !plain),
            out: Stage::standard(),
            gutter,
            open: None,
            screened: Screened::default(),
        }
    }

    /// Shows below everything how the run stands.
    fn show_standing(&mut self, board: &Board) {
        let Some(room) = self.out.room() else { return };
        let (jobs, steps) = board.all();
        self.out
            .show(&standing(&jobs, &steps, board.now(), room, self.paint));
    }
}

/// Shows a run until `over` fires and everything is printed.
///
/// # Errors
/// The log cannot be read or printed.
pub(super) async fn follow(
    screen: &mut Screen<Stage>,
    board: &Board,
    mut changes: watch::Receiver<u64>,
    mut follower: LogFollower,
    over: &CancellationToken,
) -> io::Result<()> {
    let mut feed = Feed::default();
    loop {
        // In this order nothing is missed: what is written after it was looked at wakes us again.
        let last = over.is_cancelled();
        changes.mark_unchanged();
        tokio::task::block_in_place(|| feed.read(screen, board, &mut follower, last))?;
        if last {
            return screen.out.close();
        }
        screen.show_standing(board);
        let is_live = screen.out.room().is_some();
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { over.cancelled().await },
            () = tokio::time::sleep(REDRAW), if is_live => {}
            () = over.cancelled() => {}
        }
    }
}

/// Events and log, brought together.
#[derive(Default)]
struct Feed {
    events: Vec<Event>,
    printed: usize,
    /// So many of the events are in the keys.
    noted: usize,
    /// Steps whose log has not been read to its end, in order.
    keys: Vec<StepKey>,
}

impl Feed {
    /// Prints all there is now.
    fn read<W: Write>(
        &mut self,
        screen: &mut Screen<W>,
        board: &Board,
        follower: &mut LogFollower,
        last: bool,
    ) -> io::Result<()> {
        self.events.extend(board.events_from(self.events.len()));
        // The log of a step that had ended here will be read to its end below; of later ones, who knows.
        let known = self.events.len();
        self.note_steps(known);
        self.keys.iter_mut().for_each(|key| key.done |= last);
        loop {
            let mut batch = follower.poll(&self.keys, BATCH_BYTES)?;
            // Times are milliseconds. What quire and the pipeline say mostly follows what a command has said.
            for moment in batch.lines.chunk_by_mut(|a, b| a.time == b.time) {
                moment.sort_by_key(|line| line.seq.is_none());
            }
            self.events.extend(board.events_from(self.events.len()));
            for line in &batch.lines {
                self.before(line, screen)?;
                screen.line(line)?;
            }
            if !batch.more {
                break;
            }
            screen.out.flush()?;
        }
        self.keys.retain(|key| !key.done);
        let upto = if last { self.events.len() } else { known };
        while self.printed < upto {
            self.next(screen)?;
        }
        screen.out.flush()
    }

    /// Adds the steps that the first `known` events name to the keys, as far as that was not done.
    fn note_steps(&mut self, known: usize) {
        for event in &self.events[self.noted..known] {
            match event {
                // Numbers are given in the order of starting.
                Event::StepStarted(step) => {
                    self.keys.push(StepKey {
                        seq: step.seq,
                        job: step.job.clone(),
                        done: false,
                    });
                }
                Event::StepEnded(step) => {
                    if let Ok(at) = self.keys.binary_search_by_key(&step.seq, |key| key.seq) {
                        self.keys[at].done = true;
                    }
                }
                _ => {}
            }
        }
        self.noted = known;
    }

    /// Prints what happened before a line was written.
    fn before<W: Write>(&mut self, line: &LogLine, screen: &mut Screen<W>) -> io::Result<()> {
        let starts =
            |event: &Event| matches!(event, Event::StepStarted(step) if Some(step.seq) == line.seq);
        let ahead = &self.events[self.printed..];
        let upto = ahead.iter().position(starts).map_or(0, |at| at + 1);
        // Of the same moment: a step's last lines come before its end; what a job says comes after the
        // end of its step, and before its next step and its own end.
        let same = |event: &Event| {
            line.seq.is_none() && matches!(event, Event::StepEnded(_)) && event.at() == line.time
        };
        let earlier = |event: &Event| event.at() < line.time || same(event);
        let upto = upto.max(ahead.iter().take_while(|event| earlier(event)).count()) + self.printed;
        while self.printed < upto {
            self.next(screen)?;
        }
        Ok(())
    }

    fn next<W: Write>(&mut self, screen: &mut Screen<W>) -> io::Result<()> {
        let event = &self.events[self.printed];
        self.printed += 1;
        screen.event(event)
    }
}

impl<W: Write> Screen<W> {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.end_line()?;
        let line = match event {
            Event::StepStarted(step) => self
                .paint
                .with(BOLD, &format!("── {} · {}", step.job, command(step))),
            Event::StepEnded(step) => {
                let (mark, colour) = step_mark(step);
                format!(
                    "{} {} · {}",
                    self.paint.with(colour, mark),
                    step.job,
                    self.step_words(step)
                )
            }
            Event::JobEnded(job) => {
                // Why it failed is a line of the log.
                let message = job
                    .message
                    .clone()
                    .filter(|_| job.state != JobState::Failed);
                let job = Job {
                    message,
                    ..job.clone()
                };
                format!(
                    "{} {}",
                    job_mark(&job, self.paint),
                    self.job_words(&job, 0, " ")
                )
            }
        };
        writeln!(self.out, "{line}")
    }

    fn line(&mut self, line: &LogLine) -> io::Result<()> {
        if self
            .open
            .is_some_and(|open| open != line.seq || restarts(&line.text))
        {
            self.end_line()?;
        }
        let mut text = Vec::with_capacity(line.text.len());
        self.screened.line(&line.text, &mut text);
        if self.open.is_none()
            && let (Some(width), Some(job)) = (self.gutter, &line.job)
        {
            let gutter = self.paint.with(DIM, &format!("{job:width$} │ "));
            self.out.write_all(gutter.as_bytes())?;
        }
        if !line.partial {
            // Whose line comes next is not known.
            self.screened.reset(&mut text);
            text.push(b'\n');
        }
        self.out.write_all(&text)?;
        self.open = line.partial.then_some(line.seq);
        Ok(())
    }

    /// A line of quire's own.
    pub(super) fn say(&mut self, text: &str) -> io::Result<()> {
        self.end_line()?;
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// The whole run once more, as a tree: how it came out, its jobs, their steps.
    pub(super) fn summary(
        &mut self,
        good: bool,
        headline: &str,
        jobs: &[Job],
        steps: &[Step],
    ) -> io::Result<()> {
        self.end_line()?;
        let (mark, colour) = if good { ("✓", GREEN) } else { ("✗", RED) };
        let mut text = format!(
            "\n{} {}\n",
            self.paint.with(colour, mark),
            self.paint.with(BOLD, &printable(headline))
        );
        let width = jobs
            .iter()
            .map(|job| job.name.as_str().chars().count())
            .max()
            .unwrap_or(0);
        let mut of_job: HashMap<&str, Vec<&Step>> = HashMap::new();
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
                job_mark(job, self.paint),
                self.job_words(job, width, "  ")
            );
            let steps = of_job.remove(job.name.as_str()).unwrap_or_default();
            // The last ones: what failed is among them.
            let hidden = steps.len().saturating_sub(STEPS_SHOWN);
            if hidden > 0 {
                text += &format!(
                    "{below}├─ {}\n",
                    self.paint.with(DIM, &format!("… {hidden} more"))
                );
            }
            for (at, step) in steps.iter().enumerate().skip(hidden) {
                let branch = if at + 1 == steps.len() {
                    "└─"
                } else {
                    "├─"
                };
                let (mark, colour) = step_mark(step);
                text += &format!(
                    "{below}{branch} {} {}\n",
                    self.paint.with(colour, mark),
                    self.step_words(step)
                );
            }
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Ends a line that nobody has ended.
    fn end_line(&mut self) -> io::Result<()> {
        if self.open.take().is_none() {
            return Ok(());
        }
        let mut end = Vec::new();
        self.screened.reset(&mut end);
        end.push(b'\n');
        self.out.write_all(&end)
    }

    fn job_words(&self, job: &Job, width: usize, gap: &str) -> String {
        let mut words = format!(
            "{}{gap}{}",
            self.paint.with(BOLD, &format!("{:width$}", job.name)),
            job.state
        );
        if let (Some(started), Some(ended)) = (job.started, job.ended) {
            words += &self
                .paint
                .with(DIM, &format!(" · {}", took(started, ended)));
        }
        if let Some(message) = &job.message {
            words += &format!(" · {}", printable(message));
        }
        words
    }

    fn step_words(&self, step: &Step) -> String {
        let exit = match step.exit {
            Some(0) => String::new(),
            Some(code) => format!(" · exit {code}"),
            None => " · cut off".to_owned(),
        };
        let time = step.ended.map_or_else(String::new, |ended| {
            format!(" · {}", took(step.started, ended))
        });
        format!("{}{exit}{}", command(step), self.paint.with(DIM, &time))
    }
}

/// The sign of how a job came out.
pub(super) fn job_mark(job: &Job, paint: Paint) -> String {
    let (mark, colour) = match job.state {
        JobState::Complete => ("✓", GREEN),
        JobState::Failed => ("✗", RED),
        JobState::Skipped => ("–", DIM),
        JobState::Aborted | JobState::Pending | JobState::Active => ("✗", YELLOW),
    };
    paint.with(colour, mark)
}

fn step_mark(step: &Step) -> (&'static str, &'static str) {
    match step.exit {
        Some(0) => ("✓", GREEN),
        Some(_) => ("✗", RED),
        None => ("✗", YELLOW),
    }
}

pub(super) fn command(step: &Step) -> String {
    printable(&short(&step.command, COMMAND_CHARS))
}

/// Text for one line: without what a terminal would act on.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

pub(super) fn took(from: Millis, to: Millis) -> String {
    span(to.since(from))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::logs::Stream;
    use crate::names::{JobName, RunId};
    use crate::{clock::Clock, live::Live, runner::Recorder as _, store::JobResult};

    fn screen(colour: bool, gutter: Option<usize>) -> Screen<Vec<u8>> {
        Screen {
            out: Vec::new(),
            paint: Paint(colour),
            gutter,
            open: None,
            screened: Screened::default(),
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
    fn unfinished_lines_of_several_steps_are_kept_apart() {
        let mut screen = screen(false, Some(4));
        for line in [
            line(Some(1), 0, true, "one"),
            line(Some(1), 0, true, " two"),
            line(Some(2), 0, false, "x"),
            line(Some(1), 0, true, "three"),
        ] {
            screen.line(&line).unwrap();
        }
        screen.line(&line(None, 0, false, "quire: own")).unwrap();
        assert_eq!(
            String::from_utf8(screen.out).unwrap(),
            "a    │ one two\nlong │ x\na    │ three\nquire: own\n"
        );
    }

    #[test]
    fn of_escapes_only_colours_are_shown_and_end_with_their_line() {
        let mut screen = screen(false, Some(4));
        for (partial, text) in [
            (false, "\u{1b}]52;c;eA==\u{7}\u{1b}[32mgreen"),
            (true, "10%"),
            (true, "\r\u{1b}[1m20%"),
        ] {
            screen.line(&line(Some(1), 0, partial, text)).unwrap();
        }
        screen.say("quire: own").unwrap();
        let expected = "a    │ \u{1b}[32mgreen\u{1b}[0m\na    │ 10%\na    │ \u{1b}[1m20%\u{1b}[0m\nquire: own\n";
        assert_eq!(String::from_utf8(screen.out).unwrap(), expected);
    }

    #[test]
    fn ends_stand_where_they_happened() {
        let time = Arc::new(AtomicI64::new(10));
        let board = Board::new(Clock::manual(time.clone()), Live::default(), RunId::new());
        let at = |millis| time.store(millis, Ordering::SeqCst);
        let a: JobName = "a".parse().unwrap();
        board.jobs_registered(&[(a.clone(), Vec::new())]).unwrap();
        board.job_started(&a).unwrap();
        board.step_started(1, &a, "make\u{1b}[2J\nmore").unwrap();
        at(20);
        board.step_ended(1, Some(2)).unwrap();
        at(30);
        let end = JobResult {
            message: Some("why"),
            ..JobResult::plain(JobState::Failed)
        };
        board.job_ended(&a, JobState::Active, &end).unwrap();
        let mut feed = Feed {
            events: board.events_from(0),
            ..Feed::default()
        };
        let mut screen = screen(true, None);
        for line in [
            line(None, 5, false, "pull"),
            line(Some(1), 10, false, "out"),
            line(Some(1), 20, false, "last"),
            line(None, 20, false, "quire: cut"),
        ] {
            feed.before(&line, &mut screen).unwrap();
            screen.line(&line).unwrap();
        }
        let text = String::from_utf8(screen.out).unwrap();
        assert_eq!(
            text,
            "pull\n\u{1b}[1m── a · make [2J…\u{1b}[0m\nout\nlast\n\u{1b}[31m✗\u{1b}[0m a · make [2J… · exit 2\u{1b}[2m · 10 ms\u{1b}[0m\nquire: cut\n"
        );
        let (jobs, steps) = board.all();
        let mut summary = self::screen(false, None);
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
