//! Starts programs. Everything that a start needs is prepared once, so that restarting a child
//! allocates nothing in `init`. `std::process` is not used, because its `Child` would wait for
//! its own process, while `init` reaps all processes itself.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    ForkResult, Gid, Pid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, fork, setgid,
    setgroups, setsid, setuid,
};

/// The user and groups that a program runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

/// A command line and environment, ready to be executed any number of times.
#[derive(Debug)]
pub(super) struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// Without credentials it keeps those of `init`, and may gain privileges (sshd has to).
    credentials: Option<(Uid, Gid, Vec<Gid>)>,
    /// Its standard input; empty if there is none.
    input: Option<File>,
}

impl Program {
    /// Fails if a word contains a NUL byte. The environment of `init` is not inherited.
    pub(super) fn new<'a>(
        path: &Path,
        arguments: impl IntoIterator<Item = &'a OsStr>,
        environment: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> io::Result<Self> {
        let word = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::from);
        let mut words = vec![word(path.as_os_str())?];
        for argument in arguments {
            words.push(word(argument)?);
        }
        let mut variables = Vec::new();
        for (name, value) in environment {
            variables.push(CString::new(
                [name.as_ref().as_bytes(), b"=", value.as_ref().as_bytes()].concat(),
            )?);
        }
        Ok(Self {
            path: word(path.as_os_str())?,
            arguments: words,
            environment: variables,
            credentials: None,
            input: None,
        })
    }

    /// Gives the program this file as its standard input.
    pub(super) fn reads(self, input: Option<File>) -> Self {
        Self { input, ..self }
    }

    /// Runs the program with these credentials, and forbids it to gain privileges.
    pub(super) fn run_as(mut self, credentials: &Credentials) -> Self {
        let groups = credentials
            .groups
            .iter()
            .copied()
            .map(Gid::from_raw)
            .collect();
        self.credentials = Some((
            Uid::from_raw(credentials.uid),
            Gid::from_raw(credentials.gid),
            groups,
        ));
        self
    }
}

/// Starts each program in a session of its own, with an empty standard input unless it has one.
#[derive(Debug)]
pub(super) struct Spawner {
    null: File,
}

impl Spawner {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            null: File::open("/dev/null")?,
        })
    }

    /// Starts the program with both its outputs connected to `output`, and returns its process id.
    /// The kernel sends it TERM if `init` dies.
    ///
    /// An error after the fork is written to `output`, and the process exits with 127.
    pub(super) fn start(&self, program: &Program, output: BorrowedFd<'_>) -> Result<i32, Errno> {
        let parent = Pid::this();
        // Blocks all signals until `exec`: the handlers of `init` would swallow one that is meant for
        // the new program.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        #[expect(
            unsafe_code,
            reason = "std's Command wants to wait for its own children"
        )]
        // SAFETY: `init` has one thread, so no other thread can hold a lock in the child.
        let forked = unsafe { fork() };
        if let Ok(ForkResult::Child) = forked {
            let Err(errno) = self.exec_child(program, output, parent);
            let _ = writeln!(
                io::stderr(),
                "cannot start {}: {}",
                program.path.to_string_lossy(),
                errno.desc()
            );
            #[expect(
                unsafe_code,
                reason = "the exit handlers and buffers of the parent must not run in the child"
            )]
            // SAFETY: it ends the process and runs nothing.
            unsafe {
                libc::_exit(127)
            }
        }
        mask.thread_set_mask()?;
        match forked? {
            ForkResult::Parent { child } => Ok(child.as_raw()),
            ForkResult::Child => Err(Errno::EINVAL),
        }
    }

    /// Runs in the child, between `fork` and `exec`.
    fn exec_child(
        &self,
        program: &Program,
        output: BorrowedFd<'_>,
        parent: Pid,
    ) -> Result<Infallible, Errno> {
        dup2_stdin(program.input.as_ref().unwrap_or(&self.null))?;
        dup2_stdout(output)?;
        dup2_stderr(output)?;
        setsid()?;
        chdir("/")?;
        umask(Mode::from_bits_truncate(0o027));
        if let Some((uid, gid, groups)) = &program.credentials {
            setgroups(groups)?;
            setgid(*gid)?;
            setuid(*uid)?;
            prctl::set_no_new_privs()?;
        }
        // After the change of user, which clears this setting.
        prctl::set_pdeathsig(Signal::SIGTERM)?;
        if nix::unistd::getppid() != parent {
            return Err(Errno::ESRCH);
        }
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        for signal in
            Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP))
        {
            #[expect(unsafe_code, reason = "a program starts with the default actions")]
            // SAFETY: the default action runs no code of this program.
            unsafe {
                sigaction(signal, &default)?;
            }
        }
        SigSet::empty().thread_set_mask()?;
        execve(&program.path, &program.arguments, &program.environment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_a_nul_byte_is_rejected() {
        let none: [(&str, &str); 0] = [];
        assert!(Program::new(Path::new("/bin/true"), [OsStr::new("a\0b")], none).is_err());
        assert!(Program::new(Path::new("/bin/true"), [], [("A", "b\0c")]).is_err());
    }
}
