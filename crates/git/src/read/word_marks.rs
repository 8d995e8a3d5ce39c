//! Which words of a changed line differ from the line that took its place.
//!
//! Removed lines are paired with the added ones that follow them, in order. How much is compared is bounded; a pair that has too
//! little in common is not marked, because marks of nearly everything say nothing.

use std::ops::Range;

use gix::diff::blob::sources::words;
use gix::diff::blob::{Algorithm, Diff, InternedInput};

use super::file_diff::{DiffLine, DiffLineKind};

/// Longer lines are not compared.
const MAX_LINE_BYTES: usize = 1000;
/// The part of the longer line that has to be common, as one of so many.
const MIN_COMMON: usize = 3;

/// The lines of a difference side by side, by their places in the list. A line of both sides stands on both.
#[must_use]
pub fn side_by_side(lines: &[DiffLine]) -> Vec<(Option<usize>, Option<usize>)> {
    let mut rows = Vec::new();
    let (mut old, mut new) = (Vec::new(), Vec::new());
    let mut end_run = |old: &mut Vec<usize>, new: &mut Vec<usize>| {
        let count = old.len().max(new.len());
        rows.extend((0..count).map(|at| (old.get(at).copied(), new.get(at).copied())));
        old.clear();
        new.clear();
    };
    let mut before = DiffLineKind::Context;
    for (at, line) in lines.iter().enumerate() {
        // The end of a file without a newline belongs to the line before it.
        let kind = match line.kind {
            DiffLineKind::NoNewline => before,
            kind => kind,
        };
        match kind {
            DiffLineKind::Removed => {
                if !new.is_empty() {
                    end_run(&mut old, &mut new);
                }
                old.push(at);
            }
            DiffLineKind::Added => new.push(at),
            _ => {
                end_run(&mut old, &mut new);
                old.push(at);
                new.push(at);
                end_run(&mut old, &mut new);
            }
        }
        before = kind;
    }
    end_run(&mut old, &mut new);
    rows
}

/// Marks the words that differ in paired lines, until `bytes_left` bytes have been compared.
pub(super) fn mark_words(lines: &mut [DiffLine], bytes_left: &mut usize) {
    for pair in side_by_side(lines) {
        let (Some(old), Some(new)) = pair else {
            continue;
        };
        let is_pair = lines[old].kind == DiffLineKind::Removed
            && lines[new].kind == DiffLineKind::Added
            && lines[old].text.len().max(lines[new].text.len()) <= MAX_LINE_BYTES;
        if !is_pair {
            continue;
        }
        let bytes = lines[old].text.len() + lines[new].text.len();
        if bytes > *bytes_left {
            return;
        }
        *bytes_left -= bytes;
        if let Some(marks) = differing(&lines[old].text, &lines[new].text) {
            (lines[old].marks, lines[new].marks) = marks;
        }
    }
}

type Ranges = Vec<Range<usize>>;

fn differing(old: &[u8], new: &[u8]) -> Option<(Ranges, Ranges)> {
    let (old, new) = (str::from_utf8(old).ok()?, str::from_utf8(new).ok()?);
    let input = InternedInput::new(words(old), words(new));
    let mut diff = Diff::compute(Algorithm::Myers, &input);
    diff.postprocess_no_heuristic(&input);
    let marked = |text, is_changed: &dyn Fn(u32) -> bool| {
        let (mut ranges, mut at) = (Vec::<Range<usize>>::new(), 0);
        for (number, word) in words(text).enumerate() {
            let end = at + word.len();
            if is_changed(u32::try_from(number).unwrap_or(u32::MAX)) {
                match ranges.last_mut() {
                    Some(last) if last.end == at => last.end = end,
                    _ => ranges.push(at..end),
                }
            }
            at = end;
        }
        ranges
    };
    let of_old = marked(old, &|number| diff.is_removed(number));
    let of_new = marked(new, &|number| diff.is_added(number));
    let marked_bytes: usize = of_old.iter().map(ExactSizeIterator::len).sum();
    let common = old.len() - marked_bytes;
    (common * MIN_COMMON >= old.len().max(new.len()) && common > 0).then_some((of_old, of_new))
}

#[cfg(test)]
mod tests {
    use super::super::file_diff::{ComputedDiff, Whitespace};
    use super::*;

    fn lines(old: &str, new: &str) -> Vec<DiffLine> {
        let computed = ComputedDiff::new(old.as_bytes(), new.as_bytes(), Whitespace::Compared);
        computed.lines(0, 100).lines
    }

    fn shown(lines: &[DiffLine]) -> Vec<String> {
        let mut shown = Vec::new();
        for line in lines {
            let mut text = String::from_utf8(line.text.clone()).unwrap();
            for mark in line.marks.iter().rev() {
                text.insert(mark.end, ']');
                text.insert(mark.start, '[');
            }
            shown.push(text);
        }
        shown
    }

    #[test]
    fn words_that_differ_are_marked() {
        let mut lines = lines(
            "let total = count(one);\nnothing alike\n",
            "let total = count(two, 3);\nquite(another);\n",
        );
        mark_words(&mut lines, &mut 1000);
        insta::assert_snapshot!(shown(&lines).join("\n"), @r"

        let total = count([one]);
        nothing alike
        let total = count([two, 3]);
        quite(another);
        ");
        for line in &mut lines {
            line.marks.clear();
        }
        mark_words(&mut lines, &mut 10);
        assert!(lines.iter().all(|line| line.marks.is_empty()));
    }

    #[test]
    fn lines_stand_beside_those_that_took_their_place() {
        let lines = lines("a\nb\nc\nd", "a\nx\nd\n");
        assert_eq!(
            side_by_side(&lines),
            [
                (Some(0), Some(0)),
                (Some(1), Some(1)),
                (Some(2), Some(6)),
                (Some(3), Some(7)),
                (Some(4), None),
                (Some(5), None),
            ]
        );
    }
}
