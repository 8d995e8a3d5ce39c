//! Terminal output split into text, colours and everything else that a terminal would act on.
//!
//! The output of a run is untrusted. An escape sequence in it could set a terminal's title or clipboard, clear
//! the lines above, or make the terminal answer as if the user typed; so only text, tabs and colours are shown.

use crate::text::{is_unprintable, reorders_text};

/// A part of a line.
pub enum Segment<'a> {
    /// Text without any control character but tabs.
    Text(&'a str),
    /// The parameters of `ESC [ … m`: colours and the like.
    Sgr(&'a str),
}

/// Splits a text into plain text and SGR parameters. Other escape sequences and control characters are dropped;
/// characters that change the direction of text are replaced by U+FFFD.
pub fn segments(text: &str) -> impl Iterator<Item = Segment<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let end = rest
                .find(|c: char| is_unprintable(c) && c != '\t')
                .unwrap_or(rest.len());
            if end > 0 {
                let (plain, after) = rest.split_at(end);
                rest = after;
                return Some(Segment::Text(plain));
            }
            let mut characters = rest.chars();
            match characters.next()? {
                '\u{1b}' => {
                    let (sgr, after) = escape(characters.as_str());
                    rest = after;
                    if let Some(parameters) = sgr {
                        return Some(Segment::Sgr(parameters));
                    }
                }
                // It stays visible that the text is not in the order in which it would be shown.
                c if reorders_text(c) => {
                    rest = characters.as_str();
                    return Some(Segment::Text("\u{fffd}"));
                }
                _ => rest = characters.as_str(),
            }
        }
    })
}

/// Splits one escape sequence (without its ESC) from the front; returns its parameters if it is SGR, and the rest.
fn escape(text: &str) -> (Option<&str>, &str) {
    let Some(first) = text.chars().next() else {
        return (None, text);
    };
    let body = &text[first.len_utf8()..];
    match first {
        '[' => match body.find(|c: char| ('\u{40}'..='\u{7e}').contains(&c)) {
            Some(end) => (
                (body.as_bytes()[end] == b'm').then(|| &body[..end]),
                &body[end + 1..],
            ),
            None => (None, ""),
        },
        // OSC, DCS, PM, APC, SOS: up to BEL or ESC \. Without an end, to the end of the line.
        ']' | 'P' | '^' | '_' | 'X' => match body.find(['\u{7}', '\u{1b}']) {
            Some(end) if body[end..].starts_with('\u{7}') => (None, &body[end + 1..]),
            Some(end) => (
                None,
                body[end + 1..].strip_prefix('\\').unwrap_or(&body[end..]),
            ),
            None => (None, ""),
        },
        // Charset selection and the like: intermediates, then one final character.
        ' '..='/' => {
            let after = body.trim_start_matches(|c: char| (' '..='/').contains(&c));
            (
                None,
                after
                    .get(after.chars().next().map_or(0, char::len_utf8)..)
                    .unwrap_or(""),
            )
        }
        _ => (None, body),
    }
}

/// Splits a line after the last carriage return that text follows: the part that a terminal would overwrite, and
/// the part that stays visible.
pub fn after_carriage_return(text: &str) -> (&str, &str) {
    let kept = text.trim_end_matches('\r');
    kept.rfind('\r')
        .map_or(("", kept), |at| kept.split_at(at + 1))
}

/// A line as plain text, without escape sequences and overwritten parts.
pub fn strip(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    segments(after_carriage_return(&text).1)
        .filter_map(|segment| match segment {
            Segment::Text(text) => Some(text),
            Segment::Sgr(_) => None,
        })
        .collect()
}

/// Whether this part of a line overwrites the beginning of the line.
pub fn overwrites_line(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .rposition(|b| *b != b'\r')
        .is_some_and(|end| bytes[..end].contains(&b'\r'))
}

/// Reduces lines to text, tabs and colours before they are written to a terminal, or to a pipe that may lead to one.
#[derive(Debug, Default)]
pub struct TerminalFilter {
    /// Whether a colour or another attribute is still on.
    coloured: bool,
}

/// Longer SGR parameters are dropped; no terminal knows any.
const MAX_SGR_BYTES: usize = 64;

impl TerminalFilter {
    /// Appends a line, or a part of one, without its line end and without what it overwrites.
    pub fn line(&mut self, bytes: &[u8], into: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(bytes);
        let (hidden, shown) = after_carriage_return(&text);
        // Colours of the overwritten part still count.
        for segment in segments(hidden)
            .filter(|segment| matches!(segment, Segment::Sgr(_)))
            .chain(segments(shown))
        {
            match segment {
                Segment::Text(text) => into.extend_from_slice(text.as_bytes()),
                Segment::Sgr(sgr) => self.colour(sgr, into),
            }
        }
    }

