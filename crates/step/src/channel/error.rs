//! Why a channel cannot be opened, or is of no further use.

use core::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelError {
    /// A message of the handshake was not made with the same token, or was altered.
    Handshake,
    /// The length of a record is smaller than what every record has.
    ShortRecord(u16),
    /// A record was altered, or is not the next one of its stream.
    Forged,
    /// The records of one direction are used up. A connection would have to last for centuries.
    Exhausted,
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handshake => f.write_str("the handshake does not match the token"),
            Self::ShortRecord(length) => write!(f, "a record of {length} bytes is too short"),
            Self::Forged => f.write_str("a record is not authentic"),
            Self::Exhausted => f.write_str("the channel has no further records"),
        }
    }
}

impl core::error::Error for ChannelError {}
