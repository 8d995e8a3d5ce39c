//! The text that stays when escape sequences and invisible characters are removed, as a terminal, a
//! page or `sed` removes them, with the place of each of its bytes in the original.
//!
//! A value can be taken apart by colours (`grep --color=always`), NULs or the title of a window. Redaction searches this
//! text as well, because the value is whole again once they are removed. A line feed and a carriage return end
//! every sequence, as in [`crate::ansi`], which looks at lines.

use zeroize::Zeroizing;

/// Where in an escape sequence a place in a text is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum EscapeState {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and characters such as `(`.
    Intermediate,
    /// The rest of a character of several bytes that ended a sequence.
    Continuation,
    /// Within `ESC [ …`.
    Csi,
    /// Within a string, such as `ESC ] …`.
    ControlString,
    /// After an ESC within a string.
    StringEscape,
}

/// A text without what is not visible.
#[derive(Debug)]
pub(super) struct VisibleText {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// Where each byte stands in the original.
    origins: Vec<usize>,
    original_len: usize,
    /// From where on the original is too short to tell whether a character is visible.
    pub(super) undecided: usize,
}

impl VisibleText {
    /// Removes what is not visible; `None` if all of the text is visible.
    pub(super) fn of(text: &[u8], state: EscapeState) -> Option<Self> {
        if state == EscapeState::Text && !text.iter().any(|b| may_be_invisible(*b)) {
            return None;
        }
        Some(Self::always_of(text, state))
    }

    /// Removes what is not visible.
    pub(super) fn always_of(text: &[u8], state: EscapeState) -> Self {
        let mut visible = Self {
            bytes: Zeroizing::new(Vec::with_capacity(text.len())),
            origins: Vec::with_capacity(text.len()),
            original_len: text.len(),
            undecided: text.len() - undecided_len(text),
        };
        let (mut state, mut at) = (state, 0);
        while at < text.len() {
            let step = step(state, &text[at..]);
            if step.is_visible {
                visible.bytes.push(text[at]);
                visible.origins.push(at);
            }
            state = step.next;
            at += step.len;
        }
        visible
    }

    /// Where a place of the visible text is in the original.
    pub(super) fn origin(&self, at: usize) -> usize {
        self.origins.get(at).copied().unwrap_or(self.original_len)
    }

    /// Where a range of the visible text ends in the original: directly behind its last byte.
    pub(super) fn origin_of_end(&self, end: usize) -> usize {
        end.checked_sub(1).map_or(0, |last| self.origin(last) + 1)
    }

    /// The first place of the visible text that is at or behind a place of the original.
    pub(super) fn place_of(&self, origin: usize) -> usize {
        self.origins.partition_point(|known| *known < origin)
    }
}

/// The state behind a text.
pub(super) fn state_after(text: &[u8], state: EscapeState) -> EscapeState {
    let (mut state, mut at) = (state, 0);
    while at < text.len() {
        let step = step(state, &text[at..]);
        state = step.next;
        at += step.len;
    }
    state
}

/// A text without what is not visible, if it is another one.
pub(super) fn without_invisible(text: &str) -> Option<Zeroizing<String>> {
    let visible = VisibleText::of(text.as_bytes(), EscapeState::Text)?;
    (visible.bytes.len() < text.len())
        .then(|| Zeroizing::new(String::from_utf8_lossy(&visible.bytes).into_owned()))
}

/// The colours (`ESC [ … m`) in a text, without anything else of it.
pub(super) fn colours(text: &[u8]) -> Vec<u8> {
    const MAX_PARAMETERS: usize = 64;
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\x1b[") {
        rest = &rest[at..];
        let parameters = rest[2..]
            .iter()
            .take(MAX_PARAMETERS)
            .take_while(|b| b.is_ascii_digit() || matches!(b, b';' | b':'))
            .count();
        if rest.get(2 + parameters) == Some(&b'm') {
            found.extend_from_slice(&rest[..parameters + 3]);
        }
        rest = &rest[2..];
    }
    found
}

struct Step {
    next: EscapeState,
    len: usize,
    is_visible: bool,
}

