//! Frames of the helper as values that own their bytes.

use bytes::{Bytes, BytesMut};
use quire_run_files::logs::Stream;
use quire_step::{
    ExitStatus, FailureReason, FrameHeader, FromHelper, HEADER_LENGTH, ProtocolError, TaskIds,
};

/// A frame of a task, or of the connection as a whole.
#[derive(Debug, Clone)]
pub(crate) enum HelperEvent {
    Hello {
        version: u16,
    },
    Pong {
        nonce: u64,
    },
    OutOfMemory {
        kills: u64,
    },
    User(CommandUser),
    Output(Stream, Bytes),
    Data(Bytes),
    Credit(u32),
    Exited(ExitStatus),
    Failed(HelperFailure),
    /// The last frame of a task.
    Done,
}

/// Why a task failed.
#[derive(Debug, Clone)]
pub(crate) struct HelperFailure {
    pub(crate) reason: FailureReason,
    /// The error number of the system, or 0.
    pub(crate) errno: i32,
    pub(crate) detail: String,
}

/// The user of the commands of a workspace.
#[derive(Debug, Clone)]
pub(crate) struct CommandUser {
    pub(crate) ids: TaskIds,
    /// A folder that the user can write to.
    pub(crate) home: String,
}

impl HelperEvent {
    /// How much of the output window the frame takes.
    pub(super) fn output_len(&self) -> u64 {
        match self {
            Self::Output(_, bytes) | Self::Data(bytes) => bytes.len() as u64,
            _ => 0,
        }
    }

    fn new(frame: FromHelper<'_>, body: &Bytes) -> Self {
        match frame {
            FromHelper::Hello { version, .. } => Self::Hello { version },
            FromHelper::Pong { nonce } => Self::Pong { nonce },
            FromHelper::Oom { kills } => Self::OutOfMemory { kills },
            FromHelper::User { ids, home } => Self::User(CommandUser {
                ids,
                home: String::from_utf8_lossy(home).into_owned(),
            }),
            FromHelper::Stdout(bytes) => Self::Output(Stream::Stdout, body.slice_ref(bytes)),
            FromHelper::Stderr(bytes) => Self::Output(Stream::Stderr, body.slice_ref(bytes)),
            FromHelper::Data(bytes) => Self::Data(body.slice_ref(bytes)),
            FromHelper::Credit(bytes) => Self::Credit(bytes),
            FromHelper::Exited(status) => Self::Exited(status),
            FromHelper::Error(error) => Self::Failed(HelperFailure {
                reason: error.reason,
                errno: error.errno,
                detail: String::from_utf8_lossy(error.detail).into_owned(),
            }),
            FromHelper::Done => Self::Done,
        }
    }
}

/// Finds frames in chunks that are cut anywhere. Holds at most one frame that is not complete.
#[derive(Default)]
pub(super) struct FrameReader {
    buffer: BytesMut,
}

impl FrameReader {
    pub(super) fn push(&mut self, chunk: &Bytes) {
        self.buffer.extend_from_slice(chunk);
    }

    /// Returns the next complete frame and the id of its task.
    pub(super) fn next(&mut self) -> Result<Option<(u32, HelperEvent)>, ProtocolError> {
        let Some(head) = self.buffer.first_chunk::<HEADER_LENGTH>() else {
            return Ok(None);
        };
        let header = FrameHeader::decode(head)?;
        let length = HEADER_LENGTH + header.body;
        if self.buffer.len() < length {
            self.buffer.reserve(length - self.buffer.len());
            return Ok(None);
        }
        let body = self.buffer.split_to(length).freeze().slice(HEADER_LENGTH..);
        let frame = FromHelper::decode(header.kind, &body)?;
        Ok(Some((header.id, HelperEvent::new(frame, &body))))
    }
}
