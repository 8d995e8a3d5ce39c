//! The format of a log line: `<RFC 3339 time> <stdout|stderr> <F|P> <text>`. Pure.
//!
//! A `P` line is a piece of a longer one that goes on in the next line of the same stream; the
//! `F` line ends it. Newline is the only byte with a meaning: anything else, NUL and broken UTF-8
//! included, is kept as it is.

use serde::{Deserialize, Serialize};

use quire_types::clock::Millis;
use quire_types::names::JobName;

/// Longer texts are split into pieces of this size.
pub const MAX_TEXT_BYTES: usize = 16 << 10;

/// No line that quire writes is longer than this, its newline included.
pub const MAX_LINE_BYTES: usize = MAX_TEXT_BYTES + 64;

/// Which of a command's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The word in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The step; `None` for the run's own lines, and if a single file is read.
    pub seq: Option<u32>,
    /// The job, likewise.
    pub job: Option<JobName>,
    /// When it was written.
    pub time: Millis,
    /// Where it was written to.
    pub stream: Stream,
    /// Whether it goes on in the next line of the same stream.
    pub partial: bool,
    /// The text, without newline.
    pub text: Vec<u8>,
}

/// The beginning of all lines of one moment: the time as text, made once for many lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(String);

impl Stamp {
    /// The stamp of a moment.
    #[must_use]
    pub fn new(time: Millis) -> Self {
        // Outside the years that can be written, the earliest one is still a valid line.
        let time = jiff::Timestamp::from_millisecond(time.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        Self(format!("{time:.9} "))
    }
}

/// Appends one line to `out`. `text` holds no newline and at most [`MAX_TEXT_BYTES`].
pub fn encode(out: &mut Vec<u8>, stamp: &Stamp, stream: Stream, partial: bool, text: &[u8]) {
    debug_assert!(text.len() <= MAX_TEXT_BYTES && memchr::memchr(b'\n', text).is_none());
    let head: &[u8] = match (stream, partial) {
        (Stream::Stdout, false) => b"stdout F ",
        (Stream::Stdout, true) => b"stdout P ",
        (Stream::Stderr, false) => b"stderr F ",
        (Stream::Stderr, true) => b"stderr P ",
    };
    out.reserve(stamp.0.len() + head.len() + text.len() + 1);
    out.extend_from_slice(stamp.0.as_bytes());
    out.extend_from_slice(head);
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// A parsed line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// When it was written.
    pub time: Millis,
    /// Where to.
    pub stream: Stream,
    /// Whether it goes on.
    pub partial: bool,
    /// The text.
    pub text: &'a [u8],
}

/// Parses lines. It remembers the last time, because most lines repeat it.
#[derive(Debug, Default)]
pub struct Parser {
    last: Vec<u8>,
    millis: i64,
}

impl Parser {
    /// Parses one line, without its newline. `None` if it is not a log line.
    pub fn parse<'a>(&mut self, line: &'a [u8]) -> Option<Parsed<'a>> {
        let space = memchr::memchr(b' ', &line[..line.len().min(48)])?;
        let (time, rest) = (&line[..space], &line[space + 1..]);
        let (head, text) = match rest.split_at_checked(9) {
            Some(parts) => parts,
            // Other writers of this format leave out the space before an empty text.
            None => (rest, &[][..]),
        };
        let (stream, partial) = match head {
            b"stdout F " | b"stdout F" => (Stream::Stdout, false),
            b"stdout P " | b"stdout P" => (Stream::Stdout, true),
            b"stderr F " | b"stderr F" => (Stream::Stderr, false),
            b"stderr P " | b"stderr P" => (Stream::Stderr, true),
            _ => return None,
        };
        if self.last != time {
            let parsed: jiff::Timestamp = std::str::from_utf8(time).ok()?.parse().ok()?;
            self.millis = parsed.as_millisecond();
            self.last.clear();
            self.last.extend_from_slice(time);
        }
        Some(Parsed {
            time: Millis(self.millis),
            stream,
            partial,
            text,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(text: &[u8]) -> Option<Parsed<'_>> {
        Parser::default().parse(text)
    }

    #[test]
    fn a_line_as_specified() {
        let mut out = Vec::new();
        encode(
            &mut out,
            &Stamp::new(Millis(1_767_323_045_678)),
            Stream::Stderr,
            false,
            b"hello",
        );
        assert_eq!(out, b"2026-01-02T03:04:05.678000000Z stderr F hello\n");
        let expected = Parsed {
            time: Millis(1_767_323_045_678),
            stream: Stream::Stderr,
            partial: false,
            text: b"hello",
        };
        assert_eq!(line(&out[..out.len() - 1]), Some(expected));
        assert!(MAX_LINE_BYTES >= MAX_TEXT_BYTES + out.len());
    }

    #[test]
    fn lines_of_other_writers() {
        assert_eq!(
            line(b"2016-10-06T00:17:09.6Z stdout P x").map(|l| (l.time.0, l.partial)),
            Some((1_475_713_029_600, true))
        );
        assert_eq!(
            line(b"2016-10-06T02:17:09+02:00 stdout F x").map(|l| l.time.0),
            Some(1_475_713_029_000)
        );
        assert_eq!(
            line(b"2016-10-06T00:17:09Z stdout F").map(|l| l.text),
            Some(&b""[..])
        );
    }

    #[test]
    fn what_is_not_a_line() {
        for text in [
            &b""[..],
            b" ",
            b"\0\0\0\0",
            b"2016-10-06T00:17:09Z",
            b"2016-10-06T00:17:09Z stdout",
            b"2016-10-06T00:17:09Z stdout X x",
        ] {
            assert_eq!(line(text), None, "{text:?}");
        }
        assert_eq!(line(b"yesterday stdout F x"), None);
        assert_eq!(line(&[b'x'; 100_000]), None);
    }

    #[test]
    fn times_that_cannot_be_written_do_no_harm() {
        for millis in [
            i64::MIN,
            i64::MAX,
            -1,
            0,
            -377_705_023_201_000,
            253_402_207_200_000,
        ] {
            let mut out = Vec::new();
            encode(
                &mut out,
                &Stamp::new(Millis(millis)),
                Stream::Stdout,
                true,
                b"x",
            );
            assert_eq!(
                line(&out[..out.len() - 1]).map(|l| l.text),
                Some(&b"x"[..]),
                "{millis}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_encoded_is_parsed(
            millis in 0_i64..4_000_000_000_000, stderr: bool, partial: bool,
            text in prop::collection::vec(any::<u8>().prop_filter("newline", |b| *b != b'\n'), 0..100),
        ) {
            let stream = if stderr { Stream::Stderr } else { Stream::Stdout };
            let mut out = Vec::new();
            encode(&mut out, &Stamp::new(Millis(millis)), stream, partial, &text);
            prop_assert_eq!(out.pop(), Some(b'\n'));
            prop_assert_eq!(line(&out), Some(Parsed { time: Millis(millis), stream, partial, text: &text }));
        }

        #[test]
        fn garbage_is_no_panic(text in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = line(&text);
        }
    }
}
