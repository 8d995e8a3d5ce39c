//! Programs that are started as leaders of sessions of their own, without a copy of this process.
//!
//! `std` makes a new session by a call between fork and exec. Such a fork copies the page tables of a server, whose memory is
//! then copied page by page as it is written, and that takes longer than most programs of a pipeline need to start.
//! posix_spawn(3) has a flag for a new session, but `std` does not use it yet.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use nix::libc;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal as NixSignal};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

/// What is started. The new process has exactly these arguments and this environment.
pub struct SessionProgram {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    folder: CString,
}

impl SessionProgram {
    /// `program` is a path, and the first of `arguments` the name by which the program sees itself called. It runs in `folder`.
    ///
    /// # Errors
    /// One of the texts contains a NUL byte.
    pub fn new<'a>(
        program: &Path,
        arguments: impl IntoIterator<Item = &'a OsStr>,
        environment: impl IntoIterator<Item = (&'a str, &'a str)>,
        folder: &Path,
    ) -> io::Result<Self> {
        let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::from);
        let arguments = arguments.into_iter().map(|word| text(word.as_bytes()));
        let variables = environment.into_iter();
        let variables = variables.map(|(name, value)| text(format!("{name}={value}").as_bytes()));
        Ok(Self {
            path: text(program.as_os_str().as_bytes())?,
            arguments: arguments.collect::<io::Result<_>>()?,
            environment: variables.collect::<io::Result<_>>()?,
            folder: text(folder.as_os_str().as_bytes())?,
        })
    }

    /// Starts the program with these files as standard input, output and error. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// What the kernel says, also of the exec in the new process.
    pub fn start(
        &self,
        stdin: BorrowedFd<'_>,
        stdout: BorrowedFd<'_>,
        stderr: BorrowedFd<'_>,
    ) -> io::Result<SessionChild> {
        let mut actions = PosixSpawnFileActions::init()?;
        for (number, file) in (0..).zip([stdin, stdout, stderr]) {
            actions.add_dup2(file.as_raw_fd(), number)?;
        }
        add_folder(&mut actions, &self.folder)?;
        let attributes = new_session()?;
        let (path, arguments, variables) =
            (self.path.as_c_str(), &self.arguments, &self.environment);
        // Before the start, so that the end is not missed.
        let children = signal(SignalKind::child())?;
        let pid = posix_spawn(path, &actions, &attributes, arguments, variables)?;
        Ok(SessionChild {
            pid: Pid::from_raw(pid.as_raw()).ok_or(io::ErrorKind::InvalidData)?,
            children: Some(children),
            status: None,
        })
    }
}

/// The new process changes to this folder.
fn add_folder(actions: &mut PosixSpawnFileActions, folder: &CStr) -> io::Result<()> {
    let actions = (&raw mut *actions).cast::<libc::posix_spawn_file_actions_t>();
    #[expect(unsafe_code, reason = "nix has no safe call for it")]
    // SAFETY: the actions of nix are initialized, and are a transparent wrapper of those of the C library, which copies the string.
    let error = unsafe { libc::posix_spawn_file_actions_addchdir_np(actions, folder.as_ptr()) };
    match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// A new session, no blocked signals, and SIGPIPE as programs expect it: this program ignores it.
fn new_session() -> nix::Result<PosixSpawnAttr> {
    let mut attributes = PosixSpawnAttr::init()?;
    let session = PosixSpawnFlags::from_bits_retain(libc::POSIX_SPAWN_SETSID.into());
    let signals = PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF;
    attributes.set_flags(session | signals)?;
    attributes.set_sigmask(&SigSet::empty())?;
    let mut default = SigSet::empty();
    default.add(NixSignal::SIGPIPE);
    attributes.set_sigdefault(&default)?;
    Ok(attributes)
}

/// A started program. Dropping it kills the process; its session may live on.
#[derive(Debug)]
pub struct SessionChild {
    pid: Pid,
    /// Says when a child of this process has ended. Taken by the drop.
    children: Option<SignalStream>,
    status: Option<ExitStatus>,
}

impl SessionChild {
    /// Waits until the process has ended, and returns how. May be dropped, and called again.
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if self.status.is_none() {
                self.status = exit_status(self.pid)?;
            }
            match (self.status, &mut self.children) {
                (Some(status), _) => return Ok(status),
                (None, Some(children)) => children.recv().await,
                (None, None) => return Err(io::ErrorKind::NotConnected.into()),
            };
        }
    }

    /// Forgets the process, which must not be signalled any more.
    fn forget(mut self) {
        self.status.get_or_insert_default();
    }
}

