//! The lines of a text that match, one after the other.

use std::ops::Range;

use memchr::{memchr, memchr_iter, memrchr};

use super::super::budget::Budget;
use super::text_pattern::TextPattern;

/// How much of a line is shown.
const MAX_SHOWN_BYTES: usize = 400;
/// How much of a longer line is shown before its first match.
const MAX_BEFORE_BYTES: usize = 80;

/// A line that matches, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchedLine {
    /// Its number in the file, from 1 on.
    pub number: usize,
    /// The line, or the part of it around the first match.
    pub text: Vec<u8>,
    /// What of the text matches.
    pub matches: Vec<Range<usize>>,
    /// Whether the line has more before the text.
    pub is_cut_before: bool,
    /// Whether the line has more after the text.
    pub is_cut_after: bool,
}

/// What a look for the next line came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LineStep {
    Found(MatchedLine),
    /// No further line matches.
    End,
    OutOfTime,
}

/// The lines of a text that match.
pub(super) struct LineMatches<'a> {
    pattern: &'a TextPattern,
    data: &'a [u8],
    /// The beginning of the first line that was not searched.
    at: usize,
    /// How many lines are before it.
    before: usize,
    /// How many lines were too long for the expression.
    too_long: usize,
}

impl<'a> LineMatches<'a> {
    /// Searches what follows the first `skipped` lines.
    pub(super) fn new(pattern: &'a TextPattern, data: &'a [u8], skipped: usize) -> Self {
        let end = match skipped.checked_sub(1) {
            Some(last) => memchr_iter(b'\n', data)
                .nth(last)
                .map_or(data.len(), |end| end + 1),
            None => 0,
        };
        Self {
            pattern,
            data,
            at: end,
            before: skipped,
            too_long: 0,
        }
    }

    /// How many lines were searched or skipped.
    pub(super) fn lines_done(&self) -> usize {
        self.before
    }

    pub(super) fn too_long(&self) -> usize {
        self.too_long
    }

    pub(super) fn next(&mut self, budget: &Budget) -> LineStep {
        while self.at < self.data.len() {
            if budget.is_over() {
                return LineStep::OutOfTime;
            }
            let end = self.piece_end();
            // After the last line end of a piece there is no empty line.
            let text_end = end - usize::from(self.data[end - 1] == b'\n');
            if end - self.at > self.pattern.max_line_bytes() {
                self.too_long += 1;
            } else if let Some(found) = self.pattern.first(self.data, self.at..text_end) {
                return LineStep::Found(self.take_line(found));
            }
            self.advance(end);
        }
        LineStep::End
    }

    /// The end of the lines that are searched at once: as many as are allowed, and one at least.
    fn piece_end(&self) -> usize {
        let rest = &self.data[self.at..];
        let most = self.pattern.max_piece_bytes();
        let Some(piece) = rest.get(..most) else {
            return self.data.len();
        };
        let end = match memrchr(b'\n', piece) {
            Some(end) => Some(end),
            None => memchr(b'\n', &rest[most..]).map(|end| most + end),
        };
        end.map_or(self.data.len(), |end| self.at + end + 1)
    }

    /// Goes on with the line that begins at `at`.
    fn advance(&mut self, at: usize) {
        self.before += memchr_iter(b'\n', &self.data[self.at..at]).count();
        self.at = at;
    }

    /// The line of a match; the search goes on after it.
    fn take_line(&mut self, found: Range<usize>) -> MatchedLine {
        let start = memrchr(b'\n', &self.data[self.at..found.start]);
        let start = start.map_or(self.at, |end| self.at + end + 1);
        let end = memchr(b'\n', &self.data[found.start..]);
        let end = end.map_or(self.data.len(), |end| found.start + end);
        self.advance(start);
        self.before += 1;
        self.at = self.data.len().min(end + 1);
        let found = found.start - start..found.end - start;
        self.shown(&self.data[start..end], found)
    }

    fn shown(&self, line: &[u8], first: Range<usize>) -> MatchedLine {
        let whole = line.strip_suffix(b"\r").unwrap_or(line);
        let last_start = whole.len().saturating_sub(MAX_SHOWN_BYTES);
        let from = first.start.saturating_sub(MAX_BEFORE_BYTES);
        let from = character_start(whole, from.min(last_start));
        let to = character_start(whole, whole.len().min(from + MAX_SHOWN_BYTES));
        let others = self.pattern.marks(line, first.end.min(to)..to);
        let matches = std::iter::once(first).chain(others).filter_map(|found| {
            let found = found.start.max(from)..found.end.min(to);
            (!found.is_empty()).then(|| found.start - from..found.end - from)
        });
        MatchedLine {
            number: self.before,
            matches: matches.collect(),
            text: whole[from..to].to_owned(),
            is_cut_before: from > 0,
            is_cut_after: to < whole.len(),
        }
    }
}

