//! A pipeline's or configuration's file: its text, and where names are written in it.

use super::diagnostic::{Diagnostic, Location, MAX_QUOTED, printable};
use super::registration::Language;
use super::table_keys;
use super::tokens::{Token, TokenKind, tokens};
use quire_types::text::excerpt;

/// The most lines that one registering call is assumed to have.
const MAX_CALL_LINES: usize = 200;
/// How much of a form is quoted in a message, in characters.
const MAX_QUOTED_FORM: usize = 40;
/// The most lines that are searched for an option.
const MAX_OPTION_LINES: u32 = 1_000;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceFile {
    /// Path within the commit.
    pub file: String,
    pub text: String,
}

impl SourceFile {
    fn language(&self) -> Language {
        if self.file.ends_with(".lua") {
            Language::Lua
        } else {
            Language::Fennel
        }
    }

    /// A line, counted from 1.
    #[must_use]
    pub fn line(&self, line: u32) -> Option<&str> {
        self.text
            .lines()
            .nth(usize::try_from(line).ok()?.checked_sub(1)?)
    }

    /// The text with long lines shortened as in a diagnostic, and with control characters replaced.
    #[must_use]
    pub fn quoted(&self) -> String {
        let mut quoted = String::with_capacity(self.text.len());
        for line in self.text.split_inclusive('\n') {
            let cut = line
                .char_indices()
                .nth(MAX_QUOTED)
                .filter(|(at, _)| !line[*at..].trim_end().is_empty());
            match cut {
                Some((at, _)) => {
                    quoted.extend([&line[..at], if line.ends_with('\n') { "…\n" } else { "…" }])
                }
                None => quoted.push_str(line),
            }
        }
        // A carriage return ends each line of a file from Windows.
        quoted
            .chars()
            .map(|c| if c == '\r' { ' ' } else { printable(c) })
            .collect()
    }

    /// The column of the first character of a line that is not white space.
    #[must_use]
    pub fn indent(&self, line: u32) -> u32 {
        let blank = self.line(line).map_or(0, |text| {
            text.chars().take_while(|c| c.is_whitespace()).count()
        });
        ordinal(blank)
    }

    /// Whether this is the file of a chunk name. Lua shortens long names from the left.
    #[must_use]
    pub fn is_named(&self, chunk: &str) -> bool {
        self.file == chunk
            || chunk
                .strip_prefix("...")
                .is_some_and(|end| !end.is_empty() && self.file.ends_with(end))
    }

    /// Creates a diagnostic at a line and column of this file.
    #[must_use]
    pub fn diagnostic(&self, message: impl Into<String>, line: u32, column: u32) -> Diagnostic {
        self.diagnostic_at(
            message,
            Location {
                file: self.file.clone(),
                line,
                column,
            },
        )
    }

    /// Creates a diagnostic, which quotes the source line if the location is in this file.
    #[must_use]
    pub fn diagnostic_at(&self, message: impl Into<String>, location: Location) -> Diagnostic {
        let line = if location.file == self.file {
            self.line(location.line)
        } else {
            None
        };
        let source_line = line.map(|text| text.chars().take(MAX_QUOTED).collect());
        Diagnostic {
            message: message.into(),
            source_line,
            location: Some(location),
            hint: None,
        }
        .truncated()
    }