impl Drop for SessionChild {
    fn drop(&mut self) {
        if self.status.is_some() {
            return;
        }
        let _ = kill_process(self.pid, Signal::KILL);
        let mut child = Self {
            pid: self.pid,
            children: self.children.take(),
            status: None,
        };
        match Handle::try_current() {
            // The process stays a zombie until it was waited for.
            Ok(runtime) => drop(runtime.spawn(async move {
                let _ = child.wait().await;
                child.forget();
            })),
            Err(_) => child.forget(),
        }
    }
}

/// How a child has ended; `None` if it has not.
fn exit_status(pid: Pid) -> io::Result<Option<ExitStatus>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let Some(ended) = waitid(WaitId::Pid(pid), options)? else {
        return Ok(None);
    };
    let code = ended.exit_status().map(|code| (code & 0xff) << 8);
    let raw = code.or(ended.terminating_signal());
    Ok(raw.map(ExitStatus::from_raw))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    /// Starts `sh -c TEXT` with its output in a file of `folder`.
    fn start(folder: &Path, text: &str) -> io::Result<SessionChild> {
        let words = ["shell", "-c", text].map(OsStr::new);
        let variables = [("WORD", "a value")];
        let program = SessionProgram::new(Path::new("/bin/sh"), words, variables, folder)?;
        let null = File::open("/dev/null")?;
        let output = File::create(folder.join("output"))?;
        program.start(null.as_fd(), output.as_fd(), output.as_fd())
    }

    #[tokio::test]
    async fn a_program_has_what_it_is_given_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let text = "echo $0; pwd; env | grep -v -e ^PWD= -e ^SHLVL= -e ^_=; \
            while read -r name value; do [ $name != SigBlk: ] || echo $value; done </proc/self/status; trap 'echo got it' PIPE; kill -PIPE $$; exit 7";
        let mut child = start(folder.path(), text).unwrap();
        let status = child.wait().await.unwrap();
        assert_eq!(status.code(), Some(7));
        assert_eq!(child.wait().await.unwrap(), status, "asked again");
        let output = std::fs::read_to_string(folder.path().join("output")).unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let expected = format!(
            "shell\n{}\nWORD=a value\n{none}\ngot it\n",
            folder.display(),
            none = "0".repeat(16)
        );
        assert_eq!(output, expected);
    }

    #[tokio::test]
    async fn the_leader_of_the_session_is_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = start(folder.path(), "cut -d ' ' -f 1,5,6 /proc/$$/stat").unwrap();
        child.wait().await.unwrap();
        let output = std::fs::read_to_string(folder.path().join("output")).unwrap();
        let ids: Vec<&str> = output.split_whitespace().collect();
        assert_eq!([ids[0], ids[0]], [ids[1], ids[2]], "{output}");
        assert_ne!(ids[0], std::process::id().to_string());
    }

    #[tokio::test]
    async fn a_signal_and_a_missing_folder_or_program_are_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = start(folder.path(), "kill -9 $$").unwrap();
        assert_eq!(child.wait().await.unwrap().signal(), Some(9));
        let null = File::open("/dev/null").unwrap();
        for (program, folder) in [("/bin/sh", "/no/such"), ("/no/such", "/")] {
            let program = SessionProgram::new(Path::new(program), [], [], Path::new(folder));
            let started = program
                .unwrap()
                .start(null.as_fd(), null.as_fd(), null.as_fd());
            assert_eq!(started.unwrap_err().kind(), io::ErrorKind::NotFound);
        }
        let with_nul = SessionProgram::new(
            Path::new("/bin/sh"),
            [OsStr::new("a\0b")],
            [],
            Path::new("/"),
        );
        assert!(with_nul.is_err());
    }

    #[tokio::test]
    async fn a_child_that_is_dropped_is_killed_and_leaves_no_zombie() {
        let folder = tempfile::tempdir().unwrap();
        let child = start(folder.path(), "exec sleep 1000").unwrap();
        let process = format!("/proc/{}", child.pid.as_raw_nonzero());
        assert!(Path::new(&process).exists());
        drop(child);
        while Path::new(&process).exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}
