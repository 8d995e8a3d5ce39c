//! Sets and removes keys in the text of a Fennel file that returns one nested table of data, as a configuration does.
//!
//! Only the text of the value changes: comments and layout stay as they are. This works if the table is written out, as it nearly
//! always is. The caller evaluates the new text and compares, since a text can be written in ways that are not understood here.

use std::ops::Range;

use super::registration::Language;
use super::tokens::{Token, TokenKind, tokens};

/// An entry of a table that is written out.
struct WrittenEntry {
    key: Range<usize>,
    value: Range<usize>,
    /// The token at which the value begins.
    value_token: usize,
}

/// A table that is written out.
struct WrittenTable<'a> {
    /// Behind its opening brace.
    inside: usize,
    entries: Vec<(&'a str, WrittenEntry)>,
}

/// Returns the text with `value`, written as Fennel, for the key `name` in the table `section`. `None` if the table is not written
/// out there.
#[must_use]
pub fn set_key(text: &str, [section, name]: [&str; 2], value: &str) -> Option<String> {
    let tokens = tokens(text, Language::Fennel);
    if tokens.is_empty() {
        let separator = match text.is_empty() || text.ends_with('\n') {
            true => "",
            false => "\n",
        };
        return Some(format!(
            "{text}{separator}{{:{section} {{:{name} {value}}}}}\n"
        ));
    }
    let top = WrittenTable::read(text, &tokens, outer_table(&tokens)?)?;
    let Some(found) = top.find(section) else {
        return Some(top.insert(text, &format!(":{section} {{:{name} {value}}}"), true));
    };
    let table = WrittenTable::read(text, &tokens, found.value_token)?;
    Some(match table.find(name) {
        Some(entry) => replaced(text, entry.value.clone(), value),
        None => table.insert(text, &format!(":{name} {value}"), false),
    })
}

/// Returns the text without the key `name` in the table `section`. `None` if it is not written out there.
#[must_use]
pub fn remove_key(text: &str, [section, name]: [&str; 2]) -> Option<String> {
    let entry = find(text, [section, name])?;
    let (mut start, mut end) = (entry.key.start, entry.value.end);
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[end..].find('\n').map(|at| end + at + 1);
    let is_blank = |range: Range<usize>| text[range].trim().is_empty();
    match line_end {
        Some(line_end) if is_blank(line_start..start) && is_blank(end..line_end) => {
            (start, end) = (line_start, line_end);
        }
        _ if text[..start].ends_with(' ') && !is_blank(line_start..start) => start -= 1,
        _ if text[end..].starts_with(' ') => end += 1,
        _ => {}
    }
    Some(replaced(text, start..end, ""))
}

/// The value of the key `name` in the table `section`, as it is written.
#[must_use]
pub fn written_value<'a>(text: &'a str, path: [&str; 2]) -> Option<&'a str> {
    find(text, path).map(|entry| &text[entry.value])
}

fn find(text: &str, [section, name]: [&str; 2]) -> Option<WrittenEntry> {
    let tokens = tokens(text, Language::Fennel);
    let top = WrittenTable::read(text, &tokens, outer_table(&tokens)?)?;
    let table = WrittenTable::read(text, &tokens, top.find(section)?.value_token)?;
    let (_, entry) = table.entries.into_iter().find(|(key, _)| *key == name)?;
    Some(entry)
}

fn replaced(text: &str, range: Range<usize>, with: &str) -> String {
    [&text[..range.start], with, &text[range.end..]].concat()
}

