//! Frames out of bytes that arrive in pieces of any size.

use alloc::vec::Vec;

use crate::error::ProtocolError;
use crate::header::{FrameHeader, HEADER_LENGTH};

/// Collects bytes until they are a frame. It holds at most one incomplete frame and what was added
/// with its last bytes. After an error it is of no further use.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    /// Where the first byte is that belongs to no returned frame.
    start: usize,
}

impl FrameDecoder {
    #[must_use]
    pub const fn new() -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
        }
    }

    pub fn add(&mut self, bytes: &[u8]) {
        self.add_by(|buffer| buffer.extend_from_slice(bytes));
    }

    /// Adds what `append` appends. It must not change what is there.
    pub fn add_by<T>(&mut self, append: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        // The rest of the last frames moves to the front here, once for all frames of one piece.
        self.buffer.drain(..self.start);
        self.start = 0;
        append(&mut self.buffer)
    }

    /// Returns the next whole frame: its header and its body. `None` if bytes are missing.
    ///
    /// # Errors
    /// [`ProtocolError::TooLong`] and [`ProtocolError::TooShort`], as soon as the header is there.
    pub fn next_frame(&mut self) -> Result<Option<(FrameHeader, &[u8])>, ProtocolError> {
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        let Some((first, after)) = rest.split_first_chunk::<HEADER_LENGTH>() else {
            return Ok(None);
        };
        let header = FrameHeader::decode(first)?;
        let Some(body) = after.get(..header.body) else {
            return Ok(None);
        };
        self.start += HEADER_LENGTH + header.body;
        Ok(Some((header, body)))
    }

    /// Whether bytes are left that are no whole frame: at the end of the input, it was cut.
    #[must_use]
    pub fn is_within_frame(&self) -> bool {
        self.buffer.len() > self.start
    }
}
