//! The protocol of the attach socket: one line of JSON each way, then frames both ways. No I/O here.
//!
//! A frame is its kind (one byte), its length (four bytes, big-endian), and that many bytes.

use serde::{Deserialize, Serialize};

use quire_types::names::RunId;

/// The largest payload of a frame, in bytes.
pub const MAX_FRAME: usize = 64 << 10;
/// The length of a frame's header, in bytes.
pub const HEADER_LEN: usize = 5;

/// The first line that the client sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    pub run: RunId,
    pub program: AttachedProgram,
}

/// What runs in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachedProgram {
    Command {
        argv: Vec<String>,
        /// A terminal for the command; without it, pipes.
        terminal: Option<TerminalRequest>,
    },
    /// Evaluates text in Fennel. Each frame of input is one entry.
    Repl,
}

/// The client's terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalRequest {
    pub columns: u16,
    pub rows: u16,
    /// Its kind, for the variable `TERM`.
    pub kind: String,
}

/// The line with which the server answers. After an error it closes the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachResponse {
    /// One sentence, if the command was not started.
    pub error: Option<String>,
}

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// Standard input of the command, where an empty frame closes it; or one entry.
    Input,
    Stdout,
    Stderr,
    /// The command has ended: its exit code as text, empty if it is not known.
    Exit,
    /// The client's terminal has this size: columns and rows, two bytes each, big-endian.
    Resize,
    /// The entry that is being evaluated is to end.
    Interrupt,
    /// An entry has ended, and its value has been sent as output. Empty, or why it failed.
    EntryEnd,
}

impl FrameKind {
    const ALL: [Self; 7] = [
        Self::Input,
        Self::Stdout,
        Self::Stderr,
        Self::Exit,
        Self::Resize,
        Self::Interrupt,
        Self::EntryEnd,
    ];
}

#[must_use]
pub fn encode_header(kind: FrameKind, length: usize) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [kind as u8, a, b, c, d]
}

/// Returns kind and length, or `None` if the kind is unknown or the length exceeds [`MAX_FRAME`].
#[must_use]
pub fn decode_header(header: [u8; HEADER_LEN]) -> Option<(FrameKind, usize)> {
    let [kind, length @ ..] = header;
    let length = usize::try_from(u32::from_be_bytes(length))
        .ok()
        .filter(|length| *length <= MAX_FRAME)?;
    Some((*FrameKind::ALL.get(usize::from(kind))?, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_decode_as_they_were_encoded() {
        for kind in FrameKind::ALL {
            for length in [0, 1, 300, MAX_FRAME] {
                assert_eq!(
                    decode_header(encode_header(kind, length)),
                    Some((kind, length))
                );
            }
        }
        assert_eq!(decode_header([9, 0, 0, 0, 0]), None);
        assert_eq!(
            decode_header(encode_header(FrameKind::Input, MAX_FRAME + 1)),
            None
        );
    }
}