/// The beginning of the character of UTF-8 that `at` is in.
fn character_start(text: &[u8], at: usize) -> usize {
    let is_start = |at: &usize| text.get(*at).is_none_or(|byte| *byte & 0xc0 != 0x80);
    (at.saturating_sub(3)..=at)
        .rev()
        .find(is_start)
        .unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn found(pattern: &TextPattern, data: &[u8], skipped: usize) -> Vec<MatchedLine> {
        let budget = Budget::new(Duration::from_secs(600), 0, 0);
        let mut matches = LineMatches::new(pattern, data, skipped);
        let mut lines = Vec::new();
        loop {
            match matches.next(&budget) {
                LineStep::Found(line) => lines.push(line),
                step => {
                    assert_eq!((step, matches.too_long()), (LineStep::End, 0));
                    return lines;
                }
            }
        }
    }

    fn numbers(pattern: &str, data: &str, skipped: usize) -> Vec<usize> {
        let pattern = TextPattern::regex(pattern).unwrap();
        let lines = found(&pattern, data.as_bytes(), skipped);
        lines.iter().map(|line| line.number).collect()
    }

    #[test]
    fn each_matching_line_is_found_once() {
        let text = "one\n\ntwo one one\r\nthree";
        assert_eq!(numbers("one", text, 0), [1, 3]);
        assert_eq!(numbers("^$", text, 0), [2]);
        assert_eq!(numbers("x*", text, 0), [1, 2, 3, 4]);
        assert_eq!(numbers("$", "one\n", 0), [1]);
        assert_eq!(numbers("^$", "\n\n", 0), [1, 2]);
        assert!(numbers("^$", "one\n", 0).is_empty());
        assert_eq!(numbers("e$", text, 0), [1, 4]);
        assert!(numbers("", "", 0).is_empty());
        for skipped in 0..6 {
            let after: Vec<usize> = [1, 3].into_iter().filter(|n| *n > skipped).collect();
            assert_eq!(numbers("one", text, skipped), after, "{skipped}");
        }
    }

    #[test]
    fn a_line_shows_its_matches() {
        let pattern = TextPattern::literal("one").unwrap();
        let line = found(&pattern, b"x\ntwo one one\r\n", 0).remove(0);
        assert_eq!(
            (line.text, line.matches),
            (b"two one one".to_vec(), vec![4..7, 8..11])
        );
        let empty = found(&TextPattern::regex("x*").unwrap(), b"abxx\n", 0).remove(0);
        assert_eq!(empty.matches.first(), Some(&(2..4)));
        let end = found(&TextPattern::regex(r"\r").unwrap(), b"ab\r\n", 0).remove(0);
        assert_eq!((end.text, end.matches), (b"ab".to_vec(), vec![]));
    }

    #[test]
    fn a_long_line_is_cut_around_its_first_match() {
        let line = format!("{}one{}one", "ü".repeat(1000), "ü".repeat(1000));
        let shown = found(&TextPattern::literal("one").unwrap(), line.as_bytes(), 0).remove(0);
        let text = String::from_utf8(shown.text).unwrap();
        assert!(shown.is_cut_before && shown.is_cut_after && text.len() <= MAX_SHOWN_BYTES);
        assert_eq!(&text[shown.matches[0].clone()], "one");
        let all = found(&TextPattern::regex(".+").unwrap(), line.as_bytes(), 0).remove(0);
        assert_eq!(
            (all.matches.first(), all.is_cut_before),
            (Some(&(0..400)), false)
        );
        let end = format!("{}end", "x".repeat(1000));
        let end = found(&TextPattern::literal("end").unwrap(), end.as_bytes(), 0).remove(0);
        assert_eq!((end.text.len(), end.is_cut_after), (MAX_SHOWN_BYTES, false));
    }

    #[test]
    fn pieces_change_nothing() {
        // Few bytes at a time.
        let pattern = TextPattern::regex(r"\w{20}|^$").unwrap();
        assert!(pattern.max_piece_bytes() < 5000);
        let mut text = String::new();
        let mut expected = Vec::new();
        for number in 1..=400 {
            let length = [0, 10, 19, 20, 21, 3000][number % 6];
            if length == 0 || length >= 20 {
                expected.push(number);
            }
            text.push_str(&"é".repeat(length));
            text.push('\n');
        }
        let numbers = numbers(r"\w{20}|^$", &text, 0);
        assert_eq!(numbers, expected);
    }

    #[test]
    fn time_and_length_are_bounded() {
        let pattern = TextPattern::regex("(?:a?){5000}b").unwrap();
        let text = format!("{}\nab\n", "a".repeat(pattern.max_line_bytes() + 1));
        let budget = Budget::new(Duration::from_secs(600), 0, 0);
        let mut matches = LineMatches::new(&pattern, text.as_bytes(), 0);
        assert!(matches!(matches.next(&budget), LineStep::Found(line) if line.number == 2));
        assert_eq!((matches.too_long(), matches.lines_done()), (1, 2));
        let mut late = LineMatches::new(&pattern, text.as_bytes(), 1);
        let over = Budget::new(Duration::ZERO, 0, 0);
        assert_eq!(late.next(&over), LineStep::OutOfTime);
        assert_eq!(late.lines_done(), 1);
    }
}
