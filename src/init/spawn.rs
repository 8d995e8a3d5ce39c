//! Starts programs. All that a start needs is made once, so that starting a child again
//! allocates nothing in `init`; and the process ids stay ours, where a `std::process::Child`
//! would want to wait for its own.

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

/// A user that a program runs as, with all its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

/// A program, ready to be started any number of times.
#[derive(Debug)]
pub(super) struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// Without one it keeps `init`'s own, and may gain privileges (sshd has to).
    identity: Option<(Uid, Gid, Vec<Gid>)>,
}

impl Program {
    /// A program with arguments, and nothing but this environment.
    ///
    /// # Errors
    /// When a word holds a NUL byte.
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
            identity: None,
        })
    }

    /// The same program, as somebody else, and barred from gaining privileges.
    pub(super) fn run_as(mut self, identity: &Identity) -> Self {
        let groups = identity.groups.iter().copied().map(Gid::from_raw).collect();
        self.identity = Some((
            Uid::from_raw(identity.uid),
            Gid::from_raw(identity.gid),
            groups,
        ));
        self
    }
}

/// Starts programs: in a session of their own, with an empty standard input.
#[derive(Debug)]
pub(super) struct Spawner {
    null: File,
}

impl Spawner {
    /// Opens what every start needs.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            null: File::open("/dev/null")?,
        })
    }

    /// Starts the program, both its outputs going to `output`. It gets TERM should `init` die.
    ///
    /// What goes wrong after the fork is told on `output`, with exit code 127.
    pub(super) fn start(&self, program: &Program, output: BorrowedFd<'_>) -> Result<i32, Errno> {
        let parent = Pid::this();
        // A signal that comes before the program has taken over must wait for it: our handlers would eat it.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        #[expect(
            unsafe_code,
            reason = "std's Command wants to wait for its own children"
        )]
        // SAFETY: `init` has one thread, so the child may do whatever the parent might: no lock is held by another.
        let forked = unsafe { fork() };
        if let Ok(ForkResult::Child) = forked {
            let Err(errno) = self.become_program(program, output, parent);
            let _ = writeln!(
                io::stderr(),
                "cannot start {}: {}",
                program.path.to_string_lossy(),
                errno.desc()
            );
            #[expect(
                unsafe_code,
                reason = "the parent's exit handlers and buffers are not the child's to run"
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

    /// The child's way from the fork to the program.
    fn become_program(
        &self,
        program: &Program,
        output: BorrowedFd<'_>,
        parent: Pid,
    ) -> Result<Infallible, Errno> {
        dup2_stdin(&self.null)?;
        dup2_stdout(output)?;
        dup2_stderr(output)?;
        setsid()?;
        chdir("/")?;
        umask(Mode::from_bits_truncate(0o027));
        if let Some((uid, gid, groups)) = &program.identity {
            setgroups(groups)?;
            setgid(*gid)?;
            setuid(*uid)?;
            prctl::set_no_new_privs()?;
        }
        // After the change of user, which clears it.
        prctl::set_pdeathsig(Signal::SIGTERM)?;
        if nix::unistd::getppid() != parent {
            return Err(Errno::ESRCH);
        }
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        for signal in
            Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP))
        {
            #[expect(unsafe_code, reason = "a program starts with the default actions")]
            // SAFETY: the default action runs no code of ours.
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
    fn a_word_with_a_nul_byte_is_refused() {
        let none: [(&str, &str); 0] = [];
        assert!(Program::new(Path::new("/bin/true"), [OsStr::new("a\0b")], none).is_err());
        assert!(Program::new(Path::new("/bin/true"), [], [("A", "b\0c")]).is_err());
    }
}
