//! Foreign text on a page: escaped, with marks for what a reader would not see.

use std::borrow::Cow;

use super::super::ansi::escaped;

/// The longest line that is shown.
const MAX_LINE_BYTES: usize = 16 << 10;

/// Whether a character is invisible, or changes how the text around it reads. A form feed and a no-break space are common and
/// harmless. A joiner is part of many scripts and pictures, and hidden only between Latin letters.
fn is_hidden(c: char, before: char) -> bool {
    match c {
        '\t' | '\n' | '\u{c}' => false,
        '\u{200c}' | '\u{200d}' => before.is_ascii(),
        c if c.is_control() || quire_types::text::reorders_text(c) => true,
        '\u{ad}'
        | '\u{34f}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180e}'
        | '\u{200b}'
        | '\u{2060}'..='\u{2064}'
        | '\u{206a}'..='\u{206f}'
        | '\u{3164}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => true,
        _ => false,
    }
}

/// Text with the marks, and whether there was one.
pub(super) struct MarkedText {
    pub(super) html: String,
    pub(super) has_hidden: bool,
}

/// Escapes text and replaces hidden characters by their code points, as marks.
pub(super) fn marked(text: &str) -> MarkedText {
    let mut html = String::with_capacity(text.len() + 16);
    let mut has_hidden = false;
    let (mut start, mut before) = (0, ' ');
    for (at, c) in text.char_indices() {
        if is_hidden(c, before) {
            has_hidden = true;
            html.push_str(&escaped(&text[start..at]));
            html.push_str(&format!(
                "<i class=\"hidden-char\">U+{:04X}</i>",
                u32::from(c)
            ));
            start = at + c.len_utf8();
        }
        before = c;
    }
    html.push_str(&escaped(&text[start..]));
    MarkedText { html, has_hidden }
}

/// Bytes as text, with marks. What is no UTF-8 becomes U+FFFD.
pub(super) fn marked_bytes(bytes: &[u8]) -> MarkedText {
    marked(&String::from_utf8_lossy(bytes))
}

/// A name of a file or ref as HTML.
pub(super) fn name_html(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    // A name has no lines, so a newline is hidden as well.
    let parts: Vec<String> = text.split('\n').map(|part| marked(part).html).collect();
    match parts.as_slice() {
        [only] => only.clone(),
        _ => parts.join("<i class=\"hidden-char\">U+000A</i>"),
    }
}

/// A name as plain text, for titles and JSON.
pub(super) fn name_text(name: &[u8]) -> String {
    quire_types::text::sanitize(&String::from_utf8_lossy(name))
}

/// A line of a file within the limit, and whether it was cut.
pub(super) fn bounded_line(line: &[u8]) -> (Cow<'_, str>, bool) {
    let cut = line.len() > MAX_LINE_BYTES;
    let shown = &line[..line.len().min(MAX_LINE_BYTES)];
    (String::from_utf8_lossy(shown), cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_marked() {
        let bidi = marked("if (x\u{202e} < y)");
        assert!(bidi.has_hidden);
        assert_eq!(
            bidi.html,
            "if (x<i class=\"hidden-char\">U+202E</i> &lt; y)"
        );
        for harmless in [
            "a\u{a0}b\tc",
            "\u{c}",
            "👩\u{200d}🚀",
            "ü",
            "می\u{200c}خواهم",
        ] {
            assert!(!marked(harmless).has_hidden, "{harmless:?}");
        }
        for hidden in [
            "a\u{200d}b",
            "\u{feff}",
            "\r",
            "\u{1b}[0m",
            "\u{e0041}",
            "\u{3164}",
        ] {
            assert!(marked(hidden).has_hidden, "{hidden:?}");
        }
    }

    #[test]
    fn names_are_on_one_line() {
        assert_eq!(name_html(b"a\nb"), "a<i class=\"hidden-char\">U+000A</i>b");
        assert_eq!(name_text(b"a\n\xff"), "a\u{fffd}\u{fffd}");
    }
}
