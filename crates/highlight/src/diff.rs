//! The tokens of hunks of a difference: each hunk by itself, its old lines as one text and its new lines as another.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::code_token::CodeToken;
use super::grammars::Grammar;
use super::limits::{HighlightTime, MAX_LINE_BYTES};
use super::tokenizer::Tokenizer;

/// The version that a line of a hunk is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineOrigin {
    Both,
    Old,
    New,
}

/// The tokens of each line of some hunks.
pub type LineColours = Vec<Vec<CodeToken>>;

/// Highlights the lines of one hunk, until the time is over.
#[must_use]
pub fn highlight_hunk(
    grammar: Grammar,
    lines: &[(LineOrigin, &[u8])],
    time: HighlightTime,
) -> LineColours {
    let mut found = vec![Vec::new(); lines.len()];
    let has = |origin| lines.iter().any(|(of, _)| *of == origin);
    let versions = [
        (LineOrigin::Old, has(LineOrigin::Old)),
        // The lines of both versions are coloured as in the new one.
        (
            LineOrigin::New,
            has(LineOrigin::New) || !has(LineOrigin::Old),
        ),
    ];
    for (version, is_there) in versions {
        if is_there {
            let _ = catch_unwind(AssertUnwindSafe(|| {
                colour_version(grammar, lines, version, time, &mut found);
            }));
        }
    }
    found
}

/// Highlights the lines of one version, up to the first that cannot be.
fn colour_version(
    grammar: Grammar,
    lines: &[(LineOrigin, &[u8])],
    version: LineOrigin,
    time: HighlightTime,
    found: &mut LineColours,
) {
    let Some(mut tokenizer) = Tokenizer::new(grammar) else {
        return;
    };
    for ((origin, text), tokens) in lines.iter().zip(found) {
        if *origin != version && *origin != LineOrigin::Both {
            continue;
        }
        let mut line = Vec::new();
        if time.is_over() || text.len() > MAX_LINE_BYTES || tokenizer.line(text, &mut line).is_err()
        {
            return;
        }
        *tokens = line;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scope_classes::TokenClass;

    fn classes(lines: &[(LineOrigin, &str)], time: Duration) -> Vec<Vec<TokenClass>> {
        let grammar = Grammar::of(b"a.rs", b"").unwrap();
        let lines: Vec<_> = lines
            .iter()
            .map(|(o, text)| (*o, text.as_bytes()))
            .collect();
        let found = highlight_hunk(grammar, &lines, HighlightTime::starting_now(time));
        let of = |tokens: &Vec<CodeToken>| tokens.iter().map(|token| token.class).collect();
        found.iter().map(of).collect()
    }

    #[test]
    fn each_version_of_a_hunk_is_read_as_a_text_of_its_own() {
        use LineOrigin::{Both, New, Old};
        use TokenClass::{Comment, Keyword};
        let hunk = [
            (Both, "return"),
            (Old, "/* begins"),
            (New, "return"),
            (Old, "ends */"),
            (Both, "return"),
        ];
        assert_eq!(
            classes(&hunk, Duration::from_secs(10)),
            [[Keyword], [Comment], [Keyword], [Comment], [Keyword]]
        );
        let open = [(Old, "/*"), (Both, "return")];
        let found = classes(&open, Duration::from_secs(10));
        assert_eq!(found, [[Comment], [Comment]]);
        let none = classes(&hunk, Duration::ZERO);
        assert!(none.iter().all(Vec::is_empty));
    }
}
