//! A command: its nanny, and its first process until it is the program.

use alloc::ffi::CString;
use alloc::format;
use alloc::vec::Vec;

use quire_step::{ExitStatus, FailureReason, ProgramFormat, StartTask, program_format};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, ResolveFlags, memfd_create, openat, openat2};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, ioctl_tiocsctty, set_child_subreaper,
    set_parent_process_death_signal, setsid, umask, wait,
};
use rustix::thread::set_no_new_privs;

use crate::blocking::{read, write_all};
use crate::report::{Reporter, TaskFailure};
use crate::stdio::ChildStdio;
use crate::{identity, sys};

/// Where programs are looked up if the environment has no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long an argument may be for the kernel, without its end.
const MAX_ARGUMENT: usize = 128 * 1024 - 1;

/// The machine of programs for this processor, as a number of ELF.
#[cfg(target_arch = "x86_64")]
const MACHINES: [u16; 2] = [62, 3];
#[cfg(target_arch = "aarch64")]
const MACHINES: [u16; 2] = [183, 40];

/// The nanny of a command: starts the first process, adopts all orphans, reports the end of the
/// first process, and exits when it has no descendants. Returns its exit code.
pub(crate) fn run_nanny(task: &StartTask<'_>, stdio: &ChildStdio, reporter: &Reporter) -> u8 {
    // A nanny without a supervisor would be of no use. Its descendants then belong to the first
    // process of the container.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if let Err(errno) = set_child_subreaper(Some(getpid())) {
        reporter.failed(&TaskFailure::system(errno, b""));
        return 1;
    }
    let first = sys::fork(|| {
        let failure = become_program(task, stdio);
        reporter.failed(&failure);
        127
    });
    let first = match first {
        Ok(first) => first,
        Err(errno) => {
            reporter.failed(&TaskFailure::system(errno, b""));
            return 0;
        }
    };
    // The ends of the pipes are those of the command alone.
    sys::close_all_except(&mut [reporter.raw_fd()]);
    wait_for_all(first, reporter);
    0
}

fn wait_for_all(first: Pid, reporter: &Reporter) {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == first => reporter.exited(exit_status(status)),
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

pub(crate) fn exit_status(status: WaitStatus) -> ExitStatus {
    let byte = |value: i32| u8::try_from(value).unwrap_or(u8::MAX);
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::Code(byte(code)),
        (_, Some(signal)) => ExitStatus::Signal(byte(signal)),
        _ => ExitStatus::Lost,
    }
}

/// Makes this process the program; returns only if that fails.
fn become_program(task: &StartTask<'_>, stdio: &ChildStdio) -> TaskFailure {
    match prepare(task, stdio) {
        Ok(()) => execute(task),
        Err(failure) => failure,
    }
}

fn prepare(task: &StartTask<'_>, stdio: &ChildStdio) -> Result<(), TaskFailure> {
    let system = |errno| TaskFailure::system(errno, b"");
    sys::reset_signals();
    setsid().map_err(system)?;
    stdio.install(task.ids.uid, task.ids.gid).map_err(system)?;
    if stdio.is_terminal {
        ioctl_tiocsctty(&stdio.input).map_err(system)?;
    }
    umask(Mode::from_raw_mode(0o022));
    // An engine that starts services has no option for it.
    set_no_new_privs(true).map_err(system)?;
    identity::take(&task.ids).map_err(system)?;
    enter_folder(task)
}

/// The folder is opened as the user, who must have permission for it.
fn enter_folder(task: &StartTask<'_>) -> Result<(), TaskFailure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(CWD, task.folder, flags, Mode::empty())
        .map_err(|errno| folder_failure(errno, task.folder))?;
    let folder: OwnedFd = match task.cwd {
        b"" => folder,
        cwd => openat2(
            &folder,
            cwd,
            flags,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        )
        .map_err(|errno| folder_failure(errno, cwd))?,
    };
    rustix::process::fchdir(folder).map_err(|errno| folder_failure(errno, task.cwd))
}

fn folder_failure(errno: Errno, path: &[u8]) -> TaskFailure {
    let reason = match errno {
        Errno::NOENT | Errno::NOTDIR => FailureReason::FolderMissing,
        Errno::XDEV => FailureReason::FolderEscapes,
        _ => FailureReason::System,
    };
    TaskFailure::new(reason, errno, path)
}

