//! Foreign text on a page: escaped, with marks for what a reader would not see.

use std::borrow::Cow;
use std::ops::Range;

use super::super::ansi::escaped;
use quire_git::read::MatchedLine;
use quire_highlight::{CodeToken, TokenClass};

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

/// Text that becomes HTML part by part.
struct Marker {
    html: String,
    has_hidden: bool,
    before: char,
    /// Whether a newline is hidden as well: a name has no lines.
    is_name: bool,
}

impl Marker {
    fn new(is_name: bool) -> Self {
        Self {
            html: String::new(),
            has_hidden: false,
            before: ' ',
            is_name,
        }
    }

    fn push(&mut self, text: &str) {
        let mut start = 0;
        for (at, c) in text.char_indices() {
            if is_hidden(c, self.before) || (self.is_name && c == '\n') {
                self.has_hidden = true;
                self.html.push_str(&escaped(&text[start..at]));
                self.html.push_str(&format!(
                    "<i class=\"hidden-char\">U+{:04X}</i>",
                    u32::from(c)
                ));
                start = at + c.len_utf8();
            }
            self.before = c;
        }
        self.html.push_str(&escaped(&text[start..]));
    }

    /// Adds bytes as text. What of them matches a search is marked, and tokens have their colours.
    fn push_matches(&mut self, bytes: &[u8], tokens: &[CodeToken], matches: &[Range<usize>]) {
        let mut at = 0;
        for found in matches {
            self.push_tokens(bytes, tokens, at..found.start);
            self.html.push_str("<mark>");
            self.push_tokens(bytes, tokens, found.clone());
            self.html.push_str("</mark>");
            at = found.end;
        }
        self.push_tokens(bytes, tokens, at..bytes.len());
    }

    /// Adds a part of the bytes, with the parts of tokens that lie in it.
    fn push_tokens(&mut self, bytes: &[u8], tokens: &[CodeToken], part: Range<usize>) {
        let mut at = part.start;
        let first = tokens.partition_point(|token| token.end as usize <= part.start);
        for token in &tokens[first..] {
            let start = (token.start as usize).max(at);
            let end = (token.end as usize).min(part.end);
            if start >= end {
                break;
            }
            self.push(&String::from_utf8_lossy(&bytes[at..start]));
            self.html
                .push_str(&format!("<span class=\"{}\">", class(token.class)));
            self.push(&String::from_utf8_lossy(&bytes[start..end]));
            self.html.push_str("</span>");
            at = end;
        }
        self.push(&String::from_utf8_lossy(&bytes[at..part.end]));
    }

    fn finish(self) -> MarkedText {
        MarkedText {
            html: self.html,
            has_hidden: self.has_hidden,
        }
    }
}

/// The class of the style sheet for a token.
fn class(class: TokenClass) -> &'static str {
    match class {
        TokenClass::Comment => "hc",
        TokenClass::String => "hs",
        TokenClass::Keyword => "hk",
        TokenClass::Function => "hf",
        TokenClass::Type => "ht",
        TokenClass::Number => "hn",
        TokenClass::Attribute => "ha",
        TokenClass::Invalid => "hi",
    }
}

/// Escapes text and replaces hidden characters by their code points, as marks.
pub(super) fn marked(text: &str) -> MarkedText {
    let mut marker = Marker::new(false);
    marker.push(text);
    marker.finish()
}

/// The same of bytes in which a search found something. The matches are in order and apart.
pub(super) fn marked_matches(bytes: &[u8], matches: &[Range<usize>]) -> MarkedText {
    marked_code(bytes, &[], matches)
}

/// The same of a line of code, with the colours of its tokens.
pub(super) fn marked_code(
    bytes: &[u8],
    tokens: &[CodeToken],
    matches: &[Range<usize>],
) -> MarkedText {
    let mut marker = Marker::new(false);
    marker.push_matches(bytes, tokens, matches);
    marker.finish()
}

/// A line that a search found, as HTML; what was left out of it is shown as dots.
pub(super) fn line_html(line: &MatchedLine) -> String {
    let dots = |is_cut| {
        if is_cut {
            "<i class=\"hidden-char\">…</i>"
        } else {
            ""
        }
    };
    format!(
        "{}{}{}",
        dots(line.is_cut_before),
        marked_matches(&line.text, &line.matches).html,
        dots(line.is_cut_after)
    )
}

/// A name of a file in which a search found something, as HTML.
pub(super) fn name_matches_html(name: &str, matches: &[Range<usize>]) -> String {
    let mut marker = Marker::new(true);
    marker.push_matches(name.as_bytes(), &[], matches);
    marker.html
}

/// Bytes as text, with marks. What is no UTF-8 becomes U+FFFD.
pub(super) fn marked_bytes(bytes: &[u8]) -> MarkedText {
    marked(&String::from_utf8_lossy(bytes))
}

/// A name of a file or ref as HTML.
pub(super) fn name_html(name: &[u8]) -> String {
    let mut marker = Marker::new(true);
    marker.push(&String::from_utf8_lossy(name));
    marker.html
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
    fn matches_of_a_search_are_marked() {
        let found = marked_matches(b"a <b> \xffc\xe2\x80\xae", &[2..5, 7..8]);
        assert_eq!(
            found.html,
            "a <mark>&lt;b&gt;</mark> \u{fffd}<mark>c</mark><i class=\"hidden-char\">U+202E</i>"
        );
        // A joiner between two parts is as visible as within one.
        assert!(!marked_matches("👩\u{200d}🚀".as_bytes(), &[4..7, 7..11]).has_hidden);
        assert_eq!(
            name_matches_html("a\nb", &[0..1, 2..3]),
            "<mark>a</mark><i class=\"hidden-char\">U+000A</i><mark>b</mark>"
        );
    }

    #[test]
    fn tokens_and_matches_lie_in_each_other() {
        let token = |start, end, class| CodeToken { start, end, class };
        let tokens = [
            token(0, 3, TokenClass::Keyword),
            token(4, 9, TokenClass::String),
            token(9, 99, TokenClass::Comment),
        ];
        let found = marked_code(b"let \"a<b\"//", &tokens, &[2..5, 8..10]);
        assert_eq!(
            found.html,
            "<span class=\"hk\">le</span><mark><span class=\"hk\">t</span> <span class=\"hs\">&quot;</span></mark>\
             <span class=\"hs\">a&lt;b</span><mark><span class=\"hs\">&quot;</span><span class=\"hc\">/</span></mark>\
             <span class=\"hc\">/</span>"
        );
    }

    #[test]
    fn names_are_on_one_line() {
        assert_eq!(name_html(b"a\nb"), "a<i class=\"hidden-char\">U+000A</i>b");
        assert_eq!(name_text(b"a\n\xff"), "a\u{fffd}\u{fffd}");
    }
}
