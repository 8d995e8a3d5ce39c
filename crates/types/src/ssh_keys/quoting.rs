//! Words and quotes of a line, as sshd reads them.

/// Removes white space, and the quotes that a compose file leaves around a value.
#[must_use]
pub fn unquote(text: &str) -> &str {
    let text = text.trim();
    for quote in ['"', '\''] {
        if text.starts_with(quote) || text.ends_with(quote) {
            let inner = text.strip_prefix(quote).unwrap_or(text);
            return inner.strip_suffix(quote).unwrap_or(inner).trim();
        }
    }
    text
}

/// Splits off the first word, which ends at white space outside of double quotes.
pub(super) fn split_word(text: &str) -> (&str, &str) {
    let mut quotes = QuoteState::default();
    for (index, c) in text.char_indices() {
        if matches!(c, ' ' | '\t') && !quotes.is_quoted() {
            return (&text[..index], text[index..].trim_start());
        }
        quotes.push(c);
    }
    (text, "")
}

/// Splits at commas outside of double quotes; `None` if a quote is not closed.
pub(super) fn split_list(text: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut quotes = QuoteState::default();
    for (index, c) in text.char_indices() {
        if c == ',' && !quotes.is_quoted() {
            parts.push(&text[start..index]);
            start = index + 1;
        }
        quotes.push(c);
    }
    parts.push(&text[start..]);
    (!quotes.is_quoted()).then_some(parts)
}

/// The text within double quotes, where sshd reads `\"` as a quote; `None` if they are not there.
pub(super) fn quoted_value(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    Some(inner.replace("\\\"", "\""))
}

/// Whether a position in a line is inside of double quotes, where a backslash escapes a character.
#[derive(Debug, Default)]
struct QuoteState {
    quoted: bool,
    escaped: bool,
}

impl QuoteState {
    fn push(&mut self, c: char) {
        match c {
            _ if self.escaped => self.escaped = false,
            '\\' if self.quoted => self.escaped = true,
            '"' => self.quoted = !self.quoted,
            _ => {}
        }
    }

    fn is_quoted(&self) -> bool {
        self.quoted
    }
}
