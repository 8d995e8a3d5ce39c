//! Where `ci run` prints: a stream of lines, and on a terminal below them the run's jobs as they
//! stand, drawn anew while they change and gone at the end. What has scrolled by is the same text
//! everywhere.

use std::io::{self, IsTerminal as _, Stdout, Write};

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The most lines below, where the terminal has room for them.
const MOST_LINES: usize = 16;

/// Standard output.
pub(super) struct Stage {
    out: Stdout,
    foot: Option<Foot>,
    /// With a foot: what is not printed yet, for only whole lines are.
    pending: Vec<u8>,
}

/// The lines below.
struct Foot {
    bars: MultiProgress,
    lines: Vec<ProgressBar>,
    style: ProgressStyle,
}

impl Stage {
    /// On standard output; with a foot where that is a terminal that can move its cursor.
    pub(super) fn standard() -> Self {
        let out = io::stdout();
        let moves = std::env::var_os("TERM").is_some_and(|term| term != "dumb" && !term.is_empty());
        // Ten times a second is more than anybody reads.
        let foot = (out.is_terminal() && moves).then(|| Foot {
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::stdout_with_hz(10)),
            lines: Vec::new(),
            style: ProgressStyle::with_template("{wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar()),
        });
        Self {
            out,
            foot,
            pending: Vec::new(),
        }
    }

    /// How many lines below there is room for; none where nothing is shown below.
    pub(super) fn room(&self) -> Option<usize> {
        self.foot.as_ref()?;
        let (rows, _) = Term::stdout().size();
        Some(usize::from(rows / 2).clamp(1, MOST_LINES))
    }

    /// Shows these lines below everything, in place of those before.
    pub(super) fn show(&mut self, lines: &[String]) {
        let Some(foot) = &mut self.foot else { return };
        // What a program has printed without ending its line is seen here until it does.
        let tail = console::strip_ansi_codes(&String::from_utf8_lossy(&self.pending))
            .replace(|c: char| c.is_control(), " ");
        let tail = Some(tail).filter(|tail| !tail.trim().is_empty());
        let shown: Vec<&String> = tail.iter().chain(lines).collect();
        while foot.lines.len() > shown.len() {
            if let Some(line) = foot.lines.pop() {
                line.finish_and_clear();
                foot.bars.remove(&line);
            }
        }
        while foot.lines.len() < shown.len() {
            let line = ProgressBar::no_length().with_style(foot.style.clone());
            foot.lines.push(foot.bars.add(line));
        }
        for (line, text) in foot.lines.iter().zip(shown) {
            line.set_message(text.clone());
            line.tick();
        }
    }

    /// Takes away what is below; from now on there is only the stream.
    ///
    /// # Errors
    /// What was still to be printed cannot be.
    pub(super) fn close(&mut self) -> io::Result<()> {
        let Some(mut foot) = self.foot.take() else {
            return Ok(());
        };
        for line in foot.lines.drain(..) {
            line.finish_and_clear();
        }
        let _ = foot.bars.clear();
        self.out.write_all(&std::mem::take(&mut self.pending))
    }
}

impl Write for Stage {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.foot.is_none() {
            return self.out.write(bytes);
        }
        self.pending.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(foot) = &self.foot else {
            return self.out.flush();
        };
        let Some(end) = memchr::memrchr(b'\n', &self.pending) else {
            return Ok(());
        };
        let rest = self.pending.split_off(end + 1);
        let whole = std::mem::replace(&mut self.pending, rest);
        foot.bars
            .suspend(|| self.out.write_all(&whole).and_then(|()| self.out.flush()))
    }
}
