//! Text inside of markup.

/// Escapes what begins markup: `&`, `<` and `>`.
pub(super) fn escape_markup(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            c => escaped.push(c),
        }
    }
    escaped
}
