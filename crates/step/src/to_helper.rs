//! The frames to the helper.

use alloc::vec::Vec;

use crate::bytes::{BodyReader, frame};
use crate::error::ProtocolError;
use crate::start::{StartTask, TaskIds, TerminalSize};

const PING: u8 = 0x01;
const QUIT: u8 = 0x02;
const WHO: u8 = 0x10;
const TREE: u8 = 0x11;
const START: u8 = 0x12;
const READ: u8 = 0x13;
const WRITE: u8 = 0x14;
const EXPORT: u8 = 0x15;
const STDIN: u8 = 0x20;
const STDIN_EOF: u8 = 0x21;
const CREDIT: u8 = 0x22;
const KILL: u8 = 0x23;
const RESIZE: u8 = 0x24;

/// A file beneath a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTask<'a> {
    pub ids: TaskIds,
    /// The workspace, as an absolute path.
    pub folder: &'a [u8],
    /// Relative to `folder`. Symbolic links are followed beneath it only.
    pub path: &'a [u8],
}

/// A frame to the helper, without its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToHelper<'a> {
    /// Is answered by PONG with the same `nonce`. A `lease` of not 0 seconds is how long the helper
    /// lives without another PING; while it has one, the end of its input does not end it.
    Ping {
        nonce: u64,
        lease: u32,
    },
    /// Ends the helper and everything below it.
    Quit,
    /// Resolves `user`, as the engine understands a container's user, by the passwd and group
    /// files; answered by USER.
    Who {
        user: &'a [u8],
    },
    /// Unpacks a tar archive, which comes as STDIN, into `folder`.
    Tree {
        uid: u32,
        gid: u32,
        folder: &'a [u8],
        /// Absolute paths of folders that outlive the container. Where one belongs to root and the
        /// user is another, it is given to the user with everything in it.
        caches: Vec<&'a [u8]>,
    },
    Start(StartTask<'a>),
    /// Sends a file as DATA, unless it has more than `limit` bytes.
    Read {
        file: FileTask<'a>,
        limit: u64,
    },
    /// Replaces a file by what comes as STDIN.
    Write(FileTask<'a>),
    /// Sends a file, or a folder with everything in it, as a tar archive in DATA.
    Export(FileTask<'a>),
    Stdin(&'a [u8]),
    StdinEof,
    /// The helper may send so many further bytes of output for the task.
    Credit(u32),
    /// Ends the task with all its processes.
    Kill,
    Resize(TerminalSize),
}

impl<'a> FileTask<'a> {
    fn read(body: &mut BodyReader<'a>) -> Result<Self, ProtocolError> {
        Ok(Self {
            ids: TaskIds::read(body)?,
            folder: body.c_string()?,
            path: body.c_string()?,
        })
    }
}

impl<'a> ToHelper<'a> {
    /// # Errors
    /// Those about kinds and bodies.
    pub fn decode(kind: u8, body: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut body = BodyReader::new(kind, body);
        let frame = match kind {
            PING => Self::Ping {
                nonce: body.u64()?,
                lease: body.u32()?,
            },
            QUIT => Self::Quit,
            WHO => Self::Who { user: body.rest() },
            TREE => Self::Tree {
                uid: body.u32()?,
                gid: body.u32()?,
                folder: body.c_string()?,
                caches: body.list(BodyReader::c_string)?,
            },
            START => Self::Start(StartTask::read(&mut body)?),
            READ => Self::Read {
                limit: body.u64()?,
                file: FileTask::read(&mut body)?,
            },
            WRITE => Self::Write(FileTask::read(&mut body)?),
            EXPORT => Self::Export(FileTask::read(&mut body)?),
            STDIN => Self::Stdin(body.rest()),
            STDIN_EOF => Self::StdinEof,
            CREDIT => Self::Credit(body.u32()?),
            KILL => Self::Kill,
            RESIZE => Self::Resize(TerminalSize::read(&mut body)?),
            _ => return Err(ProtocolError::UnknownKind(kind)),
        };
        body.end()?;
        Ok(frame)
    }

    /// Appends the frame to `out`, except for the bytes that are returned: they have to be written
    /// after it.
    #[must_use = "the rest of the frame"]
    pub fn encode(&self, id: u32, out: &mut Vec<u8>) -> &'a [u8] {
        let kind = self.kind();
        let tail = match self {
            Self::Stdin(bytes) => *bytes,
            _ => &[],
        };
        frame(out, kind, id, tail.len(), |body| match self {
            Self::Ping { nonce, lease } => {
                body.u64(*nonce);
                body.u32(*lease);
            }
            Self::Who { user } => body.0.extend_from_slice(user),
            Self::Tree {
                uid,
                gid,
                folder,
                caches,
            } => {
                body.u32(*uid);
                body.u32(*gid);
                body.string(folder);
                body.list(caches, |body, path| body.string(path));
            }
            Self::Start(task) => task.write(body),
            Self::Read { file, limit } => {
                body.u64(*limit);
                file.write(body);
            }
            Self::Write(file) | Self::Export(file) => file.write(body),
            Self::Credit(bytes) => body.u32(*bytes),
            Self::Resize(size) => size.write(body),
            Self::Quit | Self::Stdin(_) | Self::StdinEof | Self::Kill => {}
        });
        tail
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Ping { .. } => PING,
            Self::Quit => QUIT,
            Self::Who { .. } => WHO,
            Self::Tree { .. } => TREE,
            Self::Start(_) => START,
            Self::Read { .. } => READ,
            Self::Write(_) => WRITE,
            Self::Export(_) => EXPORT,
            Self::Stdin(_) => STDIN,
            Self::StdinEof => STDIN_EOF,
            Self::Credit(_) => CREDIT,
            Self::Kill => KILL,
            Self::Resize(_) => RESIZE,
        }
    }
}

impl FileTask<'_> {
    fn write(&self, body: &mut crate::bytes::BodyWriter<'_>) {
        self.ids.write(body);
        body.string(self.folder);
        body.string(self.path);
    }
}
