//! Lines that are compared without their white space, as `git diff -w` compares them.

use std::hash::{Hash, Hasher};

use gix::diff::blob::TokenSource;

/// The lines of a text; two are the same if they have the same characters besides white space.
#[derive(Clone, Copy)]
pub(super) struct BlankFreeLines<'a>(pub(super) &'a [u8]);

/// One of these lines.
#[derive(Clone, Copy)]
pub(super) struct BlankFreeLine<'a>(&'a [u8]);

impl BlankFreeLine<'_> {
    /// The bytes that count. Git takes neither a form feed nor a vertical tabulator for white space.
    fn visible(&self) -> impl Iterator<Item = u8> {
        let bytes = self.0.iter().copied();
        bytes.filter(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r'))
    }
}

impl PartialEq for BlankFreeLine<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.visible().eq(other.visible())
    }
}

impl Eq for BlankFreeLine<'_> {}

impl Hash for BlankFreeLine<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.visible() {
            state.write_u8(byte);
        }
    }
}

impl AsRef<[u8]> for BlankFreeLine<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

impl<'a> TokenSource for BlankFreeLines<'a> {
    type Token = BlankFreeLine<'a>;
    type Tokenizer = std::iter::Map<
        std::slice::SplitInclusive<'a, u8, fn(&u8) -> bool>,
        fn(&'a [u8]) -> BlankFreeLine<'a>,
    >;

    fn tokenize(&self) -> Self::Tokenizer {
        let is_end: fn(&u8) -> bool = |byte| *byte == b'\n';
        self.0.split_inclusive(is_end).map(BlankFreeLine)
    }

    fn estimate_tokens(&self) -> u32 {
        self.0.estimate_tokens()
    }
}
