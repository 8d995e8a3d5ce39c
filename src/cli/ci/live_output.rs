//! Standard output of `quire ci run`: a stream of lines and, on a terminal, status lines below them
//! that are redrawn while the run goes on and removed at its end. The stream is the same text with
//! and without a terminal.

use std::io::{self, IsTerminal as _, Stdout, Write};

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use quire_types::text::single_line;

/// The most status lines; a small terminal gets fewer.
const MAX_STATUS_ROWS: usize = 16;

/// Standard output.
pub(super) struct LiveOutput {
    out: Stdout,
    bars_below: Option<StatusBars>,
    /// With a bars_below: what is not printed yet, for only whole lines are.
    pending: Vec<u8>,
}

/// The status lines, drawn by indicatif.
struct StatusBars {
    bars: MultiProgress,
    lines: Vec<ProgressBar>,
    style: ProgressStyle,
}

impl LiveOutput {
    /// On standard output; with a bars_below where that is a terminal that can move its cursor.
    pub(super) fn standard() -> Self {
        let out = io::stdout();
        let moves = std::env::var_os("TERM").is_some_and(|term| term != "dumb" && !term.is_empty());
        // Redraws above 10 Hz cost time and cannot be read.
        let bars_below = (out.is_terminal() && moves).then(|| StatusBars {
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::stdout_with_hz(10)),
            lines: Vec::new(),
            style: ProgressStyle::with_template("{wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar()),
        });
        Self {
            out,
            bars_below,
            pending: Vec::new(),
        }
    }

    /// The number of status lines that fit; `None` if there are no status lines.
    pub(super) fn status_rows(&self) -> Option<usize> {
        self.bars_below.as_ref()?;
        let (rows, _) = Term::stdout().size();
        Some(usize::from(rows / 2).clamp(1, MAX_STATUS_ROWS))
    }

    /// Replaces the status lines.
    pub(super) fn set_status(&mut self, lines: &[String]) {
        let Some(bars_below) = &mut self.bars_below else {
            return;
        };
        // An unfinished line of output is shown here until it is finished.
        let tail = single_line(&console::strip_ansi_codes(&String::from_utf8_lossy(
            &self.pending,
        )));
        let tail = Some(tail).filter(|tail| !tail.trim().is_empty());
        let shown: Vec<&String> = tail.iter().chain(lines).collect();
        while bars_below.lines.len() > shown.len() {
            if let Some(line) = bars_below.lines.pop() {
                line.finish_and_clear();
                bars_below.bars.remove(&line);
            }
        }
        while bars_below.lines.len() < shown.len() {
            let line = ProgressBar::no_length().with_style(bars_below.style.clone());
            bars_below.lines.push(bars_below.bars.add(line));
        }
        for (line, text) in bars_below.lines.iter().zip(shown) {
            line.set_message(text.clone());
            line.tick();
        }
    }

    /// Removes the status lines and prints what was still pending.
    pub(super) fn close(&mut self) -> io::Result<()> {
        let Some(mut bars_below) = self.bars_below.take() else {
            return Ok(());
        };
        for line in bars_below.lines.drain(..) {
            line.finish_and_clear();
        }
        let _ = bars_below.bars.clear();
        self.out.write_all(&std::mem::take(&mut self.pending))
    }
}

impl Write for LiveOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bars_below.is_none() {
            return self.out.write(bytes);
        }
        self.pending.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(bars_below) = &self.bars_below else {
            return self.out.flush();
        };
        let Some(end) = memchr::memrchr(b'\n', &self.pending) else {
            return Ok(());
        };
        let rest = self.pending.split_off(end + 1);
        let whole = std::mem::replace(&mut self.pending, rest);
        bars_below
            .bars
            .suspend(|| self.out.write_all(&whole).and_then(|()| self.out.flush()))
    }
}
