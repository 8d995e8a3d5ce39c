//! The protocol between the runner and the helper program in a run's container, as values and as
//! bytes. `docs/step-protocol.md` describes it; both sides use this crate.
//!
//! No I/O, no standard library: the helper has none. Every byte that is decoded is foreign.

#![no_std]

extern crate alloc;

mod bytes;
mod channel;
mod decoder;
mod error;
mod file_format;
mod from_helper;
mod header;
mod start;
#[cfg(test)]
mod tests;
mod to_helper;

pub use channel::{
    ChannelError, ChannelReceiver, ChannelSender, ChannelToken, FIRST_MESSAGE_LENGTH,
    HelperHandshake, MAX_RECORD, REPLY_LENGTH, SecureChannel, TOKEN_BYTES, TOKEN_HEX_LENGTH,
    answer_helper, first_message_id,
};
pub use decoder::FrameDecoder;
pub use error::ProtocolError;
pub use file_format::{ProgramFormat, program_format};
pub use from_helper::{ExitStatus, FailureReason, FromHelper, HelperError};
pub use header::{FrameHeader, HEADER_LENGTH, MAX_BODY, MAX_FRAME};
pub use start::{StartTask, TaskIds, TerminalSize};
pub use to_helper::{FileTask, ToHelper};

/// The version of the protocol, in HELLO. Both sides come from one build, so nothing is negotiated.
pub const VERSION: u16 = 1;

/// How many bytes of output (STDOUT, STDERR and DATA together) the helper may send for a task
/// before the first CREDIT.
pub const OUTPUT_CREDIT: u32 = 4 << 20;

/// How many bytes of STDIN the helper takes for a task before its first CREDIT.
pub const INPUT_CREDIT: u32 = 2 << 20;
