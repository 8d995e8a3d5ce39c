//! START: everything that a command is started from.

use alloc::vec::Vec;

use crate::bytes::{BodyReader, BodyWriter};
use crate::error::ProtocolError;

const MERGE: u8 = 1;
const INPUT: u8 = 2;
const TERMINAL: u8 = 4;

/// The ids under which a task does its work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskIds {
    pub uid: u32,
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    pub columns: u16,
    pub rows: u16,
}

/// A command. Its text must fit into one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartTask<'a> {
    pub ids: TaskIds,
    /// One pipe for both streams: everything arrives as STDOUT, in the order in which it was
    /// written.
    pub merge: bool,
    /// Standard input is a pipe that STDIN frames fill; otherwise it is empty.
    pub input: bool,
    /// Standard input, output and error are a terminal of this size.
    pub terminal: Option<TerminalSize>,
    /// The workspace, as an absolute path.
    pub folder: &'a [u8],
    /// The working directory relative to `folder`, beneath which it has to be.
    pub cwd: &'a [u8],
    /// Program and arguments; never empty.
    pub argv: Vec<&'a [u8]>,
    /// The whole environment, each as `NAME=value`.
    pub env: Vec<&'a [u8]>,
}

impl TaskIds {
    pub(crate) fn read(body: &mut BodyReader<'_>) -> Result<Self, ProtocolError> {
        Ok(Self {
            uid: body.u32()?,
            gid: body.u32()?,
            groups: body.list(BodyReader::u32)?,
        })
    }

    pub(crate) fn write(&self, body: &mut BodyWriter<'_>) {
        body.u32(self.uid);
        body.u32(self.gid);
        body.list(&self.groups, |body, group| body.u32(*group));
    }
}

impl TerminalSize {
    pub(crate) fn read(body: &mut BodyReader<'_>) -> Result<Self, ProtocolError> {
        Ok(Self {
            columns: body.u16()?,
            rows: body.u16()?,
        })
    }

    pub(crate) fn write(self, body: &mut BodyWriter<'_>) {
        body.u16(self.columns);
        body.u16(self.rows);
    }
}

impl<'a> StartTask<'a> {
    pub(crate) fn read(body: &mut BodyReader<'a>) -> Result<Self, ProtocolError> {
        let flags = body.u8()?;
        if flags & !(MERGE | INPUT | TERMINAL) != 0 {
            return Err(body.invalid());
        }
        let terminal = match flags & TERMINAL {
            0 => None,
            _ => Some(TerminalSize::read(body)?),
        };
        let task = Self {
            ids: TaskIds::read(body)?,
            merge: flags & MERGE != 0,
            input: flags & INPUT != 0,
            terminal,
            folder: body.c_string()?,
            cwd: body.c_string()?,
            argv: body.list(BodyReader::c_string)?,
            env: body.list(BodyReader::c_string)?,
        };
        if task.argv.is_empty() {
            return Err(body.invalid());
        }
        Ok(task)
    }

    pub(crate) fn write(&self, body: &mut BodyWriter<'_>) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        body.u8(flag(self.merge, MERGE)
            | flag(self.input, INPUT)
            | flag(self.terminal.is_some(), TERMINAL));
        if let Some(size) = self.terminal {
            size.write(body);
        }
        self.ids.write(body);
        body.string(self.folder);
        body.string(self.cwd);
        body.list(&self.argv, |body, argument| body.string(argument));
        body.list(&self.env, |body, variable| body.string(variable));
    }
}
