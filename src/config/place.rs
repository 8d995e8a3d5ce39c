//! Where in the source text of a configuration a key stands. The value that the text evaluates to
//! has forgotten it; a small tokenizer finds it again where the table is written out, as it
//! nearly always is. Pure.

use crate::pipeline::{Language, Place};

/// The place and the text of the line of the innermost key of `path` that is found.
pub(super) fn of(
    text: &str,
    file: &str,
    language: Language,
    path: &[&str],
) -> Option<(Place, String)> {
    let tokens = tokens(text, language);
    let mut found = None;
    let mut table = None;
    for key in path {
        let at = match table {
            None => (0..tokens.len())
                .filter(|at| tokens[*at].kind == Kind::Open)
                .find_map(|at| key_in(&tokens, at, language, key)),
            Some(open) => key_in(&tokens, open, language, key),
        };
        let Some(at) = at else { break };
        found = Some(at);
        let value = if language == Language::Lua {
            at + 2
        } else {
            at + 1
        };
        if tokens
            .get(value)
            .is_none_or(|token| token.kind != Kind::Open)
        {
            break;
        }
        table = Some(value);
    }
    let start = tokens[found?].start;
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line = text[..start].matches('\n').count() + 1;
    let column = text[line_start..start].chars().count() + 1;
    let source = text[line_start..].lines().next().unwrap_or_default();
    let number = |n| u32::try_from(n).unwrap_or(u32::MAX);
    Some((
        Place {
            file: file.to_owned(),
            line: number(line),
            column: number(column),
        },
        source.to_owned(),
    ))
}

/// Whether a text says nothing: it is empty, or all comment.
pub(super) fn is_blank(text: &str, language: Language) -> bool {
    tokens(text, language).is_empty() && text.chars().all(|c| !c.is_control() || c.is_whitespace())
}

/// The index of the token that is this key of the table that opens at `open`.
fn key_in(tokens: &[Token<'_>], open: usize, language: Language, key: &str) -> Option<usize> {
    let (mut depth, mut is_key) = (0_usize, true);
    for (at, token) in tokens.iter().enumerate().skip(open + 1) {
        match token.kind {
            Kind::Open | Kind::OtherOpen => depth += 1,
            Kind::Close if depth == 0 => return None,
            Kind::Close => depth -= 1,
            Kind::Word | Kind::Equals if depth > 0 => continue,
            Kind::Word => {
                let stands_as_key = match language {
                    Language::Fennel => is_key,
                    Language::Lua => tokens
                        .get(at + 1)
                        .is_some_and(|next| next.kind == Kind::Equals),
                };
                if stands_as_key && token.text == key {
                    return Some(at);
                }
            }
            Kind::Equals => continue,
        }
        // In Fennel keys and values take turns.
        if depth == 0 {
            is_key = !is_key;
        }
    }
    None
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `{`
    Open,
    /// `(`, and `[` in Fennel.
    OtherOpen,
    /// What closes either.
    Close,
    /// A name, symbol, number or string.
    Word,
    /// `=` in Lua.
    Equals,
}

#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    kind: Kind,
    /// Without quotes or the colon of a Fennel keyword.
    text: &'a str,
    start: usize,
}

fn tokens(text: &str, language: Language) -> Vec<Token<'_>> {
    let lua = language == Language::Lua;
    let comment = if lua { "--" } else { ";" };
    let mut tokens = Vec::new();
    let mut start = 0;
    while let Some(c) = text[start..].chars().next() {
        let rest = &text[start..];
        let (length, kind) = match c {
            _ if rest.starts_with(comment) => (comment_length(rest, lua), None),
            '{' => (1, Some(Kind::Open)),
            '(' => (1, Some(Kind::OtherOpen)),
            '}' | ')' => (1, Some(Kind::Close)),
            '[' if !lua => (1, Some(Kind::OtherOpen)),
            ']' if !lua => (1, Some(Kind::Close)),
            '[' if long_bracket(rest).is_some() => {
                (long_bracket(rest).unwrap_or(1), Some(Kind::Word))
            }
            '=' if lua => (1, Some(Kind::Equals)),
            '"' => (string_length(rest, '"'), Some(Kind::Word)),
            '\'' if lua => (string_length(rest, '\''), Some(Kind::Word)),
            _ if is_word(c, lua) => (
                rest.find(|c| !is_word(c, lua)).unwrap_or(rest.len()),
                Some(Kind::Word),
            ),
            c => (c.len_utf8(), None),
        };
        if let Some(kind) = kind {
            let token = &rest[..length];
            let text = match c {
                '"' | '\'' => token
                    .get(1..token.len().saturating_sub(1))
                    .unwrap_or_default(),
                ':' if token.len() > 1 => &token[1..],
                _ => token,
            };
            tokens.push(Token { kind, text, start });
        }
        start += length;
    }
    tokens
}

