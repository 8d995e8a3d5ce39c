//! The frames from the helper.

use alloc::vec::Vec;

use crate::bytes::{BodyReader, frame};
use crate::error::ProtocolError;
use crate::start::TaskIds;

const HELLO: u8 = 0x81;
const PONG: u8 = 0x82;
const OOM: u8 = 0x83;
const USER: u8 = 0x90;
const STDOUT: u8 = 0xa0;
const STDERR: u8 = 0xa1;
const DATA: u8 = 0xa2;
const CREDIT: u8 = 0xa3;
const EXITED: u8 = 0xb0;
const ERROR: u8 = 0xb1;
const DONE: u8 = 0xb2;

/// How the first process of a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    Code(u8),
    Signal(u8),
    /// Its status is unknown: the process that waited for it was killed by the command.
    Lost,
}

/// Why a task failed, or with id 0 why the helper ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FailureReason {
    /// A call of the operating system failed; `detail` is the path.
    System = 0,
    /// No such program; `detail` is its name.
    ProgramMissing = 1,
    /// The program exists, but `detail`, its interpreter or dynamic linker, does not.
    InterpreterMissing = 2,
    /// As before, and the name of the interpreter ends with a carriage return.
    InterpreterCarriageReturn = 3,
    /// No permission to execute `detail`, or it is a folder.
    NotExecutable = 4,
    /// `detail` is neither a binary nor a script with a `#!` line.
    UnknownFormat = 5,
    /// `detail` was built for another architecture.
    WrongArchitecture = 6,
    ArgumentsTooLong = 7,
    /// The working directory `detail` does not exist.
    FolderMissing = 8,
    /// The working directory `detail` is outside of the workspace.
    FolderEscapes = 9,
    /// The limit of processes is reached.
    NoProcesses = 10,
    UnknownUser = 11,
    UnknownGroup = 12,
    /// The path `detail` leads out of the folder.
    PathEscapes = 13,
    /// `detail` is a folder.
    IsFolder = 14,
    /// `detail` is neither a file nor a folder.
    IsSpecial = 15,
    /// `detail` is larger than the limit.
    TooLarge = 16,
    /// The archive of a tree is damaged, or `detail` is a name in it that cannot be unpacked.
    Archive = 17,
    /// There are no terminals in the container.
    NoTerminal = 18,
    /// The other side does not speak the protocol; `detail` says why. Id 0.
    Protocol = 19,
    /// The process that did the work was killed.
    Killed = 20,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelperError<'a> {
    pub reason: FailureReason,
    /// The error number of the system, or 0.
    pub errno: i32,
    /// A path or a name; what it means depends on `reason`.
    pub detail: &'a [u8],
}

