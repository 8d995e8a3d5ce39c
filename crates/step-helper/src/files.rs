//! READ, WRITE and EXPORT: files of the workspace, with the ids of the user of the commands.

use alloc::vec;

use quire_step::{FailureReason, FileTask};
use rustix::fd::OwnedFd;
use rustix::fs::{
    CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, ftruncate, mkdirat, openat, openat2,
};
use rustix::io::Errno;
use rustix::process::umask;

use crate::blocking;
use crate::identity;
use crate::report::TaskFailure;
use crate::tar_writer::TarWriter;

const BUFFER: usize = 64 << 10;

/// How a path of foreign code is resolved.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

pub(crate) fn read(task: &FileTask<'_>, limit: u64, output: &OwnedFd) -> Result<(), TaskFailure> {
    let folder = enter(task)?;
    let (file, status) = open_for_reading(&folder, task.path)?;
    let too_large = || TaskFailure::plain(FailureReason::TooLarge, task.path);
    expect_file(&status, task.path)?;
    if u64::try_from(status.st_size).is_ok_and(|size| size > limit) {
        return Err(too_large());
    }
    let mut rest = limit;
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = blocking::read(&file, &mut buffer)
            .map_err(|errno| TaskFailure::system(errno, task.path))?;
        if count == 0 {
            return Ok(());
        }
        // It can grow while it is read.
        rest = rest.checked_sub(count as u64).ok_or_else(too_large)?;
        blocking::write_all(output, buffer.get(..count).unwrap_or_default())
            .map_err(|errno| TaskFailure::system(errno, b""))?;
    }
}

pub(crate) fn write(task: &FileTask<'_>, input: &OwnedFd) -> Result<(), TaskFailure> {
    umask(Mode::from_raw_mode(0o022));
    let folder = enter(task)?;
    let failure = |errno| path_failure(errno, task.path);
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = || {
        openat2(
            &folder,
            task.path,
            flags,
            Mode::from_raw_mode(0o644),
            BENEATH,
        )
    };
    let file = match open() {
        Err(Errno::NOENT) => {
            make_parents(&folder, task.path).map_err(failure)?;
            open().map_err(failure)?
        }
        result => result.map_err(failure)?,
    };
    expect_file(&fstat(&file).map_err(failure)?, task.path)?;
    ftruncate(&file, 0).map_err(failure)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = blocking::read(input, &mut buffer).map_err(failure)?;
        if count == 0 {
            return Ok(());
        }
        blocking::write_all(&file, buffer.get(..count).unwrap_or_default()).map_err(failure)?;
    }
}

pub(crate) fn export(task: &FileTask<'_>, output: &OwnedFd) -> Result<(), TaskFailure> {
    let folder = enter(task)?;
    let (file, status) = open_for_reading(&folder, task.path)?;
    let name = last_part(task.path)
        .or_else(|| last_part(task.folder))
        .unwrap_or(b".");
    let mut writer = TarWriter::new(output);
    writer.add(name, &file, &status)?;
    writer.finish()
}

/// The last name in a path; `None` if there is none.
fn last_part(path: &[u8]) -> Option<&[u8]> {
    let mut parts = path.split(|byte| *byte == b'/');
    parts.rfind(|part| !part.is_empty() && *part != b"." && *part != b"..")
}

/// Takes the ids of the task and opens its folder.
fn enter(task: &FileTask<'_>) -> Result<OwnedFd, TaskFailure> {
    identity::take(&task.ids).map_err(|errno| TaskFailure::system(errno, b""))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, task.folder, flags, Mode::empty())
        .map_err(|errno| TaskFailure::system(errno, task.folder))
}

fn open_for_reading(folder: &OwnedFd, path: &[u8]) -> Result<(OwnedFd, Stat), TaskFailure> {
    let failure = |errno| path_failure(errno, path);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let path = if path.is_empty() { b"." } else { path };
    let file = openat2(folder, path, flags, Mode::empty(), BENEATH).map_err(failure)?;
    let status = fstat(&file).map_err(failure)?;
    Ok((file, status))
}

fn make_parents(folder: &OwnedFd, path: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut parent = openat(folder, ".", flags, Mode::empty())?;
    for (end, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        let so_far = path.get(..end).unwrap_or_default();
        let name = so_far
            .rsplit(|byte| *byte == b'/')
            .next()
            .unwrap_or_default();
        if name.is_empty() || name == b"." {
            continue;
        }
        let next = || openat2(folder, so_far, flags, Mode::empty(), BENEATH);
        parent = match next() {
            Err(Errno::NOENT) => {
                mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
                next()?
            }
            result => result?,
        };
    }
    Ok(())
}

fn expect_file(status: &Stat, path: &[u8]) -> Result<(), TaskFailure> {
    match FileType::from_raw_mode(status.st_mode) {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(TaskFailure::plain(FailureReason::IsFolder, path)),
        _ => Err(TaskFailure::plain(FailureReason::IsSpecial, path)),
    }
}

fn path_failure(errno: Errno, path: &[u8]) -> TaskFailure {
    let reason = match errno {
        Errno::XDEV => FailureReason::PathEscapes,
        Errno::ISDIR => FailureReason::IsFolder,
        // What opening a pipe without a reader, a socket or a device can fail with.
        Errno::NXIO | Errno::NODEV => FailureReason::IsSpecial,
        _ => return TaskFailure::system(errno, path),
    };
    TaskFailure::new(reason, errno, path)
}
