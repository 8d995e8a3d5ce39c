//! The ways in which a text is searched: as it is, as it looks, and for base64 in what it looks like.

use super::encoded::EncodedText;
use super::matcher::{Haystack, Matcher};
use super::visible::{EscapeState, VisibleText, colours, state_after};

/// What was before a text, as far as it matters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    escape: EscapeState,
    begins_line: bool,
    /// Whether the next visible byte begins a line of the visible text.
    begins_shown_line: bool,
    /// How many characters of base64 stand directly before it, up to those that matter.
    encoded_before: usize,
    /// How many bytes at the beginning of the text belong to a match that has been replaced already.
    pub(super) covered: usize,
}

impl Default for Position {
    /// At the beginning of a text.
    fn default() -> Self {
        Self {
            escape: EscapeState::Text,
            begins_line: true,
            begins_shown_line: true,
            encoded_before: 0,
            covered: 0,
        }
    }
}

impl Position {
    /// The position behind a text that stands at this one, where so many of the next bytes have been replaced already.
    pub(super) fn behind(self, text: &[u8], covered: usize) -> Self {
        let Some(last) = text.last() else {
            return Self { covered, ..self };
        };
        let visible = self.visible_text(text);
        let shown = visible.as_ref().map_or(text, |visible| &visible.bytes);
        let encoded = EncodedText {
            text: shown,
            before: self.encoded_before,
        };
        Self {
            escape: match visible {
                Some(_) => state_after(text, self.escape),
                None => EscapeState::Text,
            },
            begins_line: matches!(last, b'\n' | b'\r'),
            begins_shown_line: shown
                .last()
                .map_or(self.begins_shown_line, |last| *last == b'\n'),
            encoded_before: encoded.run_before(shown.len()),
            covered,
        }
    }

    /// What is visible of a text that stands here; `None` if that is the text itself, and a line begins in both at the
    /// same places.
    fn visible_text(self, text: &[u8]) -> Option<VisibleText> {
        if self.begins_line == self.begins_shown_line {
            VisibleText::of(text, self.escape)
        } else {
            Some(VisibleText::always_of(text, self.escape))
        }
    }
}

/// What is to be replaced, in places of the original text.
#[derive(Clone, Copy)]
pub(super) struct Match<'m> {
    /// Where the value begins; for base64 perhaps within this character.
    pub(super) start: usize,
    /// Up to where the text before it is shown.
    pub(super) shown_to: usize,
    pub(super) end: usize,
    pub(super) replacement: &'m str,
    /// Whether it has escape sequences within.
    is_split: bool,
}

impl Match<'_> {
    /// The colours that are switched within the match from a place on, so that what follows keeps its own.
    pub(super) fn colours_from(&self, text: &[u8], from: usize) -> Vec<u8> {
        if self.is_split {
            colours(&text[from..self.end])
        } else {
            Vec::new()
        }
    }
}

/// A text with what is needed to search it.
pub(super) struct Searched<'a> {
    matcher: &'a Matcher,
    raw: Haystack<'a>,
    /// `None` if all of the text is visible.
    visible: Option<VisibleText>,
    position: Position,
}

impl<'a> Searched<'a> {
    pub(super) fn new(matcher: &'a Matcher, text: &'a [u8], position: Position) -> Self {
        Self {
            matcher,
            raw: Haystack {
                text,
                begins_line: position.begins_line,
            },
            visible: position.visible_text(text),
            position,
        }
    }

    /// An iterator-like search that remembers what each way found last.
    pub(super) fn matches(&self) -> Matches<'_> {
        Matches {
            searched: self,
            next: [Next::Unknown; 3],
        }
    }

    fn shown(&self) -> Haystack<'_> {
        self.visible.as_ref().map_or(self.raw, |visible| Haystack {
            text: &visible.bytes,
            begins_line: self.position.begins_shown_line,
        })
    }

    fn encoded(&self) -> EncodedText<'_> {
        EncodedText {
            text: self.shown().text,
            before: self.position.encoded_before,
        }
    }

    fn place_of(&self, origin: usize) -> usize {
        self.visible
            .as_ref()
            .map_or(origin, |visible| visible.place_of(origin))
    }

    fn origin(&self, place: usize) -> usize {
        self.visible
            .as_ref()
            .map_or(place, |visible| visible.origin(place))
    }

    /// The first place from which on the text may be the beginning of a pattern, in any way.
    pub(super) fn possible_start(&self) -> usize {
        let raw = self.matcher.possible_start(self.raw);
        let Some(visible) = &self.visible else {
            return raw.min(self.encoded().possible_start(self.matcher));
        };
        // What may turn out to be invisible must not hide the beginning before it.
        let decided = visible.undecided;
        let end = visible.place_of(decided);
        let shown = Haystack {
            text: &self.shown().text[..end],
            ..self.shown()
        };
        let encoded = EncodedText {
            text: shown.text,
            ..self.encoded()
        };
        let shown = self.matcher.possible_start(shown);
        let earliest = shown.min(encoded.possible_start(self.matcher));
        let earliest = if earliest == end {
            decided
        } else {
            visible.origin(earliest)
        };
        raw.min(earliest)
    }

    /// The next match by one of the ways to search.
    fn find(&self, way: usize, from: usize) -> Option<Match<'_>> {
        match way {
            0 => self.find_raw(from),
            1 => self.find_visible(from),
            _ => self.find_encoded(from),
        }
    }

    fn find_raw(&self, from: usize) -> Option<Match<'_>> {
        let found = self.matcher.find(self.raw, from)?;
        Some(Match {
            start: found.start,
            shown_to: found.start,
            end: found.start + found.pattern.len(),
            replacement: &found.pattern.replacement,
            is_split: false,
        })
    }

    fn find_visible(&self, from: usize) -> Option<Match<'_>> {
        let visible = self.visible.as_ref()?;
        let found = self.matcher.find(self.shown(), visible.place_of(from))?;
        let start = visible.origin(found.start);
        Some(Match {
            start,
            shown_to: start,
            end: visible.origin_of_end(found.start + found.pattern.len()),
            replacement: &found.pattern.replacement,
            is_split: true,
        })
    }

    fn find_encoded(&self, from: usize) -> Option<Match<'_>> {
        let found = self.encoded().find(self.matcher, self.place_of(from))?;
        Some(Match {
            start: self.origin(found.start),
            shown_to: self.origin(found.shown_to),
            end: self.origin(found.end - 1) + 1,
            replacement: &found.pattern.replacement,
            is_split: self.visible.is_some(),
        })
    }
}

/// What one way of searching found last.
#[derive(Clone, Copy)]
enum Next<'a> {
    Unknown,
    Found(Match<'a>),
    End,
}

/// The matches of a text, each found once.
pub(super) struct Matches<'a> {
    searched: &'a Searched<'a>,
    next: [Next<'a>; 3],
}

impl<'a> Matches<'a> {
    /// The leftmost match at or after `from`, and of those the longest. `from` does not go back.
    pub(super) fn next(&mut self, from: usize) -> Option<Match<'a>> {
        let mut best: Option<Match<'a>> = None;
        for (way, next) in self.next.iter_mut().enumerate() {
            let is_current = match next {
                Next::Unknown => false,
                Next::Found(found) => found.start >= from,
                Next::End => true,
            };
            if !is_current {
                *next = self.searched.find(way, from).map_or(Next::End, Next::Found);
            }
            if let Next::Found(found) = next
                && best.is_none_or(|best| (found.start, best.end) < (best.start, found.end))
            {
                best = Some(*found);
            }
        }
        best
    }
}