/// Takes the next byte, or the next invisible character, of a text that is not empty.
fn step(state: EscapeState, text: &[u8]) -> Step {
    let hidden = |next| Step {
        next,
        len: 1,
        is_visible: false,
    };
    let byte = text[0];
    match (state, byte) {
        (_, b'\n') => Step {
            next: EscapeState::Text,
            len: 1,
            is_visible: true,
        },
        (_, b'\r') => hidden(EscapeState::Text),
        (EscapeState::Text, 0x1b) => hidden(EscapeState::Escape),
        (EscapeState::Text, _) => {
            let invisible = invisible_len(text);
            Step {
                next: EscapeState::Text,
                len: invisible.max(1),
                is_visible: invisible == 0,
            }
        }
        (EscapeState::Escape, b'[') => hidden(EscapeState::Csi),
        (EscapeState::Escape, b']' | b'P' | b'^' | b'_' | b'X') => {
            hidden(EscapeState::ControlString)
        }
        (EscapeState::Escape | EscapeState::Intermediate, b' '..=b'/') => {
            hidden(EscapeState::Intermediate)
        }
        (EscapeState::Escape | EscapeState::Intermediate, 0xc0..) => {
            hidden(EscapeState::Continuation)
        }
        (EscapeState::Escape | EscapeState::Intermediate, _) => hidden(EscapeState::Text),
        (EscapeState::Continuation, 0x80..=0xbf) => hidden(EscapeState::Continuation),
        (EscapeState::Continuation, _) => step(EscapeState::Text, text),
        (EscapeState::Csi, 0x40..=0x7e) | (EscapeState::ControlString, 0x07) => {
            hidden(EscapeState::Text)
        }
        (EscapeState::Csi, _) => hidden(EscapeState::Csi),
        (EscapeState::ControlString, 0x1b) => hidden(EscapeState::StringEscape),
        (EscapeState::ControlString, _) => hidden(EscapeState::ControlString),
        (EscapeState::StringEscape, b'\\') => hidden(EscapeState::Text),
        (EscapeState::StringEscape, _) => step(EscapeState::Escape, text),
    }
}

/// Bytes with which something invisible can begin.
fn may_be_invisible(byte: u8) -> bool {
    matches!(byte, 0..=8 | 0x0b..=0x1f | 0x7f | 0xc2 | 0xe2 | 0xef)
}

/// The length of the control character or invisible character with which a text begins; 0 if it begins with another.
fn invisible_len(text: &[u8]) -> usize {
    match text {
        [b'\t' | b'\n', ..] => 0,
        [0..=0x1f | 0x7f, ..] => 1,
        // C1 controls and the soft hyphen.
        [0xc2, 0x80..=0x9f | 0xad, ..] => 2,
        // Zero-width characters, marks of direction, and the byte order mark.
        [0xe2, 0x80, 0x8b..=0x8f | 0xaa..=0xae, ..]
        | [0xe2, 0x81, 0xa0..=0xa4 | 0xa6..=0xa9, ..]
        | [0xef, 0xbb, 0xbf, ..] => 3,
        _ => 0,
    }
}

/// How many bytes at the end of a text could be the beginning of an invisible character.
fn undecided_len(text: &[u8]) -> usize {
    match text {
        [.., 0xe2, 0x80 | 0x81] | [.., 0xef, 0xbb] => 2,
        [.., 0xc2 | 0xe2 | 0xef] => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visible(text: &[u8]) -> Vec<u8> {
        VisibleText::of(text, EscapeState::Text)
            .map_or_else(|| text.to_vec(), |visible| visible.bytes.to_vec())
    }

    #[test]
    fn what_a_terminal_does_not_show_is_removed() {
        for (text, expected) in [
            ("a\tb\nc", "a\tb\nc"),
            ("\x1b[01;31m\x1b[Ksecret\x1b[m\x1b[K", "secret"),
            ("se\x1b]0;title\x07cr\x1b]8;;http://x\x1b\\et", "secret"),
            (
                "se\0c\x08r\u{85}\u{200b}\u{202e}\u{ad}\u{feff}et\r\n",
                "secret\n",
            ),
            ("\x1b(Bsec\x1b7ret\x1bü!", "secret!"),
            ("\x1b]0;to the end of the line\nsecret", "\nsecret"),
            ("ä€… stays", "ä€… stays"),
        ] {
            assert_eq!(String::from_utf8_lossy(&visible(text.as_bytes())), expected);
        }
    }

    #[test]
    fn only_colours_are_kept() {
        assert_eq!(
            colours(b"a\x1b[1;31mb\x1b[Kc\x1b]0;x\x07\x1b[md\x1b["),
            b"\x1b[1;31m\x1b[m"
        );
    }

    proptest::proptest! {
        #[test]
        fn it_is_what_the_logs_show(text in "[a\x1b\\[\\]0;mPX^_\\\\\x07\u{9b}(é ]{0,40}") {
            proptest::prop_assert_eq!(
                String::from_utf8_lossy(&visible(text.as_bytes())).into_owned(),
                crate::ansi::strip(text.as_bytes())
            );
        }

        #[test]
        fn the_state_is_the_same_however_it_is_cut(text in "[a\x1b\\[\\]0;mé\x07\n]{0,30}", at in 0_usize..30) {
            let text = text.as_bytes();
            let at = at.min(text.len());
            let first = state_after(&text[..at], EscapeState::Text);
            proptest::prop_assert_eq!(state_after(&text[at..], first), state_after(text, EscapeState::Text));
        }
    }
}
