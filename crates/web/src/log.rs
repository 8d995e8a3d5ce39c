//! A run's log on its page and as plain text.
//!
//! Lines are numbered per step, from 1; a line that was written in several pieces counts once.
//! The page shows the end of each step's log within a budget, and knows the position after the
//! last line it read: the live stream goes on exactly there.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::access::find_run;
use super::ansi::{Style, escaped, render};
use super::error::WebError;
use super::html::encoded;
use super::state::SharedApp;
use super::viewer::Viewer;
use quire_run_files::logs::{Cursor, LogFollower, LogLine, StepKey, Stream, is_cap_notice};
use quire_types::ansi::strip;
use quire_types::run::RunStep;

/// The most that a page shows of one step's log.
const STEP_BYTES: usize = 64 << 10;
/// The least, as long as there is room for it.
const STEP_BYTES_MIN: usize = 2 << 10;
/// What a page shows of all logs together.
const PAGE_BYTES: usize = 512 << 10;
/// How much is read at a time.
const BATCH_BYTES: usize = 256 << 10;
/// How long a page reads; a log that is longer than that goes on in the live stream or the plain text.
const PAGE_READ_TIMEOUT: Duration = Duration::from_secs(3);

/// The number under which the run's own lines stand.
pub(super) const RUN_SEQ: u32 = 0;

/// A step's key, for a follower.
pub(super) fn key(step: &RunStep) -> StepKey {
    StepKey {
        seq: step.seq,
        job: step.job_id.clone(),
        done: step.finished_at_ms.is_some(),
    }
}

fn keys(steps: &[RunStep]) -> Vec<StepKey> {
    steps.iter().map(key).collect()
}

/// What the ids of a step's lines begin with.
pub(super) fn prefix(step: &RunStep) -> String {
    format!("{}-{}-", step.job_id, step.seq)
}

/// What the ids of the run's own lines begin with. No job's id ends it in `--`.
pub(super) const RUN_PREFIX: &str = "log--";

/// One step's part of a page.
#[derive(Debug, Default)]
pub(super) struct RenderedLog {
    /// The lines, safe to put in as they are.
    pub(super) html: String,
    /// Lines before them that the page leaves out.
    pub(super) left_out: u64,
    /// The number of the next line.
    pub(super) next: u64,
}

/// A page's logs, and where they end.
#[derive(Debug, Default)]
pub(super) struct PageLogs {
    pub(super) parts: HashMap<u32, RenderedLog>,
    /// The position after them, for the live stream.
    pub(super) cursor: String,
    /// The logs have reached their limit, and go no further.
    pub(super) capped: bool,
}

impl PageLogs {
    /// Takes a step's part; an empty one where it has no lines.
    pub(super) fn take(&mut self, seq: u32) -> RenderedLog {
        self.parts.remove(&seq).unwrap_or(RenderedLog {
            next: 1,
            ..RenderedLog::default()
        })
    }
}

/// The last lines of one log, within a budget.
#[derive(Debug, Default)]
struct TailBuffer {
    kept: VecDeque<LineFragment>,
    bytes: usize,
    budget: usize,
    /// Lines begun so far.
    lines: u64,
    /// The stream whose last line is still open.
    open: Option<Stream>,
}

#[derive(Debug)]
struct LineFragment {
    text: Vec<u8>,
    stream: Stream,
    partial: bool,
    /// The number of the line that it belongs to.
    line: u64,
}

impl TailBuffer {
    fn push(&mut self, line: LogLine) {
        if self.open != Some(line.stream) {
            self.lines += 1;
        }
        self.open = line.partial.then_some(line.stream);
        self.bytes += line.text.len() + 1;
        self.kept.push_back(LineFragment {
            text: line.text,
            stream: line.stream,
            partial: line.partial,
            line: self.lines,
        });
        while self.bytes > self.budget {
            let Some(gone) = self.kept.pop_front() else {
                break;
            };
            self.bytes -= gone.text.len() + 1;
        }
    }

