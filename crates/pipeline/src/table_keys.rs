//! Finds where a key of a nested table is written in a file that returns one table of data, as a
//! configuration does. This works if the table is written out, as it nearly always is.

use super::registration::Language;
use super::tokens::{Token, TokenKind, tokens};

/// The byte index of the innermost key of `path` that can be found.
pub(super) fn find_key_path(text: &str, language: Language, path: &[&str]) -> Option<usize> {
    let tokens = tokens(text, language);
    let mut found = None;
    let mut table = None;
    for key in path {
        let at = match table {
            None => (0..tokens.len())
                .filter(|at| tokens[*at].kind == TokenKind::OpenTable)
                .find_map(|at| key_in_table(&tokens, at, language, key)),
            Some(open) => key_in_table(&tokens, open, language, key),
        };
        let Some(at) = at else { break };
        found = Some(at);
        let value = match language {
            Language::Fennel => at + 1,
            // The `=` is a token of its own.
            Language::Lua => at + 2,
        };
        if tokens
            .get(value)
            .is_none_or(|token| token.kind != TokenKind::OpenTable)
        {
            break;
        }
        table = Some(value);
    }
    found.map(|at| tokens[at].start)
}

/// Whether a text is empty except for comments and white space.
pub(super) fn is_blank(text: &str, language: Language) -> bool {
    tokens(text, language).is_empty() && text.chars().all(|c| !c.is_control() || c.is_whitespace())
}

/// The index of the token that is a key of the table that opens at token `open`.
fn key_in_table(tokens: &[Token<'_>], open: usize, language: Language, key: &str) -> Option<usize> {
    let mut depth = 0_usize;
    // In Fennel keys and values alternate.
    let mut is_key = true;
    for (at, token) in tokens.iter().enumerate().skip(open + 1) {
        match token.kind {
            TokenKind::OpenTable | TokenKind::Open => depth += 1,
            TokenKind::Close if depth == 0 => return None,
            TokenKind::Close => depth -= 1,
            TokenKind::Equals => continue,
            TokenKind::Symbol | TokenKind::Literal if depth > 0 => continue,
            TokenKind::Symbol | TokenKind::Literal => {
                let is_key = match language {
                    Language::Fennel => is_key,
                    Language::Lua => tokens
                        .get(at + 1)
                        .is_some_and(|next| next.kind == TokenKind::Equals),
                };
                if is_key && token.text == key {
                    return Some(at);
                }
            }
        }
        if depth == 0 {
            is_key = !is_key;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Line and column, counted from 1.
    fn location(text: &str, language: Language, path: &[&str]) -> Option<(usize, usize)> {
        let before = &text[..find_key_path(text, language, path)?];
        let (line, column) = before.split('\n').enumerate().last()?;
        Some((line + 1, column.chars().count() + 1))
    }

    #[test]
    fn in_fennel() {
        let text = "; :http {:port 1}\n(local mem \"4g :ci {\")\n{:http {:auth :ssh :port \"x\"}\n :ssh {:host \"ü\" :port true}\n \"ci\" {:memory (.. mem :cpus) :cpus []}}";
        let fennel = |path: &[&str]| location(text, Language::Fennel, path);
        assert_eq!(fennel(&["http"]), Some((3, 2)));
        assert_eq!(fennel(&["http", "port"]), Some((3, 20)));
        assert_eq!(fennel(&["ssh", "port"]), Some((4, 18)));
        assert_eq!(fennel(&["ci", "cpus"]), Some((5, 31)));
        assert_eq!(fennel(&["ssh", "user"]), Some((4, 2)));
        assert_eq!(fennel(&["backup"]), None);
    }

    #[test]
    fn in_lua() {
        let text = "-- http = {\n--[[ http = { port ]]\nlocal mem = [[ ci = { ]]\nreturn {\n  http = { auth = 'ssh', port = true },\n  [\"ssh\"] = { [\"host\"] = 1 },\n}\n";
        let lua = |path: &[&str]| location(text, Language::Lua, path);
        assert_eq!(lua(&["http", "port"]), Some((5, 26)));
        assert_eq!(lua(&["ssh"]), Some((6, 4)));
        assert_eq!(lua(&["ssh", "host"]), Some((6, 16)));
        assert_eq!(lua(&["ci"]), None);
    }

    #[test]
    fn a_text_of_comments_is_blank() {
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

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_panics(text in "([{}()\\[\\]=:;,\"'\\\\ \n-]|a|é|--\\[\\[){0,40}", lua: bool) {
            let _ = location(&text, if lua { Language::Lua } else { Language::Fennel }, &["a", "a"]);
        }
    }
}
