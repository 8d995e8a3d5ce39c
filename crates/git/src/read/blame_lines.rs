//! Runs of lines on their way back through a history, and how a difference divides them.
//!
//! A [`Span`] names lines of the file that is shown and the lines of an older version that they stand for. What an older version
//! has unchanged is passed to it; the rest came with the newer version.

use gix::ObjectId as Id;
use gix::diff::blob::Hunk;

use super::tree_path::TreePath;

/// Lines of one hunk that are compared with each other, of either version.
const MAX_ALIGNED: usize = 200;
/// How much of two lines has to be common for one to be taken for the other, in hundredths.
const MIN_ALIKE: u32 = 40;

/// A run of lines. All numbers begin with 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The first line in the file that is shown.
    pub(super) line: u32,
    pub(super) count: u32,
    /// The first line in the version that the span has come to.
    pub(super) source: u32,
    /// Where the parent of that version has what stood there before.
    pub(super) before: u32,
}

/// A version of the file, and lines that have come to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suspect {
    pub(super) commit: Id,
    pub(super) path: TreePath,
    pub(super) blob: Id,
    pub(super) spans: Vec<Span>,
}

/// A version of the file, and lines that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Culprit {
    pub(super) commit: Id,
    pub(super) path: TreePath,
    /// The version before, if the file was there.
    pub(super) previous: Option<(Id, TreePath)>,
    pub(super) spans: Vec<Span>,
}

/// How far lines have been traced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TracedLines {
    pub(super) open: Vec<Suspect>,
    pub(super) found: Vec<Culprit>,
}

/// Lines that a difference divided.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DividedSpans {
    /// What the older version has too, with its numbers there.
    pub(super) passed: Vec<Span>,
    /// What it does not have.
    pub(super) rest: Vec<Span>,
}

impl Span {
    /// The part of the span from `at` to `end` in the version that it has come to.
    fn part(self, at: u32, end: u32) -> Self {
        let skipped = at - self.source;
        Self {
            line: self.line + skipped,
            count: end - at,
            source: at,
            before: self.before + skipped,
        }
    }
}

impl TracedLines {
    pub(super) fn bytes(&self) -> usize {
        let spans = |spans: &[Span]| size_of_val(spans);
        let open = self.open.iter().map(|suspect| {
            size_of::<Suspect>() + suspect.path.as_bytes().len() + spans(&suspect.spans)
        });
        let found = self.found.iter().map(|culprit| {
            size_of::<Culprit>() + 2 * culprit.path.as_bytes().len() + spans(&culprit.spans)
        });
        size_of::<Self>() + open.sum::<usize>() + found.sum::<usize>()
    }
}

/// Divides spans of the newer version by the hunks of its difference from the older one. `is_first` says that the
/// older version is the one that [`Span::before`] is about.
pub(super) fn divide(spans: &[Span], hunks: &[Hunk], is_first: bool) -> DividedSpans {
    let mut divided = DividedSpans::default();
    for span in spans {
        let (mut at, end) = (span.source, span.source + span.count);
        let mut next = hunks.partition_point(|hunk| hunk.after.end <= at);
        while at < end {
            let stop = match hunks.get(next) {
                Some(hunk) if hunk.after.start <= at => {
                    let stop = end.min(hunk.after.end);
                    let mut part = span.part(at, stop);
                    if is_first {
                        let last = hunk.before.end.max(hunk.before.start + 1) - 1;
                        part.before = last.min(hunk.before.start + (at - hunk.after.start));
                    }
                    if part.count > 0 {
                        divided.rest.push(part);
                    }
                    next += 1;
                    stop
                }
                hunk => {
                    let stop = hunk.map_or(end, |hunk| end.min(hunk.after.start));
                    let hunk_above = next.checked_sub(1).and_then(|above| hunks.get(above));
                    let (old, new) = hunk_above.map_or((0, 0), |h| (h.before.end, h.after.end));
                    let part = span.part(at, stop);
                    divided.passed.push(Span {
                        source: at - new + old,
                        ..part
                    });
                    stop
                }
            };
            at = stop;
        }
    }
    divided
}

/// Divides spans at the lines of which an older version has one that is alike, in the same order. For commits that are passed
/// over: what they changed is taken for what stood there before.
pub(super) fn divide_by_likeness(
    spans: &[Span],
    hunks: &[Hunk],
    old: &[&[u8]],
    new: &[&[u8]],
) -> DividedSpans {
    let mut divided = DividedSpans::default();
    let lines = |all: &[&[u8]], range: &std::ops::Range<u32>| -> Vec<Vec<u8>> {
        let range = range.start as usize..range.end as usize;
        let lines = all.get(range).unwrap_or_default();
        lines.iter().map(|line| line.to_vec()).collect()
    };
    let aligned: Vec<Vec<Option<u32>>> = hunks
        .iter()
        .map(|hunk| align(&lines(old, &hunk.before), &lines(new, &hunk.after)))
        .collect();
    for span in spans {
        for at in span.source..span.source + span.count {
            let part = span.part(at, at + 1);
            let number = hunks.partition_point(|hunk| hunk.after.end <= at);
            let found = hunks.get(number).and_then(|hunk| {
                let in_hunk = at.checked_sub(hunk.after.start)?;
                let alike = aligned[number].get(in_hunk as usize).copied()??;
                Some(hunk.before.start + alike)
            });
            match found {
                Some(source) => divided.passed.push(Span { source, ..part }),
                None => divided.rest.push(part),
            }
        }
    }
    divided
}

