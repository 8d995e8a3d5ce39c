//! The search for patterns within base64, without decoding the whole text.
//!
//! An encoded value can begin at any character and, within it, at the first, third or fifth bit. So each run of
//! characters of the two alphabets is read as a stream of bits, and every place where a byte can begin is compared
//! with the patterns. Encoded text that is broken into lines is one run where the line before the break
//! has at least [`MIN_LINE`] characters: what `base64`, PEM and YAML write, and few other lines look like.

use zeroize::Zeroizing;

use super::matcher::{Haystack, Matcher, PREFIX_LEN, Pattern};

/// How many characters of the alphabets stand before a line break that a run goes across.
pub(super) const MIN_LINE: usize = 40;

/// A text to search.
#[derive(Clone, Copy)]
pub(super) struct EncodedText<'a> {
    pub(super) text: &'a [u8],
    /// How many characters of the alphabets stand directly before the text, at most [`MIN_LINE`].
    pub(super) before: usize,
}

/// A pattern found in encoded form.
#[derive(Clone, Copy)]
pub(super) struct EncodedFound<'m> {
    /// The first character with bits of the value.
    pub(super) start: usize,
    /// The first character that holds nothing else: from here on it is replaced.
    pub(super) shown_to: usize,
    pub(super) end: usize,
    pub(super) pattern: &'m Pattern,
}

/// The value of a character in either alphabet; 255 for others.
const VALUES: [u8; 256] = {
    let mut values = [255_u8; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut index = 0;
    while index < 64 {
        values[alphabet[index] as usize] = index as u8;
        index += 1;
    }
    values[b'-' as usize] = 62;
    values[b'_' as usize] = 63;
    values
};

/// The bits of a character at which a byte can begin, and how many characters its first eight bytes take.
const OFFSETS: [(u32, usize); 3] = [(0, 11), (2, 11), (4, 12)];

impl EncodedText<'_> {
    fn value(&self, at: usize) -> Option<u8> {
        let value = VALUES[usize::from(*self.text.get(at)?)];
        (value != 255).then_some(value)
    }

    /// How many characters of the alphabets stand directly before a place, at most [`MIN_LINE`].
    pub(super) fn run_before(&self, at: usize) -> usize {
        let here = self.text[..at]
            .iter()
            .rev()
            .take(MIN_LINE)
            .take_while(|b| VALUES[usize::from(**b)] != 255)
            .count();
        if here == at {
            MIN_LINE.min(here + self.before)
        } else {
            here
        }
    }

    /// Where the run goes on behind a line break at this place; `None` if it ends there. At the end of the text it goes on.
    fn across_break(&self, at: usize) -> Option<usize> {
        if self.text.get(at) != Some(&b'\n') || self.run_before(at) < MIN_LINE {
            return None;
        }
        let space = self.text[at..]
            .iter()
            .take_while(|b| matches!(b, b'\n' | b' ' | b'\t'));
        let next = at + space.count();
        (next == self.text.len() || self.value(next).is_some()).then_some(next)
    }

    /// The places of the characters of a run from `at` on.
    fn run_from(self, at: usize) -> impl Iterator<Item = (usize, u8)> {
        let mut next = at;
        std::iter::from_fn(move || {
            let place = match self.value(next) {
                Some(_) => next,
                None => self.across_break(next)?,
            };
            let value = self.value(place)?;
            next = place + 1;
            Some((place, value))
        })
    }

    /// Whether a run from `at` reaches the end of the text.
    fn run_reaches_end(self, last: usize) -> bool {
        last + 1 == self.text.len() || self.across_break(last + 1) == Some(self.text.len())
    }

    /// The first pattern whose first bits are in a character at or after `from`.
    pub(super) fn find<'m>(self, matcher: &'m Matcher, from: usize) -> Option<EncodedFound<'m>> {
        let mut windows = Windows::new(self, from);
        while let Some((start, offset, window)) = windows.next() {
            if matcher.may_begin(window)
                && let Some(found) = self.longest_at(matcher, start, offset)
            {
                return Some(found);
            }
        }
        None
    }

    fn longest_at<'m>(
        self,
        matcher: &'m Matcher,
        start: usize,
        offset: u32,
    ) -> Option<EncodedFound<'m>> {
        // Nearly always the first eight bytes tell that there is nothing.
        let head = self.decode(start, offset, PREFIX_LEN);
        let head = decoded_haystack(&head);
        if matcher.longest_at(head, 0).is_none()
            && matcher.patterns_with(head.text).next().is_none()
        {
            return None;
        }
        let decoded = self.decode(start, offset, matcher.longest());
        let pattern = matcher.longest_at(decoded_haystack(&decoded), 0)?;
        let whole_chars = (offset as usize + 8 * pattern.len()) / 6;
        Some(EncodedFound {
            start,
            shown_to: decoded.places[usize::from(offset > 0)],
            end: decoded.places[whole_chars - 1] + 1,
            pattern,
        })
    }

    /// Decodes at most so many bytes.
    fn decode(self, start: usize, offset: u32, most: usize) -> Decoded {
        let mut decoded = Decoded {
            bytes: Zeroizing::new(Vec::with_capacity(most)),
            places: Vec::new(),
            rest: 0,
            rest_bits: 0,
        };
        let (mut acc, mut bits) = (0_u32, 0_u32);
        for (index, (place, value)) in self.run_from(start).enumerate() {
            if decoded.bytes.len() >= most {
                break;
            }
            decoded.places.push(place);
            if index == 0 {
                bits = 6 - offset;
                acc = u32::from(value) & ((1 << bits) - 1);
            } else {
                bits += 6;
                acc = (acc << 6 | u32::from(value)) & 0x3fff;
            }
            if bits >= 8 {
                bits -= 8;
                decoded.bytes.push((acc >> bits) as u8);
                acc &= (1 << bits) - 1;
            }
        }
        decoded.rest = acc as u8;
        decoded.rest_bits = bits;
        decoded
    }

    /// The first character from which on the text is the beginning of an encoded pattern.
    pub(super) fn possible_start(self, matcher: &Matcher) -> usize {
        let most_chars = matcher.longest() * 8 / 6 + 3;
        let mut starts = Vec::new();
        let mut at = self.text.len();
        // Backwards through the run that reaches the end.
        while at > 0 && starts.len() < most_chars {
            match self.value(at - 1) {
                Some(_) => at -= 1,
                None => {
                    let space = self.text[..at]
                        .iter()
                        .rev()
                        .take_while(|b| matches!(b, b'\n' | b' ' | b'\t'))
                        .count();
                    let gap = at - space;
                    if space == 0 || gap == 0 || self.across_break(gap) != Some(at) {
                        break;
                    }
                    at = gap - 1;
                }
            }
            starts.push(at);
        }
        let is_possible = |start: &usize| {
            OFFSETS.iter().any(|(offset, chars)| {
                let head = self.decode(*start, *offset, PREFIX_LEN);
                if head.places.len() >= *chars
                    && let Some(window) = head.bytes.first_chunk()
                    && !matcher.may_begin(*window)
                {
                    return false;
                }
                let tail = self.decode(*start, *offset, matcher.longest());
                tail.places
                    .last()
                    .is_some_and(|last| self.run_reaches_end(*last))
                    && matcher.is_beginning_of_bits(&tail.bytes, tail.rest, tail.rest_bits)
            })
        };
        starts
            .into_iter()
            .rev()
            .find(is_possible)
            .unwrap_or(self.text.len())
    }
}

