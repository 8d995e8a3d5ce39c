//! The header of a frame: `u32 length | u8 kind | u32 id`, in network byte order.

use crate::error::ProtocolError;

/// The largest value of the length field, which counts what follows it.
pub const MAX_FRAME: usize = 1 << 20;

/// The bytes of a frame before its body.
pub const HEADER_LENGTH: usize = 9;

/// What the length field counts beside the body.
const COUNTED: usize = HEADER_LENGTH - 4;

/// The largest body of a frame.
pub const MAX_BODY: usize = MAX_FRAME - COUNTED;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    pub kind: u8,
    /// The task, or 0 for the whole link.
    pub id: u32,
    /// The length of the body.
    pub body: usize,
}

impl FrameHeader {
    /// # Errors
    /// [`ProtocolError::TooLong`] and [`ProtocolError::TooShort`].
    pub fn decode(bytes: &[u8; HEADER_LENGTH]) -> Result<Self, ProtocolError> {
        let [l0, l1, l2, l3, kind, i0, i1, i2, i3] = *bytes;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        let Some(body) = (length as usize).checked_sub(COUNTED) else {
            return Err(ProtocolError::TooShort(length));
        };
        if body > MAX_BODY {
            return Err(ProtocolError::TooLong(length));
        }
        Ok(Self {
            kind,
            id: u32::from_be_bytes([i0, i1, i2, i3]),
            body,
        })
    }

    /// The header as bytes. A body longer than [`MAX_BODY`] is a mistake of the caller, and the
    /// other side refuses the frame.
    #[must_use]
    pub fn encode(self) -> [u8; HEADER_LENGTH] {
        let length = u32::try_from(self.body + COUNTED).unwrap_or(u32::MAX);
        let [l0, l1, l2, l3] = length.to_be_bytes();
        let [i0, i1, i2, i3] = self.id.to_be_bytes();
        [l0, l1, l2, l3, self.kind, i0, i1, i2, i3]
    }
}
