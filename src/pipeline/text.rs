//! A pipeline's text, to point into.

use super::{Diagnostic, Place};

/// The longest source line that is quoted, in characters.
pub const MAX_QUOTED: usize = 400;

/// A file's name and text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PipelineText {
    /// Path within the commit.
    pub file: String,
    /// The text.
    pub text: String,
}

impl PipelineText {
    /// A line, from 1.
    #[must_use]
    pub fn line(&self, line: u32) -> Option<&str> {
        self.text
            .lines()
            .nth(usize::try_from(line).ok()?.checked_sub(1)?)
    }

    /// The text with each line as long as it is quoted, and nothing in it that a terminal would act on.
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
        // The ends of a Windows file's lines.
        quoted
            .chars()
            .map(|c| if c == '\r' { ' ' } else { super::printable(c) })
            .collect()
    }

    /// The column of the first character of a line that is not white space.
    #[must_use]
    pub fn indent(&self, line: u32) -> u32 {
        let blank = self.line(line).map_or(0, |text| {
            text.chars().take_while(|c| c.is_whitespace()).count()
        });
        column(blank)
    }

    /// Whether Lua, which shortens long names from the left, means this file.
    #[must_use]
    pub fn is_named(&self, chunk: &str) -> bool {
        self.file == chunk
            || chunk
                .strip_prefix("...")
                .is_some_and(|end| !end.is_empty() && self.file.ends_with(end))
    }

    /// Something wrong at a place of this file.
    #[must_use]
    pub fn diagnostic(&self, message: impl Into<String>, line: u32, column: u32) -> Diagnostic {
        self.diagnostic_at(
            message,
            Place {
                file: self.file.clone(),
                line,
                column,
            },
        )
    }

    /// Something wrong at a place, with its line where it lies in this file.
    #[must_use]
    pub fn diagnostic_at(&self, message: impl Into<String>, place: Place) -> Diagnostic {
        let line = if place.file == self.file {
            self.line(place.line)
        } else {
            None
        };
        let source_line = line.map(|text| text.chars().take(MAX_QUOTED).collect());
        Diagnostic {
            message: message.into(),
            source_line,
            place: Some(place),
            hint: None,
        }
        .bounded()
    }

    /// Where the call `(head :name …` or `head("name", …` begins: the nearest one that is not after
    /// `line`. A call's own line, as Lua knows it, is the last line of the functions among its arguments.
    #[must_use]
    pub fn find_call(&self, line: u32, head: &str, name: &str) -> Option<(u32, u32)> {
        let mut number = line;
        let mut lines = self.up_to(line).rsplit('\n').peekable();
        while let Some(text) = lines.next() {
            if let Some(at) = find_literal(text, name) {
                if let Some(start) = call_start(&text[..at], head) {
                    return Some((number, column(text[..start].chars().count())));
                }
                let above = lines.peek().filter(|_| text[..at].trim().is_empty());
                if let Some((above, start)) =
                    above.and_then(|above| Some((above, call_start(above, head)?)))
                {
                    return Some((number - 1, column(above[..start].chars().count())));
                }
            }
            number = number.saturating_sub(1);
        }
        None
    }

    /// The text up to and including a line, without its end.
    fn up_to(&self, line: u32) -> &str {
        let ends = usize::try_from(line)
            .ok()
            .and_then(|line| line.checked_sub(1))
            .and_then(|nth| self.text.match_indices('\n').nth(nth));
        ends.map_or(self.text.as_str(), |(end, _)| &self.text[..end])
    }

    /// The nearest line, not after `line` and at most so many before it, that calls `head` at all.
    #[must_use]
    pub fn find_head(&self, line: u32, head: &str, within: u32) -> Option<(u32, u32)> {
        (line.saturating_sub(within).max(1)..=line)
            .rev()
            .find_map(|number| {
                let text = self.line(number)?;
                let end = text
                    .match_indices(head)
                    .map(|(at, _)| at + head.len())
                    .find(|end| {
                        call_start(&text[..*end], head).is_some()
                            && text[*end..]
                                .starts_with(|c: char| c.is_whitespace() || "()[{\"".contains(c))
                    })?;
                Some((
                    number,
                    column(text[..call_start(&text[..end], head)?].chars().count()),
                ))
            })
    }

    /// Where a name is written as a literal in the lines from `first` up to (not including) `end`.
    #[must_use]
    pub fn find(&self, first: u32, end: u32, name: &str) -> Option<(u32, u32)> {
        let skip = usize::try_from(first).ok()?.checked_sub(1)?;
        let count = usize::try_from(end.saturating_sub(first)).ok()?;
        for (number, text) in self.text.lines().enumerate().skip(skip).take(count) {
            if let Some(at) = find_literal(text, name) {
                return Some((column(number), column(text[..at].chars().count())));
            }
        }
        None
    }

    /// The first line after `line` that does not belong to the form there, as far as indentation tells.
    #[must_use]
    pub fn end_of_form(&self, line: u32) -> u32 {
        let belongs = |text: &&str| {
            text.is_empty() || text.starts_with(|c: char| c.is_whitespace() || ")]}".contains(c))
        };
        let skip = usize::try_from(line).unwrap_or(usize::MAX);
        column(
            self.text
                .lines()
                .skip(skip)
                .take(200)
                .take_while(belongs)
                .count(),
        )
        .saturating_add(line)
    }

    /// Where a table's key is written in these lines: as a literal, or in Lua as `name =`.
    #[must_use]
    pub fn find_key(&self, first: u32, end: u32, name: &str) -> Option<(u32, u32)> {
        let in_lua = |number: u32| {
            let text = self.line(number)?;
            let is_key = |at: &usize| {
                let begins = !text[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                let after = text[*at + name.len()..].trim_start();
                begins && after.starts_with('=') && !after.starts_with("==")
            };
            let at = text.match_indices(name).map(|(at, _)| at).find(is_key)?;
            Some((number, column(text[..at].chars().count())))
        };
        if name.is_empty() {
            return None;
        }
        self.find(first, end, name)
            .or_else(|| (first..end.min(first.saturating_add(1_000))).find_map(in_lua))
    }
}

