//! A child process of a run: its input is fed and its outputs are read, also after its end for as
//! long as a process that it left in the background holds them open.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use quire_run_files::logs::Stream;
use quire_runtime::process::{SessionChild, SessionProgram, exit_code};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use crate::api::OutputSink;

/// How many bytes of output are read at once.
const READ_BUFFER: usize = 64 << 10;

/// How long the last output of a command that was killed may take to arrive.
const LAST_OUTPUT_TIMEOUT: Duration = Duration::from_secs(2);

/// Quire's ends of a child's pipes. An output is `None` once it is closed.
pub(super) struct ChildPipes {
    stdin: Option<pipe::Sender>,
    outputs: ChildOutputs,
}

/// The outputs of a child that are open.
pub(super) struct ChildOutputs {
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
}

impl ChildPipes {
    /// Starts a program with pipes for its outputs; with `merge` both outputs share one. Its input is empty, unless it is `fed`.
    pub(super) fn start(
        program: &SessionProgram,
        fed: bool,
        merge: bool,
    ) -> io::Result<(SessionChild, Self)> {
        let (input, stdin): (OwnedFd, _) = if fed {
            let (input, stdin) = io::pipe()?;
            let stdin = pipe::Sender::from_owned_fd(stdin.into())?;
            (input.into(), Some(stdin))
        } else {
            (File::open("/dev/null")?.into(), None)
        };
        let (stdout, out) = io::pipe()?;
        let (stderr, err) = if merge {
            (None, out.try_clone()?)
        } else {
            let (stderr, err) = io::pipe()?;
            (Some(pipe::Receiver::from_owned_fd(stderr.into())?), err)
        };
        let outputs = ChildOutputs {
            stdout: Some(pipe::Receiver::from_owned_fd(stdout.into())?),
            stderr,
        };
        let child = program.start(input.as_fd(), out.as_fd(), err.as_fd())?;
        Ok((child, Self { stdin, outputs }))
    }

    /// Feeds and reads a child until it has ended, and returns its exit code. Everything that was
    /// written before its end has been passed on then. May be dropped.
    pub(super) async fn follow(
        &mut self,
        child: &mut SessionChild,
        stdin: Option<Vec<u8>>,
        sink: &mut dyn OutputSink,
    ) -> io::Result<i32> {
        let mut feeding = std::pin::pin!(feed_stdin(self.stdin.take(), stdin));
        let mut fed = false;
        let status = loop {
            tokio::select! {
                () = self.outputs.pass_on(sink), if self.outputs.is_open() => {}
                () = &mut feeding, if !fed => fed = true,
                ended = child.wait() => break ended?,
            }
        };
        self.outputs.pass_on_present(sink);
        Ok(exit_code(status).unwrap_or(-1))
    }

    /// The outputs that processes in the background still hold open; `None` if there are none.
    pub(super) fn into_open_outputs(self) -> Option<ChildOutputs> {
        self.outputs.is_open().then_some(self.outputs)
    }

    /// Passes on the last output of a child whose processes were killed.
    pub(super) async fn pass_on_last(mut self, sink: &mut dyn OutputSink) {
        let _ = tokio::time::timeout(LAST_OUTPUT_TIMEOUT, self.outputs.pass_on(sink)).await;
    }
}

impl ChildOutputs {
    fn is_open(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some()
    }

    /// Passes output on until both outputs are closed. May be dropped.
    pub(super) async fn pass_on(&mut self, sink: &mut dyn OutputSink) {
        let mut out = vec![0; READ_BUFFER];
        let mut err = vec![0; READ_BUFFER];
        while self.is_open() {
            let Self { stdout, stderr } = self;
            tokio::select! {
                read = read_some(stdout, &mut out), if stdout.is_some() => {
                    pass_on_read(read, stdout, &out, Stream::Stdout, sink);
                }
                read = read_some(stderr, &mut err), if stderr.is_some() => {
                    pass_on_read(read, stderr, &err, Stream::Stderr, sink);
                }
            }
        }
    }

    /// Passes on what is in the pipes at this moment.
    fn pass_on_present(&mut self, sink: &mut dyn OutputSink) {
        let mut buffer = vec![0; READ_BUFFER];
        if let Some(stdout) = &self.stdout
            && read_present(stdout.as_fd(), &mut buffer, Stream::Stdout, sink)
        {
            self.stdout = None;
        }
        if let Some(stderr) = &self.stderr
            && read_present(stderr.as_fd(), &mut buffer, Stream::Stderr, sink)
        {
            self.stderr = None;
        }
    }
}

/// Reads a pipe until it is empty; returns whether it is closed. The pipe is asked itself, because
/// the runtime may not have learned yet that it is readable.
fn read_present(
    pipe: BorrowedFd<'_>,
    buffer: &mut [u8],
    stream: Stream,
    sink: &mut dyn OutputSink,
) -> bool {
    loop {
        match nix::unistd::read(pipe, buffer) {
            Ok(0) => return true,
            Ok(count) => sink.output(stream, &buffer[..count]),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return false,
            Err(_) => return true,
        }
    }
}

async fn feed_stdin(input: Option<pipe::Sender>, bytes: Option<Vec<u8>>) {
    if let (Some(mut input), Some(bytes)) = (input, bytes) {
        // A command may leave its input unread.
        let _ = input.write_all(&bytes).await;
    }
}

async fn read_some(
    pipe: &mut Option<impl AsyncRead + Unpin>,
    buffer: &mut [u8],
) -> io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(buffer).await,
        None => std::future::pending().await,
    }
}

/// Passes what was read on; closes the pipe at its end.
fn pass_on_read<R>(
    read: io::Result<usize>,
    pipe: &mut Option<R>,
    bytes: &[u8],
    stream: Stream,
    sink: &mut dyn OutputSink,
) {
    match read {
        Ok(0) | Err(_) => *pipe = None,
        Ok(count) => sink.output(stream, &bytes[..count]),
    }
}
