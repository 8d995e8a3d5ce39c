//! The lines of a text by their numbers.

/// The lines of a text, with their ends. An entry is small, because the text may hold nothing but ends of lines.
pub(super) struct LineIndex<'a> {
    text: &'a [u8],
    ends: Vec<u32>,
}

impl<'a> LineIndex<'a> {
    /// The text has less than 4 GiB.
    pub(super) fn new(text: &'a [u8]) -> Self {
        let mut ends: Vec<u32> = memchr::memchr_iter(b'\n', text)
            .filter_map(|at| u32::try_from(at + 1).ok())
            .collect();
        let end = u32::try_from(text.len()).unwrap_or(u32::MAX);
        if ends.last().copied().unwrap_or(0) < end {
            ends.push(end);
        }
        Self { text, ends }
    }

    /// How many lines there are.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.ends.len()).unwrap_or(u32::MAX)
    }

    /// A line by its number from 0.
    pub(super) fn line(&self, number: u32) -> Option<&'a [u8]> {
        let number = number as usize;
        let end = *self.ends.get(number)?;
        let start = match number.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.text.get(start as usize..end as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_their_numbers() {
        for text in ["", "\n", "a\nb", "a\n\nb\n"] {
            let index = LineIndex::new(text.as_bytes());
            let lines: Vec<&[u8]> = (0..index.len())
                .map(|number| index.line(number).unwrap())
                .collect();
            assert_eq!(lines.concat(), text.as_bytes());
            assert_eq!(lines.len(), text.split_inclusive('\n').count());
            assert_eq!(index.line(index.len()), None);
        }
    }
}