/// Looks the program up as a shell does, and executes it.
fn execute(task: &StartTask<'_>) -> TaskFailure {
    let strings = |list: &[&[u8]]| -> Vec<CString> {
        list.iter()
            .filter_map(|string| CString::new(*string).ok())
            .collect()
    };
    let (mut argv, env) = (strings(&task.argv), strings(&task.env));
    let _text = match pass_text_as_file(&mut argv) {
        Ok(text) => text,
        Err(errno) => return TaskFailure::system(errno, b""),
    };
    let name = task.argv.first().copied().unwrap_or_default();
    if name.contains(&b'/') {
        return execute_at(name, &argv, &env);
    }
    let missing = || TaskFailure::new(FailureReason::ProgramMissing, Errno::NOENT, name);
    let path = task
        .env
        .iter()
        .find_map(|variable| variable.strip_prefix(b"PATH="))
        .unwrap_or(DEFAULT_PATH);
    let mut denied = None;
    for folder in path.split(|byte| *byte == b':') {
        // An empty part is the working directory.
        let folder = if folder.is_empty() { b"." } else { folder };
        let failure = execute_at(&[folder, b"/", name].concat(), &argv, &env);
        match failure.reason {
            FailureReason::ProgramMissing => {}
            // A later folder may have one that can be executed.
            FailureReason::NotExecutable => denied = denied.or(Some(failure)),
            _ => return failure,
        }
    }
    denied.unwrap_or_else(missing)
}

/// Puts the text of `-c` into a file without a name if it is longer than an argument may be. The
/// file is open while the program runs.
fn pass_text_as_file(argv: &mut Vec<CString>) -> Result<Option<OwnedFd>, Errno> {
    let [.., option, text] = argv.as_slice() else {
        return Ok(None);
    };
    if option.as_bytes() != b"-c" || text.as_bytes().len() <= MAX_ARGUMENT {
        return Ok(None);
    }
    let file = memfd_create("command", MemfdFlags::empty())?;
    write_all(&file, text.as_bytes())?;
    let path =
        CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(|_| Errno::INVAL)?;
    argv.truncate(argv.len().saturating_sub(2));
    argv.push(path);
    Ok(Some(file))
}

fn execute_at(program: &[u8], argv: &[CString], env: &[CString]) -> TaskFailure {
    let Ok(path) = CString::new(program) else {
        return TaskFailure::new(FailureReason::ProgramMissing, Errno::NOENT, program);
    };
    let errno = sys::execute(&path, argv, env);
    diagnose(errno, program)
}

/// Says why a program could not be executed.
fn diagnose(errno: Errno, program: &[u8]) -> TaskFailure {
    let failure = |reason, detail: &[u8]| TaskFailure::new(reason, errno, detail);
    let first = first_bytes(program);
    match errno {
        Errno::TOOBIG => failure(FailureReason::ArgumentsTooLong, b""),
        Errno::ACCESS | Errno::PERM | Errno::ISDIR => {
            failure(FailureReason::NotExecutable, program)
        }
        Errno::NOTDIR | Errno::NAMETOOLONG | Errno::LOOP => {
            failure(FailureReason::ProgramMissing, program)
        }
        Errno::NOENT => match read_format(&first) {
            Ok(ProgramFormat::Script { interpreter }) => match interpreter.strip_suffix(b"\r") {
                Some(name) => failure(FailureReason::InterpreterCarriageReturn, name),
                None => failure(FailureReason::InterpreterMissing, interpreter),
            },
            Ok(ProgramFormat::Elf { loader, .. }) => {
                failure(FailureReason::InterpreterMissing, loader)
            }
            // A file that may be executed but not read exists, too.
            Ok(ProgramFormat::Unknown) | Err(Errno::ACCESS) => {
                failure(FailureReason::InterpreterMissing, b"")
            }
            Err(_) => failure(FailureReason::ProgramMissing, program),
        },
        Errno::NOEXEC => match read_format(&first) {
            Ok(ProgramFormat::Elf { machine, .. }) if !MACHINES.contains(&machine) => {
                failure(FailureReason::WrongArchitecture, program)
            }
            _ => failure(FailureReason::UnknownFormat, program),
        },
        errno => TaskFailure::system(errno, program),
    }
}

fn read_format(first: &Result<Vec<u8>, Errno>) -> Result<ProgramFormat<'_>, Errno> {
    match first {
        Ok(bytes) => Ok(program_format(bytes)),
        Err(errno) => Err(*errno),
    }
}

/// The beginning of a program: it has the `#!` line, or the header and the name of the loader.
fn first_bytes(program: &[u8]) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(program, flags, Mode::empty())?;
    let mut bytes = alloc::vec![0; 4096];
    let length = read(&file, &mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}