/// From a count of what comes before to a number from 1.
fn column(before: usize) -> u32 {
    u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1)
}

/// Where a call begins in a text that ends with its head: `  (ci.job ` gives the parenthesis, `ci.job(` the `c`.
fn call_start(before: &str, head: &str) -> Option<usize> {
    let before = before.trim_end();
    let (in_lua, callee) = match before.strip_suffix('(') {
        Some(callee) => (true, callee),
        None => (false, before),
    };
    let rest = callee.strip_suffix(head)?;
    let start = rest
        .rfind(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '_' | '-')))
        .map_or(0, |at| at + 1);
    let module = &rest[start..];
    if !(module.is_empty() || module.ends_with('.')) {
        return None;
    }
    if in_lua {
        Some(start)
    } else {
        rest[..start]
            .strip_suffix('(')
            .map(str::len)
            .or(Some(start))
    }
}

/// Where `:name`, `"name"` or `'name'` begins in a line, a comment's text aside.
fn find_literal(line: &str, name: &str) -> Option<usize> {
    if name.is_empty() || name.len() > line.len() {
        return None;
    }
    let code = &line[..line.find([';']).unwrap_or(line.len())];
    let ends_word = |rest: &str| {
        rest.chars()
            .next()
            .is_none_or(|c| c.is_whitespace() || "()[]{}\"'".contains(c))
    };
    let mut from = 0;
    while let Some(at) = code[from..].find(name).map(|at| at + from) {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        match before.chars().next_back() {
            Some(':') if ends_word(after) => return Some(at - 1),
            Some(quote @ ('"' | '\'')) if after.starts_with(quote) => return Some(at - 1),
            _ => from = at + name.chars().next().map_or(1, char::len_utf8),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_does_nothing_to_a_terminal() {
        let text = PipelineText {
            file: "ci.fnl".to_owned(),
            text: "a \u{1b}]0;x\u{7}\r\n\tb\u{9b}2J".to_owned(),
        };
        assert_eq!(text.quoted(), "a \u{fffd}]0;x\u{fffd} \n\tb\u{fffd}2J");
        let diagnostic = text.diagnostic("no", 1, 1);
        assert_eq!(
            diagnostic.source_line.as_deref(),
            Some("a \u{fffd}]0;x\u{fffd}")
        );
        let foreign = Diagnostic {
            source_line: Some("\u{1b}[2J\tx".to_owned()),
            ..diagnostic
        };
        assert_eq!(
            foreign.bounded().source_line.as_deref(),
            Some("\u{fffd}[2J\tx")
        );
    }

    #[test]
    fn names_are_found_as_whole_literals() {
        let text = PipelineText {
            file: "ci.fnl".to_owned(),
            text: "(local ci (require :quire.ci))\n  (ci.job :test-all [:quire/push] f) (ci.job :test [:test-all ; :nope\n :ü :lint]\nci.job(\"x\", {'test'})".to_owned(),
        };
        assert_eq!(text.find_call(3, "job", "test"), Some((2, 38)));
        assert_eq!(text.find_call(2, "job", "test-all"), Some((2, 3)));
        assert_eq!(text.find_call(4, "job", "x"), Some((4, 1)));
        assert_eq!(text.find_call(2, "job", "x"), None);
        assert_eq!(text.find_call(4, "ob", "x"), None);
        assert_eq!(text.find_call(4, "job", "lint"), None);
        assert_eq!(
            (
                text.find_head(3, "job", 5),
                text.find_head(3, "job", 0),
                text.find_head(1, "job", 5)
            ),
            (Some((2, 3)), None, None)
        );
        assert_eq!(text.find_head(4, "job", 0), Some((4, 1)));
        let split = PipelineText {
            file: String::new(),
            text: "(ci.job\n  :a\n  [:quire/push] (fn [] 1))".to_owned(),
        };
        assert_eq!(split.find_call(3, "job", "a"), Some((1, 1)));
        assert_eq!(text.find(2, 4, "lint"), Some((3, 5)));
        assert_eq!(text.find(2, 4, "nope"), None);
        assert_eq!(text.find(2, 3, "lint"), None);
        assert_eq!(text.find(1, 9, "test"), Some((2, 46)));
        assert_eq!(text.find(4, 5, "test"), Some((4, 14)));
        assert_eq!((text.line(0), text.line(5)), (None, None));
        let keys = PipelineText {
            file: String::new(),
            text: "f({timeout == 3,\n  my_timeout = 1, timeout = 2})\n(g {:retry 1})".to_owned(),
        };
        assert_eq!(
            (keys.find_key(1, 3, "timeout"), keys.find_key(1, 4, "retry")),
            (Some((2, 19)), Some((3, 5)))
        );
        assert_eq!(
            (
                keys.end_of_form(1),
                keys.end_of_form(3),
                keys.end_of_form(9)
            ),
            (3, 4, 10)
        );
        assert_eq!(
            (
                keys.find_key(1, 2, "timeout"),
                keys.find_key(1, 4, ""),
                keys.find_key(1, 4, "g")
            ),
            (None, None, None)
        );
    }
}
