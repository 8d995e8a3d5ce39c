//! The patterns of all secrets, and the search for them in bytes.
//!
//! Of the patterns that begin at one place the longest counts.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::encodings;
use super::value::{MIN_REDACTED_CHARS, Secret};
use super::visible::without_invisible;

/// How many bytes of a text are looked at to rule out that a pattern begins there. No pattern is shorter.
pub(super) const PREFIX_LEN: usize = MIN_REDACTED_CHARS;

/// All patterns of all secrets, ready to search for.
///
/// A small set of hashes of the patterns' first [`PREFIX_LEN`] bytes tells at nearly every place of a text
/// that no pattern begins there; elsewhere the sorted patterns are searched. That needs one step a byte,
/// however many secrets there are, takes no time to make, and everything in it can be wiped.
#[derive(Default)]
pub(super) struct Matcher {
    /// In rising order of the patterns.
    patterns: Vec<Pattern>,
    prefixes: PrefixFilter,
    longest: usize,
}

/// One pattern, and what stands in its place.
pub(super) struct Pattern {
    text: Zeroizing<String>,
    /// Whether it is only one where a line begins.
    continues: bool,
    pub(super) replacement: Arc<str>,
}

impl Pattern {
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }
}

/// A text to search, and whether its first byte begins a line.
#[derive(Clone, Copy)]
pub(super) struct Haystack<'a> {
    pub(super) text: &'a [u8],
    pub(super) begins_line: bool,
}

impl Haystack<'_> {
    fn begins_line_at(&self, at: usize) -> bool {
        match at.checked_sub(1) {
            None => self.begins_line,
            Some(before) => matches!(self.text[before], b'\n' | b'\r'),
        }
    }
}

/// A pattern found in a text.
#[derive(Clone, Copy)]
pub(super) struct Found<'m> {
    pub(super) start: usize,
    pub(super) pattern: &'m Pattern,
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Matcher of {} patterns", self.patterns.len())
    }
}

impl Matcher {
    pub(super) fn new(known: &[(String, Secret)]) -> Self {
        let mut patterns: Vec<Pattern> = Vec::new();
        for (name, secret) in known {
            let replacement: Arc<str> = format!("{{{{ {name} }}}}").into();
            let mut add = |text: Zeroizing<String>, continues: bool| {
                // In a text without control characters the pattern has none either.
                let visible = without_invisible(&text).filter(|text| text.len() >= PREFIX_LEN);
                for text in std::iter::once(text).chain(visible) {
                    patterns.push(Pattern {
                        text,
                        continues,
                        replacement: replacement.clone(),
                    });
                }
            };
            for text in encodings::all(secret.expose()) {
                add(text, false);
            }
            for text in encodings::wrapped_base64_lines(secret.expose()) {
                add(text, true);
            }
        }
        // Of two secrets with the same pattern the one named first gives the name.
        patterns.sort_by(|a, b| a.text.cmp(&b.text).then(a.continues.cmp(&b.continues)));
        patterns.dedup_by(|later, earlier| later.text == earlier.text);
        let mut prefixes = PrefixFilter::default();
        patterns
            .iter()
            .filter_map(|pattern| pattern.text.as_bytes().first_chunk())
            .for_each(|window| prefixes.insert(*window));
        let longest = patterns.iter().map(Pattern::len).max().unwrap_or(0);
        Self {
            patterns,
            prefixes,
            longest,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The length of the longest pattern.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// The first pattern that begins at or after `from`, and of those the longest.
    pub(super) fn find(&self, haystack: Haystack<'_>, from: usize) -> Option<Found<'_>> {
        let mut from = from;
        loop {
            let rest = haystack.text.get(from..)?;
            let at = rest.windows(PREFIX_LEN).position(|window| {
                window
                    .first_chunk()
                    .is_some_and(|window| self.may_begin(*window))
            })?;
            let start = from + at;
            if let Some(pattern) = self.longest_at(haystack, start) {
                return Some(Found { start, pattern });
            }
            from = start + 1;
        }
    }

    /// Whether a pattern may begin with this; rarely true if none does.
    #[inline]
    pub(super) fn may_begin(&self, window: [u8; PREFIX_LEN]) -> bool {
        self.prefixes.contains(window)
    }

    /// The longest pattern that stands there.
    pub(super) fn longest_at(&self, haystack: Haystack<'_>, at: usize) -> Option<&Pattern> {
        let text = &haystack.text[at..];
        let prefix = text.get(..PREFIX_LEN)?;
        let begins_line = haystack.begins_line_at(at);
        let after = self
            .patterns
            .partition_point(|pattern| pattern.text.as_bytes() <= text);
        // Of the patterns that begin a text the longest is the last in order.
        self.patterns[..after]
            .iter()
            .rev()
            .take_while(|pattern| pattern.text.as_bytes()[..PREFIX_LEN] == *prefix)
            .find(|pattern| {
                (begins_line || !pattern.continues) && text.starts_with(pattern.text.as_bytes())
            })
    }

    /// The patterns that begin so and go on.
    pub(super) fn patterns_with<'a>(
        &'a self,
        beginning: &'a [u8],
    ) -> impl Iterator<Item = &'a Pattern> {
        let at = self
            .patterns
            .partition_point(|pattern| pattern.text.as_bytes() <= beginning);
        self.patterns[at..]
            .iter()
            .take_while(move |pattern| pattern.text.as_bytes().starts_with(beginning))
    }

    /// The first place where the rest of the text is the beginning of a pattern.
    pub(super) fn possible_start(&self, haystack: Haystack<'_>) -> usize {
        let text = haystack.text;
        let earliest = text.len().saturating_sub(self.longest.saturating_sub(1));
        let possible = |at: &usize| {
            let tail = &text[*at..];
            tail.first_chunk()
                .is_none_or(|window| self.may_begin(*window))
                && self.is_beginning(tail, haystack.begins_line_at(*at))
        };
        (earliest..text.len()).find(possible).unwrap_or(text.len())
    }

    /// Whether some pattern begins with `tail` and is longer than it.
    fn is_beginning(&self, tail: &[u8], begins_line: bool) -> bool {
        self.patterns_with(tail)
            .any(|pattern| begins_line || !pattern.continues)
    }

    /// Whether some pattern that may stand anywhere begins with these bytes and, after them, with these bits.
    pub(super) fn is_beginning_of_bits(&self, bytes: &[u8], bits: u8, count: u32) -> bool {
        self.patterns_with(bytes).any(|pattern| {
            let next = pattern.text.as_bytes().get(bytes.len()).copied();
            !pattern.continues && next.is_some_and(|next| count == 0 || next >> (8 - count) == bits)
        })
    }
}

/// A set of the hashes of windows: may say yes wrongly, never no.
struct PrefixFilter(Box<[u64; 1024]>);

impl Default for PrefixFilter {
    fn default() -> Self {
        Self(Box::new([0; 1024]))
    }
}

impl PrefixFilter {
    /// Word and bit of a window.
    #[inline]
    fn place(window: [u8; PREFIX_LEN]) -> (usize, u64) {
        let hash = u64::from_le_bytes(window).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
        // 16 bits: ten for the word, six for the bit.
        ((hash >> 6) as usize, 1 << (hash & 63))
    }

    fn insert(&mut self, window: [u8; PREFIX_LEN]) {
        let (word, bit) = Self::place(window);
        self.0[word] |= bit;
    }

    #[inline]
    fn contains(&self, window: [u8; PREFIX_LEN]) -> bool {
        let (word, bit) = Self::place(window);
        self.0[word] & bit != 0
    }
}