/// Bytes from the middle of encoded text.
struct Decoded {
    bytes: Zeroizing<Vec<u8>>,
    /// Where the characters stand that were read.
    places: Vec<usize>,
    /// The bits behind the last whole byte.
    rest: u8,
    rest_bits: u32,
}

fn decoded_haystack(decoded: &Decoded) -> Haystack<'_> {
    Haystack {
        text: &decoded.bytes,
        begins_line: false,
    }
}

/// Every place of a text at which eight bytes of decoded text can begin.
struct Windows<'a> {
    text: EncodedText<'a>,
    /// The next byte to look at.
    at: usize,
    /// The last characters of the run, six bits each.
    bits: u128,
    /// Where the last characters stand, by their number modulo 16.
    places: [usize; 16],
    count: usize,
    /// The offset to be reported next for the last character.
    offset: usize,
}

impl<'a> Windows<'a> {
    fn new(text: EncodedText<'a>, from: usize) -> Self {
        Self {
            text,
            at: from,
            bits: 0,
            places: [0; 16],
            count: 0,
            offset: 3,
        }
    }

    /// Reads on to the next character of a run that has enough of them.
    fn advance(&mut self) -> Option<()> {
        loop {
            let byte = *self.text.text.get(self.at)?;
            let value = VALUES[usize::from(byte)];
            if value == 255 {
                match self.text.across_break(self.at) {
                    Some(next) if self.count > 0 => self.at = next,
                    _ => {
                        self.at += 1;
                        self.count = 0;
                    }
                }
                continue;
            }
            self.bits = self.bits << 6 | u128::from(value);
            self.places[self.count % 16] = self.at;
            self.count += 1;
            self.at += 1;
            if self.count >= OFFSETS[0].1 {
                self.offset = 0;
                return Some(());
            }
        }
    }

    fn next(&mut self) -> Option<(usize, u32, [u8; PREFIX_LEN])> {
        // In the order of the places at which they begin.
        const ORDER: [usize; 3] = [2, 0, 1];
        loop {
            if self.offset == 3 {
                self.advance()?;
            }
            let (offset, chars) = OFFSETS[ORDER[self.offset]];
            self.offset += 1;
            if self.count >= chars {
                let unused = chars * 6 - offset as usize - 64;
                let window = ((self.bits >> unused) as u64).to_be_bytes();
                return Some((self.places[(self.count - chars) % 16], offset, window));
            }
        }
    }
}