    fn colour(&mut self, sgr: &str, into: &mut Vec<u8>) {
        // With other characters it is something else, such as a mode of the keyboard.
        if sgr.len() <= MAX_SGR_BYTES
            && sgr
                .bytes()
                .all(|b| b.is_ascii_digit() || matches!(b, b';' | b':'))
        {
            self.coloured = !sgr.bytes().all(|b| matches!(b, b'0' | b';'));
            into.extend([b"\x1b[", sgr.as_bytes(), b"m"].concat());
        }
    }

    /// Switches colours off, before quire's own text follows.
    pub fn reset(&mut self, into: &mut Vec<u8>) {
        if std::mem::take(&mut self.coloured) {
            into.extend_from_slice(b"\x1b[0m");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screened(bytes: &[u8]) -> String {
        let mut shown = Vec::new();
        TerminalFilter::default().line(bytes, &mut shown);
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn a_terminal_gets_text_tabs_and_colours() {
        assert_eq!(
            screened(b"a\tb\x1b[1;31mred\x1b[0m \x1b[38;5;8mgrey\x1b[m"),
            "a\tb\u{1b}[1;31mred\u{1b}[0m \u{1b}[38;5;8mgrey\u{1b}[m"
        );
        assert_eq!(screened(b"10%\r\x1b[32m50%\r100%\r"), "\u{1b}[32m100%");
    }

    #[test]
    fn a_terminal_gets_nothing_else() {
        for (name, bytes) in [
            ("title", b"\x1b]0;owned\x07".as_slice()),
            ("clipboard", b"\x1b]52;c;cm0gLXJm\x1b\\"),
            ("hyperlink", b"\x1b]8;;http://h\x1b\\\x1b]8;;\x1b\\"),
            ("clear", b"\x1b[2J\x1b[H\x1b[3J\x1bc"),
            (
                "a question that is answered as if typed",
                b"\x1b[6n\x1b[c\x1b[5n\x1bP$qm\x1b\\",
            ),
            (
                "a control string of the eighth bit",
                "\u{9d}0;owned\u{9c}".as_bytes(),
            ),
            ("modes", b"\x1b[?1049h\x1b[?25l\x1b=\x1b(0"),
            ("bell, backspace, shift", b"\x07\x08\x08\x0e\x7f"),
            ("colours that are none", b"\x1b[>4;2m\x1b[?4m\x1b[1\x1b[m"),
            ("without an end", b"\x1b]0;owned"),
        ] {
            let shown = screened(bytes);
            assert!(
                !shown.contains(|c: char| c.is_control()),
                "{name}: {shown:?}"
            );
        }
        // Bytes that are no UTF-8, where a terminal would read a sequence's start.
        assert_eq!(
            screened(b"\x9b2J\x9d0;x\x9c"),
            "\u{fffd}2J\u{fffd}0;x\u{fffd}"
        );
    }

    #[test]
    fn colours_end_before_words_of_ours() {
        let (mut screened, mut shown) = (TerminalFilter::default(), Vec::new());
        screened.line(b"\x1b[32mgreen", &mut shown);
        screened.reset(&mut shown);
        screened.reset(&mut shown);
        assert_eq!(shown, b"\x1b[32mgreen\x1b[0m");
    }

    #[test]
    fn characters_that_reorder_text_are_marked() {
        assert_eq!(
            strip("a\u{202e}b\u{2066}c\u{200f}".as_bytes()),
            "a\u{fffd}b\u{fffd}c\u{fffd}"
        );
    }

    #[test]
    fn plain_text_of_any_bytes() {
        assert_eq!(strip(b"\x1b[31m10%\r\x1b[32mdone\x1b[0m"), "done");
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_printed(bytes in proptest::collection::vec(proptest::prop_oneof![
            proptest::prelude::any::<u8>(),
            proptest::sample::select(b"\x1b\x1b[]0;38m52PX^_\\\r\x07\xc2\x9b".to_vec()),
        ], 0..60)) {
            let shown = screened(&bytes);
            let mut rest = shown.as_str();
            while let Some(at) = rest.find(|c: char| c.is_control() && c != '\t') {
                let sequence = rest[at..].strip_prefix("\u{1b}[");
                proptest::prop_assert!(sequence.is_some(), "{:?}", shown);
                let after = sequence.unwrap_or_default().trim_start_matches(|c: char| c.is_ascii_digit() || c == ';' || c == ':');
                proptest::prop_assert!(after.starts_with('m'), "{:?}", shown);
                rest = after;
            }
            proptest::prop_assert!(!strip(&bytes).contains(|c: char| c.is_control() && c != '\t'));
        }
    }
}
