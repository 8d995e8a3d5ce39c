//! How `quire ci run` writes jobs, steps and times: signs, colors, shortened commands.

use super::progress::{JobProgress, StepProgress};
use quire_types::clock::Millis;
use quire_types::run::JobState;
use quire_types::text::first_line;
use quire_types::text::format_elapsed;

/// The longest command in a heading, in characters.
const MAX_COMMAND_CHARS: usize = 100;

/// SGR color numbers.
pub(super) const BOLD: &str = "1";
pub(super) const DIM: &str = "2";
pub(super) const RED: &str = "31";
pub(super) const GREEN: &str = "32";
pub(super) const YELLOW: &str = "33";

/// Whether output is colored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Colors(pub(super) bool);

impl Colors {
    /// Wraps the text in a color, if colors are on.
    pub(super) fn with(self, color: &str, text: &str) -> String {
        if self.0 && !text.is_empty() {
            format!("\u{1b}[{color}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// The sign for the state of a job.
pub(super) fn job_mark(job: &JobProgress, colors: Colors) -> String {
    let (mark, color) = match job.state {
        JobState::Complete => ("✓", GREEN),
        JobState::Failed => ("✗", RED),
        JobState::Skipped => ("–", DIM),
        JobState::Aborted | JobState::Pending | JobState::Active => ("✗", YELLOW),
    };
    colors.with(color, mark)
}

/// The sign and the color for the exit code of a step.
pub(super) fn step_mark(step: &StepProgress) -> (&'static str, &'static str) {
    match step.exit {
        Some(0) => ("✓", GREEN),
        Some(_) => ("✗", RED),
        None => ("✗", YELLOW),
    }
}

/// The first line of a command, shortened.
pub(super) fn command(step: &StepProgress) -> String {
    first_line(&step.command, MAX_COMMAND_CHARS)
}

pub(super) fn elapsed(from: Millis, to: Millis) -> String {
    format_elapsed(to.since(from))
}