    fn render(self, prefix: &str) -> RenderedLog {
        let (id, link) = (escaped(prefix), encoded(prefix));
        let (mut html, mut style) = (String::with_capacity(self.bytes * 2), Style::default());
        let first = self.kept.front().map_or(self.lines + 1, |p| p.line);
        let mut pieces = self.kept.into_iter().peekable();
        while let Some(piece) = pieces.next() {
            let (number, stream) = (piece.line, piece.stream);
            let mut shown = render(&piece.text, &mut style).html;
            let mut partial = piece.partial;
            while let Some(more) = pieces.next_if(|p| p.line == number) {
                let rendered = render(&more.text, &mut style);
                if rendered.restarts {
                    shown.clear();
                }
                shown.push_str(&rendered.html);
                partial = more.partial;
            }
            let class = if stream == Stream::Stderr { "l e" } else { "l" };
            let open = if partial { " data-open" } else { "" };
            // Writing to a String cannot fail.
            let _ = writeln!(
                html,
                "<span class=\"{class}\" id=\"{id}{number}\"{open}><a href=\"#{link}{number}\" tabindex=\"-1\">{number}</a>{shown}</span>"
            );
        }
        RenderedLog {
            html,
            left_out: first - 1,
            next: self.lines + 1,
        }
    }
}

/// How much of each step's log a page shows: most of those of steps that failed or are active.
fn byte_budgets(steps: &[RunStep]) -> HashMap<u32, usize> {
    let each = (PAGE_BYTES / (steps.len() + 1)).clamp(STEP_BYTES_MIN, STEP_BYTES);
    let mut wanted: Vec<&RunStep> = steps.iter().collect();
    // Failed or running ones first, then the newest.
    wanted.sort_by_key(|s| (s.exit_code == Some(0), std::cmp::Reverse(s.seq)));
    let own = std::iter::once((RUN_SEQ, each));
    own.chain(
        wanted
            .into_iter()
            .take(PAGE_BYTES / each)
            .map(|s| (s.seq, each)),
    )
    .collect()
}

/// Reads what a page shows. Blocking.
pub(super) fn read_page(folder: PathBuf, steps: &[RunStep]) -> io::Result<PageLogs> {
    let byte_budgets = byte_budgets(steps);
    let keys = keys(steps);
    let mut follower = LogFollower::open(folder, Cursor::default());
    let mut tails: HashMap<u32, TailBuffer> = HashMap::new();
    let (begun, mut capped) = (Instant::now(), false);
    loop {
        let batch = follower.poll(&keys, BATCH_BYTES)?;
        let over = batch.lines.is_empty() || begun.elapsed() > PAGE_READ_TIMEOUT;
        for line in batch.lines {
            capped |= is_cap_notice(&line);
            let seq = line.seq.unwrap_or(RUN_SEQ);
            let budget = byte_budgets.get(&seq).copied().unwrap_or(0);
            tails
                .entry(seq)
                .or_insert_with(|| TailBuffer {
                    budget,
                    ..TailBuffer::default()
                })
                .push(line);
        }
        if over {
            break;
        }
    }
    let prefixes: HashMap<u32, String> = steps.iter().map(|s| (s.seq, prefix(s))).collect();
    let named = |seq: u32| prefixes.get(&seq).map_or(RUN_PREFIX, String::as_str);
    let parts = tails
        .into_iter()
        .map(|(seq, tail)| (seq, tail.render(named(seq))))
        .collect();
    Ok(PageLogs {
        parts,
        cursor: follower.cursor().to_string(),
        capped,
    })
}

/// What `log.txt` may be asked for.
#[derive(Debug, Deserialize)]
pub(super) struct RawQuery {
    /// Only this step's output.
    step: Option<u32>,
}

/// `GET /runs/<id>/log.txt`: all of the log as text, colours taken out.
pub(super) async fn raw(
    State(app): SharedApp,
    Extension(viewer): Extension<Viewer>,
    Path(id): Path<String>,
    Query(query): Query<RawQuery>,
) -> Result<Response, WebError> {
    let run = find_run(&app, &viewer, &id).await?;
    if let Some(at) = run.logs_removed_at_ms {
        return Ok((
            StatusCode::GONE,
            format!("The log of this run was removed by retention on {at}.\n"),
        )
            .into_response());
    }
    let steps = app.web.store.call(move |s| s.steps().list(run.id)).await?;
    if query
        .step
        .is_some_and(|seq| steps.iter().all(|s| s.seq != seq))
    {
        return Err(WebError::NotFound);
    }
    let text = RawText::new(
        LogFollower::open(app.web.paths.run_dir(&run.repo, run.id), Cursor::default()),
        steps,
        query.step,
    );
    let body = Body::from_stream(futures_util::stream::unfold(
        Some(text),
        |text| async move {
            let mut text = text?;
            let read =
                tokio::task::spawn_blocking(move || text.next().map(|bytes| (bytes, text))).await;
            match read.map_err(io::Error::other).and_then(|result| result) {
                Ok((Some(bytes), text)) => Some((Ok(bytes), Some(text))),
                Ok((None, _)) => None,
                Err(error) => {
                    tracing::error!("web: reading a log: {error}");
                    Some((Err(error), None))
                }
            }
        },
    ));
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response())
}

