//! How much is highlighted.

use std::fmt;
use std::time::Duration;

use quire_types::thread_time::thread_cpu_time;

/// Larger files are not highlighted.
pub(crate) const MAX_FILE_BYTES: usize = 512 << 10;
/// Lines of a file that are highlighted.
pub(crate) const MAX_LINES: usize = 20_000;
/// At a longer line the colours of a text end.
pub(crate) const MAX_LINE_BYTES: usize = 2000;
/// What highlighting a file may take.
pub(crate) const FILE_TIME: Duration = Duration::from_millis(250);

/// Why a part of a file is not highlighted; with the number of the first such line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HighlightCut {
    /// The file is too large.
    FileSize,
    /// It has too many lines.
    LineCount(usize),
    /// The line is too long.
    LongLine(usize),
    /// The time was over.
    Time(usize),
    /// The grammar failed.
    Fault(usize),
}

impl fmt::Display for HighlightCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileSize => {
                f.write_str("This file is larger than 512 KiB and is not highlighted.")
            }
            Self::LineCount(_) => f.write_str("Highlighting ends after 20,000 lines."),
            Self::LongLine(line) => write!(
                f,
                "Highlighting ends before line {line}, which has more than 2,000 bytes."
            ),
            Self::Time(line) => write!(
                f,
                "Highlighting ends before line {line}: the rest would take too long."
            ),
            Self::Fault(line) => write!(
                f,
                "Highlighting ends before line {line}, which the grammar cannot read."
            ),
        }
    }
}

/// Processor time of this thread that may be used, so that the result does not depend on other work of the machine.
#[derive(Debug, Clone, Copy)]
pub struct HighlightTime {
    end: Duration,
}

impl HighlightTime {
    /// So much from now on.
    #[must_use]
    pub fn starting_now(time: Duration) -> Self {
        Self {
            end: thread_cpu_time() + time,
        }
    }

    pub(crate) fn is_over(self) -> bool {
        thread_cpu_time() >= self.end
    }
}
