//! Folds the output of an image build to its progress: the lines that name a step of the Dockerfile. If the build fails, its
//! last lines follow.

use std::collections::VecDeque;

use quire_run_files::logs::LogLine;

/// The line with which a build begins.
const FIRST_LINE: &[u8] = b"quire: building the image from ";

/// How many of the last lines of a failed build are shown.
const MAX_LAST_LINES: usize = 30;

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Folded {
    Show,
    Hide,
}

/// Follows the lines of a run.
#[derive(Debug, Default)]
pub(super) struct BuildFold {
    in_build: bool,
    last: VecDeque<LogLine>,
}

impl BuildFold {
    pub(super) fn next(&mut self, line: &LogLine) -> Folded {
        // A build belongs to no step, and lines of quire begin with its name.
        if line.seq.is_some() || line.text.starts_with(b"quire: ") {
            self.in_build = line.text.starts_with(FIRST_LINE);
            return Folded::Show;
        }
        if !self.in_build || is_progress(&line.text) {
            self.last.clear();
            return Folded::Show;
        }
        if self.last.len() == MAX_LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.clone());
        Folded::Hide
    }

    /// A step of the run started, so the build was successful.
    pub(super) fn step_started(&mut self) {
        self.last.clear();
    }

    /// The last lines of the last step of the build, which has failed.
    pub(super) fn take_last(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.last).into()
    }
}

/// Whether a line names a step: `[2/5] RUN make`, `[tools 2/5] RUN make` or `exporting to image`.
fn is_progress(text: &[u8]) -> bool {
    let is_step = text.starts_with(b"[") && text.windows(2).any(|pair| pair == b"] ");
    is_step || text.starts_with(b"exporting to image")
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_run_files::logs::Stream;
    use quire_types::clock::Millis;

    fn line(seq: Option<u32>, text: &str) -> LogLine {
        LogLine {
            seq,
            job: seq.map(|_| "test".parse().unwrap()),
            time: Millis(0),
            stream: Stream::Stdout,
            partial: false,
            text: text.into(),
        }
    }

    #[test]
    fn a_build_is_folded_to_its_steps() {
        let mut fold = BuildFold::default();
        let mut shown = |seq, text: &str| fold.next(&line(seq, text)) == Folded::Show;
        for (text, expected) in [
            ("quire: using the network", true),
            ("pulling", true),
            ("quire: building the image from .quire/Dockerfile", true),
            ("[1/2] FROM debian", true),
            ("[tools 2/2] RUN make", true),
            ("cc -c a.c", false),
            ("[x]", false),
            ("exporting to image", true),
            ("quire: the image is ready", true),
            ("other", true),
        ] {
            assert_eq!(shown(None, text), expected, "{text}");
        }
        assert!(shown(Some(1), "of a job"));
    }

    #[test]
    fn the_last_lines_of_a_failed_build_are_kept() {
        let mut fold = BuildFold::default();
        for text in [
            "quire: building the image from .quire/Dockerfile",
            "[1/1] RUN make",
            "one",
            "two",
        ] {
            fold.next(&line(None, text));
        }
        fold.next(&line(None, "quire: the build failed"));
        let last = fold.take_last();
        assert_eq!(last, [line(None, "one"), line(None, "two")]);
        fold.next(&line(
            None,
            "quire: building the image from .quire/Dockerfile",
        ));
        fold.next(&line(None, "one"));
        fold.step_started();
        assert!(fold.take_last().is_empty());
    }
}
