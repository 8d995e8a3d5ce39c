//! How two versions of a file differ, line by line.

use std::ops::Range;

use gix::diff::blob::{Algorithm, Diff, Hunk, InternedInput, diff_with_slider_heuristics};

use super::blank_free::BlankFreeLines;
use super::line_index::LineIndex;

/// Unchanged lines around a change.
const CONTEXT: u32 = 3;
/// How far up the line that encloses a hunk is looked for.
const MAX_LOOK_BACK: u32 = 1000;

/// The size of the blocks at the end of two texts that are compared at once.
const SAME_END_BLOCK: usize = 1024;

/// How many lines were added and removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineCounts {
    pub added: u32,
    pub removed: u32,
}

/// Which lines count as the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Whitespace {
    /// Those of the same bytes.
    #[default]
    Compared,
    /// Those that differ in white space alone, as with `git diff -w`.
    Ignored,
}

/// What a line of a difference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiffLineKind {
    /// The head of a hunk; the text is the line that encloses it.
    Hunk,
    Context,
    Added,
    Removed,
    /// The line before ends the file without a newline.
    NoNewline,
}

/// A line of a difference, without its newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffLine {
    /// What it is.
    pub kind: DiffLineKind,
    /// Its number in the old version, from 1. For the head of a hunk, where the hunk begins.
    pub old: Option<u32>,
    /// Its number in the new version.
    pub new: Option<u32>,
    /// The bytes.
    pub text: Vec<u8>,
    /// The parts of the text that differ from the line that it is paired with; empty if it is not compared with one.
    pub marks: Vec<Range<usize>>,
}

/// Part of the difference of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileDiff {
    /// The lines, hunk by hunk.
    pub lines: Vec<DiffLine>,
    /// The number of the line that the rest begins with; `None` if this is the end.
    pub next: Option<usize>,
}

/// Hunks and the lines around them.
pub(super) struct HunkGroup {
    pub(super) hunks: Vec<Hunk>,
    /// The lines of the old version.
    pub(super) old: Range<u32>,
    /// The lines of the new version.
    pub(super) new: Range<u32>,
}

/// A difference that was computed and can be written in parts.
pub(super) struct ComputedDiff<'a> {
    pub(super) old: LineIndex<'a>,
    pub(super) new: LineIndex<'a>,
    diff: Diff,
}

impl<'a> ComputedDiff<'a> {
    pub(super) fn new(old: &'a [u8], new: &'a [u8], whitespace: Whitespace) -> Self {
        let diff = match whitespace {
            Whitespace::Compared => {
                let input = InternedInput::new(old, new);
                diff_with_slider_heuristics(Algorithm::Myers, &input)
            }
            Whitespace::Ignored => {
                let input = InternedInput::new(BlankFreeLines(old), BlankFreeLines(new));
                diff_with_slider_heuristics(Algorithm::Myers, &input)
            }
        };
        Self {
            old: LineIndex::new(old),
            new: LineIndex::new(new),
            diff,
        }
    }

    pub(super) fn counts(&self) -> LineCounts {
        LineCounts {
            added: self.diff.count_additions(),
            removed: self.diff.count_removals(),
        }
    }

    /// The lines from number `from` on, `limit` at most.
    pub(super) fn lines(&self, from: usize, limit: usize) -> FileDiff {
        let mut out = DiffWriter {
            computed: self,
            at: 0,
            from,
            end: from.saturating_add(limit),
            lines: Vec::new(),
        };
        for group in self.groups() {
            if out.is_full() {
                break;
            }
            out.group(&group);
        }
        let next = out.is_full().then_some(out.end);
        FileDiff {
            lines: out.lines,
            next,
        }
    }

    /// Hunks whose surroundings touch, together.
    pub(super) fn groups(&self) -> Vec<HunkGroup> {
        let mut groups: Vec<Vec<Hunk>> = Vec::new();
        for hunk in self.diff.hunks() {
            match groups.last_mut() {
                Some(group)
                    if group
                        .last()
                        .is_some_and(|last| hunk.before.start - last.before.end <= 2 * CONTEXT) =>
                {
                    group.push(hunk);
                }
                _ => groups.push(vec![hunk]),
            }
        }
        let groups = groups.into_iter();
        groups.filter_map(|hunks| self.surrounded(hunks)).collect()
    }

    fn surrounded(&self, hunks: Vec<Hunk>) -> Option<HunkGroup> {
        let (first, last) = (hunks.first()?, hunks.last()?);
        let lead = first.before.start.min(CONTEXT);
        let end = (self.old.len() - last.before.end).min(CONTEXT);
        Some(HunkGroup {
            old: first.before.start - lead..last.before.end + end,
            new: first.after.start - lead..last.after.end + end,
            hunks,
        })
    }

    /// The nearest line above that begins with a letter, as git's default rule has it.
    pub(super) fn enclosing(&self, start: u32) -> &'a [u8] {
        let lowest = start.saturating_sub(MAX_LOOK_BACK);
        let mut above = (lowest..start)
            .rev()
            .filter_map(|number| self.old.line(number));
        let line = above.find(|line| {
            line.first()
                .is_some_and(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'$'))
        });
        let line = line.unwrap_or_default();
        line[..line.len().min(80)].trim_ascii_end()
    }
}

/// The lines of a text with their ends.
pub(super) fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|b| *b == b'\n').collect()
}

/// The hunks between two texts, as `git blame` computes them: without the blocks at the end that are the same.
pub(super) fn hunks(old: &[u8], new: &[u8]) -> Vec<Hunk> {
    let same = same_end(old, new);
    let (old, new) = (&old[..old.len() - same], &new[..new.len() - same]);
    let input = InternedInput::new(old, new);
    let diff = diff_with_slider_heuristics(Algorithm::Myers, &input);
    diff.hunks().collect()
}