/// A frame from the helper, without its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromHelper<'a> {
    /// The first frame of the link.
    Hello {
        version: u16,
        /// The release of the kernel, such as `6.12.0`.
        kernel: &'a [u8],
        /// The kernel's name of the machine, such as `x86_64`.
        machine: &'a [u8],
    },
    Pong {
        nonce: u64,
    },
    /// The number of processes of the container that were killed for want of memory so far.
    Oom {
        kills: u64,
    },
    /// The answer to WHO.
    User {
        ids: TaskIds,
        /// A folder that the user can write to.
        home: &'a [u8],
    },
    Stdout(&'a [u8]),
    Stderr(&'a [u8]),
    Data(&'a [u8]),
    /// The other side may send so many further bytes of STDIN for the task.
    Credit(u32),
    /// The first process ended. Everything that it had written was sent before.
    Exited(ExitStatus),
    Error(HelperError<'a>),
    /// The last frame of a task: it has no processes any more.
    Done,
}

impl FailureReason {
    const ALL: [Self; 21] = [
        Self::System,
        Self::ProgramMissing,
        Self::InterpreterMissing,
        Self::InterpreterCarriageReturn,
        Self::NotExecutable,
        Self::UnknownFormat,
        Self::WrongArchitecture,
        Self::ArgumentsTooLong,
        Self::FolderMissing,
        Self::FolderEscapes,
        Self::NoProcesses,
        Self::UnknownUser,
        Self::UnknownGroup,
        Self::PathEscapes,
        Self::IsFolder,
        Self::IsSpecial,
        Self::TooLarge,
        Self::Archive,
        Self::NoTerminal,
        Self::Protocol,
        Self::Killed,
    ];

    /// The reason with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl ExitStatus {
    fn read(body: &mut BodyReader<'_>) -> Result<Self, ProtocolError> {
        match (body.u8()?, body.u8()?) {
            (0, code) => Ok(Self::Code(code)),
            (1, signal) => Ok(Self::Signal(signal)),
            (2, 0) => Ok(Self::Lost),
            _ => Err(body.invalid()),
        }
    }
}

impl<'a> FromHelper<'a> {
    /// # Errors
    /// Those about kinds and bodies.
    pub fn decode(kind: u8, body: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut body = BodyReader::new(kind, body);
        let frame = match kind {
            HELLO => Self::Hello {
                version: body.u16()?,
                kernel: body.string()?,
                machine: body.string()?,
            },
            PONG => Self::Pong { nonce: body.u64()? },
            OOM => Self::Oom { kills: body.u64()? },
            USER => Self::User {
                ids: TaskIds::read(&mut body)?,
                home: body.c_string()?,
            },
            STDOUT => Self::Stdout(body.rest()),
            STDERR => Self::Stderr(body.rest()),
            DATA => Self::Data(body.rest()),
            CREDIT => Self::Credit(body.u32()?),
            EXITED => Self::Exited(ExitStatus::read(&mut body)?),
            ERROR => Self::Error(HelperError {
                reason: FailureReason::from_number(body.u8()?).ok_or(body.invalid())?,
                errno: body.i32()?,
                detail: body.rest(),
            }),
            DONE => Self::Done,
            _ => return Err(ProtocolError::UnknownKind(kind)),
        };
        body.end()?;
        Ok(frame)
    }

    /// Appends the frame to `out`, except for the bytes that are returned: they have to be written
    /// after it.
    #[must_use = "the rest of the frame"]
    pub fn encode(&self, id: u32, out: &mut Vec<u8>) -> &'a [u8] {
        let tail = match self {
            Self::Stdout(bytes) | Self::Stderr(bytes) | Self::Data(bytes) => *bytes,
            _ => &[],
        };
        frame(out, self.kind(), id, tail.len(), |body| match self {
            Self::Hello {
                version,
                kernel,
                machine,
            } => {
                body.u16(*version);
                body.string(kernel);
                body.string(machine);
            }
            Self::Pong { nonce } => body.u64(*nonce),
            Self::Oom { kills } => body.u64(*kills),
            Self::User { ids, home } => {
                ids.write(body);
                body.string(home);
            }
            Self::Credit(bytes) => body.u32(*bytes),
            Self::Exited(status) => {
                let (kind, value) = match *status {
                    ExitStatus::Code(code) => (0, code),
                    ExitStatus::Signal(signal) => (1, signal),
                    ExitStatus::Lost => (2, 0),
                };
                body.u8(kind);
                body.u8(value);
            }
            Self::Error(error) => {
                body.u8(error.reason.number());
                body.i32(error.errno);
                body.0.extend_from_slice(error.detail);
            }
            Self::Stdout(_) | Self::Stderr(_) | Self::Data(_) | Self::Done => {}
        });
        tail
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => HELLO,
            Self::Pong { .. } => PONG,
            Self::Oom { .. } => OOM,
            Self::User { .. } => USER,
            Self::Stdout(_) => STDOUT,
            Self::Stderr(_) => STDERR,
            Self::Data(_) => DATA,
            Self::Credit(_) => CREDIT,
            Self::Exited(_) => EXITED,
            Self::Error(_) => ERROR,
            Self::Done => DONE,
        }
    }
}
