//! The tokens of all lines of a text.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::code_token::CodeToken;
use super::grammars::Grammar;
use super::limits::{
    FILE_TIME, HighlightCut, HighlightTime, MAX_FILE_BYTES, MAX_LINE_BYTES, MAX_LINES,
};
use super::tokenizer::Tokenizer;

/// The tokens of the lines of a text, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HighlightedLines {
    tokens: Vec<CodeToken>,
    /// Where the tokens of each line end.
    ends: Vec<u32>,
    /// Why the rest has no tokens.
    pub cut: Option<HighlightCut>,
}

impl HighlightedLines {
    /// The tokens of a line, by its number from 1.
    #[must_use]
    pub fn line(&self, number: usize) -> &[CodeToken] {
        let end_of = |line: usize| match line {
            0 => Some(0),
            line => self.ends.get(line - 1).map(|end| *end as usize),
        };
        let range = number
            .checked_sub(1)
            .and_then(|before| Some(end_of(before)?..end_of(number)?));
        range
            .and_then(|range| self.tokens.get(range))
            .unwrap_or_default()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.tokens.len() * size_of::<CodeToken>() + self.ends.len() * size_of::<u32>()
    }

    fn end_line(&mut self) {
        self.ends
            .push(u32::try_from(self.tokens.len()).unwrap_or(u32::MAX));
    }
}

/// Highlights the lines of a file of so many bytes.
pub fn highlight<'a>(
    grammar: Grammar,
    bytes: usize,
    lines: impl Iterator<Item = &'a [u8]>,
) -> HighlightedLines {
    let mut found = HighlightedLines::default();
    if bytes > MAX_FILE_BYTES {
        found.cut = Some(HighlightCut::FileSize);
        return found;
    }
    // Loading the grammars does not count.
    let Some(mut tokenizer) = Tokenizer::new(grammar) else {
        return found;
    };
    let time = HighlightTime::starting_now(FILE_TIME);
    let mut number = 0;
    // Oniguruma's Rust part panics where a search exceeds its limit.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        for line in lines {
            number += 1;
            let cut = if number > MAX_LINES {
                Some(HighlightCut::LineCount(number))
            } else if line.len() > MAX_LINE_BYTES {
                Some(HighlightCut::LongLine(number))
            } else if time.is_over() {
                Some(HighlightCut::Time(number))
            } else {
                let read = tokenizer.line(line, &mut found.tokens);
                read.is_err().then_some(HighlightCut::Fault(number))
            };
            if cut.is_some() {
                found.cut = cut;
                return;
            }
            found.end_line();
        }
    }));
    if ended.is_err() {
        found.cut = Some(HighlightCut::Fault(number));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope_classes::TokenClass;

    fn lines(text: &str) -> impl Iterator<Item = &[u8]> {
        text.lines().map(str::as_bytes)
    }

    fn colours(name: &str, text: &str) -> HighlightedLines {
        let grammar = Grammar::of(name.as_bytes(), b"").unwrap();
        highlight(grammar, text.len(), lines(text))
    }

    /// The tokens of a text, each as `class:text`.
    fn shown(name: &str, text: &str) -> String {
        let found = colours(name, text);
        let mut shown = String::new();
        for (at, line) in text.lines().enumerate() {
            for token in found.line(at + 1) {
                let part = &line[token.start as usize..token.end as usize];
                shown.push_str(&format!("{:?}:{part} ", token.class));
            }
            shown = shown.trim_end().to_owned();
            shown.push('\n');
        }
        shown
    }

    #[test]
    fn tokens_of_languages_have_their_classes() {
        insta::assert_snapshot!(shown(
            "a.rs",
            "// Says.\n#[derive(Debug)]\nstruct Word<'a>(&'a str);\nfn say(count: u32) -> String {\n    format!(\"{count}\\n\", 0x1f)\n}"
        ));
        insta::assert_snapshot!(shown(
            "ci.fnl",
            "(local ci (require :quire.ci)) ; all\n(fn [x] (+ x 1) \"text\")"
        ));
        insta::assert_snapshot!(shown(
            "a.py",
            "def f(self):\n    \"\"\"Doc\n    more\"\"\"\n    return not f\"{self.x} y\""
        ));
        insta::assert_snapshot!(shown("a.html", "<p class=\"a\">x &amp; y</p><!-- c -->"));
    }

    #[test]
    fn what_is_beyond_the_limits_has_no_colours_and_says_why() {
        let line = "let a = 1;\n";
        let many = line.repeat(MAX_FILE_BYTES / line.len() + 1);
        assert_eq!(colours("a.rs", &many).cut, Some(HighlightCut::FileSize));
        let long = format!("{line}// {}\n{line}", "x".repeat(MAX_LINE_BYTES));
        let found = colours("a.rs", &long);
        assert_eq!(found.cut, Some(HighlightCut::LongLine(2)));
        assert!(!found.line(1).is_empty() && found.line(2).is_empty() && found.line(3).is_empty());
        assert!(found.line(0).is_empty() && found.line(9).is_empty());
        let found = colours("a.toml", &"\n".repeat(MAX_LINES + 5));
        assert_eq!(found.cut, Some(HighlightCut::LineCount(20_001)));
        insta::assert_snapshot!(
            [
                HighlightCut::FileSize,
                HighlightCut::LineCount(20_001),
                HighlightCut::LongLine(2),
                HighlightCut::Time(7),
                HighlightCut::Fault(9),
            ]
            .map(|cut| cut.to_string())
            .join("\n")
        );
    }

    #[test]
    fn much_text_ends_with_its_time() {
        let found = colours("a.js", &"a(b => { `${[1, 'x']}` })\n".repeat(19_000));
        assert!(matches!(found.cut, Some(HighlightCut::Time(line)) if line > 1));
    }

    #[test]
    fn text_that_is_no_utf_8_has_places_in_what_is_shown() {
        let grammar = Grammar::of(b"a.rs", b"").unwrap();
        let found = highlight(grammar, 9, [&b"\xff // \xfe"[..]].into_iter());
        let token = found.line(1).last().copied();
        let comment = CodeToken {
            start: 4,
            end: 10,
            class: TokenClass::Comment,
        };
        assert_eq!(token, Some(comment));
    }
}