/// How many bytes at the end are left out of a comparison: whole blocks that are the same, without the line that the first of
/// them begins in.
fn same_end(old: &[u8], new: &[u8]) -> usize {
    let blocks = old
        .rchunks_exact(SAME_END_BLOCK)
        .zip(new.rchunks_exact(SAME_END_BLOCK));
    let same = blocks.take_while(|(old, new)| old == new).count() * SAME_END_BLOCK;
    let end = &old[old.len() - same..];
    let line = end
        .iter()
        .position(|b| *b == b'\n')
        .map_or(same, |at| at + 1);
    same - line
}

struct DiffWriter<'a> {
    computed: &'a ComputedDiff<'a>,
    at: usize,
    from: usize,
    end: usize,
    lines: Vec<DiffLine>,
}

impl DiffWriter<'_> {
    /// Whether a line came after the last one that is wanted.
    fn is_full(&self) -> bool {
        self.at > self.end
    }

    fn push(&mut self, kind: DiffLineKind, old: Option<u32>, new: Option<u32>, text: &[u8]) {
        if (self.from..self.end).contains(&self.at) {
            self.lines.push(DiffLine {
                kind,
                old: old.map(|n| n + 1),
                new: new.map(|n| n + 1),
                text: text.to_owned(),
                marks: Vec::new(),
            });
        }
        self.at += 1;
    }

    fn line(&mut self, kind: DiffLineKind, old: Option<u32>, new: Option<u32>) {
        let computed = self.computed;
        let text = match (old, new) {
            (_, Some(new)) => computed.new.line(new),
            (Some(old), None) => computed.old.line(old),
            (None, None) => None,
        };
        let Some(text) = text else { return };
        match text.strip_suffix(b"\n") {
            Some(text) => self.push(kind, old, new, text),
            None => {
                self.push(kind, old, new, text);
                self.push(DiffLineKind::NoNewline, None, None, b"");
            }
        }
    }

    fn group(&mut self, group: &HunkGroup) {
        let (mut old, mut new) = (group.old.start, group.new.start);
        let enclosing = self.computed.enclosing(old);
        self.push(DiffLineKind::Hunk, Some(old), Some(new), enclosing);
        for hunk in &group.hunks {
            self.context(&mut old, &mut new, hunk.before.start);
            self.changed(DiffLineKind::Removed, &hunk.before);
            self.changed(DiffLineKind::Added, &hunk.after);
            (old, new) = (hunk.before.end, hunk.after.end);
            if self.is_full() {
                return;
            }
        }
        self.context(&mut old, &mut new, group.old.end);
    }

    fn context(&mut self, old: &mut u32, new: &mut u32, end: u32) {
        while *old < end {
            self.line(DiffLineKind::Context, Some(*old), Some(*new));
            *old += 1;
            *new += 1;
        }
    }

    fn changed(&mut self, kind: DiffLineKind, range: &Range<u32>) {
        for number in range.clone() {
            match kind {
                DiffLineKind::Removed => self.line(kind, Some(number), None),
                _ => self.line(kind, None, Some(number)),
            }
            if self.is_full() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(old: &str, new: &str, from: usize, limit: usize) -> (String, Option<usize>) {
        let computed = ComputedDiff::new(old.as_bytes(), new.as_bytes(), Whitespace::Compared);
        let diff = computed.lines(from, limit);
        let mut text = String::new();
        for line in diff.lines {
            let number = |n: Option<u32>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
            let sign = match line.kind {
                DiffLineKind::Hunk => "@",
                DiffLineKind::Context => " ",
                DiffLineKind::Added => "+",
                DiffLineKind::Removed => "-",
                DiffLineKind::NoNewline => "\\",
            };
            let (old, new) = (number(line.old), number(line.new));
            let shown = String::from_utf8_lossy(&line.text).into_owned();
            text.push_str(&format!("{old} {new} {sign}{shown}\n"));
        }
        (text, diff.next)
    }

    #[test]
    fn a_hunk_has_context_and_its_enclosing_line() {
        let old = "fn a() {\n 1\n 2\n 3\n 4\n 5\n 6\n}";
        let new = "fn a() {\n 1\n 2\n 3\n 4\n five\n 6\n}\n";
        let (text, next) = written(old, new, 0, 100);
        insta::assert_snapshot!(text, @r"
        3 3 @fn a() {
        3 3   2
        4 4   3
        5 5   4
        6 - - 5
        - 6 + five
        7 7   6
        8 - -}
        - - \
        - 8 +}
        ");
        assert_eq!(next, None);
    }

    #[test]
    fn a_difference_is_written_in_parts() {
        let old: String = (0..40).map(|n| format!("{n}\n")).collect();
        let new = old
            .replace("\n5\n", "\nfive\n")
            .replace("\n30\n", "\nthirty\n");
        let (whole, end) = written(&old, &new, 0, 1000);
        assert_eq!(end, None);
        let mut parts = String::new();
        let mut from = Some(0);
        while let Some(at) = from {
            let (part, next) = written(&old, &new, at, 7);
            assert!(part.lines().count() <= 7);
            parts.push_str(&part);
            from = next;
        }
        assert_eq!(parts, whole);
    }

    #[test]
    fn counts_are_of_lines() {
        let counts = |old: &str, new: &str| {
            ComputedDiff::new(old.as_bytes(), new.as_bytes(), Whitespace::Compared).counts()
        };
        assert_eq!(
            counts("", "a\nb"),
            LineCounts {
                added: 2,
                removed: 0
            }
        );
        assert_eq!(
            counts("a\r\n", "a\n"),
            LineCounts {
                added: 1,
                removed: 1
            }
        );
        assert_eq!(counts("", ""), LineCounts::default());
    }
}
