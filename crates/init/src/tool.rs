//! Runs a short-lived program during preflight (`ssh-keygen`, `sshd -t`) and captures its output.
//! A request to stop ends the wait immediately.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::InitError;
use super::reap;
use super::signals::Signals;
use super::spawn::{Credentials, Program, Spawner};
use quire_types::init_status::ChildExit;

/// A tool of preflight that takes longer is considered hung.
const TOOL_TIMEOUT: Duration = Duration::from_secs(60);
/// Output beyond this is discarded.
const MAX_OUTPUT: usize = 64 * 1024;

/// The output of a tool, and how it ended.
#[derive(Debug)]
pub(super) struct ToolOutput {
    pub(super) exit: ChildExit,
    /// Standard output and standard error.
    pub(super) text: String,
}

impl ToolOutput {
    pub(super) fn success(&self) -> bool {
        self.exit == ChildExit::Code(0)
    }

    /// The output as part of one line; how the tool ended if it printed nothing.
    pub(super) fn message(&self) -> String {
        let message = self
            .text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join("; ");
        if message.is_empty() {
            self.exit.to_string()
        } else {
            message.chars().take(600).collect()
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct ToolRunner<'a> {
    pub(super) spawner: &'a Spawner,
    pub(super) signals: &'a Signals,
}

impl ToolRunner<'_> {
    /// Runs a program and waits until it has ended.
    pub(super) fn run(
        self,
        name: &'static str,
        path: &Path,
        arguments: &[&OsStr],
    ) -> Result<ToolOutput, InitError> {
        self.run_as(name, path, arguments, None)
    }

    /// The same as another user.
    pub(super) fn run_as(
        self,
        name: &'static str,
        path: &Path,
        arguments: &[&OsStr],
        user: Option<&Credentials>,
    ) -> Result<ToolOutput, InitError> {
        let environment = [
            ("PATH", super::settings::SEARCH_PATH),
            ("HOME", "/"),
            ("LC_ALL", "C.UTF-8"),
        ];
        let mut program = Program::new(path, arguments.iter().copied(), environment)
            .map_err(InitError::system("run a program"))?;
        if let Some(user) = user {
            program = program.run_as(user);
        }
        let (reader, writer) = std::io::pipe().map_err(InitError::system("create a pipe"))?;
        let pid = self
            .spawner
            .start(&program, writer.as_fd())
            .map_err(InitError::system("start a process"))?;
        drop(writer);
        let deadline = Instant::now() + TOOL_TIMEOUT;
        let mut bytes = Vec::new();
        let interrupted = loop {
            if self.signals.stop_requested() {
                break Some(InitError::Stopped);
            }
            if Instant::now() >= deadline {
                break Some(InitError::Tool {
                    program: name,
                    message: format!("it did not end within {} s", TOOL_TIMEOUT.as_secs()),
                });
            }
            let mut fds = [
                PollFd::new(self.signals.fd(), PollFlags::POLLIN),
                PollFd::new(reader.as_fd(), PollFlags::POLLIN),
            ];
            let _ = poll(&mut fds, PollTimeout::from(1000u16));
            let readable = fds[1].any() == Some(true);
            self.signals.drain();
            let mut buffer = [0; 4096];
            if !readable {
                continue;
            }
            match nix::unistd::read(&reader, &mut buffer) {
                Ok(0) => break None,
                Ok(n) => bytes
                    .extend_from_slice(&buffer[..n.min(MAX_OUTPUT - bytes.len().min(MAX_OUTPUT))]),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(_) => break None,
            }
        };
        if interrupted.is_some() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let exit = self.wait(pid, deadline);
        match interrupted {
            Some(error) => Err(error),
            None => Ok(ToolOutput {
                exit,
                text: String::from_utf8_lossy(&bytes).into_owned(),
            }),
        }
    }

    /// Waits for a process whose outputs are closed: it is about to end, or was killed.
    fn wait(self, pid: i32, deadline: Instant) -> ChildExit {
        loop {
            match reap::try_wait(pid) {
                Ok(Some((_, exit))) => return exit,
                Ok(None) | Err(Errno::EINTR) => {}
                Err(_) => return ChildExit::Code(127),
            }
            if Instant::now() >= deadline {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let mut fds = [PollFd::new(self.signals.fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::from(10u16));
            self.signals.drain();
        }
    }
}

/// The path of an installed program.
pub(super) fn find_program(
    program: &'static str,
    package: &'static str,
) -> Result<PathBuf, InitError> {
    let inherited = std::env::var("PATH").unwrap_or_default();
    let folders = super::settings::SEARCH_PATH
        .split(':')
        .chain(inherited.split(':'));
    let found = folders
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.is_file());
    found.ok_or(InitError::NoProgram { program, package })
}
