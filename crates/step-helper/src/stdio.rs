//! Standard input, output and error of a task: the ends for its process, and those of the supervisor.

use alloc::vec;
use alloc::vec::Vec;

use quire_step::{FailureReason, TerminalSize};
use rustix::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use rustix::fs::{Gid, Mode, OFlags, Uid, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::report::TaskFailure;

/// The size of the pipes that carry trees and files. The kernel bounds the sum of all such pipes of root.
pub(crate) const PIPE_SIZE: usize = 256 << 10;

/// The frame that carries output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputKind {
    Stdout,
    Stderr,
    Data,
}

/// What the process of a task has.
pub(crate) struct ChildStdio {
    pub(crate) input: OwnedFd,
    pub(crate) output: OwnedFd,
    pub(crate) error: OwnedFd,
    pub(crate) is_terminal: bool,
}

/// What the supervisor has; its reads and writes do not block.
pub(crate) struct TaskStdio {
    pub(crate) outputs: Vec<(OwnedFd, OutputKind)>,
    pub(crate) input: Option<OwnedFd>,
    pub(crate) is_terminal: bool,
}

impl ChildStdio {
    pub(crate) fn raw_fds(&self) -> [RawFd; 3] {
        [&self.input, &self.output, &self.error].map(AsRawFd::as_raw_fd)
    }

    /// Makes these the descriptors 0, 1 and 2 of this process, owned by its user: it may open
    /// `/dev/stdout` by name.
    pub(crate) fn install(&self, uid: u32, gid: u32) -> Result<(), Errno> {
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        for fd in [&self.output, &self.error] {
            // Without this only opening by name fails.
            let _ = rustix::fs::fchown(fd, owner.0, owner.1);
        }
        rustix::stdio::dup2_stdin(&self.input)?;
        rustix::stdio::dup2_stdout(&self.output)?;
        rustix::stdio::dup2_stderr(&self.error)
    }
}

/// Pipes for a command. With `merge` both streams share one.
pub(crate) fn command_pipes(
    merge: bool,
    with_input: bool,
) -> Result<(ChildStdio, TaskStdio), TaskFailure> {
    let system = |errno| TaskFailure::system(errno, b"");
    let (read, output) = output_pipe().map_err(system)?;
    let mut outputs = vec![(read, OutputKind::Stdout)];
    let error = if merge {
        duplicate(&output).map_err(system)?
    } else {
        let (read, error) = output_pipe().map_err(system)?;
        outputs.push((read, OutputKind::Stderr));
        error
    };
    let (input, write) = input_for(with_input).map_err(system)?;
    let child = ChildStdio {
        input,
        output,
        error,
        is_terminal: false,
    };
    let task = TaskStdio {
        outputs,
        input: write,
        is_terminal: false,
    };
    Ok((child, task))
}

/// Pipes for a worker, whose output is data.
pub(crate) fn worker_pipes(with_input: bool) -> Result<(ChildStdio, TaskStdio), TaskFailure> {
    let (child, mut task) = command_pipes(true, with_input)?;
    if let Some(input) = &task.input {
        // A smaller pipe works as well.
        let _ = fcntl_setpipe_size(input, PIPE_SIZE);
    }
    for output in &mut task.outputs {
        output.1 = OutputKind::Data;
    }
    Ok((child, task))
}

/// A terminal for a command.
pub(crate) fn terminal(size: TerminalSize) -> Result<(ChildStdio, TaskStdio), TaskFailure> {
    let failure = |errno| TaskFailure::new(FailureReason::NoTerminal, errno, b"/dev/ptmx");
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).map_err(failure)?;
    unlockpt(&master).map_err(failure)?;
    let slave = ioctl_tiocgptpeer(&master, flags).map_err(failure)?;
    resize(&master, size).map_err(failure)?;
    set_nonblocking(&master).map_err(failure)?;
    let child = ChildStdio {
        input: duplicate(&slave).map_err(failure)?,
        output: duplicate(&slave).map_err(failure)?,
        error: slave,
        is_terminal: true,
    };
    let task = TaskStdio {
        input: Some(duplicate(&master).map_err(failure)?),
        outputs: vec![(master, OutputKind::Stdout)],
        is_terminal: true,
    };
    Ok((child, task))
}

pub(crate) fn resize(terminal: impl AsFd, size: TerminalSize) -> Result<(), Errno> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size)
}

/// A pipe for what a child reports.
pub(crate) fn report_pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    output_pipe()
}

fn output_pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(&read)?;
    Ok((read, write))
}

fn input_for(with_input: bool) -> Result<(OwnedFd, Option<OwnedFd>), Errno> {
    if with_input {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        set_nonblocking(&write)?;
        return Ok((read, Some(write)));
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    match rustix::fs::open("/dev/null", flags, Mode::empty()) {
        Ok(null) => Ok((null, None)),
        // An empty pipe without a writer reads the same.
        Err(_) => Ok((pipe_with(PipeFlags::CLOEXEC)?.0, None)),
    }
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    fcntl_dupfd_cloexec(fd, 3)
}

/// The two ends of a pipe are files of their own, so the other end still blocks.
fn set_nonblocking(fd: &OwnedFd) -> Result<(), Errno> {
    fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)
}
