//! The colours of the changed lines of a page, found on the thread that reads the repository.

use std::borrow::Cow;
use std::time::Duration;

use super::source_text::bounded_line;
use quire_git::read::{ChangedFile, CommitDiff, DiffLine, DiffLineKind, TreePath};
use quire_highlight::{Grammar, HighlightTime, LineColours, LineOrigin, highlight_hunk};

/// What the colours of all hunks of a page may take.
const PAGE_TIME: Duration = Duration::from_millis(100);

/// The colours of the lines of each changed file. What is beyond the time has none.
pub(super) fn diff_colours(diff: &CommitDiff) -> Vec<LineColours> {
    let grammars: Vec<_> = diff.files.iter().map(grammar).collect();
    let time = HighlightTime::starting_now(PAGE_TIME);
    let files = diff.files.iter().zip(grammars);
    files
        .map(|(file, grammar)| {
            grammar.map_or_else(Vec::new, |grammar| colours(grammar, &file.diff.lines, time))
        })
        .collect()
}

fn grammar(file: &ChangedFile) -> Option<Grammar> {
    let first = file.diff.lines.iter().find(|line| is_code(line.kind))?;
    let starts = first.new.or(first.old) == Some(1);
    let line = if starts { first.text.as_slice() } else { b"" };
    Grammar::of(TreePath::parse(&file.path)?.name(), line)
}

fn is_code(kind: DiffLineKind) -> bool {
    !matches!(kind, DiffLineKind::Hunk | DiffLineKind::NoNewline)
}

/// The colours of the lines, one hunk after the other.
fn colours(grammar: Grammar, lines: &[DiffLine], time: HighlightTime) -> LineColours {
    let mut found = Vec::with_capacity(lines.len());
    for hunk in lines.chunk_by(|_, next| next.kind != DiffLineKind::Hunk) {
        // Places count in what is shown.
        let texts: Vec<(DiffLineKind, Cow<'_, str>)> = hunk
            .iter()
            .map(|line| (line.kind, bounded_line(&line.text).0))
            .collect();
        let code: Vec<(LineOrigin, &[u8])> = texts
            .iter()
            .filter(|(kind, _)| is_code(*kind))
            .map(|(kind, text)| (origin(*kind), text.trim_end_matches('\r').as_bytes()))
            .collect();
        let mut coloured = highlight_hunk(grammar, &code, time).into_iter();
        found.extend(texts.iter().map(|(kind, _)| {
            let tokens = is_code(*kind).then(|| coloured.next());
            tokens.flatten().unwrap_or_default()
        }));
    }
    found
}

fn origin(kind: DiffLineKind) -> LineOrigin {
    match kind {
        DiffLineKind::Added => LineOrigin::New,
        DiffLineKind::Removed => LineOrigin::Old,
        _ => LineOrigin::Both,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_highlight::TokenClass;

    #[test]
    fn each_line_of_code_has_its_own_colours() {
        let line = |kind, text: &str| DiffLine {
            kind,
            old: None,
            new: None,
            text: text.as_bytes().to_vec(),
            marks: Vec::new(),
        };
        let lines = [
            line(DiffLineKind::Hunk, "fn a() {"),
            line(DiffLineKind::Context, "return\r"),
            line(DiffLineKind::Removed, "/*"),
            line(DiffLineKind::NoNewline, ""),
            line(DiffLineKind::Added, "1"),
            line(DiffLineKind::Hunk, "fn b() {"),
            line(DiffLineKind::Removed, "return"),
        ];
        let grammar = Grammar::of(b"a.rs", b"").unwrap();
        let time = HighlightTime::starting_now(Duration::from_secs(10));
        let found = colours(grammar, &lines, time);
        let of = |tokens: &Vec<_>| {
            tokens
                .iter()
                .map(|token: &quire_highlight::CodeToken| token.class)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            found.iter().map(of).collect::<Vec<_>>(),
            [
                vec![],
                vec![TokenClass::Keyword],
                vec![TokenClass::Comment],
                vec![],
                vec![TokenClass::Number],
                vec![],
                vec![TokenClass::Keyword],
            ]
        );
    }
}