/// For each new line the old one that it is most like, so that the order is the same.
fn align(old: &[Vec<u8>], new: &[Vec<u8>]) -> Vec<Option<u32>> {
    if old.len().max(new.len()) > MAX_ALIGNED {
        return vec![None; new.len()];
    }
    let width = old.len() + 1;
    let alike: Vec<u32> = new
        .iter()
        .flat_map(|new| old.iter().map(|old| likeness(old, new)))
        .collect();
    let alike = |i: usize, j: usize| alike[i * old.len() + j];
    // The best sum for the first i new and the first j old lines.
    let mut best = vec![0; (new.len() + 1) * width];
    for i in 0..new.len() {
        for j in 0..old.len() {
            let both = best[i * width + j] + alike(i, j);
            best[(i + 1) * width + j + 1] = both
                .max(best[i * width + j + 1])
                .max(best[(i + 1) * width + j]);
        }
    }
    let mut found = vec![None; new.len()];
    let (mut i, mut j) = (new.len(), old.len());
    while i > 0 && j > 0 {
        let here = best[i * width + j];
        if here == best[(i - 1) * width + j] {
            i -= 1;
        } else if here == best[i * width + j - 1] {
            j -= 1;
        } else {
            (i, j) = (i - 1, j - 1);
            found[i] = u32::try_from(j).ok();
        }
    }
    found
}

/// How much of two lines is common, in hundredths; 0 if it is too little. Counted are pairs of bytes that are not white space.
fn likeness(old: &[u8], new: &[u8]) -> u32 {
    let pairs = |line: &[u8]| {
        let text: Vec<u8> = line
            .iter()
            .copied()
            .filter(|b| !b.is_ascii_whitespace())
            .collect();
        let mut pairs: Vec<[u8; 2]> = text.windows(2).map(|pair| [pair[0], pair[1]]).collect();
        pairs.sort_unstable();
        (text, pairs)
    };
    let ((old_text, old), (new_text, new)) = (pairs(old), pairs(new));
    if old_text == new_text {
        return 100;
    }
    let (mut at, mut common) = (0, 0);
    for pair in &new {
        at += old[at..].partition_point(|other| other < pair);
        if old.get(at) == Some(pair) {
            common += 1;
            at += 1;
        }
    }
    let share = 200 * common / (old.len() + new.len()).max(1);
    u32::try_from(share)
        .ok()
        .filter(|share| *share >= MIN_ALIKE)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(line: u32, count: u32, source: u32, before: u32) -> Span {
        Span {
            line,
            count,
            source,
            before,
        }
    }

    #[test]
    fn a_difference_divides_lines() {
        // Lines 2 and 3 are new for 2; line 6 of the old version is gone; 8 is added after it.
        let hunks = [
            Hunk {
                before: 2..3,
                after: 2..4,
            },
            Hunk {
                before: 6..7,
                after: 7..7,
            },
            Hunk {
                before: 8..8,
                after: 8..9,
            },
        ];
        let divided = divide(&[span(100, 10, 0, 0)], &hunks, true);
        assert_eq!(divided.rest, [span(102, 2, 2, 2), span(108, 1, 8, 8)]);
        let passed: Vec<_> = divided
            .passed
            .iter()
            .map(|s| (s.line, s.count, s.source))
            .collect();
        assert_eq!(passed, [(100, 2, 0), (104, 3, 3), (107, 1, 7), (109, 1, 8)]);
        let inside = divide(&[span(0, 1, 3, 0)], &hunks, false);
        assert_eq!(
            (inside.passed.len(), inside.rest),
            (0, vec![span(0, 1, 3, 0)])
        );
    }

    #[test]
    fn lines_are_aligned_in_order() {
        let lines = |text: &[&str]| -> Vec<Vec<u8>> {
            text.iter().map(|line| line.as_bytes().to_vec()).collect()
        };
        let old = lines(&["let a = one(1);", "", "let b = two(2, 3);"]);
        let new = lines(&[
            "    let a = one( 1 );",
            "entirely other",
            "let b = two(2, 33);",
        ]);
        assert_eq!(align(&old, &new), [Some(0), None, Some(2)]);
        assert_eq!(align(&[], &new), [None; 3]);
    }
}
