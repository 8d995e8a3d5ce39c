//! Runs a short-lived program during preflight (`ssh-keygen`, `sshd -t`) and takes what it says.
//! A request to stop ends the wait at once.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::BootError;
use super::reap;
use super::signals::Signals;
use super::spawn::{Program, Spawner};
use super::status::Exit;

/// No tool of preflight takes that long unless it hangs.
const DEADLINE: Duration = Duration::from_secs(60);
/// More than any of them has to say.
const LONGEST: usize = 64 * 1024;

/// What a tool said, and how it ended.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) exit: Exit,
    pub(super) text: String,
}

impl Said {
    pub(super) fn worked(&self) -> bool {
        self.exit == Exit::Code(0)
    }

    /// Its words as part of one line.
    pub(super) fn words(&self) -> String {
        let words = self
            .text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join("; ");
        if words.is_empty() {
            self.exit.to_string()
        } else {
            words.chars().take(600).collect()
        }
    }
}

/// Runs tools.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tools<'a> {
    pub(super) spawner: &'a Spawner,
    pub(super) signals: &'a Signals,
}

impl Tools<'_> {
    /// Runs a program to its end.
    pub(super) fn run(
        self,
        name: &'static str,
        path: &Path,
        arguments: &[&OsStr],
    ) -> Result<Said, BootError> {
        let environment = [
            ("PATH", super::settings::SEARCH_PATH),
            ("HOME", "/"),
            ("LC_ALL", "C.UTF-8"),
        ];
        let program = Program::new(path, arguments.iter().copied(), environment)
            .map_err(BootError::system("run a program"))?;
        let (read, write) = std::io::pipe().map_err(BootError::system("make a pipe"))?;
        let pid = self
            .spawner
            .start(&program, write.as_fd())
            .map_err(BootError::system("start a process"))?;
        drop(write);
        let deadline = Instant::now() + DEADLINE;
        let mut bytes = Vec::new();
        let interrupted = loop {
            if self.signals.stop_asked() {
                break Some(BootError::Stopped);
            }
            if Instant::now() >= deadline {
                break Some(BootError::Tool {
                    program: name,
                    says: "it does not end".into(),
                });
            }
            let mut fds = [
                PollFd::new(self.signals.fd(), PollFlags::POLLIN),
                PollFd::new(read.as_fd(), PollFlags::POLLIN),
            ];
            let _ = poll(&mut fds, PollTimeout::from(1000u16));
            let readable = fds[1].any() == Some(true);
            self.signals.clear();
            let mut buffer = [0; 4096];
            match if readable {
                nix::unistd::read(&read, &mut buffer)
            } else {
                Err(Errno::EAGAIN)
            } {
                Ok(0) => break None,
                Ok(n) => {
                    bytes.extend_from_slice(&buffer[..n.min(LONGEST - bytes.len().min(LONGEST))])
                }
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
            None => Ok(Said {
                exit,
                text: String::from_utf8_lossy(&bytes).into_owned(),
            }),
        }
    }

    /// Its outputs are closed, so it is about to end, or killed.
    fn wait(self, pid: i32, deadline: Instant) -> Exit {
        loop {
            match reap::next(pid) {
                Ok(Some((_, exit))) => return exit,
                Ok(None) | Err(Errno::EINTR) => {}
                Err(_) => return Exit::Code(127),
            }
            if Instant::now() >= deadline {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let mut fds = [PollFd::new(self.signals.fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::from(10u16));
            self.signals.clear();
        }
    }
}

/// Where a program is installed.
pub(super) fn find(program: &'static str, package: &'static str) -> Result<PathBuf, BootError> {
    let inherited = std::env::var("PATH").unwrap_or_default();
    let folders = super::settings::SEARCH_PATH
        .split(':')
        .chain(inherited.split(':'));
    let found = folders
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.is_file());
    found.ok_or(BootError::NoProgram { program, package })
}
