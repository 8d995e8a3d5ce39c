//! What programs print, taken apart: text, colours, and all the other things that a terminal would act on.
//!
//! Output of a run is foreign. An escape sequence of it could set a terminal's title or clipboard, clear what
//! stands above, or answer as if typed; so whoever shows it lets colours through and nothing else.

/// One piece of what a line is made of.
pub(crate) enum Piece<'a> {
    /// Text without any control character but tabs.
    Text(&'a str),
    /// The parameters of `ESC [ … m`: colours and the like.
    Sgr(&'a str),
}

/// Cuts text into plain text and SGR parameters; other escapes and control characters vanish.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let end = rest
                .find(|c: char| c.is_control() && c != '\t')
                .unwrap_or(rest.len());
            if end > 0 {
                let (plain, after) = rest.split_at(end);
                rest = after;
                return Some(Piece::Text(plain));
            }
            let mut characters = rest.chars();
            match characters.next()? {
                '\u{1b}' => {
                    let (sgr, after) = escape(characters.as_str());
                    rest = after;
                    if let Some(parameters) = sgr {
                        return Some(Piece::Sgr(parameters));
                    }
                }
                _ => rest = characters.as_str(),
            }
        }
    })
}

/// Takes one escape sequence (without its ESC) off the front; gives its parameters where it is SGR.
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

/// A line as a terminal would leave it: what was overwritten, and what stands after the last
/// carriage return that text follows.
pub(crate) fn after_return(text: &str) -> (&str, &str) {
    let kept = text.trim_end_matches('\r');
    kept.rfind('\r')
        .map_or(("", kept), |at| kept.split_at(at + 1))
}

/// One line as plain text: no escapes, no overwritten parts.
pub(crate) fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    pieces(after_return(&text).1)
        .filter_map(|piece| match piece {
            Piece::Text(text) => Some(text),
            Piece::Sgr(_) => None,
        })
        .collect()
}

/// Whether a piece of a line overwrites what the line began with.
pub(crate) fn restarts(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .rposition(|b| *b != b'\r')
        .is_some_and(|end| bytes[..end].contains(&b'\r'))
}

/// Lines for a terminal, or for whatever may become one further on: text, tabs and colours.
#[derive(Debug, Default)]
pub(crate) struct Screened {
    /// A colour or the like is still switched on.
    coloured: bool,
}

/// Parameters of SGR that are let through: longer ones mean nothing to any terminal.
const MAX_SGR_BYTES: usize = 64;

impl Screened {
    /// Adds a line, or a piece of one, without its end; of what overwrites its beginning, the rest.
    pub(crate) fn line(&mut self, bytes: &[u8], into: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(bytes);
        let (hidden, shown) = after_return(&text);
        // Colours of the overwritten part still count.
        for piece in pieces(hidden)
            .filter(|piece| matches!(piece, Piece::Sgr(_)))
            .chain(pieces(shown))
        {
            match piece {
                Piece::Text(text) => into.extend_from_slice(text.as_bytes()),
                Piece::Sgr(sgr) => self.colour(sgr, into),
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

    /// Switches colours off, before words of our own.
    pub(crate) fn reset(&mut self, into: &mut Vec<u8>) {
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
        Screened::default().line(bytes, &mut shown);
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
        let (mut screened, mut shown) = (Screened::default(), Vec::new());
        screened.line(b"\x1b[32mgreen", &mut shown);
        screened.reset(&mut shown);
        screened.reset(&mut shown);
        assert_eq!(shown, b"\x1b[32mgreen\x1b[0m");
    }

    #[test]
    fn plain_text_of_any_bytes() {
        assert_eq!(plain(b"\x1b[31m10%\r\x1b[32mdone\x1b[0m"), "done");
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
            proptest::prop_assert!(!plain(&bytes).contains(|c: char| c.is_control() && c != '\t'));
        }
    }
}