    /// Whether the file is empty except for comments and white space.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        table_keys::is_blank(&self.text, self.language())
    }

    /// The location of the innermost key of `path` that can be found, in a file that returns one
    /// table of data.
    #[must_use]
    pub fn location_of_key_path(&self, path: &[&str]) -> Option<Location> {
        let start = table_keys::find_key_path(&self.text, self.language(), path)?;
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Some(Location {
            file: self.file.clone(),
            line: ordinal(before.matches('\n').count()),
            column: ordinal(before[line_start..].chars().count()),
        })
    }

    /// The line and column at which the call `(head :name …` or `head("name", …` begins: the closest_match
    /// such call that does not begin after `line`. Lua reports a call at the last line of the
    /// functions among its arguments.
    #[must_use]
    pub fn find_call(&self, line: u32, head: &str, name: &str) -> Option<(u32, u32)> {
        let mut number = line;
        let mut lines = self.up_to(line).rsplit('\n').peekable();
        while let Some(text) = lines.next() {
            // Most lines do not contain the name, and this is far cheaper than tokenizing.
            if !name.is_empty() && text.contains(name) {
                let tokens = tokens(text, self.language());
                for (at, _) in literals(&tokens, name) {
                    if let Some(start) = self.call_start(&tokens[..at], head) {
                        return Some((number, column_of(text, start)));
                    }
                    let above = lines.peek().filter(|_| at == 0);
                    if let Some(above) = above
                        && let Some(start) =
                            self.call_start(&super::tokens::tokens(above, self.language()), head)
                    {
                        return Some((number - 1, column_of(above, start)));
                    }
                }
            }
            number = number.saturating_sub(1);
        }
        None
    }

    /// The text up to and including a line, without its line end.
    fn up_to(&self, line: u32) -> &str {
        let ends = usize::try_from(line)
            .ok()
            .and_then(|line| line.checked_sub(1))
            .and_then(|nth| self.text.match_indices('\n').nth(nth));
        ends.map_or(self.text.as_str(), |(end, _)| &self.text[..end])
    }

    /// The line and column of the closest_match call of `head` with any arguments. It begins at `line`, or
    /// at most `within` lines before.
    #[must_use]
    pub fn find_head(&self, line: u32, head: &str, within: u32) -> Option<(u32, u32)> {
        (line.saturating_sub(within).max(1)..=line)
            .rev()
            .find_map(|number| {
                let text = self.line(number).filter(|text| text.contains(head))?;
                let tokens = tokens(text, self.language());
                let heads = || (0..tokens.len()).filter(|at| is_head(&tokens[*at], head));
                let is_called = |at: &usize| match self.language() {
                    Language::Fennel => *at > 0 && tokens[*at - 1].text == "(",
                    Language::Lua => true,
                };
                // `{: sh}` in the parameters of a job's function is no call.
                let is_argument = |at: &usize| {
                    tokens
                        .get(*at + 1)
                        .is_some_and(|next| next.kind != TokenKind::Close)
                };
                let at = heads()
                    .find(is_called)
                    .or_else(|| heads().find(is_argument))?;
                Some((number, column_of(text, self.head_start(&tokens[..=at])?)))
            })
    }

    /// Where a call begins whose tokens up to its first argument are the last of `tokens`.
    fn call_start(&self, tokens: &[Token<'_>], head: &str) -> Option<usize> {
        let callee = match (self.language(), tokens.split_last()) {
            (Language::Lua, Some((last, callee))) if last.kind == TokenKind::Open => callee,
            _ => tokens,
        };
        callee.last().filter(|token| is_head(token, head))?;
        self.head_start(callee)
    }

    /// Where a call begins whose head is the last token. In Fennel that is its parenthesis.
    fn head_start(&self, tokens: &[Token<'_>]) -> Option<usize> {
        let (head, before) = tokens.split_last()?;
        let parenthesis = before
            .last()
            .filter(|token| self.language() == Language::Fennel && token.text == "(");
        Some(parenthesis.unwrap_or(head).start)
    }

    /// The line and column of a name that is written as a literal, in the lines from `first` up to
    /// but not including `end`.
    #[must_use]
    pub fn find(&self, first: u32, end: u32, name: &str) -> Option<(u32, u32)> {
        self.find_token(first, end, name, |tokens| {
            literals(tokens, name).map(|(_, token)| token.start).next()
        })
    }

    /// The first line after `line` that does not belong to the call there, judging by indentation.
    #[must_use]
    pub fn end_of_form(&self, line: u32) -> u32 {
        let belongs = |text: &&str| {
            text.is_empty() || text.starts_with(|c: char| c.is_whitespace() || ")]}".contains(c))
        };
        let skip = usize::try_from(line).unwrap_or(usize::MAX);
        ordinal(
            self.text
                .lines()
                .skip(skip)
                .take(MAX_CALL_LINES)
                .take_while(belongs)
                .count(),
        )
        .saturating_add(line)
    }

    /// The line and column of a key of a table in these lines: written as a literal, or in Lua as
    /// `name =`.
    #[must_use]
    pub fn find_key(&self, first: u32, end: u32, name: &str) -> Option<(u32, u32)> {
        if let Some(found) = self.find(first, end, name) {
            return Some(found);
        }
        let end = end.min(first.saturating_add(MAX_OPTION_LINES));
        self.find_token(first, end, name, |tokens| {
            let is_equals = |at: usize| {
                tokens
                    .get(at)
                    .is_some_and(|token| token.kind == TokenKind::Equals)
            };
            let (_, key) = tokens.iter().enumerate().find(|(at, token)| {
                token.kind == TokenKind::Symbol
                    && token.text == name
                    && is_equals(at + 1)
                    && !is_equals(at + 2)
            })?;
            Some(key.start)
        })
    }

    /// The column of a name on a line: as a name, as the last part of one, or as a literal.
    #[must_use]
    pub fn find_name(&self, line: u32, name: &str) -> Option<u32> {
        let is_name = |token: &&Token<'_>| {
            let end = token.text.strip_suffix(name);
            end.is_some_and(|start| start.is_empty() || start.ends_with('.'))
        };
        let (_, column) = self.find_token(line, line.saturating_add(1), name, |tokens| {
            let token = tokens.iter().find(is_name)?;
            Some(token.start + token.text.len() - name.len())
        })?;
        Some(column)
    }

    /// The line, column and beginning of the form that is not closed: one that is still open where another form begins
    /// at the start of a line, or at the end of the file.
    #[must_use]
    pub fn unclosed_form(&self) -> Option<(u32, u32, String)> {
        let mut open: Vec<usize> = Vec::new();
        for token in tokens(&self.text, self.language()) {
            let starts_line = token.start == 0 || self.text[..token.start].ends_with('\n');
            match token.kind {
                TokenKind::Open | TokenKind::OpenTable if starts_line && !open.is_empty() => break,
                TokenKind::Open | TokenKind::OpenTable => open.push(token.start),
                TokenKind::Close => drop(open.pop()),
                TokenKind::Symbol | TokenKind::Literal | TokenKind::Equals => {}
            }
        }
        let start = *open.last()?;
        let before = &self.text[..start];
        let line = ordinal(before.matches('\n').count());
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = column_of(&self.text[line_start..], start - line_start);
        let text = self.text[start..].lines().next().unwrap_or_default();
        Some((line, column, excerpt(text, MAX_QUOTED_FORM)))
    }

    /// The line and column of the first token that `find` returns the start of, in the lines that
    /// contain `name`.
    fn find_token(
        &self,
        first: u32,
        end: u32,
        name: &str,
        find: impl Fn(&[Token<'_>]) -> Option<usize>,
    ) -> Option<(u32, u32)> {
        let skip = usize::try_from(first).ok()?.checked_sub(1)?;
        let count = usize::try_from(end.saturating_sub(first)).ok()?;
        let lines = self.text.lines().enumerate().skip(skip).take(count);
        lines
            .filter(|(_, text)| !name.is_empty() && text.contains(name))
            .find_map(|(number, text)| {
                let start = find(&tokens(text, self.language()))?;
                Some((ordinal(number), column_of(text, start)))
            })
    }
}

/// Converts an index to a number that counts from 1.
fn ordinal(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1)
}

/// The column of a byte index of a line, counted in characters.
fn column_of(line: &str, start: usize) -> u32 {
    ordinal(line[..start].chars().count())
}

/// Whether a token names the function `head`, perhaps as a field of a module.
fn is_head(token: &Token<'_>, head: &str) -> bool {
    token.kind == TokenKind::Symbol
        && token
            .text
            .strip_suffix(head)
            .is_some_and(|module| module.is_empty() || module.ends_with('.'))
}

fn literals<'a, 't>(
    tokens: &'a [Token<'t>],
    name: &'a str,
) -> impl Iterator<Item = (usize, &'a Token<'t>)> {
    tokens
        .iter()
        .enumerate()
        .filter(move |(_, token)| token.kind == TokenKind::Literal && token.text == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(file: &str, text: &str) -> SourceFile {
        SourceFile {
            file: file.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn quoted_text_has_no_control_characters() {
        let text = file("ci.fnl", "a \u{1b}]0;x\u{7}\r\n\tb\u{9b}2J");
        assert_eq!(text.quoted(), "a \u{fffd}]0;x\u{fffd} \n\tb\u{fffd}2J");
        let diagnostic = text.diagnostic("no", 1, 1);
        assert_eq!(
            diagnostic.source_line.as_deref(),
            Some("a \u{fffd}]0;x\u{fffd}")
        );
        let untrusted = Diagnostic {
            source_line: Some("\u{1b}[2J\tx".to_owned()),
            ..diagnostic
        };
        assert_eq!(
            untrusted.truncated().source_line.as_deref(),
            Some("\u{fffd}[2J\tx")
        );
    }

    #[test]
    fn names_are_found_as_whole_literals() {
        let text = file(
            "ci.fnl",
            "(local ci (require :quire.ci))\n  (ci.job :test-all [:quire/push] f) (ci.job :test [:test-all ; :nope\n :ü :lint]",
        );
        assert_eq!(text.find_call(3, "job", "test"), Some((2, 38)));
        assert_eq!(text.find_call(2, "job", "test-all"), Some((2, 3)));
        assert_eq!(text.find_call(2, "job", "x"), None);
        assert_eq!(text.find_call(3, "ob", "test"), None);
        assert_eq!(text.find_call(3, "job", "lint"), None);
        assert_eq!(text.find_head(3, "job", 5), Some((2, 3)));
        assert_eq!(text.find_head(3, "job", 0), None);
        assert_eq!(text.find_head(1, "job", 5), None);
        assert_eq!(text.find(2, 4, "lint"), Some((3, 5)));
        assert_eq!(text.find(2, 4, "nope"), None);
        assert_eq!(text.find(2, 3, "lint"), None);
        assert_eq!(text.find(1, 9, "test"), Some((2, 46)));
        assert_eq!((text.line(0), text.line(5)), (None, None));
        let split = file("ci.fnl", "(ci.job\n  :a\n  [:quire/push] (fn [] 1))");
        assert_eq!(split.find_call(3, "job", "a"), Some((1, 1)));
        let in_a_string = file("ci.fnl", "(sh \"echo :a\") (ci.job \"a;b\" [:c])");
        assert_eq!(in_a_string.find(1, 2, "a"), None);
        assert_eq!(in_a_string.find_call(1, "job", "a;b"), Some((1, 16)));
    }

    #[test]
    fn names_are_found_in_lua() {
        let text = file(
            "ci.lua",
            "local ci = require('quire.ci')\n\n\nci.job(\"x\", {'test'})\nf(ci.job(\n  'y'))",
        );
        assert_eq!(text.find_call(4, "job", "x"), Some((4, 1)));
        assert_eq!(text.find_call(4, "ob", "x"), None);
        assert_eq!(text.find_call(6, "job", "y"), Some((5, 3)));
        assert_eq!(text.find_head(4, "job", 0), Some((4, 1)));
        assert_eq!(text.find(4, 5, "test"), Some((4, 14)));
    }

    #[test]
    fn keys_are_found_in_both_languages() {
        let lua = file(
            "ci.lua",
            "f({timeout == 3,\n  my_timeout = 1, timeout = 2})\ng(1)",
        );
        assert_eq!(lua.find_key(1, 3, "timeout"), Some((2, 19)));
        assert_eq!((lua.end_of_form(1), lua.end_of_form(3)), (3, 4));
        assert_eq!(lua.end_of_form(9), 10);
        assert_eq!(lua.find_key(1, 2, "timeout"), None);
        assert_eq!(lua.find_key(1, 4, ""), None);
        assert_eq!(lua.find_key(1, 4, "g"), None);
        let fennel = file("ci.fnl", "(f)\n\n(g {:retry 1})");
        assert_eq!(fennel.find_key(1, 4, "retry"), Some((3, 5)));
    }
}
