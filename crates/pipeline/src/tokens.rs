//! A small tokenizer for Fennel and Lua. Neither language reports where a name or a key of a table
//! was written once the code is evaluated, so diagnostics look it up in the text.

use super::registration::Language;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// `{`
    OpenTable,
    /// `(`, and `[` in Fennel.
    Open,
    /// What closes either.
    Close,
    /// A name or number.
    Symbol,
    /// A string, or a Fennel keyword such as `:name`.
    Literal,
    /// `=` in Lua.
    Equals,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) kind: TokenKind,
    /// The text of a literal is without its quotes or colon.
    pub(super) text: &'a str,
    /// The byte index at which the token begins.
    pub(super) start: usize,
}

/// The tokens of a text. Comments, and characters of no interest here, are left out.
pub(super) fn tokens(text: &str, language: Language) -> Vec<Token<'_>> {
    let is_lua = language == Language::Lua;
    let mut tokens = Vec::new();
    let mut start = 0;
    while let Some(first) = text[start..].chars().next() {
        let rest = &text[start..];
        let (kind, length) = if is_lua {
            lua_token(first, rest)
        } else {
            fennel_token(first, rest)
        };
        if let Some(kind) = kind {
            let token = &rest[..length];
            let text = match first {
                '"' | '\'' => token
                    .get(1..token.len().saturating_sub(1))
                    .unwrap_or_default(),
                ':' if kind == TokenKind::Literal => &token[1..],
                _ => token,
            };
            tokens.push(Token { kind, text, start });
        }
        start += length;
    }
    tokens
}

/// The kind of the token that `rest` begins with, or `None` for a comment and the like, and its
/// length.
fn fennel_token(first: char, rest: &str) -> (Option<TokenKind>, usize) {
    let is_word = |c: char| {
        !c.is_whitespace()
            && !matches!(
                c,
                '(' | ')' | '[' | ']' | '{' | '}' | '"' | ';' | ',' | '\'' | '`'
            )
    };
    match first {
        ';' => (None, rest.find('\n').unwrap_or(rest.len())),
        '{' => (Some(TokenKind::OpenTable), 1),
        '(' | '[' => (Some(TokenKind::Open), 1),
        '}' | ')' | ']' => (Some(TokenKind::Close), 1),
        '"' => (Some(TokenKind::Literal), string_length(rest, '"')),
        _ if is_word(first) => {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let kind = if first == ':' && length > 1 {
                TokenKind::Literal
            } else {
                TokenKind::Symbol
            };
            (Some(kind), length)
        }
        _ => (None, first.len_utf8()),
    }
}

fn lua_token(first: char, rest: &str) -> (Option<TokenKind>, usize) {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
    if let Some(comment) = rest.strip_prefix("--") {
        let length = match long_bracket(comment) {
            Some(length) => length + 2,
            None => rest.find('\n').unwrap_or(rest.len()),
        };
        return (None, length);
    }
    match first {
        '{' => (Some(TokenKind::OpenTable), 1),
        '(' => (Some(TokenKind::Open), 1),
        '}' | ')' => (Some(TokenKind::Close), 1),
        '=' => (Some(TokenKind::Equals), 1),
        '"' | '\'' => (Some(TokenKind::Literal), string_length(rest, first)),
        '[' => match long_bracket(rest) {
            Some(length) => (Some(TokenKind::Literal), length),
            None => (None, 1),
        },
        _ if is_word(first) => (
            Some(TokenKind::Symbol),
            rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
        ),
        _ => (None, first.len_utf8()),
    }
}

/// The length of a string with its quotes. An unterminated string goes to the end of the text.
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

/// The length of the `[[…]]` or `[=[…]=]` that `rest` begins with.
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