impl<'a> WrittenTable<'a> {
    /// Reads the table that opens at a token; `None` if it is not written out as keys and values.
    fn read(text: &str, tokens: &[Token<'a>], open: usize) -> Option<Self> {
        if tokens.get(open)?.kind != TokenKind::OpenTable {
            return None;
        }
        let mut entries = Vec::new();
        let mut at = open + 1;
        while tokens.get(at)?.kind != TokenKind::Close {
            let key = tokens
                .get(at)
                .filter(|key| key.kind == TokenKind::Literal)?;
            let value_token = at + 1;
            if tokens.get(value_token)?.kind == TokenKind::Close {
                return None;
            }
            let next = after_form(tokens, value_token)?;
            let value = tokens[value_token].start..end_of(text, &tokens[next - 1]);
            let key_range = key.start..end_of(text, key);
            entries.push((
                key.text,
                WrittenEntry {
                    key: key_range,
                    value,
                    value_token,
                },
            ));
            at = next;
        }
        Some(Self {
            inside: tokens[open].start + 1,
            entries,
        })
    }

    fn find(&self, key: &str) -> Option<&WrittenEntry> {
        let found = self.entries.iter().find(|(name, _)| *name == key);
        found.map(|(_, entry)| entry)
    }

    /// Adds an entry behind the last one: on a line of its own if that has one or if it is wanted.
    fn insert(&self, text: &str, entry: &str, own_line: bool) -> String {
        let Some((_, last)) = self.entries.last() else {
            return replaced(text, self.inside..self.inside, entry);
        };
        let line_start = text[..last.key.start].rfind('\n').map_or(0, |at| at + 1);
        let before = &text[line_start..last.key.start];
        let column = before.chars().count();
        let is_alone = line_start > 0 && before.trim().is_empty();
        let separator = match own_line || is_alone {
            true => format!("\n{}", " ".repeat(column)),
            false => " ".to_owned(),
        };
        let at = last.value.end;
        replaced(text, at..at, &format!("{separator}{entry}"))
    }
}

/// The token that opens the table that the file returns: its last form.
fn outer_table(tokens: &[Token<'_>]) -> Option<usize> {
    let mut at = 0;
    loop {
        let next = after_form(tokens, at)?;
        if next == tokens.len() {
            return Some(at);
        }
        at = next;
    }
}

/// The token behind the form that begins at a token.
fn after_form(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.kind {
            TokenKind::OpenTable | TokenKind::Open => depth += 1,
            TokenKind::Close => depth = depth.checked_sub(1)?,
            TokenKind::Symbol | TokenKind::Literal | TokenKind::Equals => {}
        }
        if depth == 0 {
            return Some(index + 1);
        }
    }
    None
}

/// The byte index at which a token ends.
fn end_of(text: &str, token: &Token<'_>) -> usize {
    let marks = match text[token.start..].chars().next() {
        Some('"') => 2,
        Some(':') if token.kind == TokenKind::Literal => 1,
        _ => 0,
    };
    (token.start + token.text.len() + marks).min(text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn set(text: &str, path: [&str; 2], value: &str, expected: &str) {
        assert_eq!(set_key(text, path, value).as_deref(), Some(expected));
    }

    const FILE: &str = "; mine\n{:http {:port 3000} ; the web\n ;; runs\n :ci {:concurrent-runs 2 ; two cores\n      :memory \"4g\"\n      ;; :pids 1\n      }\n :keep {}}\n; end\n";

    #[test]
    fn a_value_is_replaced_and_nothing_else() {
        let path = ["ci", "concurrent-runs"];
        set(FILE, path, "4", &FILE.replace("runs 2 ;", "runs 4 ;"));
        let list = "{:a {:b [\"x\" {:c 1}] :d 2}}";
        set(list, ["a", "b"], "[]", "{:a {:b [] :d 2}}");
        set("{:a {\"b\" :c}}", ["a", "b"], "\"d\"", "{:a {\"b\" \"d\"}}");
        assert_eq!(written_value(FILE, ["ci", "memory"]), Some("\"4g\""));
        assert_eq!(written_value(FILE, ["ci", "pids"]), None);
    }

    #[test]
    fn a_key_is_added_behind_the_last_one() {
        let added = FILE.replace("\"4g\"\n", "\"4g\"\n      :pids 7\n");
        set(FILE, ["ci", "pids"], "7", &added);
        let added = FILE.replace("3000}", "3000 :url \"x\"}");
        set(FILE, ["http", "url"], "\"x\"", &added);
        set(
            FILE,
            ["keep", "days"],
            "9",
            &FILE.replace(":keep {}", ":keep {:days 9}"),
        );
        let section = FILE.replace(":keep {}", ":keep {}\n :git {:max-push 1}");
        set(FILE, ["git", "max-push"], "1", &section);
        set("{}", ["a", "b"], "1", "{:a {:b 1}}");
        set("", ["a", "b"], "1", "{:a {:b 1}}\n");
        set("; none\n", ["a", "b"], "1", "; none\n{:a {:b 1}}\n");
        let local = "(local x 1)\n{:a {:b x}}";
        set(local, ["a", "c"], "2", "(local x 1)\n{:a {:b x :c 2}}");
    }

    #[test]
    fn a_key_is_removed_with_its_line_if_it_is_alone() {
        let removed = |text: &str, path| remove_key(text, path).unwrap();
        let line = "{:a {:b 1\n     :c 2\n     :d 3}}";
        assert_eq!(removed(line, ["a", "c"]), "{:a {:b 1\n     :d 3}}");
        assert_eq!(removed(line, ["a", "d"]), "{:a {:b 1\n     :c 2\n     }}");
        let one = "{:a {:b 1 :c 2} ; note\n}";
        assert_eq!(removed(one, ["a", "b"]), "{:a {:c 2} ; note\n}");
        assert_eq!(removed(one, ["a", "c"]), "{:a {:b 1} ; note\n}");
        assert_eq!(remove_key(one, ["a", "x"]), None);
    }

    #[test]
    fn what_is_not_written_out_is_left_alone() {
        for text in [
            "(let [x 1] {:a {:b x}})",
            "{:a (f 1)}",
            "{:a x}",
            "{x {:b 1}}",
            "{:a {:b}}",
            "{:a {:b 1}",
            "{:a {:b 1}}}",
            "{:a",
            "7",
        ] {
            assert_eq!(set_key(text, ["a", "b"], "2"), None, "{text}");
            assert_eq!(remove_key(text, ["a", "b"]), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_panics(text in "([{}()\\[\\]=:;,\"'\\\\ \n-]|a|é|:a|:b|\\{:a \\{:b ){0,40}") {
            let _ = set_key(&text, ["a", "b"], "1");
            let _ = remove_key(&text, ["a", "b"]);
        }
    }
}
