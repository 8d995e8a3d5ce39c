//! What is wrong with bytes that are no frames of the protocol.

use core::fmt;

/// The other side does not speak the protocol. The link is of no further use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    /// The length of a frame is larger than [`crate::MAX_FRAME`].
    TooLong(u32),
    /// The length of a frame is smaller than what every frame has.
    TooShort(u32),
    UnknownKind(u8),
    /// The body ends before its last field.
    Truncated {
        kind: u8,
    },
    /// The body continues after its last field.
    TrailingBytes {
        kind: u8,
    },
    /// A field has a value that it cannot have.
    InvalidValue {
        kind: u8,
    },
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(length) => write!(f, "a frame of {length} bytes is too long"),
            Self::TooShort(length) => write!(f, "a frame of {length} bytes is too short"),
            Self::UnknownKind(kind) => write!(f, "the frame kind {kind:#04x} is unknown"),
            Self::Truncated { kind } => {
                write!(f, "a frame of kind {kind:#04x} ends before its last field")
            }
            Self::TrailingBytes { kind } => {
                write!(
                    f,
                    "a frame of kind {kind:#04x} continues after its last field"
                )
            }
            Self::InvalidValue { kind } => {
                write!(f, "a field of a frame of kind {kind:#04x} is invalid")
            }
        }
    }
}

impl core::error::Error for ProtocolError {}
