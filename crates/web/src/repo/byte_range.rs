//! The part of a file that a client asks for by `Range`.

use std::ops::Range;

/// What of a file is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FilePart {
    Whole,
    Part(Range<usize>),
    /// Nothing of the file is in the range.
    OutOfRange,
}

impl FilePart {
    /// By the value of `Range`. What is not understood, and what names several parts, is answered with the whole file.
    pub(super) fn of(range: Option<&str>, total: usize) -> Self {
        let bounds = range
            .and_then(|text| text.strip_prefix("bytes="))
            .and_then(|text| text.split_once('-'));
        let Some((first, last)) = bounds else {
            return Self::Whole;
        };
        let (first, last) = (number(first), number(last));
        let part = match (first, last) {
            (Some(Some(first)), Some(last)) if last.is_none_or(|last| last >= first) => {
                let end = last.map_or(total, |last| last.saturating_add(1).min(total));
                first..end
            }
            // The last bytes.
            (Some(None), Some(Some(count))) => total.saturating_sub(count)..total,
            _ => return Self::Whole,
        };
        if part.start < part.end {
            Self::Part(part)
        } else {
            Self::OutOfRange
        }
    }
}

/// A number, or `None` inside if the text is empty; `None` if it is neither.
#[expect(clippy::option_option, reason = "empty and wrong are different")]
fn number(text: &str) -> Option<Option<usize>> {
    match text.trim() {
        "" => Some(None),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(Some(digits.parse().unwrap_or(usize::MAX)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_understood() {
        let of = |text| FilePart::of(Some(text), 10);
        assert_eq!(of("bytes=0-3"), FilePart::Part(0..4));
        assert_eq!(of("bytes=4-"), FilePart::Part(4..10));
        assert_eq!(of("bytes=-3"), FilePart::Part(7..10));
        assert_eq!(of("bytes=-30"), FilePart::Part(0..10));
        assert_eq!(of("bytes=9-99999999999999999999"), FilePart::Part(9..10));
        for outside in ["bytes=10-", "bytes=99999999999999999999-", "bytes=-0"] {
            assert_eq!(of(outside), FilePart::OutOfRange, "{outside}");
        }
        for whole in [
            "bytes=3-1",
            "bytes=0-1,3-4",
            "bytes=-",
            "bytes=a-b",
            "lines=1-2",
            "bytes",
        ] {
            assert_eq!(of(whole), FilePart::Whole, "{whole}");
        }
        assert_eq!(FilePart::of(None, 10), FilePart::Whole);
        assert_eq!(FilePart::of(Some("bytes=0-"), 0), FilePart::OutOfRange);
    }
}