/// A log on its way out as text.
struct RawText {
    follower: LogFollower,
    keys: Vec<StepKey>,
    commands: HashMap<u32, String>,
    only: Option<u32>,
    /// The step whose lines came last.
    current: Option<u32>,
}

impl RawText {
    fn new(follower: LogFollower, steps: Vec<RunStep>, only: Option<u32>) -> Self {
        let mut keys = keys(&steps);
        keys.retain(|key| only.is_none_or(|seq| key.seq == seq));
        let commands = steps
            .into_iter()
            .map(|s| (s.seq, format!("{} $ {}", s.job_id, s.command)))
            .collect();
        Self {
            follower,
            keys,
            commands,
            only,
            current: None,
        }
    }

    /// The next piece; none at the end.
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let batch = self.follower.poll(&self.keys, BATCH_BYTES)?;
            if batch.lines.is_empty() {
                return Ok(None);
            }
            let mut text = String::new();
            for line in batch.lines {
                self.line(&line, &mut text);
            }
            if !text.is_empty() {
                return Ok(Some(text.into()));
            }
        }
    }

    fn line(&mut self, line: &LogLine, text: &mut String) {
        if self.only.is_some() && line.seq != self.only {
            return;
        }
        if self.only.is_none() && line.seq != self.current {
            self.current = line.seq;
            if let Some(command) = line.seq.and_then(|seq| self.commands.get(&seq)) {
                let _ = writeln!(text, "\n[{command}]");
            }
        }
        text.push_str(&strip(&line.text));
        if !line.partial {
            text.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_types::clock::Millis;

    fn line(stream: Stream, partial: bool, text: &str) -> LogLine {
        LogLine {
            seq: Some(1),
            job: None,
            time: Millis(0),
            stream,
            partial,
            text: text.into(),
        }
    }

    fn rendered(budget: usize, lines: Vec<LogLine>) -> RenderedLog {
        let mut tail = TailBuffer {
            budget,
            ..TailBuffer::default()
        };
        lines.into_iter().for_each(|l| tail.push(l));
        tail.render("a-1-")
    }

    #[test]
    fn pieces_of_a_line_are_one_line() {
        let log = rendered(
            1000,
            vec![
                line(Stream::Stdout, true, "10%"),
                line(Stream::Stdout, true, "\r50"),
                line(Stream::Stdout, false, "%"),
                line(Stream::Stderr, true, "warn"),
                line(Stream::Stdout, false, "<x>"),
            ],
        );
        assert_eq!(
            log.html,
            "<span class=\"l\" id=\"a-1-1\"><a href=\"#a-1-1\" tabindex=\"-1\">1</a>50%</span>\n\
             <span class=\"l e\" id=\"a-1-2\" data-open><a href=\"#a-1-2\" tabindex=\"-1\">2</a>warn</span>\n\
             <span class=\"l\" id=\"a-1-3\"><a href=\"#a-1-3\" tabindex=\"-1\">3</a>&lt;x&gt;</span>\n"
        );
        assert_eq!((log.left_out, log.next), (0, 4));
    }

    #[test]
    fn a_long_log_keeps_its_end_and_its_numbers() {
        let lines = (1..=1000)
            .map(|n| line(Stream::Stdout, false, &format!("line {n}")))
            .collect();
        let log = rendered(100, lines);
        assert!(
            log.html.contains("id=\"a-1-1000\"") && log.html.contains(">1000</a>line 1000</span>")
        );
        assert_eq!(log.html.lines().count() as u64, 1000 - log.left_out);
        assert!(log.html.lines().count() < 12 && log.next == 1001);
        let nothing = rendered(0, vec![line(Stream::Stdout, false, "x")]);
        assert_eq!(
            (nothing.html.as_str(), nothing.left_out, nothing.next),
            ("", 1, 2)
        );
    }
}
