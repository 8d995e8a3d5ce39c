//! A position in a run's logs, small enough for a URL: which steps are read to their end, and
//! how far the run's own log and the open steps are.
//!
//! Text: `<offset in run.log>` then, each after a dot, `<from>-<to>` for steps that are read to
//! their end and `<seq>_<offset>` for one that is not, both in rising order: `1024.1-7.9_4096`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The longest text that is looked at.
const MAX_TEXT: usize = 8 << 10;

/// Not a position; a client made it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a position in a log; leave it out to read from the beginning")]
pub struct CursorError;

/// A position in a run's logs. The default is the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor {
    run: u64,
    /// Steps read to their end, as rising ranges that do not touch.
    read: Vec<(u32, u32)>,
    /// Offsets of steps that are not, where not 0.
    open: BTreeMap<u32, u64>,
}

impl Cursor {
    /// The offset in the run's own log.
    #[must_use]
    pub fn run_offset(&self) -> u64 {
        self.run
    }

    /// Moves to an offset in the run's own log.
    pub fn set_run_offset(&mut self, offset: u64) {
        self.run = offset;
    }

    /// Whether this step is read to its end.
    #[must_use]
    pub fn is_read(&self, seq: u32) -> bool {
        let at = self.read.partition_point(|(_, to)| *to < seq);
        self.read.get(at).is_some_and(|(from, _)| *from <= seq)
    }

    /// The offset in the log of a step that is not read to its end.
    #[must_use]
    pub fn step_offset(&self, seq: u32) -> u64 {
        self.open.get(&seq).copied().unwrap_or(0)
    }

    /// Moves to an offset in the log of a step that is not read to its end.
    pub fn set_step_offset(&mut self, seq: u32, offset: u64) {
        if self.is_read(seq) || offset == 0 {
            self.open.remove(&seq);
        } else {
            self.open.insert(seq, offset);
        }
    }

    /// Notes that a step is read to its end.
    pub fn set_read(&mut self, seq: u32) {
        self.open.remove(&seq);
        if self.is_read(seq) {
            return;
        }
        let at = self.read.partition_point(|(_, to)| *to < seq);
        let joins_left = at > 0 && self.read[at - 1].1.checked_add(1) == Some(seq);
        let joins_right = self
            .read
            .get(at)
            .is_some_and(|(from, _)| Some(*from) == seq.checked_add(1));
        match (joins_left, joins_right) {
            (true, true) => {
                self.read[at - 1].1 = self.read[at].1;
                self.read.remove(at);
            }
            (true, false) => self.read[at - 1].1 = seq,
            (false, true) => self.read[at].0 = seq,
            (false, false) => self.read.insert(at, (seq, seq)),
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.run)?;
        for (from, to) in &self.read {
            write!(f, ".{from}-{to}")?;
        }
        for (seq, offset) in &self.open {
            write!(f, ".{seq}_{offset}")?;
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        if text.len() > MAX_TEXT {
            return Err(CursorError);
        }
        let mut parts = text.split('.');
        let mut cursor = Self {
            run: number(parts.next().ok_or(CursorError)?)?,
            ..Self::default()
        };
        for part in parts {
            if let Some((from, to)) = part.split_once('-') {
                let (from, to) = (number(from)?, number(to)?);
                // Rising, apart, and before the open ones: each position has one spelling.
                let after = cursor
                    .read
                    .last()
                    .is_none_or(|(_, last)| last.checked_add(1).is_some_and(|next| from > next));
                if from > to || !after || !cursor.open.is_empty() {
                    return Err(CursorError);
                }
                cursor.read.push((from, to));
            } else {
                let (seq, offset) = part.split_once('_').ok_or(CursorError)?;
                let (seq, offset) = (number(seq)?, number(offset)?);
                let after = cursor
                    .open
                    .last_key_value()
                    .is_none_or(|(last, _)| seq > *last);
                if !after || offset == 0 || cursor.is_read(seq) {
                    return Err(CursorError);
                }
                cursor.open.insert(seq, offset);
            }
        }
        Ok(cursor)
    }
}

/// Decimal digits without sign or leading zero.
fn number<N: FromStr>(text: &str) -> Result<N, CursorError> {
    let plain =
        text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    if plain {
        text.parse().map_err(|_| CursorError)
    } else {
        Err(CursorError)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_text() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.to_string(), "0");
        cursor.set_run_offset(1024);
        for seq in [2, 1, 4, 3, 7, 9] {
            cursor.set_read(seq);
        }
        cursor.set_step_offset(5, 77);
        cursor.set_step_offset(4, 77);
        cursor.set_step_offset(6, 0);
        assert_eq!(cursor.to_string(), "1024.1-4.7-7.9-9.5_77");
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }

    #[test]
    fn hostile_text() {
        for text in [
            "",
            ".",
            "-1",
            "+1",
            "01",
            "1.",
            "1.2",
            "1.2-1",
            "1.1-2.2-3",
            "1.1-2.3-4",
            "1.5_0",
            "1.5_1.5_1",
            "1.5_1.4_1",
            "1.1-5.3_1",
            "1.7_1.1-2",
            "99999999999999999999",
            "1.4294967296_1",
            "1.0-4294967295.1-1",
            "1.1-2-3",
            "1.1_2_3",
            "1 ",
            "1\n",
            "é",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(CursorError), "{text:?}");
        }
        assert!(
            format!("1{}", ".1_1".repeat(10_000))
                .parse::<Cursor>()
                .is_err()
        );
        let all: Cursor = "18446744073709551615.0-4294967295".parse().unwrap();
        assert!(all.is_read(0) && all.is_read(u32::MAX));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn remembers_what_was_read(seqs in prop::collection::vec(0_u32..40, 0..40), open in prop::collection::vec((0_u32..40, 0_u64..9), 0..9)) {
            let mut cursor = Cursor::default();
            let model: BTreeSet<u32> = seqs.iter().copied().collect();
            for seq in seqs {
                cursor.set_read(seq);
            }
            for (seq, offset) in open {
                cursor.set_step_offset(seq, offset);
                prop_assert_eq!(cursor.step_offset(seq), if model.contains(&seq) { 0 } else { offset });
            }
            for seq in 0..42 {
                prop_assert_eq!(cursor.is_read(seq), model.contains(&seq));
            }
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn parsed_text_is_the_text(text in "[0-9._-]{0,20}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }
}
