//! What is searched for, ready to be searched for.
//!
//! A regular expression costs at most one step for each byte and each of its states, and nothing interrupts the engine inside a
//! call. So it gets a text in pieces of whole lines that are the smaller, the more states it has, and no line that would take
//! many seconds alone.

use std::fmt;
use std::ops::Range;

use regex_automata::Input;
use regex_automata::meta::{self, Regex};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_syntax::hir::Hir;

use super::pattern_syntax::{PatternError, parse};

/// The longest text that is searched for.
const MAX_TEXT_BYTES: usize = 1000;
/// What a compiled regular expression may occupy.
const MAX_REGEX_BYTES: usize = 1 << 20;
/// What the engine may keep of the states that it makes while it searches.
const MAX_CACHE_BYTES: usize = 2 << 20;
/// Steps of the engine between two looks at the clock.
const MAX_PIECE_STEPS: usize = 20_000_000;
/// Steps of the engine for a single line.
const MAX_LINE_STEPS: usize = 1_000_000_000;
/// How many matches of a line are marked.
const MAX_MARKS: usize = 100;

/// A text or a regular expression that lines are searched for. Without an upper-case letter in it, case does not count.
#[derive(Clone)]
pub struct TextPattern {
    regex: Regex,
    states: usize,
}

impl fmt::Debug for TextPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The engine writes all of its tables.
        f.debug_struct("TextPattern")
            .field("states", &self.states)
            .finish_non_exhaustive()
    }
}

impl TextPattern {
    /// A text as it is.
    pub fn literal(text: &str) -> Result<Self, PatternError> {
        check_length(text)?;
        Self::compile(&parse(&regex_syntax::escape(text))?)
    }

    /// A regular expression.
    pub fn regex(text: &str) -> Result<Self, PatternError> {
        check_length(text)?;
        Self::compile(&parse(text)?)
    }

    fn compile(expression: &Hir) -> Result<Self, PatternError> {
        let limits = thompson::Config::new()
            .utf8(false)
            .which_captures(WhichCaptures::Implicit)
            .nfa_size_limit(Some(MAX_REGEX_BYTES));
        let states = thompson::Compiler::new()
            .configure(limits)
            .build_from_hir(expression)
            .map_err(|_| PatternError::TooLarge)?
            .states()
            .len();
        let limits = meta::Config::new()
            .utf8_empty(false)
            .which_captures(WhichCaptures::Implicit)
            .nfa_size_limit(Some(MAX_REGEX_BYTES))
            .hybrid_cache_capacity(MAX_CACHE_BYTES);
        let regex = meta::Builder::new()
            .configure(limits)
            .build_from_hir(expression)
            .map_err(|_| PatternError::TooLarge)?;
        Ok(Self { regex, states })
    }

    /// How much is searched in one call, if lines allow.
    pub(super) fn max_piece_bytes(&self) -> usize {
        MAX_PIECE_STEPS / self.states.max(1)
    }

    /// The longest line that is searched.
    pub(super) fn max_line_bytes(&self) -> usize {
        MAX_LINE_STEPS / self.states.max(1)
    }

    /// The first match in a part of `data` that begins and ends with a line.
    pub(super) fn first(&self, data: &[u8], part: Range<usize>) -> Option<Range<usize>> {
        let input = Input::new(&data[..part.end]).span(part);
        self.regex.search(&input).map(|found| found.range())
    }

    /// The matches in a line from `part.start` on that end before `part.end`; empty ones are none.
    pub(super) fn marks(&self, line: &[u8], part: Range<usize>) -> Vec<Range<usize>> {
        self.regex
            .find_iter(Input::new(line).span(part))
            .take(MAX_MARKS)
            .map(|found| found.range())
            .filter(|found| !found.is_empty())
            .collect()
    }

    /// What of a short text matches.
    #[must_use]
    pub fn marks_in(&self, text: &str) -> Vec<Range<usize>> {
        self.marks(text.as_bytes(), 0..text.len())
    }
}

fn check_length(text: &str) -> Result<(), PatternError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(PatternError::TooLong {
            max: MAX_TEXT_BYTES,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> TextPattern {
        TextPattern::literal(text).unwrap()
    }

    fn regex(text: &str) -> TextPattern {
        TextPattern::regex(text).unwrap()
    }

    #[test]
    fn case_counts_if_there_is_an_upper_case_letter() {
        let finds = |pattern: &TextPattern, text: &str| !pattern.marks_in(text).is_empty();
        assert!(finds(&literal("main"), "MAIN") && finds(&literal("größe"), "GRÖSSE GRÖßE"));
        assert!(finds(&literal("Main"), "Main") && !finds(&literal("Main"), "main"));
        // A class is no letter, a range of letters is.
        assert!(finds(&regex(r"\Sain\W"), "MAIN "));
        assert!(!finds(&regex("[A-C]a"), "ca") && finds(&regex("[a-c]a"), "CA"));
        assert!(finds(&regex("(?i)Main"), "mAIN") && !finds(&regex(r"\x41b"), "ab"));
        assert!(finds(&literal(r"a.b\n"), r"a.b\n") && !finds(&literal("a.b"), "axb"));
    }

    #[test]
    fn a_match_is_within_a_line() {
        let found = |text: &str| regex(text).marks_in("ab\n\ncd\n");
        assert_eq!(found(r"b\s*c"), [] as [Range<usize>; 0]);
        assert_eq!(found(r"[^x]+"), [0..2, 4..6]);
        assert_eq!(found(r"(?s)b.c"), [] as [Range<usize>; 0]);
        assert_eq!(found(r"^.|.$"), [0..1, 1..2, 4..5, 5..6]);
        assert_eq!(found(r"\A.|.\z"), [0..1, 1..2, 4..5, 5..6]);
        for text in ["a\nb", r"a\nb", r"[\n]", r"(a|b\n)*", r"\x0a"] {
            let refused = TextPattern::regex(text).unwrap_err();
            assert_eq!(refused, PatternError::LineBreak, "{text:?}");
        }
        assert_eq!(
            TextPattern::literal("a\nb").unwrap_err(),
            PatternError::LineBreak
        );
    }

    #[test]
    fn what_cannot_be_searched_for_says_why() {
        let shown = |text: &str| TextPattern::regex(text).unwrap_err().to_string();
        insta::assert_snapshot!(
            [
                "(a",
                "a)",
                "[b",
                "a{2,1}",
                "*",
                r"\q",
                r"(a)\1",
                "(?=a)",
                r"\p{Nothing}",
                "üü(",
                &"(".repeat(200),
                &"(a?){1000}".repeat(60),
                &r"\w{100}".repeat(20),
                &"x".repeat(1001),
                "a\nb",
            ]
            .map(shown)
            .join("\n"),
        );
    }

    #[test]
    fn a_larger_expression_gets_smaller_pieces() {
        let (small, large) = (literal("main"), regex(r"\w{20}"));
        assert!(small.max_piece_bytes() > 1 << 20);
        assert!(large.max_piece_bytes() < 1 << 15 && large.max_line_bytes() < 1 << 20);
        assert!(large.max_piece_bytes() > 100 && small.max_line_bytes() > 1 << 24);
    }
}