fn is_word(c: char, lua: bool) -> bool {
    if lua {
        c.is_alphanumeric() || matches!(c, '_' | '.')
    } else {
        !c.is_whitespace() && !"()[]{}\";,'`".contains(c)
    }
}

/// The length of a string with its quotes; to the end of the text where it is not closed.
fn string_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn comment_length(rest: &str, lua: bool) -> usize {
    match rest.get(2..).filter(|_| lua).and_then(long_bracket) {
        Some(length) => length + 2,
        None => rest.find('\n').unwrap_or(rest.len()),
    }
}

/// The length of Lua's `[[…]]` or `[=[…]=]` that `rest` begins with.
fn long_bracket(rest: &str) -> Option<usize> {
    let level = rest
        .strip_prefix('[')?
        .bytes()
        .take_while(|b| *b == b'=')
        .count();
    if rest.as_bytes().get(level + 1) != Some(&b'[') {
        return None;
    }
    let close = format!("]{}]", "=".repeat(level));
    Some(rest.find(&close).map_or(rest.len(), |at| at + close.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str, language: Language, path: &[&str]) -> Option<(u32, u32, String)> {
        of(text, "config", language, path).map(|(place, line)| (place.line, place.column, line))
    }

    #[test]
    fn in_fennel() {
        let text = "; :http {:port 1}\n(local mem \"4g :ci {\")\n{:http {:auth :ssh :port \"x\"}\n :ssh {:host \"ü\" :port true}\n \"ci\" {:memory (.. mem :cpus) :cpus []}}";
        let fennel = |path: &[&str]| {
            at(text, Language::Fennel, path).map(|(line, column, _)| (line, column))
        };
        assert_eq!(fennel(&["http"]), Some((3, 2)));
        assert_eq!(fennel(&["http", "port"]), Some((3, 20)));
        assert_eq!(fennel(&["ssh", "port"]), Some((4, 18)));
        assert_eq!(fennel(&["ci", "cpus"]), Some((5, 31)));
        assert_eq!(fennel(&["ssh", "user"]), Some((4, 2)));
        assert_eq!(fennel(&["backup"]), None);
        assert_eq!(
            at(text, Language::Fennel, &["ssh"]).unwrap().2,
            " :ssh {:host \"ü\" :port true}"
        );
    }

    #[test]
    fn nothing_but_comments_is_blank() {
        for (text, fennel, lua) in [
            ("", true, true),
            (" ;{:a 1}\n\n; x", true, false),
            ("--[[ x\n]] -- y", false, true),
            ("{}", false, false),
            ("\0", false, false),
        ] {
            assert_eq!(
                (
                    is_blank(text, Language::Fennel),
                    is_blank(text, Language::Lua)
                ),
                (fennel, lua),
                "{text:?}"
            );
        }
    }

    #[test]
    fn in_lua() {
        let text = "-- http = {\n--[[ http = { port ]]\nlocal mem = [[ ci = { ]]\nreturn {\n  http = { auth = 'ssh', port = true },\n  [\"ssh\"] = { [\"host\"] = 1 },\n}\n";
        let lua =
            |path: &[&str]| at(text, Language::Lua, path).map(|(line, column, _)| (line, column));
        assert_eq!(lua(&["http", "port"]), Some((5, 26)));
        assert_eq!(lua(&["ssh"]), Some((6, 4)));
        assert_eq!(lua(&["ssh", "host"]), Some((6, 16)));
        assert_eq!(lua(&["ci"]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_survived(text in "([{}()\\[\\]=:;,\"'\\\\ \n-]|a|é|--\\[\\[){0,40}", lua: bool) {
            let _ = at(&text, if lua { Language::Lua } else { Language::Fennel }, &["a", "a"]);
        }
    }
}
