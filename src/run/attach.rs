//! What `run attach` and the server say to each other: a line each way, then frames both ways.
//!
//! A frame is its kind, its length as four bytes (big-endian), and so many bytes. No I/O here.

use serde::{Deserialize, Serialize};

use crate::names::RunId;

/// The largest frame, in bytes.
pub const MAX_FRAME: usize = 64 << 10;
/// How long a frame's head is, in bytes.
pub const HEAD: usize = 5;

/// The line that asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    /// The run.
    pub run: RunId,
    /// The command.
    pub argv: Vec<String>,
}

/// The line that answers; after `error` there is nothing more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachAnswer {
    /// Why not, in a sentence.
    pub error: Option<String>,
}

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// To the command: its standard input. An empty one closes it.
    Input,
    /// From the command.
    Stdout,
    /// From the command.
    Stderr,
    /// The command ended: its exit code as text, or nothing where it is not known.
    Exit,
}

impl FrameKind {
    const ALL: [Self; 4] = [Self::Input, Self::Stdout, Self::Stderr, Self::Exit];
}

/// A frame's head.
#[must_use]
pub fn head(kind: FrameKind, length: usize) -> [u8; HEAD] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [kind as u8, a, b, c, d]
}

/// What a head says; none where it is none.
#[must_use]
pub fn parse_head(head: [u8; HEAD]) -> Option<(FrameKind, usize)> {
    let [kind, length @ ..] = head;
    let length = usize::try_from(u32::from_be_bytes(length))
        .ok()
        .filter(|length| *length <= MAX_FRAME)?;
    Some((*FrameKind::ALL.get(usize::from(kind))?, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_written() {
        for kind in FrameKind::ALL {
            for length in [0, 1, 300, MAX_FRAME] {
                assert_eq!(parse_head(head(kind, length)), Some((kind, length)));
            }
        }
        assert_eq!(parse_head([9, 0, 0, 0, 0]), None);
        assert_eq!(parse_head(head(FrameKind::Input, MAX_FRAME + 1)), None);
    }
}
